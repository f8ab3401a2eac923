"""The numbers of an evaluation as a page writes them: with their interval, and once in plain words."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

ACCURACY, WITHIN_ONE, RMSE = "test/accuracy", "test/within_one", "test/rmse"
LABELS = (
    "Exact means equal to the record that came with the photo. No person counted these bins for this page, "
    "so where the two differ, the record may be the one that is wrong."
)
CAUTIONS = {
    "train": "The model was trained on these bins: on new ones it will do worse.",
    "valid": "The checkpoint was chosen on these bins: on new ones it may do a little worse.",
    "all": "The model was trained on some of these bins: on new ones it will do worse.",
}
DRAWN_LABELS = (
    "These bins are drawings: their counts are right by their making, and where the model says another one, it is the "
    "model that is wrong. How it would count photos of real bins, nothing here says."
)


@dataclass(frozen=True)
class Measure:
    """What a key of metrics.json is called, whether it is a share of bins, and which way is better."""

    title: str
    is_share: bool
    better: str


MEASURES = {
    ACCURACY: Measure("Exact count (accuracy)", True, "higher"),
    WITHIN_ONE: Measure("At most one off", True, "higher"),
    "test/mae": Measure("Mean absolute error, in items", False, "lower"),
    RMSE: Measure("RMSE, in items", False, "lower"),
    "test/rmse_mean": Measure("RMSE of the expected count", False, "lower"),
    "test/macro_precision": Measure("Precision, mean over counts", True, "higher"),
    "test/macro_recall": Measure("Recall, mean over counts", True, "higher"),
    "test/macro_f1": Measure("F1, mean over counts", True, "higher"),
}


@dataclass(frozen=True)
class Estimate:
    """A number and the ends of its 95 % interval, each None where it could not be computed."""

    value: float | None
    low: float | None
    high: float | None
    is_share: bool = True

    @classmethod
    def read(cls, metric: Mapping[str, float | None], is_share: bool = True) -> Self:
        """From `value`, `low` and `high` as metrics.json holds them; missing, null and NaN become None."""
        return cls(*(known(metric.get(key)) for key in ("value", "low", "high")), is_share)

    def __str__(self) -> str:
        if self.value is None:
            return "n/a"
        return f"{100 * self.value:.1f}\u202f%" if self.is_share else f"{self.value:.2f}"

    @property
    def interval(self) -> str:
        """The two ends in the unit of the number, or an empty string."""
        if self.low is None or self.high is None:
            return ""
        return f"{100 * self.low:.1f}–{100 * self.high:.1f}" if self.is_share else f"{self.low:.2f}–{self.high:.2f}"


@dataclass(frozen=True)
class Difference(Estimate):
    """By how much one model's number is above another's, with its sign; of shares in points, hundredths of all bins."""

    def __str__(self) -> str:
        if self.value is None:
            return "n/a"
        return f"{self._signed(self.value)} points" if self.is_share else self._signed(self.value)

    @property
    def interval(self) -> str:
        if self.low is None or self.high is None:
            return ""
        return f"{self._signed(self.low)} to {self._signed(self.high)}"

    @property
    def is_clear(self) -> bool:
        """Whether the interval leaves out 0."""
        return self.low is not None and self.high is not None and not self.low <= 0 <= self.high

    def _signed(self, number: float) -> str:
        return (f"{100 * number:+z.1f}" if self.is_share else f"{number:+z.3f}").replace("-", "−")


def known(number: float | None) -> float | None:
    """The number, or None where JSON holds null or NaN."""
    return None if number is None or math.isnan(number) else number


def is_leaked(metrics: Mapping[str, Any]) -> bool:
    """Whether the model was trained on some of the bins that are there to measure it."""
    return metrics["split"] in ("valid", "test") and bool(metrics.get("leakage"))


def describe_what_was_seen(metrics: Mapping[str, Any]) -> list[str]:
    """What a reader must know of the bins before any figure: whether, and in what, the model has seen them.

    Args:
        metrics: Of metrics.json `split`, `num_images`, `manifest_sha256` and what is known of the training.
    """
    split, num_bins, leakage = metrics["split"], metrics["num_images"], metrics.get("leakage")
    before, now = metrics.get("train_manifest_sha256"), metrics.get("manifest_sha256")
    is_other = before is not None and before != now
    notes = []
    if is_leaked(metrics):
        notes.append(
            f"Leak: the model was trained on {leakage:,} of these {num_bins:,} {split} bins. The figures do not say "
            "how it counts new ones; evaluate it with the dataset root that it was trained on."
        )
    elif leakage:
        notes.append(f"The model was trained on {leakage:,} of these {num_bins:,} bins: on new ones it will do worse.")
    elif split in CAUTIONS and (leakage is None or (split == "valid" and not is_other)):
        notes.append(CAUTIONS[split])
    elif leakage is None and "leakage" in metrics:
        notes.append("Whether the model was trained on some of these bins, its checkpoint does not say.")
    if is_other:
        none = "" if leakage else "; it was trained on none of these bins"
        notes.append(
            f"This is another dataset than the model was trained on: manifest.parquet is {now[:16]}, was {before[:16]} "
            f"(sha256){none}."
        )
    if metrics.get("trained_on_synthetic") and not metrics.get("synthetic"):
        notes.append("The model has only ever seen drawn bins, and these are photos.")
    return notes


def describe_leaks(
    split: str, num_bins: int, leakage: Mapping[str, Sequence[int | None]]
) -> tuple[list[str], list[str]]:
    """What a reader must know of models that are compared, before any figure: leaks, and what is not known.

    Args:
        leakage: Of every run of each recipe, by its name: on how many of the bins it was trained; None: not known.
    """
    leaks = []
    for name, nums in leakage.items():
        known_nums = [num for num in nums if num is not None]
        if split in ("valid", "test") and any(known_nums):
            leaks.append(
                f"Leak: {name} was trained on {max(known_nums):,} of these {num_bins:,} {split} bins, so its figures "
                "do not say how it counts new ones, and the comparison does not say which is better."
            )
    unknown = [name for name, nums in leakage.items() if None in nums]
    words = f"Whether {', '.join(unknown)} was trained on some of these bins, the evaluations do not say."
    return leaks, [words] * bool(unknown)


def describe_result(metrics: Mapping[str, Any]) -> list[str]:
    """What an evaluation found, in sentences for a person who reads nothing else."""
    accuracy, within_one = Estimate.read(metrics[ACCURACY]), Estimate.read(metrics[WITHIN_ONE])
    majority = metrics["majority_baseline"]
    baseline = Estimate.read(majority.get(ACCURACY, {}))
    if accuracy.value is None:
        return ["How often the count is exact could not be computed."]
    found = f"On {_per_hundred(accuracy.value)} of 100 bins the count is exact"
    if within_one.value is not None:
        found += f", and on {_per_hundred(within_one.value)} it is at most one off"
    sentences = [f"{found}."]
    if accuracy.interval:
        blocks = metrics.get("num_blocks")
        source = f", over {blocks:,} blocks of neighbouring bins" if blocks else ""
        sentences.append(
            f"{metrics['num_images']:,} bins were measured: for bins like these the share lies between "
            f"{_per_hundred(accuracy.low)} and {_per_hundred(accuracy.high)} of 100 "
            f"(95\u202f% interval{source})."
        )
    if baseline.value is not None:
        sentences.append(
            f"Always answering {majority['count']} would be exact on {_per_hundred(baseline.value)}: "
            f"{_compare(accuracy, baseline)}."
        )
    return sentences


def _per_hundred(share: float) -> str:
    return f"{100 * share:.0f}"


def _compare(model: Estimate, baseline: Estimate) -> str:
    if not (model.interval and baseline.interval):
        return "whether the difference is chance cannot be said without intervals"
    if model.low > baseline.high:
        return "the model is clearly better"
    if model.high < baseline.low:
        return "the model is clearly worse"
    return "the two intervals overlap, so the difference may be chance"
