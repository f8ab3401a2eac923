"""What an override gives its key: a value, or those that a sweep goes through."""

from collections.abc import Sequence
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, IntervalSweep, Override, QuotedString
from hydra.errors import HydraException

from stocktake.cli.command_keys import Inputs
from stocktake.cli.override_errors import Groups, OverrideError, no_such_choice, not_read


def parsed_override(argument: str, inputs: Inputs, groups: Groups) -> Override:
    try:
        return OverridesParser.create().parse_override(argument)
    except HydraException as error:
        raise OverrideError(not_read(argument, inputs, groups)) from error


def plain(value: Any) -> Any:
    if isinstance(value, QuotedString):
        return value.text
    if isinstance(value, list):
        return [plain(item) for item in value]
    return {key: plain(item) for key, item in value.items()} if isinstance(value, dict) else value


def swept(parsed: Override, inputs: Inputs, groups: Groups) -> list[Any]:
    return [plain(parsed_override(f"key={text}", inputs, {}).value()) for text in texts(parsed, groups)]


def texts(parsed: Override, groups: Groups) -> Sequence[str]:
    """Returns what a sweep goes through, as it would be typed; of an interval its ends."""
    value = parsed.value()
    if isinstance(value, IntervalSweep):
        return [repr(value.start), repr(value.end)]
    if isinstance(value, Glob):
        return value.filter([*groups.get(parsed.key_or_group, [])])
    return [*parsed.sweep_string_iterator()]


def first_value(parsed: Override, inputs: Inputs, groups: Groups) -> Any:
    if not parsed.is_sweep_override():
        return plain(parsed.value())
    return next(iter(swept(parsed, inputs, groups)), None)


def no_choice(value: Any, choices: Sequence[str]) -> str | None:
    """Returns the first of what is chosen that a group does not have."""
    chosen = value if isinstance(value, list) else [value]
    return next((str(one) for one in chosen if str(one).removesuffix(".yaml") not in choices), None)


def first_of_sweep(argument: str, parsed: Override, inputs: Inputs, groups: Groups, is_search: bool) -> str:
    """Returns the first override of what a sweep goes through.

    Args:
        is_search: Whether it proposes trials, so that an interval will do.

    Raises:
        OverrideError: It goes through nothing, or a group has no such choice.
    """
    key, listed = parsed.key_or_group, "Type the values, with commas between them"
    if not parsed.is_sweep_override():
        return argument
    if not parsed.is_discrete_sweep() and not is_search:
        raise OverrideError(
            f"{argument}: a sweep tries each value, and an interval has no end of them. {listed}, or "
            "hydra/sweeper=search beside it, which proposes some."
        )
    if not (tried := texts(parsed, groups)):
        choices = f": {key} takes {', '.join(groups[key])}" if key in groups else ""
        raise OverrideError(f"{argument} names nothing to try{choices}. {listed}.")
    for value in swept(parsed, inputs, groups) if key in groups else ():
        if unlisted := no_choice(value, groups[key]):
            raise OverrideError(f"{no_such_choice(argument, key, value, unlisted, groups[key])}.")
    return f"{parsed.get_key_element()}={tried[0]}"
