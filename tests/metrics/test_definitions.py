"""The one table of metrics against those that are computed, logged and written."""

import subprocess
import sys

import numpy
import pytest

from stocktake.evaluation.calibration_result import FIGURES
from stocktake.metrics.counts import summarize
from stocktake.metrics.definitions import COUNT_METRICS, LOGGED, METRICS, PER_COUNT_METRICS, metric_of


def test_every_figure_that_is_computed_has_its_row():
    computed = summarize(numpy.eye(3), numpy.array(0.0), numpy.array([1, 2, 3]))
    assert {name for name, value in computed.items() if numpy.ndim(value) == 0} == set(COUNT_METRICS)
    assert {name for name, value in computed.items() if numpy.ndim(value) == 1} == set(PER_COUNT_METRICS)
    assert set(FIGURES.values()) | set(LOGGED) <= set(METRICS)


def test_better_is_what_a_perfect_model_has():
    counts = numpy.array([1, 2, 3])
    perfect = summarize(numpy.eye(3), numpy.array(0.0), counts)
    poor = summarize(numpy.eye(3)[::-1], numpy.array(12.0), counts)
    for name, metric in COUNT_METRICS.items():
        assert (perfect[name] > poor[name]) == (metric.better == "higher"), name


def test_shares_are_those_that_cannot_pass_one():
    farthest = summarize(100 * numpy.eye(2)[::-1], numpy.array(1e6), numpy.array([1, 9]))
    assert {name for name in COUNT_METRICS if farthest[name] > 1} == {
        name for name, metric in COUNT_METRICS.items() if not metric.is_share
    }


@pytest.mark.parametrize(
    ("key", "mode"), [("valid/accuracy", "max"), ("valid/rmse_expected", "min"), ("train/loss", "min"), ("ece", "min")]
)
def test_a_logged_key_has_its_direction(key, mode):
    assert metric_of(key).mode == mode


def test_a_metric_that_there_is_not_is_named():
    with pytest.raises(ValueError, match=r"valid/acuracy is no metric; there are accuracy, .*as in valid/accuracy"):
        metric_of("valid/acuracy")


def test_the_table_waits_for_no_numpy():
    """Every command's help reads it."""
    code = "import sys, stocktake.metrics.definitions; print('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
