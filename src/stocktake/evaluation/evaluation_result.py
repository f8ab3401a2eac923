"""What an evaluation found: the values that report, model card and comparison take, and metrics.json as written."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from stocktake.evaluation.calibration_result import CalibrationResult
from stocktake.evaluation.subject import Subject
from stocktake.metrics.estimate import Estimate

Estimates = Mapping[str, Estimate]  # by the name of a metric


@dataclass(frozen=True)
class CountScores:
    """How well one count is predicted: `precision`, `recall` and `f1`."""

    num_images: int
    scores: Estimates


@dataclass(frozen=True)
class Baseline:
    """What a network has to beat; `count` is the answer of one that always gives the same."""

    metrics: Estimates
    count: int | None = None


@dataclass(frozen=True)
class Slice:
    """Some of the bins, from the least to the greatest value of what they are cut by.

    Attributes:
        mean_count: Of their records.
        rest_accuracy: That of the other bins.
    """

    start: float
    end: float
    num_images: int
    mean_count: float
    accuracy: Estimate
    mae: Estimate
    rest_accuracy: Estimate

    def to_json(self) -> dict[str, Any]:
        return {
            "from": self.start,
            "to": self.end,
            "num_images": self.num_images,
            "mean_count": self.mean_count,
            "accuracy": self.accuracy.to_json(),
            "mae": self.mae.to_json(),
            "rest_accuracy": self.rest_accuracy.to_json(),
        }


@dataclass(frozen=True)
class EvaluationResult:
    """All of metrics.json.

    Attributes:
        metrics: COUNT_METRICS, on the bins of `subject`.
        num_blocks: Blocks of neighboring bins, which the intervals were resampled from.
        per_count: By count, in rising order.
        confusion_matrix: Number of bins; rows are the records' counts, columns the predicted ones.
        slices: By what the bins were cut by, from low values to high.
        num_train_bins: That the model was trained on; None where that is not known.
        predictions_sha256: Of predictions.parquet beside it; older files lack it.
    """

    subject: Subject
    counts: Sequence[int]
    metrics: Estimates
    per_count: Mapping[int, CountScores]
    confusion_matrix: Sequence[Sequence[int]]
    majority_baseline: Baseline
    linear_baseline: Baseline | None = None
    calibration: CalibrationResult | None = None
    slices: Mapping[str, Sequence[Slice]] = field(default_factory=dict)
    num_blocks: int | None = None
    num_train_bins: int | None = None
    created: str | None = None
    predictions_sha256: str | None = None

    @property
    def baselines(self) -> dict[str, Baseline]:
        linear = {} if self.linear_baseline is None else {"linear_baseline": self.linear_baseline}
        return {"majority_baseline": self.majority_baseline, **linear}

    def to_json(self) -> dict[str, Any]:
        plain = {
            **asdict(self.subject),
            "num_blocks": self.num_blocks,
            "num_train_bins": self.num_train_bins,
            "created": self.created,
            "counts": list(self.counts),
            **_plain(self.metrics),
            "per_count": {
                str(count): _plain(of_count.scores) | {"num_images": of_count.num_images}
                for count, of_count in self.per_count.items()
            },
            "confusion_matrix": [list(row) for row in self.confusion_matrix],
        }
        for name, baseline in self.baselines.items():
            plain[name] = ({} if baseline.count is None else {"count": baseline.count}) | _plain(baseline.metrics)
        if self.calibration is not None:
            plain["calibration"] = self.calibration.to_json()
        plain["slices"] = {name: [one.to_json() for one in cut] for name, cut in self.slices.items()}
        return plain | {"predictions_sha256": self.predictions_sha256}


def _plain(estimates: Estimates) -> dict[str, Any]:
    return {name: estimate.to_json() for name, estimate in estimates.items()}
