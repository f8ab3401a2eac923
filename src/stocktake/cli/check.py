"""Whether a composed configuration holds what its command takes, in one line for each value that is wrong."""

import re
from collections.abc import Iterable, Iterator, Mapping
from difflib import SequenceMatcher
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from stocktake.cli.command_keys import Inputs
from stocktake.cli.rules import Rule
from stocktake.shell import override

# Nodes that are switched off by null.
CAN_BE_OFF = re.compile(r"scheduler|model\.scheduler|data\.augment|callbacks(\.\w+)?|logger(\.\w+)?")
# What conf/ ships: all their keys are in the rules. Whoever names a class of their own knows its keys best.
KNOWN_TARGETS = re.compile(
    r"stocktake\..*|torch\.optim\.(Adam|AdamW|SGD)|torch\.optim\.lr_scheduler\.(OneCycleLR|CosineAnnealingLR)|"
    r"pytorch_lightning\.(Trainer|loggers\.CSVLogger|callbacks\.(ModelCheckpoint|EarlyStopping|LearningRateMonitor))"
)
SAME_AS = re.compile(r"\$\{([\w.]+)\}")
LEAST_ALIKE = 0.6  # share of equal letters below which a guess would only confuse
HYDRAS_OWN = ("_target_", "_partial_", "_convert_", "_recursive_", "_args_")


def problems(config: DictConfig, inputs: Inputs) -> list[str]:
    """Returns a sentence for each value that `inputs` does not admit, each with what to type instead."""
    return [*problems_by_key(config, inputs).values()]


def problems_by_key(config: DictConfig, inputs: Inputs) -> dict[str, str]:
    """Returns the same by the key that is wrong."""
    plain = cast(dict[str, Any], OmegaConf.to_container(config, resolve=False))
    return dict(_walk(config, plain, "", inputs.rules, is_open=False))


def _walk(
    config: DictConfig, node: Mapping[str, Any], prefix: str, rules: dict[str, Rule], is_open: bool
) -> Iterator[tuple[str, str]]:
    is_open = is_open or not KNOWN_TARGETS.fullmatch(str(node.get("_target_") or "stocktake."))
    for name, value in node.items():
        key = f"{prefix}{name}"
        if name in HYDRAS_OWN or key == "hydra":
            continue
        if isinstance(value, str) and "${" in value:
            same = SAME_AS.fullmatch(value)
            value, problem = _looked_up(config, key, value)
            if same and same[1] in rules and same[1] != key and (problem or not rules[same[1]].admits(value)):
                continue  # reported once, where it stands
            if problem or value is _LATER or (isinstance(value, Mapping) and key not in rules):
                yield from [(key, problem)] if problem else []
                continue
        if key in rules:
            yield from ((key, line) for line in wrong(key, value, rules[key]))
        elif isinstance(value, Mapping) and (is_open or "_target_" in value or _has_rules_below(key, rules)):
            # A part of its own, such as a callback that was added, names its class; its keys are nobody else's.
            yield from _walk(config, value, f"{key}.", rules, is_open or not _has_rules_below(key, rules))
        elif _has_rules_below(key, rules):
            if value is not None or not CAN_BE_OFF.fullmatch(key):
                yield key, _is_no_value(key, value, rules)
        elif not is_open and not (value is None and CAN_BE_OFF.fullmatch(key)):
            yield key, unknown(key, value, rules, config)


_LATER = object()  # known only when the run has its folder


def _looked_up(config: DictConfig, key: str, text: str) -> tuple[Any, str | None]:
    try:
        value = OmegaConf.select(config, key)
    except OmegaConfBaseException as error:
        if "HydraConfig" in str(error):
            return _LATER, None
        reason = str(error).splitlines()[0].rstrip(".")
        return None, f"{override(key, text)}: {reason}. Type {key}=<value>"
    return (OmegaConf.to_container(value) if OmegaConf.is_config(value) else value), None


def has_rules(key: str, rules: dict[str, Rule]) -> bool:
    """Whether a key, or one below it, is known."""
    return key in rules or _has_rules_below(key, rules)


def _has_rules_below(key: str, rules: dict[str, Rule]) -> bool:
    return any(known.startswith(f"{key}.") for known in rules)


def wrong(key: str, value: Any, rule: Rule) -> Iterator[str]:
    """Yields what is wrong with a value, if anything is."""
    if value == "???":
        yield f"{key} is missing: it takes {rule}. Type {key}=<value>, such as {override(key, rule.example)}"
    elif not rule.admits(value):
        names = [literal for literal in rule.literals if isinstance(literal, str)]
        near = nearest(value, names) if isinstance(value, str) else None
        example = near or (str(value) if rule.kind == "text" and isinstance(value, int | float) else rule.example)
        empty = "is empty, and " if value in ("", [], {}) else ""
        yield f"{override(key, value)} is wrong: {key} {empty}takes {rule}. Type {override(key, example)}"


def unknown(key: str, value: Any, names: Mapping[str, Rule | None], config: DictConfig) -> str:
    """Says that there is no such key, and which one was probably meant.

    Args:
        names: The keys there are, with their rules; groups have none.
        config: Where a key that is not yet there is added with `+`.
    """
    near = nearest(key.replace("/", "."), names)  # model/head is how Hydra writes a group within a group
    typed = override(key, value)
    if near is None:
        return f"{typed} is wrong: there is no key {key}. Type --help, which lists what there is"
    rule = names[near]
    meant = override(near, value if rule is None or rule.admits(value) else rule.example)
    return f"{typed} is wrong: there is no key {key}. Did you mean {near}? Type {plus(near, config)}{meant}"


def plus(key: str, config: DictConfig) -> str:
    """Returns the `+` that Hydra wants in front of a key that the configuration does not have."""
    parent, _, name = key.rpartition(".")
    node = OmegaConf.select(config, parent) if parent else config
    return "+" if parent and (node is None or name not in node) else ""


def _is_no_value(key: str, value: Any, rules: dict[str, Rule]) -> str:
    own = [known for known in rules if known.startswith(f"{key}.")]
    names = ", ".join(sorted({known.removeprefix(f"{key}.").partition(".")[0] for known in own}))
    return (
        f"{override(key, value)} is wrong: {key} holds keys of its own ({names}). "
        f"Type one of them, such as {override(own[0], rules[own[0]].example)}"
    )


def nearest(typed: str, names: Iterable[str]) -> str | None:
    """Returns the name that is most like what was typed, or None where none is like it.

    A key is also known by its last part: `lr` means `model.optimizer.lr`, `data.root` means `root` where that is all.
    """
    best, best_name = LEAST_ALIKE, None
    for name in sorted(names, key=lambda name: (name.count("."), name)):
        for part, weight in ((lambda text: text, 1), (lambda text: text.rsplit(".")[-1], 0.95)):
            matcher = SequenceMatcher(None, part(typed).lower(), part(name).lower(), autojunk=False)
            # The quick ratios are upper bounds, and most names fall short of the best by them.
            if all(weight * ratio() > best for ratio in (matcher.real_quick_ratio, matcher.quick_ratio, matcher.ratio)):
                best, best_name = weight * matcher.ratio(), name
    return best_name
