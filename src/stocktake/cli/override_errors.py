"""Arguments that are not even Hydra's, in one line: what was meant, and how it is typed."""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from stocktake.cli.check import has_rules, nearest
from stocktake.cli.command_keys import Inputs
from stocktake.cli.rules import Rule, choice, either, list_of
from stocktake.shell import override

Groups = Mapping[str, Sequence[str]]
LISTS_ALL = "Type --help, which lists what there is"
TAKE_LISTS = ("callbacks", "logger")  # groups of which several files can be taken together
CAN_BE_NONE = ("scheduler", "sweep")  # groups that can be taken away with ~


class OverrideError(ValueError):
    """An argument that was typed cannot be taken; the message says which, what is allowed and what to type."""


def not_read(argument: str, inputs: Inputs, groups: Groups) -> str:
    """Returns what is wrong with an argument that Hydra's grammar does not read, and what to type instead."""
    key, sign, value = argument.partition("=")
    if not argument.strip():
        return "An argument is empty: perhaps a variable of the shell is not set. Type it again without that argument."
    if argument.startswith("-"):
        return _with_dashes(argument, key, sign, inputs, groups)
    if not sign:
        return _without_value(argument, inputs, groups)
    plain = value.strip(chr(34) + chr(39))
    if not _is_read(meant := override(key, plain)):
        return f"{argument}: {key!r} is no key. {LISTS_ALL}."
    rule = inputs.rules.get(key)
    if rule is not None and not rule.admits(plain):
        meant = override(key, rule.example)
    return (
        f"{argument}: Hydra cannot read this value; what holds spaces, commas, brackets or quotes is quoted twice, for "
        f"the shell and for Hydra. Type {meant if plain else to_type(key, inputs, groups)}."
    )


def several_arguments(typed: Sequence[str], inputs: Inputs) -> str | None:
    """Returns what to type where several bare arguments are meant as one list, such as `compare.py runs/a runs/b`."""
    rule = inputs.rules.get(inputs.first)
    bare = [
        argument
        for argument in typed
        if argument.strip() and "=" not in argument and not argument.startswith(("-", "~"))
    ]
    if len(bare) < 2 or rule is None or not isinstance(rule.example, list) or _is_key(bare[0], inputs, {}):
        return None
    return f"{' '.join(map(repr, bare))} are no key=value. Type {override(inputs.first, bare)}."


def to_type(key: str, inputs: Inputs, groups: Groups) -> str:
    """Returns an override that gives a key a value: one that it takes where that is known."""
    if key in groups:
        return override(key, groups[key][0])
    return override(key, inputs.rules[key].example) if key in inputs.rules else f"{key}=<value>"


def _with_dashes(argument: str, key: str, sign: str, inputs: Inputs, groups: Groups) -> str:
    bare = key.lstrip("-")
    options = [one for action in get_args_parser()._actions for one in action.option_strings if one.startswith("--")]
    if sign or _is_key(bare, inputs, groups):
        meant = shlex.quote(argument.lstrip("-")) if sign else to_type(bare, inputs, groups)
        return f"{argument}: keys have no dashes here. Type {meant}."
    if near := nearest(f"--{bare}", options):
        return f"{argument}: there is no such option. Did you mean {near}? Type {near}."
    return f"{argument}: there is no such option, and keys have no dashes here. {LISTS_ALL}."


def _without_value(argument: str, inputs: Inputs, groups: Groups) -> str:
    bare = argument.lstrip("+")
    is_path = inputs.first in inputs.rules and Path(bare).exists()
    if _is_key(bare, inputs, groups) and not is_path:
        meant = to_type(bare, inputs, groups)
        return f"{argument!r} has no value; key, = and value stand together, without spaces. Type {meant}."
    if bare in ("help", "h"):
        return f"{argument!r} is no key=value. Type --help."
    rule = inputs.rules.get(inputs.first)
    value = [argument] if rule is not None and isinstance(rule.example, list) else argument
    if rule is None and inputs.first in groups:
        value = nearest(bare, groups[inputs.first]) or ""
    if not value or (rule is not None and not rule.admits(value)):
        return f"{argument!r} is no key=value. Type such as {to_type(inputs.first, inputs, groups)}, or --help."
    return f"{argument!r} is no key=value. Type {override(inputs.first, value)}."


def _is_key(name: str, inputs: Inputs, groups: Groups) -> bool:
    return name in inputs.rules or (name in groups and (name == inputs.first or has_rules(name, inputs.rules)))


def _is_read(argument: str) -> bool:
    try:
        OverridesParser.create().parse_override(" ".join(shlex.split(argument)))
    except HydraException:
        return False
    return True


def no_such_choice(argument: str, key: str, value: Any, unknown: str, choices: Sequence[str]) -> str:
    """Says what a group takes instead of a choice that it does not have."""
    near = nearest(unknown, choices)
    guess = f"Did you mean {near}? " if near else ""
    known = [one for one in value if one in choices] if isinstance(value, list) else []
    off = f", or {shlex.quote('~' + key)} for none" if value is None and key in CAN_BE_NONE else ""
    return (
        f"{argument}: {key} takes one of {', '.join(choices)}. {guess}"
        f"Type {override(key, known or near or choices[0])}{off}"
    )


def takes(group: str, groups: Groups) -> Rule:
    """Returns what a group takes, as if it were a key."""
    one = choice(*groups[group])
    return either(one, list_of(one, [one.example])) if group in TAKE_LISTS else one
