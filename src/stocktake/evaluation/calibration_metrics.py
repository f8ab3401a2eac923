"""How sure a model may say it is: fitted on the validation images by BinCounter, measured here on others."""

from collections.abc import Sequence
from typing import Any

import numpy
from numpy import ndarray

from stocktake.metrics.calibration import (
    Calibration,
    calibration_metrics,
    conformal_rank,
    expected_calibration_error,
    reliability,
    risk_coverage,
)
from stocktake.metrics.counts import share_interval
from stocktake.seeding import generator

NUM_RESAMPLES = 500
NUM_COVERAGES = 100_000
NUM_CURVE_POINTS = 100
SHARES = ("set_coverage",)


def measure_calibration(
    calibration: Calibration, recorded_N: ndarray, probabilities_NK: ndarray, groups: Sequence[str]
) -> dict[str, Any]:
    """Returns the part of metrics.json that says how sure the model may be, with 95 % intervals.

    Args:
        recorded_N: The record's count of every image, as its position among the K counts.
        probabilities_NK: P(count) of every image, as the model gave it.
        groups: The block of neighbouring bins that every image is in; whole blocks are resampled.
    """
    tempered_NK, in_set_NK = calibration.apply(probabilities_NK)
    holds_N = in_set_NK[numpy.arange(len(recorded_N)), recorded_N]

    def values(rows: ndarray) -> dict[str, float]:
        before, after = (calibration_metrics(p_NK[rows], recorded_N[rows]) for p_NK in (probabilities_NK, tempered_NK))
        return {
            "ece_before": before["expected_calibration_error"],
            "ece_after": after["expected_calibration_error"],
            "nll_before": before["negative_log_likelihood"],
            "nll_after": after["negative_log_likelihood"],
            "set_coverage": float(holds_N[rows].mean()),
            "set_size": float(in_set_NK[rows].sum(1).mean()),
            "aurc": after["area_under_risk_coverage"],
        }

    measured, draws = values(numpy.arange(len(recorded_N))), [values(rows) for rows in resampled_rows(groups)]
    coverage_N, risk_N, _ = risk_coverage(tempered_NK, recorded_N)
    shown = numpy.unique(numpy.linspace(0, len(coverage_N) - 1, NUM_CURVE_POINTS).round().astype(int))
    return {
        **{key: value for key, value in calibration.to_dict().items() if key != "counts"},
        **{
            name: _estimate(value, [draw[name] for draw in draws], len(set(groups)) if name in SHARES else None)
            for name, value in measured.items()
        },
        "ece_by_chance": _calibration_error_by_chance(tempered_NK),
        "set_coverage_by_chance": _set_coverage_by_chance(calibration, len(recorded_N)),
        "reliability": {
            "before": _plain(reliability(probabilities_NK, recorded_N)),
            "after": _plain(reliability(tempered_NK, recorded_N)),
        },
        "risk_coverage": {"coverage": coverage_N[shown].tolist(), "risk": risk_N[shown].tolist()},
    }


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
        for _ in range(NUM_RESAMPLES)
    ]
    return float(numpy.mean(errors))


def _set_coverage_by_chance(calibration: Calibration, num_images: int) -> dict[str, float]:
    """Returns between which shares so many images' sets hold the record, in 95 of 100 cases in which all is well.

    The threshold is that of a sample, too. Given it, the coverage is Beta-distributed, and what comes out on other
    images Beta-binomially (Angelopoulos & Bates 2021, https://arxiv.org/abs/2107.07511, section 3.2), if all images
    are exchangeable. Neighbours are a little more alike, so chance leaves rather more than this.
    """
    rank = conformal_rank(calibration.num_images, calibration.coverage)
    if rank > calibration.num_images:  # every set holds all counts
        return {"low": 1.0, "high": 1.0}
    draw = generator("set coverage by chance", num_images)
    coverages = draw.beta(rank, calibration.num_images + 1 - rank, size=NUM_COVERAGES)
    low, high = numpy.percentile(draw.binomial(num_images, coverages) / num_images, [2.5, 97.5])
    return {"low": float(low), "high": float(high)}


def resampled_rows(groups: Sequence[str]) -> list[ndarray]:
    """Returns the rows of NUM_RESAMPLES samples, each of whole groups drawn with replacement.

    The same groups give the same samples, so figures of two models on the same images are paired.
    """
    names, group_N = numpy.unique(numpy.asarray(groups), return_inverse=True)
    rows_G = [numpy.flatnonzero(group_N == g) for g in range(len(names))]
    draw = generator("calibration", len(names))
    return [
        numpy.concatenate([rows_G[g] for g in draw.integers(len(names), size=len(names))]) for _ in range(NUM_RESAMPLES)
    ]


def basic_interval(value: float, drawn: Sequence[float]) -> tuple[float, float]:
    """Returns the 95 % basic bootstrap interval (Davison & Hinkley 1997, section 2.4).

    The percentiles of the draws would be too high for the calibration error, which resampling pushes up, so that its
    own value could lie outside. Where every draw is above a small error, the interval ends at the error itself.
    """
    low, high = numpy.percentile(drawn, [2.5, 97.5])
    return float(numpy.minimum(value, 2 * value - high)), float(numpy.maximum(value, 2 * value - low))  # NaN stays


def _estimate(value: float, drawn: Sequence[float], num_groups: int | None) -> dict[str, float]:
    """Returns a value with its interval; `num_groups` of a share of images, which ends at 1 and is never certain."""
    low, high = basic_interval(value, drawn)
    if num_groups and low == high:
        low, high = share_interval(value, num_groups)
    return {"value": value, "low": max(0.0, low), "high": min(1.0, high) if num_groups else high}


def _plain(bins: dict[str, ndarray]) -> dict[str, list[float | None]]:
    return {name: [None if numpy.isnan(value) else value for value in values.tolist()] for name, values in bins.items()}
