"""Where a model errs: accuracy and distance from the record in quarters of the bins, from the darkest to the brightest.

Axes: N images, K counts in rising order.
"""

from collections.abc import Mapping, Sequence

import numpy
from numpy import ndarray

from stocktake.evaluation.count_intervals import measure
from stocktake.evaluation.evaluation_result import Estimates, Slice
from stocktake.metrics.estimate import Estimate

NUM_SLICES = 4
UNKNOWN = {"accuracy": Estimate(None), "mae": Estimate(None, is_share=False)}


def measure_slices(
    columns: Mapping[str, ndarray],
    labels_N: ndarray,
    probabilities_NK: ndarray,
    groups: Sequence[str],
    counts_K: ndarray,
) -> dict[str, list[Slice]]:
    """Returns for each column its slices, from low values to high.

    Args:
        columns: What to slice by, of shape (N,) each; NaN where it is not known, and such an image is in no slice. A
            column of which nothing is known is left out.
        labels_N: The record's count of every image, as its position among the K counts.
        probabilities_NK: P(count) of every image.
        groups: The block of neighboring bins that every image is in; whole blocks are resampled.
    """
    groups_N = numpy.asarray(groups)

    def measured(is_in_N: ndarray) -> Estimates:
        if not is_in_N.any():
            return UNKNOWN
        return measure(labels_N[is_in_N], probabilities_NK[is_in_N], groups_N[is_in_N], counts_K).metrics

    slices: dict[str, list[Slice]] = {}
    for name, values_N in columns.items():
        slice_N = cut_into_slices(values_N)
        for number in range(slice_N.max() + 1):
            is_in_N = slice_N == number
            metrics, rest = measured(is_in_N), measured((slice_N >= 0) & ~is_in_N)
            one = Slice(
                start=float(values_N[is_in_N].min()),
                end=float(values_N[is_in_N].max()),
                num_images=int(is_in_N.sum()),
                mean_count=float(counts_K[labels_N[is_in_N]].mean()),
                accuracy=metrics["accuracy"],
                mae=metrics["mae"],
                rest_accuracy=rest["accuracy"],
            )
            slices.setdefault(name, []).append(one)
    return slices


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
