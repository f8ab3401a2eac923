"""The last logged answers beside the baseline, on /metrics: the figures of scripts/monitor.py while the server runs.

Axes: N = WATCHED answers.
"""

from collections import deque
from collections.abc import Iterator

import numpy
from numpy import ndarray
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from stocktake.metrics.drift import expected_accuracy, measure_distances
from stocktake.serving.baseline import WATCHED, Baseline, figures_of
from stocktake.serving.logged_answer import IMAGE_FIGURES, LoggedAnswer
from stocktake.serving.prediction_log import PredictionLog

DRIFT = {
    "psi": "Population stability index of the last logged answers",
    "psi_limit": "What chance keeps the index to",
    "ks": "Kolmogorov and Smirnov's distance of the last logged answers",
    "ks_limit": "What chance keeps the distance to",
    "smd": "Standardized mean difference of the last logged answers",
    "smd_limit": "What chance keeps the difference to",
}
ACCURACY = {"expected_accuracy": "value", "expected_accuracy_low": "low", "expected_accuracy_high": "high"}


class DriftWatch(Collector):
    """Keeps what is compared of the last answers; Prometheus asks it for the figures."""

    def __init__(self, baseline: Baseline | None):
        self.baseline, self.prediction_log = baseline, None
        self._last: deque[tuple[list[float], list[float]]] = deque(maxlen=WATCHED)

    def watch(self, prediction_log: PredictionLog) -> None:
        """Also tells how many answers this log has taken."""
        self.prediction_log = prediction_log

    def add(self, answer: LoggedAnswer) -> None:
        """Takes an answer; called by the log's own thread."""
        if answer.probabilities is not None:
            image = [numpy.nan if (value := getattr(answer, name)) is None else value for name in IMAGE_FIGURES]
            self._last.append((list(answer.probabilities.values()), image))

    def collect(self) -> Iterator[Metric]:
        if self.prediction_log is not None:
            yield _counter("logged", "Requests in the prediction log", self.prediction_log.num_logged)
            yield _counter("not_logged", "Requests that it had no place for", self.prediction_log.num_dropped)
        last = list(self._last)
        yield GaugeMetricFamily("stocktake_watched_answers", "Logged answers that drift is measured on", len(last))
        if self.baseline is None or len(last) < WATCHED:
            return
        yield from self._drift(self.baseline, *map(numpy.array, zip(*last, strict=True)))

    def _drift(self, baseline: Baseline, probabilities_NK: ndarray, images: ndarray) -> Iterator[Metric]:
        window = figures_of(baseline.counts, probabilities_NK, dict(zip(IMAGE_FIGURES, images.T, strict=True)))
        families = {
            name: GaugeMetricFamily(f"stocktake_drift_{name}", DRIFT[name], labels=["figure"]) for name in DRIFT
        }
        for name, shift in measure_distances(baseline.figures, window, baseline.limits).items():
            for kind, family in families.items():
                family.add_metric([name], getattr(shift, kind))
        yield from families.values()
        estimate = expected_accuracy(
            probabilities_NK.max(1), baseline.probabilities_MK.max(1), baseline.hits_M, baseline.groups_M
        )
        for name, end in ACCURACY.items():
            what = "Share of right counts by the model's own word, over the last logged answers"
            yield GaugeMetricFamily(f"stocktake_{name}", what, getattr(estimate, end))


def _counter(name: str, what: str, value: int) -> CounterMetricFamily:
    return CounterMetricFamily(f"stocktake_{name}", what, value)
