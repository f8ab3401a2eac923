"""What was typed, before anything is built of it: composed, checked, or explained in one line where it cannot be."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from stocktake.cli.check import has_rules, nearest, problems_by_key, unknown, wrong
from stocktake.cli.command_keys import COMMANDS, Inputs
from stocktake.cli.local_files import missing_files
from stocktake.cli.override_errors import (
    CAN_BE_NONE,
    LISTS_ALL,
    TAKE_LISTS,
    Groups,
    OverrideError,
    no_such_choice,
    several_arguments,
    takes,
    to_type,
)
from stocktake.cli.override_values import first_of_sweep, first_value, no_choice, parsed_override, plain, swept
from stocktake.cli.sweep_keys import is_search, sweep_problems
from stocktake.shell import override

HERE = (".BasicLauncher", ".RehearsalLauncher")  # see this machine's files
ALWAYS_READ = ("data.root", "model.backbone", "trainer.max_epochs")


# Lines of its messages that name its own types.
_INNER = re.compile(r"full_key: |reference_type=|object_type=")
# What Hydra says of a choice that its own group, such as hydra/launcher, does not have.
_GROUP = r"Could not find '{}/.*?Available options in '[^']*':\n((?:\t[\w-]+\n)+)"


def read_overrides(
    config_dir: Path, config_name: str, typed: Sequence[str], inputs: Inputs, is_sweep: bool
) -> DictConfig:
    """Returns the configuration that what was typed composes, of a sweep the first.

    Raises:
        OverrideError: An argument is not Hydra's, or names no key or choice.
    """
    groups = _groups(config_dir)
    if several := several_arguments(typed, inputs):
        raise OverrideError(several)
    overrides = [parsed_override(argument, inputs, groups) for argument in typed]
    if taken := [one.key_or_group for one in overrides if one.is_delete() and _is_needed(one.key_or_group, inputs)]:
        raise OverrideError(f"~{taken[0]}: {taken[0]} cannot be taken away. Type {to_type(taken[0], inputs, groups)}.")
    if is_sweep:
        proposes = is_search(typed)
        typed = [
            first_of_sweep(argument, one, inputs, groups, proposes)
            for argument, one in zip(typed, overrides, strict=True)
        ]
    if several := [one for one in overrides if _is_list_for_one(one, groups)]:
        key, choices = several[0].key_or_group, groups[several[0].key_or_group]
        raise OverrideError(
            f"{several[0].input_line}: {key} takes one of {', '.join(choices)}, and no list of them. "
            f"Type {override(key, next(iter(plain(several[0].value())), choices[0]))}."
        )
    with initialize_config_dir(str(config_dir), version_base="1.3", job_name=config_name):
        try:
            return compose(config_name, list(typed), return_hydra_config=True)
        except (HydraException, OmegaConfBaseException, ValueError) as error:
            explained = _explained(error, config_name, overrides, inputs, groups)
            raise OverrideError(f"{explained}.") from error


def check_command_line(config_dir: Path, command: str, typed: Sequence[str]) -> None:
    """Checks what is typed for another command than the one that runs, which will be started with it.

    Raises:
        OverrideError: As it would.
    """
    inputs = COMMANDS[command]
    GlobalHydra.instance().clear()  # the command that runs is composed already, and Hydra composes one at a time
    config = read_overrides(config_dir, command, typed, inputs, is_sweep=False)
    check_overrides(config, config_dir, typed, inputs, is_sweep=False)


def check_overrides(config: DictConfig, config_dir: Path, typed: Sequence[str], inputs: Inputs, is_sweep: bool) -> None:
    """Checks every value of the configuration, and each value of a sweep.

    Raises:
        OverrideError: One is wrong; the message has a line for each that is.
    """
    overrides = OverridesParser.create().parse_overrides(list(typed))
    added = [parsed.key_or_group for parsed in overrides if parsed.is_add() or parsed.is_force_add()]
    found = [
        line
        for key, line in problems_by_key(config, inputs).items()
        # That every shipped key has a rule is for a test to say, not for who types others.
        if has_rules(key, inputs.rules) or any(f"{one}.".startswith(f"{key}.") or key.startswith(one) for one in added)
    ]
    for parsed in overrides if is_sweep else ():
        if parsed.is_sweep_override() and (rule := inputs.rules.get(parsed.key_or_group)):
            found += [line for value in swept(parsed, inputs, {}) for line in wrong(parsed.key_or_group, value, rule)]
    if is_sweep:
        found += sweep_problems(config, inputs, _groups(config_dir))
    if not found and not (inputs.is_elsewhere or _is_elsewhere(config)):
        values = {parsed.key_or_group: swept(parsed, inputs, {}) for parsed in overrides if parsed.is_discrete_sweep()}
        found = [*missing_files(config, values if is_sweep else None)]
    if found:
        raise OverrideError("\n".join(f"{line}." for line in dict.fromkeys(found)))


def _is_elsewhere(config: DictConfig) -> bool:
    """Whether the runs of a sweep are other machines', which have files of their own."""
    return not config.hydra.launcher._target_.endswith(HERE)


