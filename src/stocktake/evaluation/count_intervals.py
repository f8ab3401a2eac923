"""How well the counts are predicted: every figure of metrics.json about them, with its interval."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy
from numpy import ndarray

from stocktake.evaluation.evaluation_result import CountScores, Estimates
from stocktake.metrics.bootstrap import percentile_interval, share_interval
from stocktake.metrics.counts import bootstrap_samples, group_errors, summarize
from stocktake.metrics.definitions import COUNT_METRICS, METRICS, PER_COUNT_METRICS
from stocktake.metrics.estimate import Estimate

MEANS = ("macro_precision", "macro_recall", "macro_f1")


@dataclass(frozen=True)
class MeasuredCounts:
    """The part of an EvaluationResult that comes from the predicted counts."""

    metrics: Estimates
    per_count: dict[int, CountScores]
    confusion_matrix: list[list[int]]


def measure(
    labels_N: ndarray, probabilities_NK: ndarray, groups: Sequence[str] | ndarray, counts_K: ndarray
) -> MeasuredCounts:
    """Returns what is measured, every value with its 95 % interval.

    Args:
        labels_N: The record's count of every image, as its position among the K counts.
        probabilities_NK: P(count) of every image.
        groups: The block of neighboring bins that every image is in; whole blocks are resampled.
    """
    confusion_GKK, squared_error_G = group_errors(labels_N, probabilities_NK, groups, counts_K)
    values = summarize(confusion_GKK.sum(0), squared_error_G.sum(), counts_K)
    samples = bootstrap_samples(confusion_GKK, squared_error_G, counts_K)
    drawn = {name: percentile_interval(values_S) for name, values_S in samples.items()}
    spans = interval_of_all_alike(values, confusion_GKK, drawn, counts_K)

    def estimate(name: str, *position: int) -> Estimate:
        low, high = spans[name]
        return METRICS[name].estimate(values[name][position], low[position], high[position])

    confusion_KK = confusion_GKK.sum(0)
    return MeasuredCounts(
        metrics={name: estimate(name) for name in COUNT_METRICS},
        per_count={
            int(count): CountScores(int(confusion_KK[k].sum()), {name: estimate(name, k) for name in PER_COUNT_METRICS})
            for k, count in enumerate(counts_K)
        },
        confusion_matrix=confusion_KK.tolist(),
    )


def interval_of_all_alike(
    values: dict[str, ndarray], confusion_GKK: ndarray, spans: dict[str, tuple[ndarray, ndarray]], counts_K: ndarray
) -> dict[str, tuple[ndarray, ndarray]]:
    """Returns the intervals, those without a width replaced by what so few groups leave open.

    Where all groups are alike (all exact, or none), every sample is like the next: the bootstrap has nothing to draw
    from, and its interval would end at the value itself.

    Args:
        values: What `summarize` says of all groups together.
        confusion_GKK: Of each of G groups.
        spans: The bootstrap's interval of each.
        counts_K: The K counts.
    """
    predicted_GK, labeled_GK = confusion_GKK.sum(1) > 0, confusion_GKK.sum(2) > 0
    fewest = min(num for num in labeled_GK.sum(0) if num)  # of a count that occurs
    num_groups = {
        **dict.fromkeys(("accuracy", "within_one"), len(confusion_GKK)),
        **dict.fromkeys(MEANS, fewest),
        "precision": predicted_GK.sum(0),
        "recall": labeled_GK.sum(0),
        "f1": (predicted_GK | labeled_GK).sum(0),
    }
    widened = dict(spans)
    for name, num in num_groups.items():
        low, high = (numpy.array(end, dtype=float) for end in spans[name])
        for at in zip(*numpy.nonzero(low == high), strict=True) if low.ndim else [()] * bool(low == high):
            if name not in MEANS or values[name] in (0, 1):  # a mean may be a constant, as the recall of one answer
                low[at], high[at] = share_interval(float(values[name][at]), int(numpy.asarray(num)[at]))
        widened[name] = low, high
    # Of errors that were not seen, no more than the exact counts leave room for, each as large as the counts allow.
    room, farthest = 1 - widened["accuracy"][0], counts_K.max() - counts_K.min()
    for name, largest in (("mae", room * farthest), ("rmse", numpy.sqrt(room) * farthest)):
        low, high = spans[name]
        if low == high == 0:
            widened[name] = low, numpy.asarray(largest)
    return widened
