"""What more training bins bring: the errors of evaluations of several sizes, and the forms that are fitted to them.

Axes: P evaluations (points of the curve), N images, G blocks of test bins, S bootstrap samples, X sizes that are asked
about.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import numpy
from numpy import ndarray

from stocktake.evaluation.learning_curve_result import (
    CurvePoint,
    FittedForm,
    LearningCurve,
    MetricCurve,
    SizedEvaluation,
)
from stocktake.evaluation.results import Evaluation, EvaluationError
from stocktake.metrics.bootstrap import percentile_interval
from stocktake.metrics.definitions import METRICS
from stocktake.metrics.scaling_law import Curve, block_errors, fit_curve, forms, resample_errors
from stocktake.shell import command

MEASURED = ("accuracy", "rmse_expected")
NUM_DRAWN = 60  # points of a drawn curve


def measure_curve(
    evaluations: Sequence[Evaluation], predict_at: Sequence[int], floors: Mapping[str, float]
) -> LearningCurve:
    """Fits the forms to evaluations of the same bins.

    Args:
        predict_at: Numbers of training bins to predict the metrics for.
        floors: For `accuracy` (as the share that is not exact) and `rmse_expected`, the error below which the second
            form never falls.

    Raises:
        ValueError: The evaluations are of too few sizes, lack their number of training bins, or leave no error to draw
            a curve through; or a key is out of range.
    """
    _check(evaluations, predict_at, floors)
    evaluations = sorted(evaluations, key=lambda evaluation: evaluation.result.num_train_bins or 0)
    sizes_P = numpy.array([evaluation.result.num_train_bins for evaluation in evaluations])
    blocks, group_N = numpy.unique(evaluations[0].groups, return_inverse=True)
    num_images_G = numpy.bincount(group_N)
    counts = evaluations[0].result.counts
    hits_PG = numpy.stack([numpy.bincount(group_N, evaluation.hits_N) for evaluation in evaluations])
    squared_PG = numpy.stack([numpy.bincount(group_N, _squared_errors(evaluation)) for evaluation in evaluations])
    errors_1P = block_errors(hits_PG, squared_PG, num_images_G, numpy.ones((1, len(blocks))))
    errors_SP = resample_errors(hits_PG, squared_PG, num_images_G)

    ends = [*sizes_P, *predict_at]
    drawn_X = numpy.geomspace(min(ends), max(ends), NUM_DRAWN)
    asked_X = numpy.concatenate([numpy.array(predict_at, float), drawn_X])
    metrics = {}
    for metric, highest in zip(MEASURED, (1.0, float(max(counts) - min(counts))), strict=True):
        _check_floor(metric, floors[metric], min(errors_1P[metric].min(), errors_SP[metric].min()))
        fits = [
            fit_curve(form, sizes_P, errors_1P[metric][0], errors_SP[metric], asked_X, highest)
            for form in forms(floors[metric])
        ]
        spans = numpy.stack(percentile_interval(errors_SP[metric]), axis=1)
        points = [
            CurvePoint(int(size), *_as_metric(metric, value, *span), METRICS[metric].is_share)
            for size, value, span in zip(sizes_P, errors_1P[metric][0], spans, strict=True)
        ]
        metrics[metric] = MetricCurve(points, [_fitted(metric, *fit, asked_X, len(predict_at)) for fit in fits])
    first = evaluations[0].result.subject
    return LearningCurve(
        split=first.split,
        num_images=len(evaluations[0].image_ids),
        num_blocks=len(blocks),
        manifest_sha256=first.manifest_sha256,
        counts=counts,
        evaluations=[
            SizedEvaluation(e.url, e.result.subject.checkpoint, int(size))
            for e, size in zip(evaluations, sizes_P, strict=True)
        ],
        extrapolation={number: round(number / int(sizes_P.max()), 2) for number in predict_at},
        metrics=metrics,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _fitted(metric: str, fit: Curve, predicted: Mapping[str, ndarray], asked_X: ndarray, num_asked: int) -> FittedForm:
    points = []
    for x, size in enumerate(asked_X):
        error, *ends, curve_low, curve_high = (
            predicted[name][x] for name in ("error", "low", "high", "curve_low", "curve_high")
        )
        number = int(size) if x < num_asked else round(float(size), 1)
        value, interval = _as_metric(metric, error, *ends)
        _, curve_interval = _as_metric(metric, error, curve_low, curve_high)
        points.append(CurvePoint(number, value, interval, METRICS[metric].is_share, curve_interval))
    return FittedForm(fit, points[:num_asked], points[num_asked:])


def _as_metric(metric: str, error: float, low: float, high: float) -> tuple[float, tuple[float, float]]:
    """An error and its interval as the metric itself: of an accuracy the upper end comes from the lower error."""
    if metric == "accuracy":
        error, low, high = 1 - error, 1 - high, 1 - low
    return float(error), (float(low), float(high))


def _squared_errors(evaluation: Evaluation) -> ndarray:
    """Returns (expected count - record's count)^2 of every image."""
    counts_K = numpy.array(evaluation.result.counts)
    return (evaluation.probabilities_NK @ counts_K - counts_K[evaluation.labels_N]) ** 2


def _check(evaluations: Sequence[Evaluation], predict_at: Sequence[int], floors: Mapping[str, float]) -> None:
    if wrong := [n for n in predict_at if n < 1]:
        raise ValueError(f"predict_at={list(predict_at)} holds {wrong}: type numbers of training bins, 1 or more.")
    if set(floors) != set(MEASURED) or min(floors.values()) < 0:
        raise ValueError(f"floors={dict(floors)} must name {', '.join(MEASURED)}, each with an error of 0 or more.")
    for evaluation in evaluations:
        if evaluation.result.num_train_bins is None:
            checkpoint = evaluation.result.subject.checkpoint
            raise EvaluationError(
                f"metrics.json in {evaluation.url} does not say num_train_bins. Evaluate again, where the dataset root "
                f"of the training can be read: {command('scripts/evaluate.py', {'checkpoint': checkpoint})}"
            )


def _check_floor(metric: str, floor: float, smallest: float) -> None:
    if smallest <= 0:
        raise ValueError(
            f"Some samples of the test bins hold no error in {metric}, so its logarithm cannot be taken: evaluate on "
            "more bins, or take smaller numbers of training bins."
        )
    if floor >= smallest:
        raise ValueError(
            f"floors.{metric}={floor:g} is not below the smallest error on samples of the test bins: type "
            f"floors.{metric}= and a number from 0 to below {smallest:.4f}."
        )
