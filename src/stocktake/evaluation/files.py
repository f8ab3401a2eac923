"""The two files of an evaluation as they may be read: anybody's, and damaged ones too."""

import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any

import numpy
import pyarrow
import pyarrow.compute

from stocktake.checksum import check_seal
from stocktake.data.parquet import open_file, read_batches

COLUMNS = {"image_id": pyarrow.string(), "count": pyarrow.int64(), "probabilities": pyarrow.list_(pyarrow.float64())}
GROUP = "group"  # which older files lack
PREDICTIONS_SHA256 = "predictions_sha256"  # in metrics.json; older files lack it
SLACK = 1e-3  # of the sum of one bin's probabilities
TEXTS = ("checkpoint", "root", "split", "manifest_sha256")
FACTS = (*TEXTS, "num_images", "counts", "test/accuracy")


def read_metrics(content: bytes) -> dict[str, Any]:
    """Returns what a metrics.json of an evaluation holds.

    Raises:
        ValueError: It is no such file; the message goes on from the file's name.
    """
    try:
        metrics = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"is empty, cut off or damaged ({error})") from None
    if not isinstance(metrics, dict):
        raise ValueError(f"holds a {type(metrics).__name__}, no evaluation")
    check_seal(metrics)
    if missing := [key for key in FACTS if key not in metrics]:
        raise ValueError(f"lacks {missing}")
    counts, accuracy, calibration = metrics["counts"], metrics["test/accuracy"], metrics.get("calibration")
    are_counts = isinstance(counts, list) and counts and all(type(count) is int for count in counts)
    fair = {key: isinstance(metrics[key], str) for key in TEXTS} | {
        "num_images": type(metrics["num_images"]) is int and metrics["num_images"] > 0,
        "counts": are_counts and sorted(set(counts)) == counts,
        "test/accuracy": isinstance(accuracy, dict) and _is_number(accuracy.get("value")),
        "num_train_bins": metrics.get("num_train_bins") is None
        or (type(metrics["num_train_bins"]) is int and metrics["num_train_bins"] > 0),
        "leakage": metrics.get("leakage") is None or type(metrics["leakage"]) is int,
        "calibration": not calibration
        or (isinstance(calibration, dict) and _is_number(calibration.get("temperature"), above=0)),
    }
    if wrong := [key for key, is_fair in fair.items() if not is_fair]:
        raise ValueError(f"has {wrong[0]}={str(metrics[wrong[0]])[:80]!r}, which no evaluation of this project has")
    return metrics


def read_predictions(content: bytes, metrics: Mapping[str, Any]) -> pyarrow.Table:
    """Returns the rows of a predictions.parquet, in the order of their ids.

    Args:
        metrics: Of the metrics.json beside it.

    Raises:
        ValueError: It is no such file, or not the one that was written with these metrics; the message goes on from
            the file's name.
    """
    digest = hashlib.sha256(content).hexdigest()
    if metrics.get(PREDICTIONS_SHA256, digest) != digest:
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
    if pyarrow.compute.count_distinct(table["image_id"]).as_py() < table.num_rows:
        raise ValueError("names a bin twice")
    if strange := sorted(set(table["count"].to_pylist()) - set(metrics["counts"])):
        raise ValueError(f"has bins of {strange[0]} items, and metrics.json is of counts={metrics['counts']}")
    rows, num_counts = table["probabilities"].to_pylist(), len(metrics["counts"])
    for image_id, row in zip(table["image_id"].to_pylist(), rows, strict=True):
        is_whole = len(row) == num_counts and None not in row
        if not (is_whole and min(row) >= 0 and abs(math.fsum(row) - 1) < SLACK):  # NaN, too
            raise ValueError(f"says {row[:9]} of bin {image_id}: {num_counts} probabilities that sum to 1 are needed")
    return table


def probabilities(table: pyarrow.Table) -> numpy.ndarray:
    """Returns `probabilities_NK` of the rows."""
    return numpy.array(table["probabilities"].to_pylist())


def _is_number(value: Any, above: float = -math.inf) -> bool:
    return type(value) in (int, float) and math.isfinite(value) and value > above
