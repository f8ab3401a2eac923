"""What more training bins bring, as typed values and as learning_curve.json."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stocktake.metrics.estimate import Estimate
from stocktake.metrics.scaling_law import Curve

FAR = 10  # times the largest measured number of bins; from there on the form of the curve decides


@dataclass(frozen=True)
class CurvePoint:
    """A metric at a number of training bins, measured or predicted.

    Attributes:
        interval: 95 %, over other test bins; of a prediction, for one new run.
        is_share: Whether the metric is one.
        curve_interval: 95 %, of the curve itself; `None` of what was measured.
    """

    num_train_bins: float
    value: float
    interval: tuple[float, float]
    is_share: bool
    curve_interval: tuple[float, float] | None = None

    @property
    def estimate(self) -> Estimate:
        return Estimate(self.value, *self.interval, is_share=self.is_share)

    def to_json(self) -> dict[str, Any]:
        curve = self.curve_interval
        ends = {} if curve is None else {"curve_low": curve[0], "curve_high": curve[1]}
        return {"num_train_bins": self.num_train_bins, **self.estimate.to_json(), **ends}


@dataclass(frozen=True)
class FittedForm:
    """One form of the curve, and what it predicts.

    Attributes:
        predicted: At the numbers of training bins that were asked about.
        drawn: Along the whole curve.
    """

    fit: Curve
    predicted: Sequence[CurvePoint]
    drawn: Sequence[CurvePoint]

    @property
    def c(self) -> Estimate:
        """The slope, which is above 0 where more bins help."""
        return Estimate(self.fit.c, *self.fit.c_interval, is_share=False)

    def to_json(self) -> dict[str, Any]:
        form = self.fit.form
        return {
            "form": form.name,
            "formula": form.formula,
            "floor": form.floor,
            "b": self.fit.b,
            "c": self.c.to_json(),
            "scatter": self.fit.scatter,
            "predicted": [point.to_json() for point in self.predicted],
            "drawn": [point.to_json() for point in self.drawn],
        }


@dataclass(frozen=True)
class MetricCurve:
    """A metric by the number of training bins: as measured, and by each form, the reported one first."""

    points: Sequence[CurvePoint]
    forms: Sequence[FittedForm]

    def to_json(self) -> dict[str, Any]:
        return {
            "points": [point.to_json() for point in self.points],
            "forms": [form.to_json() for form in self.forms],
        }


@dataclass(frozen=True)
class SizedEvaluation:
    """One evaluation of the curve: its URL, the checkpoint that it is of, and how many bins that was trained on."""

    evaluation: str
    checkpoint: str | None
    num_train_bins: int


@dataclass(frozen=True)
class LearningCurve:
    """What evaluations of several sizes say together.

    Attributes:
        evaluations: By their number of training bins, rising.
        extrapolation: Of each number of training bins that was asked about, how many times the largest measured one
            it is.
        metrics: By their names in `METRICS`.
    """

    split: str
    num_images: int
    num_blocks: int
    manifest_sha256: str
    counts: Sequence[int]
    evaluations: Sequence[SizedEvaluation]
    extrapolation: Mapping[int, float]
    metrics: Mapping[str, MetricCurve]
    created: str

    def is_far(self, num_train_bins: float) -> bool:
        """Whether so many bins are so far beyond the measured ones that the form decides what is predicted."""
        return self.extrapolation[int(num_train_bins)] >= FAR

    def to_json(self) -> dict[str, Any]:
        return {
            "split": self.split,
            "num_images": self.num_images,
            "num_blocks": self.num_blocks,
            "manifest_sha256": self.manifest_sha256,
            "counts": list(self.counts),
            "evaluations": [vars(evaluation) for evaluation in self.evaluations],
            "extrapolation": {str(asked): factor for asked, factor in self.extrapolation.items()},
            "metrics": {name: metric.to_json() for name, metric in self.metrics.items()},
            "created": self.created,
        }
