"""What a search varies: keys of the configuration with ranges and choices, the same for every engine."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from stocktake.shell import hydra_value, override

Value = str | int | float | bool | None
KEY = re.compile(r"[\w]+([./][\w]+)*")
FIELDS = ("range", "log", "step", "choice", "when")


@dataclass(frozen=True)
class Parameter:
    """One key of the configuration.

    Attributes:
        key: As it is typed: dotted, or a group such as `head`.
        low: Least value of a range; None where there are choices. A range whose ends (and step) are whole is of
            whole numbers.
        high: Greatest value of a range; it may be taken.
        log: Whether the range is even in the logarithm.
        step: Between the values of a range; None where all are possible.
        choices: The values of a parameter without a range.
        when: The parameter is there only where each of these others has one of these values.
    """

    key: str
    low: int | float | None = None
    high: int | float | None = None
    log: bool = False
    step: int | float | None = None
    choices: tuple[Value, ...] = ()
    when: Mapping[str, tuple[Value, ...]] = field(default_factory=dict)

    @property
    def is_whole(self) -> bool:
        return all(isinstance(number, int) for number in (self.low, self.high, self.step or 1))

    @classmethod
    def of(cls, key: str, plain: Any) -> "Parameter":
        """From what a configuration holds: `{range: [1e-5, 1e-2], log: true}` or `{choice: [32, 64]}`.

        Raises:
            ValueError: It is something else.
        """
        if not KEY.fullmatch(key):
            raise ValueError(f"{key!r} is no key that could be searched: type it as an override's, model.optimizer.lr")
        if not isinstance(plain, Mapping) or not ({"range", "choice"} & set(plain)):
            raise ValueError(f"{key} takes {{range: [low, high]}} or {{choice: [a, b]}}, not {plain!r}")
        if unknown := sorted(set(plain) - set(FIELDS)):
            raise ValueError(f"{key} takes {', '.join(FIELDS)}, not {unknown[0]}")
        conditions = plain.get("when") or {}
        if not isinstance(conditions, Mapping):
            raise ValueError(f"{key}: when takes {{other.key: [a, b]}}, not {conditions!r}")
        when = {str(other): _values(key, "when", values) for other, values in conditions.items()}
        if "choice" in plain:
            if len(plain) > 1 + ("when" in plain):
                raise ValueError(f"{key} has a choice, which goes with no range, log or step")
            return cls(key, choices=_values(key, "choice", plain["choice"]), when=when)
        low, high = _ends(key, plain["range"])
        log, step = plain.get("log", False), plain.get("step")
        if not isinstance(log, bool):
            raise ValueError(f"{key}: log is true or false, not {log!r}")
        if step is not None and (not _is_number(step) or step <= 0):
            raise ValueError(f"{key}: step is a number above 0, not {step!r}")
        if step is not None and step > high - low:
            raise ValueError(f"{key}: a step of {step} leaves the range [{low}, {high}]")
        if log and low <= 0:
            raise ValueError(f"{key}: a logarithmic range begins above 0, not at {low}")
        if log and step is not None:
            raise ValueError(f"{key}: a logarithmic range has no step: type one of them")
        return cls(key, low, high, log, step, when=when)

    def admits(self, value: Any) -> bool:
        """Whether a trial could have this value."""
        if self.choices:
            is_flag = isinstance(value, bool)
            return any(value == choice and is_flag == isinstance(choice, bool) for choice in self.choices)
        if self.low is None or self.high is None or not _is_number(value):
            return False
        if self.is_whole and not isinstance(value, int):
            return False
        if not self.low <= value <= self.high:
            return False
        if self.step is None:
            return True
        steps = (value - self.low) / self.step
        return math.isclose(steps, round(steps), abs_tol=1e-6)

    def __str__(self) -> str:
        if self.choices:
            return f"one of {', '.join(str(choice) for choice in self.choices)}"
        every = f" in steps of {self.step}" if self.step is not None else ", logarithmic" if self.log else ""
        return f"{self.low} to {self.high}{every}"


@dataclass(frozen=True)
class SearchSpace:
    """All that a search varies, in the order in which it stands in the configuration; conditions look back only."""

    parameters: tuple[Parameter, ...]

    @classmethod
    def of(cls, plain: Any) -> "SearchSpace":
        """From `hydra.sweeper.space`, a mapping of keys.

        Raises:
            ValueError: Naming the key, the value and what is allowed.
        """
        if not isinstance(plain, Mapping) or not plain:
            raise ValueError("Nothing is searched: type sweep=lr_dropout, or 'model.drop_rate=interval(0,0.7)'")
        parameters: dict[str, Parameter] = {}
        for key, value in plain.items():
            if value is None:  # taken out by an override
                continue
            parameter = Parameter.of(str(key), value)
            for other, values in parameter.when.items():
                if other not in parameters:
                    raise ValueError(f"{key}: when names {other}, which does not stand before it in the space")
                for given in values:
                    if not parameters[other].admits(given):
                        raise ValueError(f"{key}: {other} is never {given!r}: it is {parameters[other]}")
            parameters[parameter.key] = parameter
        if not parameters:
            raise ValueError("Nothing is searched: all keys of the space are null")
        return cls(tuple(parameters.values()))

    def __getitem__(self, key: str) -> Parameter:
        for parameter in self.parameters:
            if parameter.key == key:
                return parameter
        raise KeyError(key)

    @property
    def keys(self) -> tuple[str, ...]:
        return tuple(parameter.key for parameter in self.parameters)

    def active(self, parameter: Parameter, values: Mapping[str, Value]) -> bool:
        """Whether a trial with these values has the parameter."""
        return all(other in values and values[other] in allowed for other, allowed in parameter.when.items())

    def check(self, values: Mapping[str, Value]) -> None:
        """Refuses a point that is not in the space; what is left out of a start is the engine's to choose.

        Raises:
            ValueError: Naming the key.
        """
        for key, value in values.items():
            if key not in self.keys:
                raise ValueError(f"{key} is not searched; there are {', '.join(self.keys)}")
            if not self[key].admits(value):
                raise ValueError(f"{override(key, value)} is not in the space: {key} is {self[key]}")

    def overrides(self, values: Mapping[str, Value]) -> list[str]:
        """Returns a trial's overrides as Hydra reads them, in the space's order."""
        return [f"{key}={hydra_value(values[key])}" for key in self.keys if key in values]


def _ends(key: str, plain: Any) -> tuple[int | float, int | float]:
    if not isinstance(plain, Sequence) or isinstance(plain, str) or len(plain) != 2:
        raise ValueError(f"{key}: a range is [low, high], not {plain!r}")
    low, high = plain
    if not (_is_number(low) and _is_number(high) and low < high):
        raise ValueError(f"{key}: a range is two numbers, the lower first, not [{low}, {high}]")
    return low, high


def _values(key: str, name: str, plain: Any) -> tuple[Value, ...]:
    values = tuple(plain) if isinstance(plain, Sequence) and not isinstance(plain, str) else (plain,)
    if not values or any(isinstance(value, Mapping | Sequence) and not isinstance(value, str) for value in values):
        raise ValueError(f"{key}: {name} takes single values in a list, not {plain!r}")
    if len(set(map(repr, values))) < len(values):
        raise ValueError(f"{key}: {name} names a value twice")
    return values


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