def plain_value(argument: str) -> str:
    """Returns the value of an override that was read before, as text."""
    value = plain(OverridesParser.create().parse_override(argument).value())
    return "" if value is None else str(value)


def _is_needed(key: str, inputs: Inputs) -> bool:
    """Whether a command's first line, or its own code, reads what `~` would take away."""
    return has_rules(key, inputs.rules) and (key in ALWAYS_READ or ("." not in key and key not in CAN_BE_NONE))


def _is_list_for_one(parsed: Override, groups: Groups) -> bool:
    """Whether several choices are given to a group whose files are whole parts: Hydra would mix them."""
    value = None if parsed.is_delete() or parsed.is_sweep_override() else parsed.value()
    return parsed.key_or_group in groups and parsed.key_or_group not in TAKE_LISTS and isinstance(value, list)


def _groups(config_dir: Path) -> Groups:
    """Returns the configuration groups and their choices."""
    files = config_dir.glob("*/*.yaml")
    groups: dict[str, list[str]] = {}
    for file in sorted(files):
        groups.setdefault(file.parent.name, []).append(file.stem)
    return groups


def _explained(
    error: Exception, config_name: str, overrides: Sequence[Override], inputs: Inputs, groups: Groups
) -> str:
    """Returns what composing ended with, as a person would say it."""
    reason = f"{error}\n{error.__cause__ or ''}"
    for parsed in overrides:
        key, argument, value = parsed.key_or_group, parsed.input_line or "", first_value(parsed, inputs, groups)
        if "Ambiguous value" in reason and argument in reason:
            return f"{argument}: several values are a sweep. Type -m in front of them, or [ ] around the values"
        if key in groups and not parsed.is_delete():
            if parsed.is_add() and re.search(rf"\b{key} appears more than once|values for {key}\.", reason):
                return f"{argument}: {key} is chosen already, and another one takes no +. Type {override(key, value)}"
            is_value = isinstance(value, dict) and f"Could not override '{key}'" not in reason
            if (unlisted := no_choice(value, groups[key])) and not is_value:
                return no_such_choice(argument, key, value, unlisted, groups[key])
        if found := re.search(_GROUP.format(re.escape(key)), reason, re.DOTALL):
            choices = found[1].split()
            near = nearest(str(value), choices) or choices[0]
            return f"{argument}: {key} takes one of {', '.join(choices)}. Type {override(key, near)}"
        if f"Could not override '{key}'" in reason:
            others = [other.input_line or "" for other in overrides if other is not parsed]
            config = _composed(config_name, others)
            if config is None:  # a second argument is wrong, too
                config = compose(config_name, [], return_hydra_config=True)
            return _no_such_key(key, value, config, inputs, groups)
    return _hydras_reason(reason, config_name, overrides)


def _hydras_reason(reason: str, config_name: str, overrides: Sequence[Override]) -> str:
    """Returns Hydra's own reason without its inner names, behind the argument that is at fault."""
    lines = (line.strip() for line in reason.splitlines())
    summary = " ".join(dict.fromkeys(line for line in lines if line and not _INNER.match(line))).rstrip(".")
    if _composed(config_name, []) is not None:
        for argument in (parsed.input_line or "" for parsed in overrides):
            if _composed(config_name, [argument]) is None:
                return f"{argument}: {summary.removeprefix(f'Error merging override {argument} ')}. {LISTS_ALL}"
    return summary


def _composed(config_name: str, typed: Sequence[str]) -> DictConfig | None:
    try:
        return compose(config_name, list(typed), return_hydra_config=True)
    except (HydraException, OmegaConfBaseException, ValueError):
        return None


def _no_such_key(key: str, value: Any, config: DictConfig, inputs: Inputs, groups: Groups) -> str:
    if now := inputs.former.get(key):
        return f"{override(key, value)}: {key} is called {now} now. Type {override(now, value)}"
    if isinstance(value, dict) and value and OmegaConf.select(config, key) is not None:
        entries = " ".join(f"+{override(f'{key}.{name}', entry)}" for name, entry in value.items())
        return f"{override(key, value)}: entries that {key} has not yet take a +. Type {entries}"
    if key in inputs.rules or key in groups:
        return f"{override(key, value)}: {key} is no part of this choice of parts. Type +{override(key, value)}"
    if key.startswith("hydra."):
        if OmegaConf.select(config, key.rpartition(".")[0]) == {}:  # of names that are anybody's, such as variables
            return f"{override(key, value)}: {key} is not there yet. Type +{override(key, value)}"
        return unknown(key, value, dict.fromkeys(_keys(config.hydra, "hydra.")), config)
    return unknown(key, value, {group: takes(group, groups) for group in groups} | inputs.rules, config)


def _keys(node: DictConfig, prefix: str) -> Iterator[str]:
    for name in node:
        child = node._get_node(name)
        if isinstance(child, DictConfig) and not OmegaConf.is_missing(node, name):
            yield from _keys(child, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"
