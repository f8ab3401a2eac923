"""What was typed for a search: sweeps take their place in its space, and what is fixed is taken out of it.

Hydra imports this module at each start, so nothing heavy is imported at its top.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import (
    ChoiceSweep,
    IntervalSweep,
    Override,
    QuotedString,
    RangeSweep,
)

Plain = dict[str, Any]


@dataclass(frozen=True)
class TypedSweep:
    """What a command line and a sweep's file say together.

    Attributes:
        space: Each key with its range or choices, as a sweep's file has it.
        start: The points of the file, without the keys that something was typed for.
        fixed: The overrides that all trials share, as they were typed; no `sweep=`.
        added: Keys of the space that the configuration does not have, typed with a `+`.
    """

    space: Mapping[str, Any]
    start: Sequence[Mapping[str, Any]]
    fixed: Sequence[str]
    added: frozenset[str] = frozenset()

    def overrides(self, of_space: Iterable[str]) -> list[str]:
        """Returns a trial's overrides: the fixed ones, and those of the space in the way that they were typed."""
        return [*self.fixed, *(f"+{text}" if text.partition("=")[0] in self.added else text for text in of_space)]


def typed_sweep(typed: Sequence[str], space: Mapping[str, Any], start: Sequence[Any], config_loader: Any) -> TypedSweep:
    """Joins what was typed with what the sweep's file has.

    Args:
        typed: The command line without Hydra's own part.
        space: `hydra.sweeper.space`.
        start: `hydra.sweeper.start`.
        config_loader: Hydra's, which knows the choices of a group for `head=glob(*)`.

    Raises:
        ValueError: A sweep that a search cannot make anything of.
    """
    searched, typed_keys, fixed, added = dict(space), [], [], set()
    values: dict[str, Any] = {}
    for parsed, text in zip(OverridesParser.create(config_loader).parse_overrides(list(typed)), typed, strict=True):
        key = parsed.key_or_group
        if key == "sweep":
            if parsed.is_sweep_override():
                raise ValueError(f"{text}: one sweep at a time. Type sweep=<one of them>")
        elif parsed.is_sweep_override():
            searched[key] = _in_a_file(parsed)
            typed_keys.append(key)
            added |= {key} if parsed.is_add() else set()
        else:
            fixed.append(text)
            values[key] = None if parsed.is_delete() else _plain(parsed.value())
    points = [_without(point, {*values, *typed_keys}) for point in start]
    return TypedSweep(dict(_left(searched, values)), [point for point in points if point], fixed, frozenset(added))


def _left(space: Mapping[str, Any], fixed: Mapping[str, Any]) -> Iterable[tuple[str, Any]]:
    """Yields what is still searched, without the conditions that what is fixed has settled."""
    for key, plain in space.items():
        if key in fixed:
            continue
        conditions = dict(plain.get("when") or {}) if isinstance(plain, Mapping) else {}
        settled = {other: conditions.pop(other) for other in list(conditions) if other in fixed}
        if not settled:
            yield key, plain
        elif all(fixed[other] in _listed(allowed) for other, allowed in settled.items()):
            rest = {name: value for name, value in plain.items() if name != "when"}
            yield key, rest | ({"when": conditions} if conditions else {})


def _listed(values: Any) -> list[Any]:
    return values if isinstance(values, list) else [values]


def _without(point: Any, keys: set[str]) -> Any:
    return {key: value for key, value in point.items() if key not in keys} if isinstance(point, Mapping) else point


def _in_a_file(parsed: Override) -> Plain:
    """Returns a sweep as a file of conf/sweep has it; its words mean what they mean to hydra-optuna-sweeper.

    So `range(1,5)` holds its end, and `interval(0,1)` is of real numbers unless `tag(int, ...)` is around it.
    """
    sweep = parsed.value()
    if isinstance(sweep, IntervalSweep):
        if sweep.start is None or sweep.end is None:
            raise ValueError(f"{parsed.input_line}: an interval has two ends. Type {parsed.key_or_group}=interval(0,1)")
        number = int if "int" in sweep.tags else float
        return {"range": [number(sweep.start), number(sweep.end)], "log": "log" in sweep.tags}
    if isinstance(sweep, RangeSweep):
        if sweep.start is None or sweep.stop is None:
            raise ValueError(f"{parsed.input_line}: a range has two ends. Type {parsed.key_or_group}=range(1,5)")
        log = {"log": True} if "log" in sweep.tags else {}
        return {"range": [sweep.start, sweep.stop], **(log or ({"step": sweep.step} if sweep.step != 1 else {}))}
    if isinstance(sweep, ChoiceSweep):
        return {"choice": [_plain(value) for value in sweep.list]}
    return {"choice": [*parsed.sweep_string_iterator()]}  # glob(...)


def _plain(value: Any) -> Any:
    if isinstance(value, QuotedString):
        return value.text
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return {key: _plain(item) for key, item in value.items()} if isinstance(value, dict) else value
