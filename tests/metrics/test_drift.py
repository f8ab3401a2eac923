"""Drift against scipy and hand-worked cases; what chance alone is called, and what is found, on simulated bins."""

import math

import numpy
import pytest
from scipy.stats import ks_2samp

from stocktake.metrics.drift import (
    LEAST_LIMIT,
    NUM_BARS,
    bar_edges,
    bars,
    chance_limits,
    expected_accuracy,
    ks,
    measure_shifts,
    psi,
    smd,
)

NUM_IMAGES, NUM_ANSWERS, BLOCK = 900, 500, 15  # of a baseline, a window, and neighboring bins
EVEN = (0.2, 0.2, 0.2, 0.2, 0.2)


def test_psi_is_the_sum_that_was_worked_out_by_hand():
    """Ten images in two bars, with half an image more in each: 5.5/11 and 5.5/11 against 2.5/11 and 8.5/11."""
    expected = (2.5 / 11 - 0.5) * math.log(2.5 / 5.5) + (8.5 / 11 - 0.5) * math.log(8.5 / 5.5)
    assert psi(numpy.array([5, 5]), numpy.array([2, 8])) == pytest.approx(expected)
    assert psi(numpy.array([5, 5]), numpy.array([50, 50])) == 0
    assert math.isfinite(psi(numpy.array([10, 0]), numpy.array([0, 10])))
    both = psi(numpy.array([[5, 5], [5, 5]]), numpy.array([[2, 8], [5, 5]]))
    assert both == pytest.approx([expected, 0])


@pytest.mark.parametrize("decimals", [0, 1, 8], ids=["counts", "ties", "no ties"])
def test_the_distance_is_scipy_s(decimals):
    draw = numpy.random.default_rng(0)
    first, second = draw.normal(size=211).round(decimals), draw.normal(0.3, 1.2, size=97).round(decimals)
    assert ks(first, second) == pytest.approx(ks_2samp(first, second).statistic)
    assert ks(first, first) == 0


def test_the_difference_of_the_means_is_in_the_baseline_s_deviations():
    baseline = numpy.array([2.0, 4, 4, 4, 5, 5, 7, 9])  # mean 5, deviation 2
    assert smd(baseline, numpy.array([8.0, 8])) == pytest.approx(1.5)
    assert smd(baseline, numpy.array([3.0, 2, 4])) == pytest.approx(1)
    assert smd(baseline, numpy.array([5.0, 1000])) == pytest.approx(1), "one that is far off counts as the largest"
    assert smd(numpy.full(9, 224.0), numpy.array([640.0])) == 0


def test_a_bar_is_a_tenth_and_a_value_that_fills_one_is_alone():
    values = numpy.arange(1000.0)
    assert bars(values, bar_edges(values)) == pytest.approx([100] * NUM_BARS, abs=1)
    assert bars(numpy.full(7, 224.0), bar_edges(numpy.full(9, 224.0))).tolist() == [0, 7, 0]
    counts = numpy.repeat([1.0, 2, 3, 4, 5], 20)
    assert sorted(bars(counts, bar_edges(counts)).tolist())[-5:] == [20] * 5


def simulated(draw, num_images, shares=EVEN, darker=1.0, turned=0.0, blindness=1.2):
    """Returns figures of bins in blocks of neighbors, which were photographed alike, and their P(count) and counts."""
    labels = draw.choice(5, num_images, p=shares)
    seen = labels + draw.normal(0, blindness, num_images)
    off = (numpy.arange(5) - seen[:, None]) ** 2
    probabilities = numpy.exp(-off / (2 * blindness**2))  # Bayes' own, of even counts
    probabilities /= probabilities.sum(1, keepdims=True)
    groups = numpy.arange(num_images) // BLOCK
    light = draw.normal(0, 1, groups[-1] + 1)[groups] * 8 + draw.normal(0, 20, num_images)
    threads = draw.normal(0.11, 0.02, num_images) - 0.06 * (numpy.arange(num_images) < turned * num_images)
    figures = {
        "count": probabilities.argmax(1) + 1.0,
        "expected_count": probabilities @ numpy.arange(1.0, 6),
        "confidence": probabilities.max(1),
        "brightness": (120 + light) * darker,
        "strap_density": threads,
        "width_px": numpy.full(num_images, 224.0),
    }
    return figures, groups, probabilities, labels


def alarms(baseline, window, limits):
    found = []
    for name, values in baseline.items():
        edges, now = bar_edges(values), window[name]
        measured = psi(bars(values, edges), bars(now, edges)), ks(values, now), smd(values, now)
        found += [name] * any(distance > limit for distance, limit in zip(measured, limits[name], strict=True))
    return found


def test_a_hundred_clean_windows_raise_at_most_the_stated_share_of_false_alarms():
    """1 in 100 is stated; 4 or more would come by chance in 2 of 100 such tests. Ten baselines, as each is a sample."""
    draw, num_alarms = numpy.random.default_rng(1), 0
    for _ in range(10):
        baseline, groups, _, _ = simulated(draw, NUM_IMAGES)
        limits = chance_limits(baseline, groups, NUM_ANSWERS)
        num_alarms += sum(bool(alarms(baseline, simulated(draw, NUM_ANSWERS)[0], limits)) for _ in range(10))
    assert num_alarms <= 3


