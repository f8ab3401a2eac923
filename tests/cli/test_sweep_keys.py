"""What is typed for a search: a wrong key, value or space is told in a line before anything is loaded."""

import pytest
from omegaconf import OmegaConf

from stocktake.cli.command_keys import COMMANDS
from stocktake.cli.sweep_keys import SEARCH, SWEEPER, is_search, sweep_problems

SEARCHES = ["-m", "sweep=lr_dropout"]
WRONG = [
    (["sweep=lr_dropuot"], "sweep takes one of backbone, lr_dropout, recipe. Did you mean lr_dropout?"),
    (["hydra.sweeper.num_trials=0"], "hydra.sweeper.num_trials takes a whole number of at least 1."),
    (
        ["hydra.sweeper.num_trails=8"],
        "there is no key hydra.sweeper.num_trails. Did you mean hydra.sweeper.num_trials?",
    ),
    (["hydra.sweeper.max_failed_share=2"], "hydra.sweeper.max_failed_share takes a number from 0 to 1."),
    (["hydra.sweeper.sampler=bayes"], "hydra.sweeper.sampler takes one of tpe, cmaes, random, grid."),
    (["hydra.sweeper.pruner=medium"], "hydra.sweeper.pruner takes one of none, median, hyperband."),
    (["model.drop_rate=interval(0,7)"], "model.drop_rate takes a number from 0 to 0.99."),
    (["model.drop_rat=interval(0,0.7)"], "there is no key model.drop_rat. Did you mean model.drop_rate?"),
    (["hydra/sweeper=serch"], "hydra/sweeper takes one of "),
]


@pytest.mark.parametrize(("words", "told"), WRONG, ids=[words[0] for words, _ in WRONG])
def test_a_wrong_word_is_told_in_a_line(run_script, capsys, words, told):
    typed = SEARCHES[:1] if words[0].startswith("sweep=") else SEARCHES
    assert run_script("../train.py", *typed, *words) == 1
    out, err = capsys.readouterr()
    assert out == "" and "Traceback" not in err
    assert told in err.strip().splitlines()[0], err


def test_a_space_of_ones_own_is_checked_as_the_shipped_ones():
    space = {
        "model.drop_rat": {"range": [0.1, 0.2]},
        "data.batch_size": {"choice": [32, 0]},
        "head": {"choice": ["smooth", "smoth"]},
        "seed": "anything",  # what is neither range nor choice the search tells
    }
    config = OmegaConf.create({"hydra": {"sweeper": {"space": space, "num_trials": 3}}})
    first, second, third = sweep_problems(config, COMMANDS["train"], {"head": ["smooth", "softmax"]})
    assert first == "hydra.sweeper.space: there is no key model.drop_rat. Did you mean model.drop_rate?"
    assert second.startswith("data.batch_size=0 is wrong")
    assert third.startswith("head=smoth is wrong") and third.endswith("Type head=smooth")
    basic = OmegaConf.create({"hydra": {"sweeper": {"params": None}}})
    assert not list(sweep_problems(basic, COMMANDS["train"], {}))


def test_an_interval_without_a_search_is_told_both_ways(run_script, capsys):
    assert run_script("../train.py", "-m", "model.drop_rate=interval(0,0.7)") == 1
    err = capsys.readouterr().err
    assert "an interval has no end of them. Type the values" in err and "hydra/sweeper=search beside it" in err


def test_every_option_has_a_rule_and_follows_it():
    from hydra_plugins.stocktake_sagemaker.search_options import SearchOptions

    options = {f"hydra.sweeper.{key}": value for key, value in vars(SearchOptions()).items()}
    del options["hydra.sweeper.defaults"], options["hydra.sweeper._target_"]
    rules = SWEEPER | SEARCH
    assert set(options) == set(rules)
    assert all(rules[key].admits(value) for key, value in options.items())
    assert all(rule.admits(rule.example) for rule in rules.values())


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        (["sweep=recipe"], True),
        (["hydra/sweeper=search", "seed=1"], True),
        (["sweep=null"], False),
        (["seed=1,2"], False),
        (["sweep=recipe", "hydra/sweeper=basic"], False),
    ],
)
def test_a_search_is_known_by_what_is_typed(typed, expected):
    assert is_search(typed) is expected
