"""How sure a model may say it is: fitted on the validation images by BinCounter, measured here on others."""

from collections.abc import Sequence

import numpy
from numpy import ndarray

from stocktake.evaluation.calibration_result import FIGURES, CalibrationResult, Reliability, RiskCoverage
from stocktake.metrics.bootstrap import NUM_ROW_SAMPLES, basic_interval, draw_rows, share_interval
from stocktake.metrics.calibration import (
    Calibration,
    calibration_metrics,
    conformal_rank,
    expected_calibration_error,
    reliability,
    risk_coverage,
)
from stocktake.metrics.definitions import METRICS
from stocktake.metrics.estimate import Estimate, known
from stocktake.seeding import generator

NUM_COVERAGES = 100_000
NUM_CURVE_POINTS = 100


def measure_calibration(
    calibration: Calibration, labels_N: ndarray, probabilities_NK: ndarray, groups: Sequence[str]
) -> CalibrationResult:
    """Returns how sure the model may be, with 95 % intervals.

    Args:
        labels_N: The record's count of every image, as its position among the K counts.
        probabilities_NK: P(count) of every image, as the model gave it.
        groups: The block of neighboring bins that every image is in; whole blocks are resampled.
    """
    tempered_NK, in_set_NK = calibration.apply(probabilities_NK)
    holds_N = in_set_NK[numpy.arange(len(labels_N)), labels_N]

    def values(rows: ndarray) -> dict[str, float]:
        before, after = (calibration_metrics(p_NK[rows], labels_N[rows]) for p_NK in (probabilities_NK, tempered_NK))
        return {
            "ece_before": before["expected_calibration_error"],
            "ece_after": after["expected_calibration_error"],
            "nll_before": before["negative_log_likelihood"],
            "nll_after": after["negative_log_likelihood"],
            "brier_before": before["brier_score"],
            "brier_after": after["brier_score"],
            "set_coverage": float(holds_N[rows].mean()),
            "set_size": float(in_set_NK[rows].sum(1).mean()),
            "aurc": after["area_under_risk_coverage"],
        }

    measured, draws = values(numpy.arange(len(labels_N))), [values(rows) for rows in draw_rows(groups, "calibration")]
    coverage_N, risk_N, _ = risk_coverage(tempered_NK, labels_N)
    shown = numpy.unique(numpy.linspace(0, len(coverage_N) - 1, NUM_CURVE_POINTS).round().astype(int))
    return CalibrationResult(
        temperature=calibration.temperature,
        coverage=calibration.coverage,
        threshold=calibration.threshold,
        num_images=calibration.num_images,
        figures={
            name: _estimate(name, value, [draw[name] for draw in draws], len(set(groups)))
            for name, value in measured.items()
        },
        ece_by_chance=_calibration_error_by_chance(tempered_NK),
        set_coverage_by_chance=_set_coverage_by_chance(calibration, len(labels_N)),
        before=_reliability(probabilities_NK, labels_N),
        after=_reliability(tempered_NK, labels_N),
        risk_coverage=RiskCoverage(coverage_N[shown].tolist(), risk_N[shown].tolist()),
    )


def _calibration_error_by_chance(probabilities_NK: ndarray) -> float:
    """Returns the calibration error that so many images show on average where every probability is true.

    The records are drawn from the probabilities themselves (Broecker & Smith 2007, "consistency resampling",
    https://doi.org/10.1175/WAF993.1).
    """
    draw = generator("calibration by chance", len(probabilities_NK))
    cumulative_NK = probabilities_NK.cumsum(1)
    cumulative_NK[:, -1] = 1  # against rounding
    errors = [
        expected_calibration_error(
            probabilities_NK, (cumulative_NK < draw.random((len(probabilities_NK), 1))).sum(axis=1)
        )
        for _ in range(NUM_ROW_SAMPLES)
    ]
    return float(numpy.mean(errors))


def _set_coverage_by_chance(calibration: Calibration, num_images: int) -> tuple[float, float]:
    """Returns between which shares so many images' sets hold the record, in 95 of 100 cases in which all is well.

    The threshold is that of a sample, too. Given it, the coverage is Beta-distributed, and what comes out on other
    images Beta-binomially (Angelopoulos & Bates 2021, https://arxiv.org/abs/2107.07511, section 3.2), if all images
    are exchangeable. Neighbors are a little more alike, so chance leaves rather more than this.
    """
    rank = conformal_rank(calibration.num_images, calibration.coverage)
    if rank > calibration.num_images:  # every set holds all counts
        return 1.0, 1.0
    draw = generator("set coverage by chance", num_images)
    coverages = draw.beta(rank, calibration.num_images + 1 - rank, size=NUM_COVERAGES)
    low, high = numpy.percentile(draw.binomial(num_images, coverages) / num_images, [2.5, 97.5])
    return float(low), float(high)


def _estimate(name: str, value: float, drawn: Sequence[float], num_groups: int) -> Estimate:
    """Returns a value with its interval; that of a share of images ends at 1 and is never certain."""
    low, high = basic_interval(value, drawn)
    if name == "set_coverage":
        low, high = share_interval(value, num_groups) if low == high else (low, min(1.0, high))
    return METRICS[FIGURES[name]].estimate(value, max(0.0, low), high)


def _reliability(probabilities_NK: ndarray, labels_N: ndarray) -> Reliability:
    bins = reliability(probabilities_NK, labels_N)
    confidence, accuracy = ([known(value) for value in bins[name].tolist()] for name in ("confidence", "accuracy"))
    return Reliability(confidence, accuracy, bins["num_images"].tolist())
