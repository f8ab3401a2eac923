"""How well the counts are told: every figure of metrics.json about them, with its interval."""

from collections.abc import Sequence
from typing import Any

import numpy
from numpy import ndarray

from stocktake.model.metrics import SCALARS, bootstrap, group_errors, summarise

PER_COUNT = ("precision", "recall", "f1")


def measure(recorded_N: ndarray, probabilities_NK: ndarray, groups: Sequence[str], counts_K: ndarray) -> dict[str, Any]:
    """Returns the part of metrics.json that is measured: every value with its 95 % interval.

    Args:
        recorded_N: The record's count of every image, as its position among the K counts.
        probabilities_NK: P(count) of every image.
        groups: The block of neighbouring bins that every image is in; whole blocks are resampled.
    """
    confusion_GKK, squared_error_G = group_errors(recorded_N, probabilities_NK, groups, counts_K)
    values = summarise(confusion_GKK.sum(0), squared_error_G.sum(), counts_K)
    spans = bootstrap(confusion_GKK, squared_error_G, counts_K)

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


def measure_majority(recorded_N: ndarray, groups: Sequence[str], counts_K: ndarray) -> dict[str, Any]:
    """Returns the metrics of always saying the most frequent count."""
    most_frequent = int(numpy.bincount(recorded_N).argmax())
    certain_NK = numpy.tile(numpy.eye(len(counts_K))[most_frequent], (len(recorded_N), 1))
    metrics = measure(recorded_N, certain_NK, groups, counts_K)
    return {"count": int(counts_K[most_frequent])} | {
        name: metrics[name] for name in metrics if name.startswith("test/")
    }
