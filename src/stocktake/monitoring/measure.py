"""From a window and the baseline to a MonitoringResult.

Axes: M images of the baseline, N answers of the window.
"""

from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime

import numpy
from numpy import ndarray

from stocktake.metrics.bootstrap import share_interval
from stocktake.metrics.drift import Shift, expected_accuracy, measure_shifts
from stocktake.metrics.estimate import Estimate
from stocktake.monitoring.monitored_model import MonitoredModel
from stocktake.monitoring.monitoring_result import (
    FeedbackResult,
    Histogram,
    MonitoredFigure,
    MonitoringResult,
    title_of,
)
from stocktake.monitoring.window import NUM_SHOWN, Window

MAX_DISCRETE = 20  # values that stand for themselves in a histogram; more are cut into bars
NUM_BARS = 20
PERCENTILES = {"p50": 50, "p95": 95, "p99": 99}


def measure_monitoring(
    model: MonitoredModel,
    window: Window,
    log: str,
    *,
    false_alarms: float,
    min_answers: int,
    max_error_share: float,
    max_latency_s: float | None = None,
    feedback: FeedbackResult | None = None,
) -> MonitoringResult:
    """Returns all figures of a window, and what of them is an alarm.

    Args:
        log: Where the window was read.
        false_alarms: In so large a share of quiet windows chance may call any figure a drift.
        min_answers: Of fewer nothing is said.
        max_error_share: More requests without a count are an alarm.
        max_latency_s: A 99th percentile above it is one, too.

    Raises:
        ValueError: The window has too few answers.
    """
    baseline, answers, statuses = model.baseline, window.answers, Counter(one.status for one in window.requests)
    if len(answers) < min_answers:
        others = ", ".join(f"{number:,} of {version or 'no'}" for version, number in window.other_models.items())
        raise ValueError(
            f"log={log} holds {len(answers):,} answers of {model.version} in this window, and {min_answers} are needed "
            f"for a verdict{f' (other models: {others})' if others else ''}. Type a larger last_days, the exported "
            "model that answered as baseline, or a smaller min_answers, whose limits are wider."
        )
    figures = _figures(baseline.figures, window.figures, baseline.groups_M, false_alarms)
    expected = expected_accuracy(
        window.probabilities_NK.max(1), baseline.probabilities_MK.max(1), baseline.hits_M, baseline.groups_M
    )
    num_errors = len(window.requests) - len(answers)
    latencies = [one.latency_s for one in answers if one.latency_s is not None]
    latency_s = {
        name: round(float(numpy.percentile(latencies, percent)), 5) if latencies else None
        for name, percent in PERCENTILES.items()
    }
    error_share = _share(num_errors, len(window.requests))
    moved = [title_of(name) for name, figure in figures.items() if figure.shift.is_drift]
    alarms = []
    if moved:
        alarms.append(f"{len(moved)} of {len(figures)} figures have moved further than chance: {', '.join(moved)}.")
    if error_share.value is not None and error_share.value > max_error_share:
        alarms.append(f"{error_share} of the requests got no count, more than the {100 * max_error_share:g} % allowed.")
    if max_latency_s is not None and (slow := latency_s["p99"]) is not None and slow > max_latency_s:
        alarms.append(f"The slowest hundredth of the answers took {slow:g} s or more; {max_latency_s:g} s are allowed.")
    return MonitoringResult(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        model=model.location,
        model_version=model.version,
        log=log,
        first=window.requests[0].time,
        last=window.requests[-1].time,
        num_requests=len(window.requests),
        num_answers=len(answers),
        num_baseline=baseline.num_images,
        num_damaged=len(window.damaged),
        damaged=list(window.damaged[:NUM_SHOWN]),
        num_dropped=window.num_dropped,
        other_models=window.other_models,
        false_alarms=false_alarms,
        figures=figures,
        expected_accuracy=expected,
        baseline_accuracy=_share(int(baseline.hits_M.sum()), baseline.num_images),
        latency_s=latency_s,
        statuses=dict(sorted(statuses.items())),
        reasons=dict(Counter(one.reason for one in window.requests if one.reason is not None).most_common()),
        error_share=error_share,
        alarms=alarms,
        feedback=feedback,
    )


def _figures(
    baseline: Mapping[str, ndarray], window: Mapping[str, ndarray], groups_M: ndarray, false_alarms: float
) -> dict[str, MonitoredFigure]:
    figures = {}
    for name, shift in measure_shifts(baseline, window, groups_M, false_alarms).items():
        both = [values[numpy.isfinite(values)] for values in (baseline[name], window[name])]
        before, now = (round(float(values.mean()), 5) for values in both)
        figures[name] = MonitoredFigure(_rounded(shift), before, now, len(both[1]), _histogram(*both))
    return figures


def _rounded(shift: Shift) -> Shift:
    return Shift(*(round(number, 4) for number in vars(shift).values()))


def _histogram(baseline_M: ndarray, window_N: ndarray) -> Histogram:
    together = numpy.concatenate([baseline_M, window_N])
    values = numpy.unique(together)
    if len(values) <= MAX_DISCRETE and (values == values.round()).all():
        edges = numpy.append(values - 0.5, values[-1] + 0.5)
    else:
        low, high = numpy.quantile(together, [0.002, 0.998])  # what lies outside counts for the outermost bars
        edges = numpy.linspace(low, high, NUM_BARS + 1)
    shares = (
        numpy.histogram(sample.clip(edges[0], edges[-1]), edges)[0] / len(sample) for sample in (baseline_M, window_N)
    )
    return Histogram(edges.round(5).tolist(), *(share.round(5).tolist() for share in shares))


def _share(number: int, total: int) -> Estimate:
    return Estimate.of(number / total, *share_interval(number / total, total))
