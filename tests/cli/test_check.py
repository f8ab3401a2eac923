"""Every key of every command, one by one: a wrong type, out of range, empty, misspelt."""

import pathlib

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from stocktake.cli.check import nearest, problems, unknown
from stocktake.cli.command_keys import COMMANDS
from stocktake.cli.rules import Rule
from stocktake.cli.training_keys import CALLBACKS, METRICS

CONF = pathlib.Path(__file__).parents[2] / "conf"


def composed(name: str, *words: str):
    with initialize_config_dir(str(CONF / name if name in IN_A_FOLDER else CONF), version_base="1.3"):
        return compose(name, list(words))


def choices(group: str) -> list[str]:
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


IN_A_FOLDER = {"serve", "deploy"}  # of its own, because `model=` would be a group

# Together they compose every file of conf/.
TRAININGS = [
    *([f"experiment={name}"] for name in choices("experiment")),
    *([f"{group}={name}"] for group in ("data", "head", "scheduler", "logger", "compute") for name in choices(group)),
    ["callbacks=[spot,early_stopping,finetune]"],
]
COMPOSITIONS = [
    *(("train", words) for words in TRAININGS),
    *(("tune", [f"find={name}"]) for name in choices("find")),
    *(("prepare", [f"split_rule={name}"]) for name in choices("split_rule")),
    *((name, []) for name in COMMANDS),
]


@pytest.mark.parametrize(("name", "words"), COMPOSITIONS, ids=str)
def test_every_key_has_a_rule_and_every_shipped_value_follows_it(name, words):
    found = problems(composed(name, *words), COMMANDS[name])
    assert [line for line in found if "is missing" not in line] == []


def test_every_configuration_file_of_a_command_has_rules():
    assert set(COMMANDS) == {path.stem for path in CONF.glob("*.yaml")} | IN_A_FOLDER


def wrong_values(rule: Rule):
    """Yields values that a rule must not admit: of a wrong type, out of range, empty."""
    if rule.kind == "any" or any(item.kind == "any" for item in rule.literals if isinstance(item, Rule)):
        return
    yield from ({"a": {"b": []}}, "")
    kinds = {item.kind for item in rule.literals} if rule.kind == "either" else {rule.kind}
    if "text" not in kinds:
        yield "abc"
    if "list" not in kinds:
        yield [["abc"]]
    if "switch" not in kinds:
        yield True
    if rule.kind in ("whole", "number"):
        yield from (float("nan"), float("inf"), "1e3x")
        if rule.low is not None:
            yield rule.low if rule.is_open else rule.low - 1
        if rule.high is not None:
            yield rule.high + 1
    if rule.kind == "whole":
        yield 1.5
    if rule.kind == "list" and rule.least:
        yield rule.example[: rule.least - 1]
    if None not in rule.literals and rule.kind != "either":
        yield None


@pytest.mark.parametrize("name", COMMANDS)
def test_a_wrong_value_of_any_key_is_one_line_that_says_what_to_type(name):
    inputs = COMMANDS[name]
    for key, rule in inputs.rules.items():
        assert rule.admits(rule.example), f"{key}: its own example is refused"
        for value in wrong_values(rule):
            (line,) = problems(at(key, value), inputs)
            assert "\n" not in line
            assert f"{key}=" in line, line
            assert f" takes {rule}. Type " in line, line


def at(key: str, value):
    """Returns a configuration that holds nothing but one key."""
    config = OmegaConf.create({})
    OmegaConf.update(config, key, value, force_add=True)
    return config


@pytest.mark.parametrize("name", COMMANDS)
def test_a_misspelt_key_is_told_with_the_right_one(name):
    inputs = COMMANDS[name]
    for key, rule in inputs.rules.items():
        parent, dot, last = key.rpartition(".")
        if len(last) < 4:
            continue
        typed = f"{parent}{dot}{last[:-2]}{last[-1]}{last[-2]}x"
        assert nearest(typed, inputs.rules) is not None, typed
        assert ". Did you mean " in unknown(typed, rule.example, inputs.rules, at(key, rule.example))
        if parent and not typed.startswith(("callbacks", "logger", "head", "scheduler", "model.head", "model.sched")):
            assert len(problems(at(typed, rule.example), inputs)) == 1, typed


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("experimnt", "experiment"),
        ("lr", "model.optimizer.lr"),
        ("data.batchsize", "data.batch_size"),
        ("max_epochs", "trainer.max_epochs"),
        ("batch_size", "data.batch_size"),
        ("zzz", None),
    ],
)
def test_the_nearest_key(typed, meant):
    assert nearest(typed, ["experiment", *COMMANDS["train"].rules]) == meant


def test_the_metrics_that_can_be_optimized_are_those_that_are_measured():
    from stocktake.metrics.definitions import COUNT_METRICS

    assert {name.removeprefix("valid/") for name in METRICS if name.startswith("valid/")} >= set(COUNT_METRICS)


def test_the_rules_of_a_callback_are_its_arguments():
    import inspect

    from hydra.utils import get_object

    for files in (["default"], ["spot"], ["early_stopping"], ["finetune"]):
        for name, node in composed("train", f"callbacks={files}").callbacks.items():
            taken = set(inspect.signature(get_object(node["_target_"]).__init__).parameters) | {"window_size"}
            assert set(CALLBACKS[name]) <= taken, name


def test_the_rules_of_the_trainer_are_its_arguments():
    import inspect

    from pytorch_lightning import Trainer

    from stocktake.cli.training_keys import TRAINER

    assert set(TRAINER) == set(inspect.signature(Trainer.__init__).parameters) - {"self"}
