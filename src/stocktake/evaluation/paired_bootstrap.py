"""Figures of one run with what they would be on other samples of the bins: the same samples for all runs, so paired.

Axes: S samples of a bootstrap, G blocks of neighboring bins.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy
from numpy import ndarray

from stocktake.evaluation.results import Evaluation
from stocktake.metrics.bootstrap import basic_interval, draw_rows, percentile_interval, share_interval
from stocktake.metrics.calibration import apply_temperature, expected_calibration_error
from stocktake.metrics.counts import bootstrap_samples, group_errors, summarize
from stocktake.metrics.definitions import METRICS
from stocktake.metrics.estimate import Difference, Estimate

OF_COUNTS = ("accuracy", "within_one", "mae", "rmse", "rmse_expected")
ECE = "ece"
COMPARED = (*OF_COUNTS, ECE)
PROPORTIONS = ("accuracy", "within_one")  # of the bins, each of which is one or the other


@dataclass(frozen=True)
class PairedBootstrap:
    """One run's figures, each with what it would be on S other samples of the G blocks; NaN where it is unknown."""

    values: dict[str, float]
    samples: dict[str, ndarray]
    num_groups: int

    @classmethod
    def of(cls, evaluation: Evaluation) -> "PairedBootstrap":
        """Returns the figures of an evaluation; the same bins give the same samples, so runs are paired."""
        counts_K = numpy.array(evaluation.result.counts)
        labels_N, probabilities_NK = evaluation.labels_N, evaluation.probabilities_NK
        confusion_GKK, squared_error_G = group_errors(labels_N, probabilities_NK, evaluation.groups, counts_K)
        of_all = summarize(confusion_GKK.sum(0), squared_error_G.sum(0), counts_K)
        drawn = bootstrap_samples(confusion_GKK, squared_error_G, counts_K)
        values = {name: float(of_all[name]) for name in OF_COUNTS} | {ECE: numpy.nan}
        samples = {name: drawn[name] for name in OF_COUNTS} | {ECE: numpy.full(1, numpy.nan)}
        if calibration := evaluation.result.calibration:
            tempered_NK = apply_temperature(probabilities_NK, calibration.temperature)
            values[ECE] = expected_calibration_error(tempered_NK, labels_N)
            if len(confusion_GKK) > 1:  # a single block leaves nothing to resample
                errors = [
                    expected_calibration_error(tempered_NK[rows], labels_N[rows])
                    for rows in draw_rows(evaluation.groups, "calibration")
                ]
                samples[ECE] = numpy.array(errors)
        return cls(values, samples, len(confusion_GKK))

    @classmethod
    def mean(cls, runs: Sequence["PairedBootstrap"]) -> "PairedBootstrap":
        """Returns the mean of R runs, on the bins and on every sample of them."""
        return cls(
            {name: float(numpy.mean([run.values[name] for run in runs])) for name in COMPARED},
            {name: numpy.mean([run.samples[name] for run in runs], axis=0) for name in COMPARED},
            runs[0].num_groups,
        )

    def minus(self, other: "PairedBootstrap") -> "PairedBootstrap":
        return PairedBootstrap(
            {name: value - other.values[name] for name, value in self.values.items()},
            {name: values - other.samples[name] for name, values in self.samples.items()},
            self.num_groups,
        )

    def estimates(self) -> dict[str, Estimate]:
        """Returns every figure with its 95 % interval."""
        estimates = {}
        for name, value in self.values.items():
            low, high = self._interval(name)
            if low == high:
                low, high = self._left_open(name)
            estimates[name] = METRICS[name].estimate(value, numpy.maximum(0.0, low), high)
        return estimates

    def differences(self) -> dict[str, Difference]:
        """Returns the same where the figures are differences, which may be below 0."""
        differences = {}
        for name, value in self.values.items():
            low, high = self._interval(name)
            if low == high:
                _, margin = share_interval(0, self.num_groups)  # of blocks in which the two differ otherwise
                low, high = (value - margin, value + margin) if name in PROPORTIONS else (numpy.nan, numpy.nan)
            differences[name] = METRICS[name].difference(value, low, high)
        return differences

    def _interval(self, name: str) -> tuple[float, float]:
        if name == ECE:  # resampling pushes it up, see basic_interval
            return basic_interval(self.values[name], self.samples[name])
        low, high = percentile_interval(self.samples[name])
        return float(low), float(high)

    def _left_open(self, name: str) -> tuple[float, float]:
        """Returns the interval where all blocks are alike and resampling shows nothing: NaN but for a proportion."""
        return share_interval(self.values[name], self.num_groups) if name in PROPORTIONS else (numpy.nan, numpy.nan)
