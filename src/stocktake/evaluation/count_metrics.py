"""How well the counts are told: every figure of metrics.json about them, with its interval."""

from collections.abc import Sequence
from typing import Any

import numpy
from numpy import ndarray

from stocktake.metrics.counts import SCALARS, bootstrap, group_errors, share_interval, summarise

PER_COUNT = ("precision", "recall", "f1")
MEANS = ("macro_precision", "macro_recall", "macro_f1")


def measure(recorded_N: ndarray, probabilities_NK: ndarray, groups: Sequence[str], counts_K: ndarray) -> dict[str, Any]:
    """Returns the part of metrics.json that is measured: every value with its 95 % interval.

    Args:
        recorded_N: The record's count of every image, as its position among the K counts.
        probabilities_NK: P(count) of every image.
        groups: The block of neighbouring bins that every image is in; whole blocks are resampled.
    """
    confusion_GKK, squared_error_G = group_errors(recorded_N, probabilities_NK, groups, counts_K)
    values = summarise(confusion_GKK.sum(0), squared_error_G.sum(), counts_K)
    spans = interval_of_all_alike(values, confusion_GKK, bootstrap(confusion_GKK, squared_error_G, counts_K), counts_K)

    def estimate(name: str, *position: int) -> dict[str, float | None]:
        low, high = spans[name]
        numbers = {"value": values[name][position], "low": low[position], "high": high[position]}
        return {key: None if numpy.isnan(number) else float(number) for key, number in numbers.items()}

    confusion_KK = confusion_GKK.sum(0)
    return {
        **{f"test/{name}": estimate(name) for name in SCALARS},
        "per_count": {
            str(count): {name: estimate(name, k) for name in PER_COUNT} | {"num_images": int(confusion_KK[k].sum())}
            for k, count in enumerate(counts_K)
        },
        "confusion_matrix": confusion_KK.tolist(),
    }


def interval_of_all_alike(
    values: dict[str, ndarray], confusion_GKK: ndarray, spans: dict[str, tuple[ndarray, ndarray]], counts_K: ndarray
) -> dict[str, tuple[ndarray, ndarray]]:
    """Returns the intervals, those without a width replaced by what so few groups leave open.

    Where all groups are alike (all exact, or none), every sample is like the next: the bootstrap has nothing to draw
    from, and its interval would end at the value itself.

    Args:
        values: What `summarise` says of all groups together.
        confusion_GKK: Of each of G groups.
        spans: The bootstrap's interval of each.
        counts_K: The K counts.
    """
    predicted_GK, recorded_GK = confusion_GKK.sum(1) > 0, confusion_GKK.sum(2) > 0
    fewest = min(num for num in recorded_GK.sum(0) if num)  # of a count that occurs
    num_groups = {
        **dict.fromkeys(("accuracy", "within_one"), len(confusion_GKK)),
        **dict.fromkeys(MEANS, fewest),
        "precision": predicted_GK.sum(0),
        "recall": recorded_GK.sum(0),
        "f1": (predicted_GK | recorded_GK).sum(0),
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


def measure_majority(recorded_N: ndarray, groups: Sequence[str], counts_K: ndarray) -> dict[str, Any]:
    """Returns the metrics of always saying the most frequent count."""
    most_frequent = int(numpy.bincount(recorded_N).argmax())
    certain_NK = numpy.tile(numpy.eye(len(counts_K))[most_frequent], (len(recorded_N), 1))
    metrics = measure(recorded_N, certain_NK, groups, counts_K)
    return {"count": int(counts_K[most_frequent])} | {
        name: metrics[name] for name in metrics if name.startswith("test/")
    }
