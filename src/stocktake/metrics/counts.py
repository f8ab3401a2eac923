"""How well counts are predicted: all from a confusion matrix and the squared error of the expected count.

Axes: K counts in rising order; a matrix's rows are the records' counts, its columns the predicted ones. Any axes
before these are carried along, so that thousands of bootstrap samples are one call.
"""

from collections.abc import Sequence

import numpy
from numpy import ndarray

from stocktake.metrics.bootstrap import NUM_SAMPLES, draw_block_weights


def summarize(confusion_KK: ndarray, squared_error: ndarray, counts_K: ndarray) -> dict[str, ndarray]:
    """Returns the metrics of a split.

    Args:
        confusion_KK: Number of images, shape (..., K, K).
        squared_error: Sum over the images of (expected count - record's count)^2, shape (...).
        counts_K: The K counts.

    Returns:
        Of shape (...): `accuracy`, `macro_precision`, `macro_recall`, `macro_f1` (means over the counts that occur
        in the records), `mae` and `rmse` of the most likely count, `rmse_expected` of the expected count,
        `within_one`. Of shape (..., K): `precision`, `recall`, `f1`; NaN where there is nothing to divide by.
    """
    confusion_KK = numpy.asarray(confusion_KK, dtype=float)
    distance_KK = numpy.abs(counts_K[:, None] - counts_K[None, :])
    total = confusion_KK.sum((-2, -1))
    hits = numpy.diagonal(confusion_KK, axis1=-2, axis2=-1)
    recorded, predicted = confusion_KK.sum(-1), confusion_KK.sum(-2)
    with numpy.errstate(invalid="ignore", divide="ignore"):
        precision, recall, f1 = hits / predicted, hits / recorded, 2 * hits / (recorded + predicted)
        occurs = recorded > 0

        def macro(per_count: ndarray) -> ndarray:
            # A count that occurs and is never predicted has no precision; in the mean it is a 0, as in scikit-learn.
            return numpy.where(occurs, numpy.nan_to_num(per_count), 0).sum(-1) / occurs.sum(-1)

        return {
            "accuracy": hits.sum(-1) / total,
            "macro_precision": macro(precision),
            "macro_recall": macro(recall),
            "macro_f1": macro(f1),
            "mae": (confusion_KK * distance_KK).sum((-2, -1)) / total,
            "rmse": numpy.sqrt((confusion_KK * distance_KK**2).sum((-2, -1)) / total),
            "rmse_expected": numpy.sqrt(squared_error / total),
            "within_one": (confusion_KK * (distance_KK <= 1)).sum((-2, -1)) / total,
            "precision": precision,
            "recall": recall,
            "f1": f1,
        }


def confusion_matrix(labels_N: ndarray, predicted_N: ndarray, num_counts: int) -> ndarray:
    """Returns `confusion_KK`, int64, from positions among the K counts."""
    return numpy.bincount(labels_N * num_counts + predicted_N, minlength=num_counts**2).reshape(num_counts, -1)


def group_errors(
    labels_N: ndarray, probabilities_NK: ndarray, groups: Sequence[str] | ndarray, counts_K: ndarray
) -> tuple[ndarray, ndarray]:
    """Returns `confusion_GKK` and `squared_error_G` of the G groups, in the order of their names.

    Args:
        labels_N: The record's count of every image, as its position among the K counts.
        probabilities_NK: P(count) of every image; the most likely count is the predicted one.
        groups: The name of every image's group.
    """
    _, group_N, sizes_G = numpy.unique(numpy.asarray(groups), return_inverse=True, return_counts=True)
    rows_G = numpy.split(numpy.argsort(group_N, kind="stable"), sizes_G.cumsum()[:-1])
    predicted_N = probabilities_NK.argmax(1)
    confusion_GKK = numpy.stack([confusion_matrix(labels_N[rows], predicted_N[rows], len(counts_K)) for rows in rows_G])
    squared_error_N = (probabilities_NK @ counts_K - counts_K[labels_N]) ** 2
    return confusion_GKK, numpy.bincount(group_N, squared_error_N)


def bootstrap_samples(
    confusion_GKK: ndarray,
    squared_error_G: ndarray,
    counts_K: ndarray,
    num_samples: int = NUM_SAMPLES,
    seed: int = 0,
) -> dict[str, ndarray]:
    """Returns every metric of `summarize` on S samples of the groups, see bootstrap.py.

    NaN where a single group leaves nothing to resample.

    Args:
        confusion_GKK: The confusion matrix of each of G groups.
        squared_error_G: The squared error of each, as in `summarize`.
    """
    num_groups = len(confusion_GKK)
    weights_SG = draw_block_weights(num_groups, "bootstrap", seed, num_samples=num_samples)
    samples = summarize(numpy.tensordot(weights_SG, confusion_GKK, 1), weights_SG @ squared_error_G, counts_K)
    if num_groups < 2:
        return {name: numpy.full_like(values, numpy.nan) for name, values in samples.items()}
    return samples
