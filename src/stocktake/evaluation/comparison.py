"""By how much models differ on the same bins: paired, so that what both find hard does not blur the difference.

Axes: N images, S samples of a bootstrap, R runs of one recipe that differ by their seed alone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy
from numpy import ndarray

from stocktake.evaluation.calibration_metrics import basic_interval, resampled_rows
from stocktake.evaluation.results import Evaluation
from stocktake.metrics.calibration import apply_temperature, expected_calibration_error
from stocktake.metrics.counts import bootstrap_samples, group_errors, percentile_interval, share_interval, summarise
from stocktake.metrics.significance import holm, sign_flip_test

SUMMARISED = ("accuracy", "within_one", "mae", "rmse", "rmse_mean")
SHARES = ("accuracy", "within_one")
CALIBRATION_ERROR = "calibration_error"
MEASURES = (*SUMMARISED, CALIBRATION_ERROR)


@dataclass(frozen=True)
class Measured:
    """One run's figures, each with what it would be on S other samples of the G blocks; NaN where it is unknown."""

    values: dict[str, float]
    samples: dict[str, ndarray]
    num_groups: int

    @classmethod
    def of(cls, evaluation: Evaluation) -> "Measured":
        """Returns the figures of an evaluation; the same bins give the same samples, so runs are paired."""
        counts_K = numpy.array(evaluation.metrics["counts"])
        recorded_N, probabilities_NK = evaluation.recorded_N, evaluation.probabilities_NK
        errors = group_errors(recorded_N, probabilities_NK, evaluation.groups, counts_K)
        values, samples = (
            summarise(*(errors_G.sum(0) for errors_G in errors), counts_K),
            bootstrap_samples(*errors, counts_K),
        )
        values = {name: float(values[name]) for name in SUMMARISED} | {CALIBRATION_ERROR: numpy.nan}
        samples = {name: samples[name] for name in SUMMARISED} | {CALIBRATION_ERROR: numpy.full(1, numpy.nan)}
        if calibration := evaluation.metrics.get("calibration"):
            tempered_NK = apply_temperature(probabilities_NK, calibration["temperature"])
            values[CALIBRATION_ERROR] = expected_calibration_error(tempered_NK, recorded_N)
            if len(errors[0]) > 1:  # a single block leaves nothing to resample
                drawn = [
                    expected_calibration_error(tempered_NK[rows], recorded_N[rows])
                    for rows in resampled_rows(evaluation.groups)
                ]
                samples[CALIBRATION_ERROR] = numpy.array(drawn)
        return cls(values, samples, len(errors[0]))

    @classmethod
    def mean(cls, runs: Sequence["Measured"]) -> "Measured":
        """Returns the mean of R runs, on the bins and on every sample of them."""
        return cls(
            {name: float(numpy.mean([run.values[name] for run in runs])) for name in MEASURES},
            {name: numpy.mean([run.samples[name] for run in runs], axis=0) for name in MEASURES},
            runs[0].num_groups,
        )

    def minus(self, other: "Measured") -> "Measured":
        return Measured(
            {name: value - other.values[name] for name, value in self.values.items()},
            {name: values - other.samples[name] for name, values in self.samples.items()},
            self.num_groups,
        )

    def estimates(self, is_difference: bool = False) -> dict[str, dict[str, float | None]]:
        """Returns every figure with its 95 % interval, in the form of metrics.json; only a difference is below 0."""
        estimates = {}
        for name, value in self.values.items():
            # Resampling pushes the calibration error up, see basic_interval.
            is_pushed = name == CALIBRATION_ERROR
            drawn = self.samples[name]
            low, high = basic_interval(value, drawn) if is_pushed else percentile_interval(drawn)
            if low == high:
                low, high = self._left_open(name, is_difference)
            numbers = {"value": value, "low": low if is_difference else numpy.maximum(0.0, low), "high": high}
            estimates[name] = {key: None if numpy.isnan(number) else float(number) for key, number in numbers.items()}
        return estimates

    def _left_open(self, name: str, is_difference: bool) -> tuple[float, float]:
        """Returns the interval where all blocks are alike and resampling shows nothing: NaN but for a share."""
        if name not in SHARES:
            return numpy.nan, numpy.nan
        if not is_difference:
            return share_interval(self.values[name], self.num_groups)
        _, margin = share_interval(0, self.num_groups)  # of blocks in which the two differ otherwise
        return self.values[name] - margin, self.values[name] + margin


def measure_comparison(
    evaluations: Sequence[Evaluation], measured: Sequence[Measured], names: Sequence[str]
) -> dict[str, Any]:
    """Returns the part of comparison.json that is measured: each recipe, and each against the first.

    Args:
        evaluations: Of the same bins.
        measured: The figures of each.
        names: What each is called; those of one name are runs of one recipe, and stand for it by their mean.
    """
    rows = {name: [row for row, other in enumerate(names) if other == name] for name in names}
    means = {name: Measured.mean([measured[row] for row in rows[name]]) for name in rows}
    hits = {name: numpy.array([evaluations[row].hits_N for row in rows[name]]) for name in rows}
    baseline, *others = rows
    p_values = [_p_value(hits[baseline], hits[name], evaluations[0].groups) for name in others]
    return {
        "baseline": baseline,
        "recipes": [
            {
                "name": name,
                "evaluations": [evaluations[row].url for row in rows[name]],
                "leakage": [evaluations[row].metrics.get("leakage") for row in rows[name]],
                "measures": {
                    measure: estimate | {"runs": [_plain(measured[row].values[measure]) for row in rows[name]]}
                    for measure, estimate in means[name].estimates().items()
                },
            }
            for name in rows
        ],
        "comparisons": [
            {
                "name": name,
                "differences": means[name].minus(means[baseline]).estimates(is_difference=True),
                "bins": _sides(hits[baseline], hits[name]),
                "p_value": p_value,
                "p_value_holm": p_value_holm,
            }
            for name, p_value, p_value_holm in zip(others, p_values, holm(p_values), strict=True)
        ],
    }


def _p_value(baseline_RN: ndarray, other_RN: ndarray, groups: Sequence[str]) -> float:
    """Returns the p-value of the difference in accuracy between the means over R runs each, from whole blocks."""
    _, group_N = numpy.unique(numpy.asarray(groups), return_inverse=True)
    # Times the runs of both, so that the differences of the means are whole numbers.
    difference_N = other_RN.sum(0) * len(baseline_RN) - baseline_RN.sum(0) * len(other_RN)
    return sign_flip_test(numpy.bincount(group_N, difference_N).round().astype(int))


def _sides(baseline_RN: ndarray, other_RN: ndarray) -> Mapping[str, float]:
    """Returns how many bins both count exactly, only one of the two, or none; the mean over all pairs of runs."""
    baseline_N, other_N = baseline_RN.mean(0), other_RN.mean(0)
    sides = {
        "both": baseline_N * other_N,
        "only_baseline": baseline_N * (1 - other_N),
        "only_other": (1 - baseline_N) * other_N,
        "neither": (1 - baseline_N) * (1 - other_N),
    }
    return {side: round(float(share_N.sum()), 6) for side, share_N in sides.items()}


def _plain(value: float) -> float | None:
    return None if numpy.isnan(value) else value
