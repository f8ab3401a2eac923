"""The numbers of an evaluation as a page writes them: with their interval, and once in plain words."""

from collections.abc import Mapping, Sequence

from stocktake.evaluation.evaluation_result import EvaluationResult
from stocktake.metrics.estimate import Estimate

LABELS = (
    "Exact means equal to the record that came with the photo. No person counted these bins for this page, "
    "so where the two differ, the record may be the one that is wrong."
)
DRAWN_LABELS = (
    "These bins are drawings: their counts are right by their making, and where the model says another one, it is the "
    "model that is wrong. How it would count photos of real bins, nothing here says."
)


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
    note = f"Whether {', '.join(unknown)} was trained on some of these bins, the evaluations do not say."
    return leaks, [note] * bool(unknown)


def describe_result(result: EvaluationResult) -> list[str]:
    """What an evaluation found, in sentences for a person who reads nothing else."""
    accuracy, within_one = result.metrics["accuracy"], result.metrics["within_one"]
    majority = result.majority_baseline
    baseline = majority.metrics.get("accuracy", Estimate(None))
    if accuracy.value is None:
        return ["How often the count is exact could not be computed."]
    found = f"On {_per_hundred(accuracy.value)} of 100 bins the count is exact"
    if within_one.value is not None:
        found += f", and on {_per_hundred(within_one.value)} it is at most one off"
    sentences = [f"{found}."]
    if accuracy.low is not None and accuracy.high is not None:
        source = f", over {result.num_blocks:,} blocks of neighboring bins" if result.num_blocks else ""
        sentences.append(
            f"{result.subject.num_images:,} bins were measured: for bins like these the share lies between "
            f"{_per_hundred(accuracy.low)} and {_per_hundred(accuracy.high)} of 100 "
            f"(95\u202f% interval{source})."
        )
    if baseline.value is not None:
        sentences.append(
            f"Always answering {majority.count} would be exact on {_per_hundred(baseline.value)}: "
            f"{_compare(accuracy, baseline)}."
        )
    return sentences


def _per_hundred(share: float) -> str:
    return f"{100 * share:.0f}"


def _compare(model: Estimate, baseline: Estimate) -> str:
    if not (model.interval and baseline.interval):
        return "whether the difference is chance cannot be said without intervals"
    if baseline.is_clearly_below(model):
        return "the model is clearly better"
    if model.is_clearly_below(baseline):
        return "the model is clearly worse"
    return "the two intervals overlap, so the difference may be chance"
