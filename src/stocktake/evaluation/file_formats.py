"""The two files of an evaluation as they may be read: anybody's, and damaged ones too."""

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy
import pyarrow

from stocktake.data.parquet import open_file, read_batches
from stocktake.evaluation.calibration_result import CalibrationResult
from stocktake.evaluation.evaluation_result import Baseline, CountScores, EvaluationResult, Slice
from stocktake.evaluation.subject import Subject
from stocktake.metrics.definitions import COUNT_METRICS, FORMER_NAMES, PER_COUNT_METRICS
from stocktake.metrics.estimate import Estimate
from stocktake.run_folder import check_seal

COLUMNS = {"image_id": pyarrow.string(), "count": pyarrow.int64(), "probabilities": pyarrow.list_(pyarrow.float64())}
GROUP = "group"  # which older files lack
SLACK = 1e-3  # of the sum of one bin's probabilities


def _is_whole(value: Any, least: int = 0) -> bool:
    return type(value) is int and value >= least


def _or_none(is_fair: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or is_fair(value)


def _are_counts(value: Any) -> bool:
    return isinstance(value, list) and value != [] and all(map(_is_whole, value)) and sorted(set(value)) == value


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_map(value: Any) -> bool:
    return isinstance(value, Mapping)


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


SUBJECT = tuple(Subject.__dataclass_fields__)
TEXTS = ("checkpoint", "root", "split", "manifest_sha256")
NEEDED = (*TEXTS, "num_images", "counts", "per_count", "confusion_matrix", "majority_baseline")
ALLOWED: dict[str, Callable[[Any], bool]] = {
    **dict.fromkeys(TEXTS, _is_text),
    **dict.fromkeys(
        ("checkpoint_sha256", "train_manifest_sha256", "created", "predictions_sha256"), _or_none(_is_text)
    ),
    **dict.fromkeys(("synthetic", "trained_on_synthetic", "flip_tta"), _or_none(lambda value: isinstance(value, bool))),
    "num_images": lambda value: _is_whole(value, 1),
    "counts": _are_counts,
    "num_blocks": _or_none(lambda value: _is_whole(value, 1)),
    "num_train_bins": _or_none(lambda value: _is_whole(value, 1)),
    "leakage": _or_none(_is_whole),
    "confusion_matrix": lambda value: isinstance(value, list),
    **dict.fromkeys(("per_count", "majority_baseline"), _is_map),
    "slices": lambda value: _is_map(value) and all(isinstance(cut, list) for cut in value.values()),
}
SLICE = ("from", "to", "num_images", "mean_count", "accuracy", "mae", "rest_accuracy")


def read_metrics(content: bytes) -> EvaluationResult:
    """Returns what a metrics.json of an evaluation holds; also one from when its keys were `test/...` for any split.

    Raises:
        ValueError: It is no such file; the message goes on from the file's name.
    """
    try:
        plain = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"is empty, cut off or damaged ({error})") from None
    if not isinstance(plain, dict):
        raise ValueError(f"holds a {type(plain).__name__}, no evaluation")
    check_seal(plain)
    return _result(_with_names_of_today(plain))


def read_predictions(content: bytes, result: EvaluationResult) -> pyarrow.Table:
    """Returns the rows of a predictions.parquet, in the order of their ids.

    Args:
        result: That of the metrics.json beside it.

    Raises:
        ValueError: It is no such file, or not the one that was written with these metrics; the message goes on from
            the file's name.
    """
    digest = hashlib.sha256(content).hexdigest()
    if result.predictions_sha256 not in (None, digest):
        raise ValueError("is not the file that was written with metrics.json: damaged, or of another evaluation")
    try:
        with open_file(content, pyarrow.schema(COLUMNS)) as file:
            schema = COLUMNS | ({GROUP: pyarrow.string()} if GROUP in file.schema_arrow.names else {})
        batches = read_batches(content, pyarrow.schema(schema))
        table = pyarrow.Table.from_batches(batches, pyarrow.schema(schema)).sort_by("image_id")
    except (pyarrow.ArrowException, OSError) as error:
        raise ValueError(f"cannot be read ({error})") from None
    if holed := [name for name in schema if table[name].null_count]:
        raise ValueError(f"has a row without {holed[0]}")
    if len(set(table["image_id"].to_pylist())) < table.num_rows:
        raise ValueError("names a bin twice")
    if strange := sorted(set(table["count"].to_pylist()) - set(result.counts)):
        raise ValueError(f"has bins of {strange[0]} items, and metrics.json is of counts={list(result.counts)}")
    rows, num_counts = table["probabilities"].to_pylist(), len(result.counts)
    for image_id, row in zip(table["image_id"].to_pylist(), rows, strict=True):
        is_whole = len(row) == num_counts and None not in row
        if not (is_whole and min(row) >= 0 and abs(math.fsum(row) - 1) < SLACK):  # NaN, too
            raise ValueError(f"says {row[:9]} of bin {image_id}: {num_counts} probabilities that sum to 1 are needed")
    return table


