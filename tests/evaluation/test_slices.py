"""Slices of an evaluation: their limits, their figures against scikit-learn, and what is not known."""

import numpy
import pytest
from sklearn.metrics import accuracy_score, mean_absolute_error

from stocktake.evaluation.slices import cut_into_slices, measure_slices
from stocktake.metrics.estimate import Estimate

COUNTS_K = numpy.array([1, 2, 3])


def scored(num_images: int = 400, seed: int = 0):
    draw = numpy.random.default_rng(seed)
    recorded_N = draw.integers(3, size=num_images)
    return recorded_N, draw.dirichlet([1, 1, 1], num_images), [str(row // 10) for row in range(num_images)]


def test_many_values_are_cut_into_quarters():
    values_N = numpy.random.default_rng(0).permutation(numpy.arange(100.0))
    slice_N = cut_into_slices(values_N)
    assert [(values_N[slice_N == n].min(), values_N[slice_N == n].max()) for n in range(4)] == [
        (0, 24),
        (25, 49),
        (50, 74),
        (75, 99),
    ]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        # Quarters end at 1, 2 and 3: whoever has 2 products is in one slice with all others that have 2.
        ([1, 1, 1, 2, 2, 2, 3, 3, 4, 5], [0, 0, 0, 1, 1, 1, 2, 2, 3, 3]),
        ([1, 1, 1, 1, 1, 1, 1, 2], [0] * 7 + [1]),
        ([7, 7, 7], [0, 0, 0]),
        ([numpy.nan, 2, 1, numpy.nan], [-1, 1, 0, -1]),
        ([numpy.nan, numpy.nan], [-1, -1]),
    ],
)
def test_equal_values_stay_together_and_the_unknown_are_in_no_slice(values, expected):
    assert cut_into_slices(numpy.array(values, float)).tolist() == expected


def test_figures_are_scikit_learns_on_the_images_of_the_slice():
    recorded_N, probabilities_NK, groups = scored()
    brightness_N = numpy.random.default_rng(1).uniform(50, 200, 400)
    (*_, brightest) = measure_slices({"brightness": brightness_N}, recorded_N, probabilities_NK, groups, COUNTS_K)[
        "brightness"
    ]
    rows = numpy.argsort(brightness_N)[300:]
    truth, predicted = COUNTS_K[recorded_N[rows]], COUNTS_K[probabilities_NK.argmax(1)[rows]]
    assert (brightest.start, brightest.end) == (brightness_N[rows].min(), brightness_N[rows].max())
    assert brightest.num_images == 100 and brightest.mean_count == pytest.approx(truth.mean())
    assert brightest.accuracy.value == pytest.approx(accuracy_score(truth, predicted))
    assert brightest.mae.value == pytest.approx(mean_absolute_error(truth, predicted))
    others = numpy.argsort(brightness_N)[:300]
    rest = (recorded_N[others] == probabilities_NK.argmax(1)[others]).mean()
    assert brightest.rest_accuracy.value == pytest.approx(rest)
    assert brightest.accuracy.low < brightest.accuracy.value < brightest.accuracy.high


def test_a_slice_that_the_model_cannot_count_lies_below_the_rest():
    recorded_N, _, groups = scored()
    predicted_N = recorded_N.copy()
    predicted_N[::4] = (recorded_N[::4] + 1) % 3
    predicted_N[1::40] = (recorded_N[1::40] + 1) % 3
    blurred_N = numpy.where(numpy.arange(400) % 4 == 0, 1.0, 2.0)
    low, high = measure_slices({"sharpness": blurred_N}, recorded_N, numpy.eye(3)[predicted_N], groups, COUNTS_K)[
        "sharpness"
    ]
    assert low.accuracy.value == 0 and low.accuracy.high < low.rest_accuracy.low
    assert high.accuracy.value == pytest.approx(290 / 300)


def test_what_is_unknown_of_some_is_of_the_others_and_of_all_is_left_out():
    recorded_N, probabilities_NK, groups = scored(40)
    num_products_N = numpy.where(numpy.arange(40) < 30, 2.0, numpy.nan)
    columns = {"num_products": num_products_N, "brightness": numpy.full(40, numpy.nan)}
    slices = measure_slices(columns, recorded_N, probabilities_NK, groups, COUNTS_K)
    assert list(slices) == ["num_products"]
    (only,) = slices["num_products"]
    assert only.num_images == 30
    assert only.rest_accuracy == Estimate(None)
