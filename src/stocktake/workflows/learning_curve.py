"""scripts/learning_curve.py: what more training bins bring, from evaluations of one recipe on several sizes."""

import json
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, cast

import numpy
from numpy import ndarray
from omegaconf import DictConfig, OmegaConf

from stocktake.config import build
from stocktake.evaluation.results import Evaluation, EvaluationError, read_evaluations
from stocktake.metrics.bootstrap import percentile_interval
from stocktake.metrics.scaling_law import Curve, block_errors, fit_curve, forms, resample_errors
from stocktake.report.learning_curve import render_learning_curve
from stocktake.shell import command
from stocktake.storage import Folder, join_url

PAGE_KEY = "learning_curve.html"
METRICS = ("accuracy", "rmse_expected")
NUM_DRAWN = 60  # points of a drawn curve


def learning_curve(cfg: DictConfig) -> dict[str, Any]:
    """Writes learning_curve.json and .html; returns (and prints, as one line of JSON) the summary."""
    storage = build(cfg.storage)
    evaluations = read_evaluations(cfg.evaluations, storage)
    plain = cast(dict[str, Any], OmegaConf.to_container(cfg, resolve=True))
    curve = measure_curve(evaluations, plain["predict_at"], plain["floors"])
    curve |= {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": " ".join(["python", *sys.argv]),
        "published_as": plain["published_as"],
        "published": plain["published"],
    }
    figures = (json.dumps(curve, indent=2) + "\n").encode()
    output = Folder(cfg.output_dir, storage)
    output.write_together({PAGE_KEY: render_learning_curve(curve).encode(), "learning_curve.json": figures})

    summary: dict[str, Any] = {"num_train_bins": [point["num_train_bins"] for point in curve["evaluations"]]}
    for metric, measured in curve["metrics"].items():
        first = measured["forms"][0]["predicted"]
        summary |= {
            f"{metric} at {point['num_train_bins']}": {key: point[key] for key in ("value", "low", "high")}
            for point in first
        }
    summary |= {"extrapolation": curve["extrapolation"], "report": join_url(cfg.output_dir, PAGE_KEY)}
    print(f"Open {summary['report']}")
    print(json.dumps(summary))
    return summary


def measure_curve(
    evaluations: Sequence[Evaluation], predict_at: Sequence[int], floors: Mapping[str, float]
) -> dict[str, Any]:
    """Returns the content of learning_curve.json, without what is known only to the command.

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
    counts = list(evaluations[0].result.counts)
    hits_PG = numpy.stack([numpy.bincount(group_N, evaluation.hits_N) for evaluation in evaluations])
    squared_PG = numpy.stack([numpy.bincount(group_N, _squared_errors(evaluation)) for evaluation in evaluations])
    errors_1P = block_errors(hits_PG, squared_PG, num_images_G, numpy.ones((1, len(blocks))))
    errors_SP = resample_errors(hits_PG, squared_PG, num_images_G)

    ends = [*sizes_P, *predict_at]
    drawn_X = numpy.geomspace(min(ends), max(ends), NUM_DRAWN)
    asked_X = numpy.concatenate([numpy.array(predict_at, float), drawn_X])
    metrics = {}
    for metric, highest in zip(METRICS, (1.0, float(max(counts) - min(counts))), strict=True):
        _check_floor(metric, floors[metric], min(errors_1P[metric].min(), errors_SP[metric].min()))
        fits = [
            fit_curve(form, sizes_P, errors_1P[metric][0], errors_SP[metric], asked_X, highest)
            for form in forms(floors[metric])
        ]
        spans = numpy.stack(percentile_interval(errors_SP[metric]), axis=1)
        metrics[metric] = {
            "points": [
                {"num_train_bins": int(size), **_estimate(metric, value, *span)}
                for size, value, span in zip(sizes_P, errors_1P[metric][0], spans, strict=True)
            ],
            "forms": [_describe(metric, curve, predicted, asked_X, len(predict_at)) for curve, predicted in fits],
        }
    first = evaluations[0].result.subject
    return {
        "split": first.split,
        "num_images": len(evaluations[0].image_ids),
        "num_blocks": len(blocks),
        "manifest_sha256": first.manifest_sha256,
        "counts": counts,
        "evaluations": [
            {"evaluation": e.url, "checkpoint": e.result.subject.checkpoint, "num_train_bins": int(size)}
            for e, size in zip(evaluations, sizes_P, strict=True)
        ],
        "extrapolation": {str(n): round(n / int(sizes_P.max()), 2) for n in predict_at},
        "metrics": metrics,
    }


def _describe(
    metric: str, curve: Curve, predicted: Mapping[str, ndarray], asked_X: ndarray, num: int
) -> dict[str, Any]:
    rows = [
        {
            "num_train_bins": round(float(size), 1),
            **_estimate(metric, *(predicted[name][x] for name in ("error", "low", "high"))),
            **_estimate(
                metric, *(predicted[name][x] for name in ("error", "curve_low", "curve_high")), prefix="curve_"
            ),
        }
        for x, size in enumerate(asked_X)
    ]
    return {
        "form": curve.form.name,
        "formula": curve.form.formula,
        "floor": curve.form.floor,
        "b": curve.b,
        "c": {"value": curve.c, "low": curve.c_interval[0], "high": curve.c_interval[1]},
        "scatter": curve.scatter,
        "predicted": [row | {"num_train_bins": int(row["num_train_bins"])} for row in rows[:num]],
        "drawn": rows[num:],
    }


def _estimate(metric: str, error: float, low: float, high: float, prefix: str = "") -> dict[str, float]:
    """An error and its interval as the metric itself: of an accuracy the upper end comes from the lower error."""
    if metric == "accuracy":
        error, low, high = 1 - error, 1 - high, 1 - low
    ends = {f"{prefix}low": float(low), f"{prefix}high": float(high)}
    return ends if prefix else {"value": float(error), **ends}


def _squared_errors(evaluation: Evaluation) -> ndarray:
    """Returns (expected count - record's count)^2 of every image."""
    counts_K = numpy.array(evaluation.result.counts)
    return (evaluation.probabilities_NK @ counts_K - counts_K[evaluation.labels_N]) ** 2


def _check(evaluations: Sequence[Evaluation], predict_at: Sequence[int], floors: Mapping[str, float]) -> None:
    if wrong := [n for n in predict_at if n < 1]:
        raise ValueError(f"predict_at={list(predict_at)} holds {wrong}: type numbers of training bins, 1 or more.")
    if set(floors) != set(METRICS) or min(floors.values()) < 0:
        raise ValueError(f"floors={dict(floors)} must name {', '.join(METRICS)}, each with an error of 0 or more.")
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
