"""What a window of answers is like beside the baseline: the values that page and JSON are made of."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from stocktake.metrics.drift import Shift
from stocktake.metrics.estimate import Estimate

TITLES = {
    "count": "Most likely count",
    "expected_count": "Expected count",
    "confidence": "Confidence",
    "brightness": "Brightness",
    "sharpness": "Sharpness",
    "strap_density": "Threads of the net",
    "width_px": "Width",
    "height_px": "Height",
}


@dataclass(frozen=True)
class Histogram:
    """The same bars for both.

    Attributes:
        edges: Of the bars, one more than these; of values that stand for themselves, the middles of these less half.
        baseline: Share of its images in each.
        window: Share of its answers in each.
    """

    edges: Sequence[float]
    baseline: Sequence[float]
    window: Sequence[float]


@dataclass(frozen=True)
class MonitoredFigure:
    """One figure of the answers or their images.

    Attributes:
        baseline_mean: Of the baseline's images.
        mean: Of the window's.
        num_measured: Answers of the window that have it.
    """

    shift: Shift
    baseline_mean: float
    mean: float
    num_measured: int
    histogram: Histogram

    def to_json(self) -> dict[str, Any]:
        return {
            "is_drift": self.shift.is_drift,
            **asdict(self.shift),
            "baseline_mean": self.baseline_mean,
            "mean": self.mean,
            "num_measured": self.num_measured,
            "histogram": asdict(self.histogram),
        }


@dataclass(frozen=True)
class FeedbackResult:
    """What true counts say of the window's answers.

    Attributes:
        num_rows: Of the CSV.
        num_matched: Rows whose answer is in the window.
        accuracy: Share of these whose most likely count is the true one.
        expected_accuracy: What the model's own word made of the same answers.
        calibration_error: Of `expected_calibration_error`.
        calibration_error_by_chance: What a model that is exactly as right as it says would have on so few.
        recalibration: Where calibration was written, if it was.
    """

    num_rows: int
    num_matched: int
    accuracy: Estimate
    expected_accuracy: Estimate
    calibration_error: float
    calibration_error_by_chance: float
    recalibration: str | None = None

    def to_json(self) -> dict[str, Any]:
        own = {name: getattr(self, name).to_json() for name in ("accuracy", "expected_accuracy")}
        return {**vars(self), **own}


@dataclass(frozen=True)
class MonitoringResult:
    """All of monitoring.json.

    Attributes:
        log: Where the lines were read.
        first: Moment of the window's first request; likewise `last`.
        num_requests: In the window, of this model.
        num_damaged: Lines that could not be read; `damaged` has the first of them.
        num_dropped: Answers that the server says it did not log.
        other_models: Answers of other model versions in the window, left out.
        false_alarms: In so large a share of quiet windows any figure is called a drift.
        figures: By name.
        expected_accuracy: Of the window, by the model's own word.
        baseline_accuracy: Of the baseline's images, by their records.
        latency_s: The median, the 95th and the 99th percentile, by `p50`, `p95`, `p99`; None where none is logged.
        statuses: Number of requests by HTTP status.
        reasons: Of those that were refused.
        error_share: Of the requests that got no count.
        alarms: What is wrong, in sentences; empty for a quiet window.
    """

    created: str
    model: str
    model_version: str
    log: str
    first: str
    last: str
    num_requests: int
    num_answers: int
    num_baseline: int
    num_damaged: int
    damaged: Sequence[str]
    num_dropped: int
    other_models: Mapping[str, int]
    false_alarms: float
    figures: Mapping[str, MonitoredFigure]
    expected_accuracy: Estimate
    baseline_accuracy: Estimate
    latency_s: Mapping[str, float | None]
    statuses: Mapping[int, int]
    reasons: Mapping[str, int]
    error_share: Estimate
    alarms: Sequence[str]
    feedback: FeedbackResult | None = None

    @property
    def drifted(self) -> list[str]:
        """The names of the figures that have moved, what is furthest beyond its limit first."""
        names = [name for name, figure in self.figures.items() if figure.shift.is_drift]
        return sorted(names, key=lambda name: -self.figures[name].shift.times_limit)

    def to_json(self) -> dict[str, Any]:
        estimates = ("expected_accuracy", "baseline_accuracy", "error_share")
        return {
            **vars(self),
            "drifted": self.drifted,
            "figures": {name: figure.to_json() for name, figure in self.figures.items()},
            **{name: getattr(self, name).to_json() for name in estimates},
            "feedback": None if self.feedback is None else self.feedback.to_json(),
        }


def title_of(name: str) -> str:
    """Returns what a person calls a figure: `P(3)` as it is."""
    return TITLES.get(name, name)
