"""When a tuning job stops a trial that lags behind, as far as AWS's documentation says."""

from collections.abc import Mapping, Sequence
from statistics import fmean, median
from typing import Any

HALVING = 3  # of Hyperband: of so many at a rung one goes on; AWS does not say its own
LEAST_EARLIER = 2


def lags(values: Sequence[float], others: Sequence[Sequence[float]], config: Mapping[str, Any], maximize: bool) -> bool:
    """Whether a running trial is to be stopped.

    Args:
        values: Its objective, one for each validation.
        others: Those of the trials that ended well.
        config: HyperParameterTuningJobConfig.
    """
    sign = 1 if maximize else -1
    mine, theirs = [sign * value for value in values], [[sign * value for value in other] for other in others]
    if config["Strategy"] == "Hyperband":
        return _is_halved(mine, theirs, config["StrategyConfig"]["HyperbandStrategyConfig"])
    return config.get("TrainingJobEarlyStoppingType") == "Auto" and _is_below_median(mine, theirs)


def _is_below_median(values: Sequence[float], others: Sequence[Sequence[float]]) -> bool:
    """Source: developer guide, "Stop Training Jobs Early": the median of the running averages up to the same epoch."""
    if not values:
        return False
    averages = [fmean(other[: len(values)]) for other in others if len(other) >= len(values)]
    return len(averages) >= LEAST_EARLIER and values[-1] < median(averages)


def _is_halved(values: Sequence[float], others: Sequence[Sequence[float]], resources: Mapping[str, int]) -> bool:
    """Source: Li et al., "Hyperband", section 3; one bracket, whose rungs are the least resource times powers of 3."""
    if len(values) >= resources["MaxResource"]:
        return True
    rung = resources.get("MinResource", 1)
    while rung * HALVING <= len(values):
        rung *= HALVING
    reached = [other[rung - 1] for other in others if len(other) >= rung]
    if len(values) < rung or len(reached) < HALVING - 1:
        return False
    num_better = sum(other > values[rung - 1] for other in reached)
    return num_better >= (len(reached) + 1) // HALVING
