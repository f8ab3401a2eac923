"""Draws of blocks and the intervals that come of them: against scipy, and as they were drawn before."""

import numpy
import pytest
import scipy.stats

from stocktake.metrics.bootstrap import (
    basic_interval,
    draw_block_weights,
    draw_rows,
    percentile_interval,
    share_interval,
)


def test_draws_are_of_whole_blocks_and_the_same_for_the_same_purpose():
    groups = ["b", "a", "b", "c", "a", "b"]
    samples = draw_rows(groups, "purpose", num_samples=50)
    for rows in samples:
        times = numpy.bincount(rows, minlength=6)
        assert len({*times[[0, 2, 5]]}) == len({*times[[1, 4]]}) == 1, "a block comes whole"
        assert times[0] + times[1] + times[3] == 3, "as many blocks as there are"
    again = draw_rows([name.upper() for name in groups], "purpose", num_samples=50)
    assert all(numpy.array_equal(*pair) for pair in zip(samples, again, strict=True))
    assert not numpy.array_equal(draw_block_weights(40, "one"), draw_block_weights(40, "other"))


def test_both_ways_of_drawing_give_the_same_interval_of_a_mean():
    numbers = numpy.random.default_rng(0)
    values, groups = numbers.normal(size=300), numpy.repeat(numpy.arange(60), 5)
    sums_G = numpy.bincount(groups, values)
    by_weights = draw_block_weights(60, "mean", num_samples=4000) @ sums_G / 300
    by_rows = numpy.array([values[rows].mean() for rows in draw_rows(groups.tolist(), "mean", num_samples=4000)])
    assert percentile_interval(by_weights) == pytest.approx(percentile_interval(by_rows), abs=0.006)
    assert by_weights.std() == pytest.approx(sums_G.std() / 5 / 60**0.5, rel=0.05)


def test_the_draws_are_those_of_earlier_evaluations():
    """Whoever compares with figures that were written before needs the same samples."""
    assert draw_block_weights(5, "bootstrap", 0)[:3].tolist() == [[0, 2, 1, 1, 1], [1, 1, 1, 1, 1], [2, 1, 1, 0, 1]]
    rows = [drawn.tolist() for drawn in draw_rows(["a", "b", "c", "d"], "calibration")[:3]]
    assert rows == [[2, 0, 1, 3], [0, 1, 2, 3], [0, 2, 1, 0]]


def test_a_sample_that_is_nan_has_no_say():
    low, high = percentile_interval(numpy.array([[1.0, numpy.nan], [3.0, numpy.nan], [numpy.nan, numpy.nan]]))
    assert (low[0], high[0]) == (pytest.approx(1.05), pytest.approx(2.95))
    assert numpy.isnan(low[1]) and numpy.isnan(high[1])


def test_an_interval_holds_its_value_though_every_draw_lies_above():
    low, high = basic_interval(0.015, [0.02 + 0.0002 * i for i in range(100)])
    assert low == pytest.approx(2 * 0.015 - 0.0393, abs=1e-3)
    assert high == 0.015
    assert basic_interval(1.0, [0.9, 1.0, 1.2]) == (pytest.approx(0.81, abs=0.01), pytest.approx(1.095, abs=0.01))


@pytest.mark.parametrize("num_groups", [1, 2, 7, 40, 804])
@pytest.mark.parametrize("none_or_all", [0, 1])
def test_of_none_and_of_all_the_interval_is_exact(none_or_all, num_groups):
    exact = scipy.stats.binomtest(none_or_all * num_groups, num_groups).proportion_ci(method="exact")
    assert share_interval(none_or_all, num_groups) == pytest.approx((exact.low, exact.high))


@pytest.mark.parametrize(("hits", "num_groups"), [(1, 2), (3, 7), (39, 40)])
def test_of_some_the_interval_is_wilsons(hits, num_groups):
    wilson = scipy.stats.binomtest(hits, num_groups).proportion_ci(method="wilson")
    assert share_interval(hits / num_groups, num_groups) == pytest.approx((wilson.low, wilson.high))
