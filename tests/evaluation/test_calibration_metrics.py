"""What an evaluation says of how sure a model is: against made-up models of which the answer is known."""

import math

import numpy
import pytest
import scipy.stats

from stocktake.evaluation.calibration_metrics import measure_calibration
from stocktake.metrics.calibration import Calibration, calibration_metrics

NUM_IMAGES = 6000


@pytest.fixture(scope="module")
def overconfident():
    """Records drawn from known probabilities, which the model sharpens by a temperature of one half."""
    draw = numpy.random.default_rng(0)
    truth_NK = draw.dirichlet([1.5, 1, 1], NUM_IMAGES)
    recorded_N = (truth_NK.cumsum(1) < draw.random((NUM_IMAGES, 1))).sum(1)
    said_NK = truth_NK**2 / (truth_NK**2).sum(1, keepdims=True)
    return said_NK, recorded_N, [str(row // 10) for row in range(NUM_IMAGES)]


@pytest.fixture(scope="module")
def measured(overconfident):
    said_NK, recorded_N, groups = overconfident
    calibration = Calibration.fit(said_NK[::2], recorded_N[::2], [1, 2, 3])
    return measure_calibration(calibration, recorded_N[1::2], said_NK[1::2], groups[1::2])


def test_the_temperature_undoes_the_sharpening(measured):
    assert measured.temperature == pytest.approx(2, rel=0.1)
    assert measured.figures["ece_before"].value > 0.08
    # A perfect model would be some 0.02 off on 3,000 images, by chance.
    assert measured.figures["ece_after"].value < measured.figures["ece_before"].value / 2
    assert measured.figures["nll_after"].value < measured.figures["nll_before"].value


def test_sets_hold_the_record_as_often_as_asked(measured):
    assert measured.coverage == 0.9
    assert measured.figures["set_coverage"].value == pytest.approx(0.9, abs=0.02)
    assert 1 < measured.figures["set_size"].value < 3


def test_intervals_hold_their_values_and_are_as_wide_as_a_proportions(measured):
    for name in ("ece_before", "ece_after", "nll_before", "brier_after", "set_coverage", "set_size", "aurc"):
        estimate = measured.figures[name]
        assert 0 <= estimate.low <= estimate.value <= estimate.high, name
    share, width = 0.9, measured.figures["set_coverage"].high - measured.figures["set_coverage"].low
    assert width == pytest.approx(2 * 1.96 * numpy.sqrt(share * (1 - share) / (NUM_IMAGES / 2)), rel=0.25)


def test_curves_are_short_and_end_with_every_bin_answered(measured, overconfident):
    said_NK, recorded_N, _ = overconfident
    curve = measured.risk_coverage
    assert len(curve.coverage) == len(curve.risk) <= 100
    assert curve.coverage[-1] == 1
    assert curve.risk[-1] == pytest.approx((said_NK[1::2].argmax(1) != recorded_N[1::2]).mean())
    assert sum(measured.after.num_images) == NUM_IMAGES / 2
    assert None in measured.after.confidence, "three counts are never under 1/3 sure"


def test_the_calibration_error_of_chance_is_that_of_a_model_whose_probabilities_are_true():
    draw = numpy.random.default_rng(1)
    truth_NK = draw.dirichlet([1.5, 1, 1], 400)
    honest = Calibration(temperature=1.0, coverage=0.9, threshold=0.1, counts=[1, 2, 3], num_images=400)
    measured = []
    for _ in range(60):
        recorded_N = (truth_NK.cumsum(1) < draw.random((400, 1))).sum(1)
        measured.append(calibration_metrics(truth_NK, recorded_N)["expected_calibration_error"])
    said = measure_calibration(honest, recorded_N, truth_NK, [str(row) for row in range(400)]).ece_by_chance
    assert said == pytest.approx(numpy.mean(measured), rel=0.1)
    assert said > 0.02


@pytest.mark.parametrize(("num_images", "num_measured"), [(837, 804), (50, 3000), (9, 20)])
def test_the_coverage_of_chance_is_scipys(num_images, num_measured):
    calibration = Calibration(temperature=1.0, coverage=0.9, threshold=0.1, counts=[1, 2], num_images=num_images)
    halves_NK, recorded_N = numpy.full((num_measured, 2), 0.5), numpy.zeros(num_measured, int)
    said = measure_calibration(calibration, recorded_N, halves_NK, ["one"] * num_measured).set_coverage_by_chance
    rank = math.ceil(0.9 * (num_images + 1))
    expected = scipy.stats.betabinom(num_measured, rank, num_images + 1 - rank).ppf([0.025, 0.975]) / num_measured
    numpy.testing.assert_allclose(said, expected, atol=0.003)


def test_sets_of_all_counts_cannot_miss():
    calibration = Calibration(temperature=1.0, coverage=0.9, threshold=0.0, counts=[1, 2], num_images=8)
    measured = measure_calibration(calibration, numpy.zeros(5, int), numpy.full((5, 2), 0.5), ["one"] * 5)
    assert measured.set_coverage_by_chance == (1.0, 1.0)


@pytest.mark.parametrize("num_blocks", [7, 200])
def test_sets_that_always_held_the_record_may_miss_it_yet(num_blocks):
    recorded_N = numpy.arange(num_blocks) % 2
    sure_NK = numpy.where(numpy.eye(2)[recorded_N] == 1, 0.9, 0.1)
    calibration = Calibration(temperature=1.0, coverage=0.9, threshold=0.3, counts=[1, 2], num_images=50)
    measured = measure_calibration(calibration, recorded_N, sure_NK, [str(row) for row in range(num_blocks)])
    exact = scipy.stats.binomtest(num_blocks, num_blocks).proportion_ci(method="exact")
    estimate = measured.figures["set_coverage"]
    assert (estimate.value, estimate.high) == (1, 1)
    assert estimate.low == pytest.approx(exact.low)
