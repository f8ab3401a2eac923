"""CMA-ES as a function of the trials before: Optuna's own keeps its state as a pickle in the journal."""

from collections.abc import Mapping
from math import exp, log
from typing import Any

import numpy
from cmaes import CMA
from optuna import Study
from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.search_space import IntersectionSearchSpace
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

FIRST_SIGMA = 0.25  # as a share of each range
LEAST_KEYS = 2  # that CMA-ES takes


class CmaSampler(BaseSampler):
    """Proposes the next point of an evolution that is made again from all trials with a score.

    Source: Hansen, The CMA Evolution Strategy: A Tutorial, arXiv 1604.00772, in the unit cube that the ranges are
    mapped to.
    """

    def __init__(self, seed: int):
        self._seed, self._random = seed, RandomSampler(seed=seed)

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return IntersectionSearchSpace().calculate(study)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: Mapping[str, BaseDistribution]
    ) -> dict[str, Any]:
        if len(search_space) < LEAST_KEYS:
            return {}
        sign = -1 if study.direction == StudyDirection.MAXIMIZE else 1
        scored = [
            (numpy.array([_share(trial.params[key], by) for key, by in search_space.items()]), sign * trial.value)
            for trial in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))
            if trial.value is not None
        ]
        evolution = CMA(
            numpy.full(len(search_space), 0.5),
            FIRST_SIGMA,
            bounds=numpy.tile([0.0, 1.0], (len(search_space), 1)),
            seed=self._seed,
        )
        size = evolution.population_size
        for first in range(0, len(scored) - size + 1, size):
            evolution.tell(scored[first : first + size])
        return {key: _value(x, by) for x, (key, by) in zip(evolution.ask(), search_space.items(), strict=True)}

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return self._random.sample_independent(study, trial, param_name, param_distribution)


def _share(value: float, by: BaseDistribution) -> float:
    """Returns where a value stands in its range, from 0 to 1."""
    assert isinstance(by, FloatDistribution | IntDistribution), "choices are refused before"
    if by.log:
        return (log(value) - log(by.low)) / (log(by.high) - log(by.low))
    return (value - by.low) / (by.high - by.low)


def _value(share: float, by: BaseDistribution) -> float:
    """Returns the value that stands there, or the nearest of a range with steps."""
    assert isinstance(by, FloatDistribution | IntDistribution), "choices are refused before"
    low, high = (log(by.low), log(by.high)) if by.log else (by.low, by.high)
    value = exp(low + share * (high - low)) if by.log else low + share * (high - low)
    if by.step is not None:
        value = by.low + round((value - by.low) / by.step) * by.step
    value = min(max(value, by.low), by.high)
    return int(value) if isinstance(by, IntDistribution) else float(value)
