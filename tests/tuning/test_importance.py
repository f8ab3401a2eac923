"""What mattered in a search, beside Optuna asked in its own words, and beside what is known of the scores."""

import math
from dataclasses import replace

import optuna
import pytest
from optuna.importance import FanovaImportanceEvaluator, get_param_importances
from searches import LR_DROPOUT, RECIPE, make_search

from stocktake.tuning.importance import FANOVA, PED_ANOVA, measure_importance
from stocktake.tuning.trials import Trial


def searched_by_optuna(num_trials: int = 40):
    """Returns a study that Optuna ran itself, over the logarithm of a learning rate, and its trials as ours."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.RandomSampler(seed=3))

    def objective(trial: optuna.Trial) -> float:
        log_lr = trial.suggest_float("model.optimizer.lr", math.log(1e-5), math.log(1e-2))
        drop_rate = trial.suggest_float("model.drop_rate", 0.0, 0.7)
        return 0.8 - 0.02 * abs(log_lr - math.log(1e-4)) + 0.1 * drop_rate

    study.optimize(objective, n_trials=num_trials)
    trials = [
        Trial(
            trial.number,
            "complete",
            {**trial.params, "model.optimizer.lr": math.exp(trial.params["model.optimizer.lr"])},
            trial.value,
        )
        for trial in study.trials
    ]
    return study, trials


def test_fanova_says_what_optunas_own_says_over_the_logarithm():
    study, trials = searched_by_optuna()
    oracle = get_param_importances(study, evaluator=FanovaImportanceEvaluator(seed=0))
    found = measure_importance(make_search(LR_DROPOUT, trials=trials[::-1]))
    assert found.method == FANOVA and found.reason == ""
    assert dict(found.shares) == pytest.approx(oracle, rel=1e-3) and list(found.shares) == list(oracle)
    assert found.shares["model.optimizer.lr"] > 0.6 and sum(found.shares.values()) == pytest.approx(1)


def test_ends_of_a_logarithmic_range_are_within_it():
    trials = [
        Trial(number, "complete", {"model.optimizer.lr": (1e-5, 1e-2)[number % 2], "model.drop_rate": 0.7}, number / 20)
        for number in range(12)
    ]
    assert measure_importance(make_search(LR_DROPOUT, trials=trials)).shares


def test_the_same_trials_give_the_same_figures_and_the_direction_does_not_matter():
    result = make_search(LR_DROPOUT)
    assert measure_importance(result) == measure_importance(result)
    turned = [replace(trial, score=None if trial.score is None else -trial.score) for trial in result.trials]
    lower = replace(result, metric="valid/loss", trials=turned)
    assert dict(measure_importance(lower).shares) == pytest.approx(dict(measure_importance(result).shares), abs=0.05)


def test_where_a_condition_holds_back_a_parameter_the_other_method_says_so():
    found = measure_importance(make_search(RECIPE, 60))
    assert found.method == PED_ANOVA and found.reason == "Not every trial has head.label_smoothing."
    assert set(found.shares) == set(RECIPE) and sum(found.shares.values()) == pytest.approx(1)
    assert next(iter(found.shares)) == "model.optimizer.lr"


@pytest.mark.parametrize(
    ("result", "reason"),
    [
        (make_search(LR_DROPOUT, 9), "10 complete trials are needed, and there are 7."),
        (make_search({"seed": {"range": [0, 9]}}), "seed alone was searched."),
        (
            make_search(LR_DROPOUT, trials=[replace(one, score=0.5) for one in make_search(LR_DROPOUT).trials]),
            "All complete trials have the same score.",
        ),
        (make_search(LR_DROPOUT, trials=[]), "10 complete trials are needed, and there are 0."),
    ],
)
def test_where_nothing_can_be_said_it_says_why(result, reason):
    found = measure_importance(result)
    assert (dict(found.shares), found.reason) == ({}, reason)


def test_without_scikit_learn_it_falls_back(monkeypatch):
    import importlib.util

    found_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "sklearn" else found_spec(name))
    found = measure_importance(make_search(LR_DROPOUT))
    assert found.method == PED_ANOVA and "scikit-learn" in found.reason and found.shares
