"""Where a model errs: accuracy and distance from the record in quarters of the bins, from the darkest to the brightest.

Axes: N images, K counts in rising order.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy
from numpy import ndarray

from stocktake.evaluation.count_metrics import measure

NUM_SLICES = 4
UNKNOWN = {"value": None, "low": None, "high": None}


def measure_slices(
    columns: Mapping[str, ndarray],
    recorded_N: ndarray,
    probabilities_NK: ndarray,
    groups: Sequence[str],
    counts_K: ndarray,
) -> dict[str, list[dict[str, Any]]]:
    """Returns the part of metrics.json about slices: for each column a list of its slices, from low values to high.

    A slice has `from` and `to` (its least and greatest value), `num_images`, `mean_count` of the records, `accuracy`
    and `mae` with their 95 % intervals, and `rest_accuracy`, that of the column's other images.

    Args:
        columns: What to slice by, of shape (N,) each; NaN where it is not known, and such an image is in no slice. A
            column of which nothing is known is left out.
        recorded_N: The record's count of every image, as its position among the K counts.
        probabilities_NK: P(count) of every image.
        groups: The block of neighbouring bins that every image is in; whole blocks are resampled.
    """
    groups_N = numpy.asarray(groups)

    def measured(is_in_N: ndarray) -> dict[str, Any]:
        if not is_in_N.any():
            return {"test/accuracy": UNKNOWN, "test/mae": UNKNOWN}
        return measure(recorded_N[is_in_N], probabilities_NK[is_in_N], groups_N[is_in_N], counts_K)

    slices = {}
    for name, values_N in columns.items():
        slice_N = cut_into_slices(values_N)
        slices[name] = []
        for number in range(slice_N.max() + 1):
            is_in_N = slice_N == number
            metrics, rest = measured(is_in_N), measured((slice_N >= 0) & ~is_in_N)
            slices[name].append(
                {
                    "from": float(values_N[is_in_N].min()),
                    "to": float(values_N[is_in_N].max()),
                    "num_images": int(is_in_N.sum()),
                    "mean_count": float(counts_K[recorded_N[is_in_N]].mean()),
                    "accuracy": metrics["test/accuracy"],
                    "mae": metrics["test/mae"],
                    "rest_accuracy": rest["test/accuracy"],
                }
            )
    return {name: found for name, found in slices.items() if found}


def cut_into_slices(values_N: ndarray) -> ndarray:
    """Returns the number of each value's slice, from 0 for the lowest; -1 for NaN.

    The slices are quarters where values are many. Equal values stay together, so a column of a few whole numbers has
    slices of unequal size, or fewer of them.
    """
    is_known_N = ~numpy.isnan(values_N)
    slice_N = numpy.full(len(values_N), -1)
    if is_known_N.any():
        shares = numpy.arange(1, NUM_SLICES) / NUM_SLICES
        # Values that occur, so that a border never falls between two numbers of products.
        borders = numpy.quantile(values_N[is_known_N], shares, method="inverted_cdf")
        _, slice_N[is_known_N] = numpy.unique(numpy.searchsorted(borders, values_N[is_known_N]), return_inverse=True)
    return slice_N