def probabilities(table: pyarrow.Table) -> numpy.ndarray:
    """Returns `probabilities_NK` of the rows."""
    return numpy.array(table["probabilities"].to_pylist())


def _result(plain: Mapping[str, Any]) -> EvaluationResult:
    if missing := [key for key in (*NEEDED, *COUNT_METRICS) if key not in plain]:
        raise ValueError(f"lacks {missing}")
    for key, is_fair in ALLOWED.items():
        if key in plain and not is_fair(plain[key]):
            raise _strange(key, plain[key])
    counts = plain["counts"]
    metrics = _estimates(plain, COUNT_METRICS)
    if metrics["accuracy"].value is None:
        raise _strange("accuracy", plain["accuracy"])
    lengths = [len(row) if isinstance(row, list) else 0 for row in plain["confusion_matrix"]]
    if lengths != [len(counts)] * len(counts):
        raise ValueError(f"has a confusion_matrix with rows of {lengths} numbers, and counts={counts}")
    if missing := [count for count in counts if str(count) not in plain["per_count"]]:
        raise ValueError(f"lacks the counts {missing} in per_count")
    calibration, linear = plain.get("calibration"), plain.get("linear_baseline")
    return EvaluationResult(
        subject=Subject(**{name: plain[name] for name in SUBJECT if plain.get(name) is not None}),
        counts=counts,
        metrics=metrics,
        per_count={count: _count_scores(f"per_count.{count}", plain["per_count"][str(count)]) for count in counts},
        confusion_matrix=plain["confusion_matrix"],
        majority_baseline=_baseline("majority_baseline", plain["majority_baseline"]),
        linear_baseline=None if linear is None else _baseline("linear_baseline", linear),
        calibration=None if calibration is None else CalibrationResult.from_json(calibration),
        slices={name: [_slice(name, one) for one in cut] for name, cut in plain.get("slices", {}).items()},
        **{name: plain.get(name) for name in ("num_blocks", "num_train_bins", "created", "predictions_sha256")},
    )


def _strange(key: str, value: Any) -> ValueError:
    return ValueError(f"has {key}={str(value)[:80]!r}, which no evaluation of this project has")


def _with_names_of_today(plain: Mapping[str, Any]) -> dict[str, Any]:
    named = {key.removeprefix("test/"): value for key, value in plain.items()}
    named = {FORMER_NAMES.get(key, key): value for key, value in named.items()}
    for key in ("majority_baseline", "linear_baseline"):
        if isinstance(named.get(key), Mapping):
            named[key] = _with_names_of_today(named[key])
    return named


def _estimate(key: str, plain: Any, is_share: bool) -> Estimate:
    try:
        return Estimate.from_json(plain, is_share)
    except ValueError as error:
        raise ValueError(f"has {key}{error}") from None


def _estimates(plain: Mapping[str, Any], metrics: Mapping[str, Any], within: str = "") -> dict[str, Estimate]:
    return {
        name: _estimate(f"{within}{name}", plain[name], metrics[name].is_share) for name in metrics if name in plain
    }


def _count_scores(key: str, plain: Any) -> CountScores:
    if not _is_map(plain) or not _is_whole(plain.get("num_images")) or not set(PER_COUNT_METRICS) <= set(plain):
        raise _strange(key, plain)
    return CountScores(plain["num_images"], _estimates(plain, PER_COUNT_METRICS, f"{key}."))


def _baseline(key: str, plain: Any) -> Baseline:
    if not _is_map(plain) or not _or_none(_is_whole)(plain.get("count")):
        raise _strange(key, plain)
    return Baseline(_estimates(plain, COUNT_METRICS, f"{key}."), plain.get("count"))


def _slice(name: str, plain: Any) -> Slice:
    if not _is_map(plain):
        raise _strange(f"slices.{name}", plain)
    if missing := [key for key in SLICE if key not in plain]:
        raise ValueError(f"lacks {missing} in a slice of slices.{name}")
    if not all(_is_number(plain[key]) for key in ("from", "to", "mean_count")) or not _is_whole(plain["num_images"], 1):
        raise _strange(f"slices.{name}", plain)
    accuracy, mae, rest_accuracy = (
        _estimate(f"slices.{name}.{key}", plain[key], key != "mae") for key in ("accuracy", "mae", "rest_accuracy")
    )
    return Slice(plain["from"], plain["to"], plain["num_images"], plain["mean_count"], accuracy, mae, rest_accuracy)
