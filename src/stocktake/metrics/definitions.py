"""METRICS: what each metric is called, which way is better, and whether it is a share. Nothing else says so."""

from dataclasses import dataclass
from typing import Literal

from stocktake.metrics.estimate import Difference, Estimate


@dataclass(frozen=True)
class Metric:
    """
    Attributes:
        title: Heading of its row, its plot or its column.
        better: The direction.
        unit: `share` (of bins; printed in percent), `items`, `counts` (in a set) or an empty string.
    """

    title: str
    better: Literal["higher", "lower"]
    unit: Literal["share", "items", "counts", ""]

    @property
    def is_share(self) -> bool:
        return self.unit == "share"

    @property
    def difference_unit(self) -> str:
        """Of differences: hundredths of all bins are points."""
        return "points" if self.is_share else self.unit

    @property
    def mode(self) -> Literal["min", "max"]:
        """Lightning's word for the direction."""
        return "max" if self.better == "higher" else "min"

    def estimate(self, value: float, low: float, high: float) -> Estimate:
        """Of numbers that numpy computed, NaN where it could not."""
        return Estimate.of(value, low, high, self.is_share)

    def difference(self, value: float, low: float, high: float) -> Difference:
        return Difference.of(value, low, high, self.is_share)


COUNT_METRICS = {  # of the predicted counts: the scalars of counts.summarize
    "accuracy": Metric("Exact count (accuracy)", "higher", "share"),
    "within_one": Metric("At most one off", "higher", "share"),
    "mae": Metric("Mean absolute error, in items", "lower", "items"),
    "rmse": Metric("RMSE, in items", "lower", "items"),
    "rmse_expected": Metric("RMSE of the expected count", "lower", "items"),
    "macro_precision": Metric("Precision, mean over counts", "higher", "share"),
    "macro_recall": Metric("Recall, mean over counts", "higher", "share"),
    "macro_f1": Metric("F1, mean over counts", "higher", "share"),
}
PER_COUNT_METRICS = {
    "precision": Metric("Precision", "higher", "share"),
    "recall": Metric("Recall", "higher", "share"),
    "f1": Metric("F1", "higher", "share"),
}
PROBABILITY_METRICS = {  # of P(count), and of the sets of counts that come from it
    "ece": Metric("Calibration error (ECE)", "lower", "share"),
    "nll": Metric("Negative log-likelihood", "lower", ""),
    "brier": Metric("Brier score", "lower", ""),
    "set_coverage": Metric("Sets of counts that hold the record", "higher", "share"),
    "set_size": Metric("Counts in a set, mean", "lower", "counts"),
    "aurc": Metric("Wrong, mean over all shares answered (AURC)", "lower", "share"),
}
METRICS = {
    **COUNT_METRICS,
    **PER_COUNT_METRICS,
    **PROBABILITY_METRICS,
    "loss": Metric("Loss", "lower", ""),
}
LOGGED = (*COUNT_METRICS, "loss", "ece")  # what a validation in training measures
FORMER_NAMES = {"rmse_mean": "rmse_expected"}  # in files from before


def metric_of(key: str) -> Metric:
    """Returns the metric of a logged key, such as `valid/accuracy`.

    Raises:
        ValueError: There is no such metric.
    """
    name = key.rpartition("/")[2]
    if name not in METRICS:
        raise ValueError(f"{key} is no metric; there are {', '.join(METRICS)}, as in valid/accuracy.")
    return METRICS[name]
