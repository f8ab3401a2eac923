"""Figures of an evaluation where every block is like the next, so that resampling shows nothing."""

import numpy
import pytest
import scipy.stats

from stocktake.evaluation.baselines import measure_majority
from stocktake.evaluation.count_intervals import measure
from stocktake.metrics.estimate import Estimate

COUNTS_K = numpy.array([1, 2, 4])


def exact_interval(hits: int, num_blocks: int) -> tuple[float, float]:
    return tuple(scipy.stats.binomtest(hits, num_blocks).proportion_ci(method="exact"))


def ends(estimate) -> tuple[float, float]:
    return estimate.low, estimate.high


def measured(recorded, predicted, groups=None):
    groups = [str(row) for row in range(len(recorded))] if groups is None else groups
    return measure(numpy.array(recorded), numpy.eye(3)[predicted], groups, COUNTS_K)


@pytest.mark.parametrize("num_bins", [7, 40])
def test_all_bins_exact_is_no_certainty(num_bins):
    metrics = measured([row % 3 for row in range(num_bins)], [row % 3 for row in range(num_bins)])
    low, _ = exact_interval(num_bins, num_bins)
    assert ends(metrics.metrics["accuracy"]) == ends(metrics.metrics["within_one"]) == pytest.approx((low, 1))
    assert ends(metrics.metrics["mae"]) == pytest.approx((0, (1 - low) * 3))
    assert ends(metrics.metrics["rmse"]) == pytest.approx((0, (1 - low) ** 0.5 * 3))
    for k, count in enumerate(COUNTS_K):
        num = sum(row % 3 == k for row in range(num_bins))
        for score in ("precision", "recall", "f1"):
            assert ends(metrics.per_count[count].scores[score]) == pytest.approx(exact_interval(num, num))


def test_no_bin_exact_is_no_certainty_either():
    metrics = measured([0] * 7, [2] * 7)
    assert ends(metrics.metrics["accuracy"]) == pytest.approx((0, 0.4096), abs=1e-4)
    assert ends(metrics.per_count[1].scores["recall"]) == pytest.approx((0, 0.4096), abs=1e-4)


def test_neighbors_are_one_trial():
    groups = [str(row // 30) for row in range(150)]
    metrics = measured([row % 3 for row in range(150)], [row % 3 for row in range(150)], groups)
    assert ends(metrics.metrics["accuracy"]) == pytest.approx(exact_interval(5, 5))


def test_a_score_from_one_block_is_wide():
    """Count 4 stands in one block alone, where one of two is found: each sample that has it says one half."""
    metrics = measured([0, 1, 0, 1, 2, 2], [0, 1, 1, 0, 2, 1], ["a", "b", "c", "d", "e", "e"])
    low, high = ends(metrics.per_count[4].scores["recall"])
    wilson = scipy.stats.binomtest(1, 2).proportion_ci(method="wilson")
    assert low < wilson.low < wilson.high < high, "one block is less than two bins"


def test_an_interval_with_a_width_is_the_bootstraps():
    recorded_N = numpy.random.default_rng(0).integers(3, size=200)
    predicted_N = numpy.where(numpy.arange(200) % 3 == 0, 0, recorded_N)
    low, high = ends(measured(recorded_N, predicted_N).metrics["accuracy"])
    share = (recorded_N == predicted_N).mean()
    assert high - low == pytest.approx(2 * 1.96 * (share * (1 - share) / 200) ** 0.5, rel=0.1)


def test_the_mean_recall_of_one_answer_is_a_constant():
    recorded_N = numpy.arange(120) % 3
    majority = measure_majority(recorded_N, [str(row) for row in range(120)], COUNTS_K)
    assert majority.metrics["macro_recall"] == Estimate(1 / 3, 1 / 3, 1 / 3)