def test_a_stated_share_of_a_half_is_used_up():
    """Else limits that nothing ever passes would have passed the test above."""
    draw, num_alarms = numpy.random.default_rng(2), 0
    for _ in range(10):
        baseline, groups, _, _ = simulated(draw, NUM_IMAGES)
        limits = chance_limits(baseline, groups, NUM_ANSWERS, false_alarms=0.5)
        num_alarms += sum(bool(alarms(baseline, simulated(draw, NUM_ANSWERS)[0], limits)) for _ in range(10))
    assert 20 <= num_alarms <= 65


CHANGED = {
    "a tenth darker": ({"darker": 0.9}, "brightness"),
    "other counts": ({"shares": (0.1, 0.1, 0.2, 0.2, 0.4)}, "count"),
    "one camera of four turned": ({"turned": 0.25}, "strap_density"),
}


@pytest.mark.parametrize("change", CHANGED)
def test_a_change_is_found_in_five_hundred_answers(change):
    changes, figure = CHANGED[change]
    draw = numpy.random.default_rng(3)
    baseline, groups, _, _ = simulated(draw, NUM_IMAGES)
    for _ in range(3):
        shifts = measure_shifts(baseline, simulated(draw, NUM_ANSWERS, **changes)[0], groups)
        assert shifts[figure].is_drift
        assert not shifts["width_px"].is_drift


def test_of_a_weak_counter_the_means_find_other_counts_more_often_than_the_histograms():
    draw = numpy.random.default_rng(7)
    baseline, groups, probabilities, labels = simulated(draw, NUM_IMAGES, blindness=3)
    assert (probabilities.argmax(1) == labels).mean() < 0.36
    limits, num_found, num_by_histogram = chance_limits(baseline, groups, NUM_ANSWERS), 0, 0
    for _ in range(20):
        window = simulated(draw, NUM_ANSWERS, shares=(0.1, 0.1, 0.2, 0.2, 0.4), blindness=3)[0]
        num_found += bool(alarms(baseline, window, limits))
        num_by_histogram += bool(
            alarms(baseline, window, {name: (*two, math.inf) for name, (*two, _) in limits.items()})
        )
    assert num_found >= 15 > 12 > num_by_histogram


def test_limits_are_wider_for_fewer_answers_and_never_less_than_what_matters():
    baseline, groups, _, _ = simulated(numpy.random.default_rng(4), NUM_IMAGES)
    few, many = (chance_limits(baseline, groups, number) for number in (100, 10_000))
    assert all(few[name][1] > many[name][1] >= LEAST_LIMIT for name in ("brightness", "confidence"))
    window = {"width_px": numpy.array([224.0] * 498 + [640.0] * 2)}  # two odd images are no drift, fifty are
    assert not measure_shifts(baseline, window, groups)["width_px"].is_drift
    window = {"width_px": numpy.array([224.0] * 450 + [96.0] * 50)}
    assert measure_shifts(baseline, window, groups)["width_px"].is_drift


def test_what_was_not_measured_has_no_say():
    baseline, groups, _, _ = simulated(numpy.random.default_rng(5), NUM_IMAGES)
    window = {"brightness": numpy.append(baseline["brightness"], [numpy.nan] * 100), "sharpness": numpy.zeros(3)}
    shifts = measure_shifts(baseline, window, groups)
    assert shifts.keys() == {"brightness"} and shifts["brightness"].ks == 0


def test_the_expected_accuracy_lies_within_its_interval_of_the_true_one():
    """Of 200 windows 95 % do; fewer than 181 would come by chance in 1 of 1,000 such tests."""
    draw, num_within = numpy.random.default_rng(6), 0
    for _ in range(200):
        (_, groups, before, labels), (_, _, now, truth) = simulated(draw, 300), simulated(draw, NUM_ANSWERS)
        estimate = expected_accuracy(now.max(1), before.max(1), before.argmax(1) == labels, groups)
        assert estimate.value == pytest.approx(now.max(1).mean())  # what CBPE is by its definition
        num_within += estimate.low <= (now.argmax(1) == truth).mean() <= estimate.high
    assert num_within >= 181


def test_a_model_that_thinks_too_well_of_itself_has_a_wider_interval():
    """Its baseline shows by how much; without that, the interval held the true share in 63 of these 100 windows."""
    draw, num_within = numpy.random.default_rng(7), 0
    for _ in range(100):
        (_, groups, before, labels), (_, _, now, truth) = simulated(draw, NUM_IMAGES), simulated(draw, NUM_ANSWERS)
        confidence = [(own**1.3 / (own**1.3).sum(1, keepdims=True)).max(1) for own in (now, before)]
        estimate = expected_accuracy(*confidence, before.argmax(1) == labels, groups)
        num_within += estimate.low <= (now.argmax(1) == truth).mean() <= estimate.high
    assert num_within >= 90
