"""Which parameters of a search mattered: how much of the differences between its scores goes back to each."""

import importlib.util
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from stocktake.tuning.search_space import Parameter
from stocktake.tuning.trials import SearchResult

LEAST_TRIALS = 10
FANOVA, PED_ANOVA = "fANOVA", "PED-ANOVA"
SEED = 0


@dataclass(frozen=True)
class Importance:
    """
    Attributes:
        shares: By key, the greatest first; they sum to 1. Empty where nothing can be said.
        method: `fANOVA` (Hutter et al. 2014, http://proceedings.mlr.press/v32/hutter14.html): of the variance over the
            whole space, by a forest fitted to the trials. `PED-ANOVA` (Watanabe et al. 2023,
            https://arxiv.org/abs/2304.10255): by how differently the best tenth of the trials is distributed.
        reason: Why nothing can be said, or why it is not fANOVA; else empty.
    """

    shares: Mapping[str, float] = field(default_factory=dict)
    method: str = ""
    reason: str = ""


def measure_importance(result: SearchResult) -> Importance:
    """Returns how much each parameter mattered, by Optuna's own estimators; the same trials give the same figures."""
    complete, parameters = result.ranked, result.space.parameters
    if len(parameters) < 2:
        return Importance(reason=f"{result.space.keys[0]} alone was searched.")
    if len(complete) < LEAST_TRIALS:
        return Importance(reason=f"{LEAST_TRIALS} complete trials are needed, and there are {len(complete)}.")
    if len({trial.score for trial in complete}) == 1:
        return Importance(reason="All complete trials have the same score.")
    if importlib.util.find_spec("optuna") is None:
        return Importance(reason="Optuna is not installed here. Type: make setup")
    conditional = [
        parameter.key for parameter in parameters if any(parameter.key not in one.values for one in complete)
    ]
    if conditional:
        return Importance(_shares(result, PED_ANOVA), PED_ANOVA, f"Not every trial has {', '.join(conditional)}.")
    if importlib.util.find_spec("sklearn") is None:
        return Importance(
            _shares(result, PED_ANOVA), PED_ANOVA, "fANOVA needs scikit-learn, which is not installed here."
        )
    return Importance(_shares(result, FANOVA), FANOVA)


def _shares(result: SearchResult, method: str) -> dict[str, float]:
    import optuna
    from optuna.importance import FanovaImportanceEvaluator, PedAnovaImportanceEvaluator, get_param_importances

    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)  # else it tells of a study that no person has begun
    try:
        study = optuna.create_study(direction="maximize" if result.definition.better == "higher" else "minimize")
    finally:
        optuna.logging.set_verbosity(before)
    for trial in sorted(result.ranked, key=lambda trial: trial.number):
        values = {key: _point(result.space[key], value) for key, value in trial.values.items()}
        distributions = {key: _distribution(result.space[key]) for key in values}
        study.add_trial(optuna.trial.create_trial(params=values, distributions=distributions, value=trial.score))
    evaluator = FanovaImportanceEvaluator(seed=SEED) if method == FANOVA else PedAnovaImportanceEvaluator()
    return get_param_importances(study, evaluator=evaluator)


def _point(parameter: Parameter, value: Any) -> int | float:
    """Returns a choice's position, since values of several kinds are one category each; the logarithm in a log range.

    Optuna's fANOVA takes the shares over the range itself, also of a logarithmic one (transform_log=False), where nine
    tenths of 1e-5 to 1e-2 are the last decade.
    """
    if parameter.choices:
        return [*map(repr, parameter.choices)].index(repr(value))
    return math.log(value) if parameter.log else value


def _distribution(parameter: Parameter) -> Any:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    low, high, step = parameter.low, parameter.high, parameter.step
    if low is None or high is None:
        return CategoricalDistribution(range(len(parameter.choices)))
    if parameter.log:
        return FloatDistribution(math.log(low), math.log(high))
    if step is not None:
        high = low + (high - low) // step * step  # the last value that is there
    if parameter.is_whole:
        return IntDistribution(int(low), int(high), step=int(step or 1))
    return FloatDistribution(low, high, step=step)
