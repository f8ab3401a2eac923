"""scripts/evaluate.py: how well a checkpoint counts the bins of a split, with intervals, baselines and a report."""

import hashlib
import io
import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy
import pyarrow
import pyarrow.parquet
import yaml
from numpy import ndarray
from omegaconf import DictConfig

from stocktake.checkpoints import Checkpoint, count_train_bins
from stocktake.checksum import sealed
from stocktake.config import build
from stocktake.console import silence_library_warnings
from stocktake.data.datamodule import BinDataModule
from stocktake.data.ingest.products import read_products
from stocktake.data.sources.abid_records import Product
from stocktake.diagnostics.packages import versions
from stocktake.evaluation.baselines import linear_baseline
from stocktake.evaluation.calibration_metrics import measure_calibration
from stocktake.evaluation.count_metrics import measure, measure_majority
from stocktake.evaluation.files import PREDICTIONS_SHA256
from stocktake.evaluation.image_statistics import measure_images
from stocktake.evaluation.leakage import measure_leakage
from stocktake.evaluation.predict_split import predict_split
from stocktake.evaluation.results import METRICS_KEY, PREDICTIONS_KEY
from stocktake.evaluation.slices import measure_slices
from stocktake.evaluation.training_history import read_history
from stocktake.hardware import describe
from stocktake.metrics.calibration import apply_temperature, mismatch_score
from stocktake.overwriting import require_replaceable
from stocktake.report.bins import BinPrediction
from stocktake.report.html import render_evaluation
from stocktake.report.text import describe_what_was_seen
from stocktake.shell import command
from stocktake.storage import Folder, StorageOptions, is_s3, join_url

REPORT_KEY = "report.html"
MADE_OF = ("checkpoint_sha256", "manifest_sha256", "num_images")  # what an evaluation is, whatever it is called
TITLES = {
    "accuracy": "exact",
    "rmse": "RMSE",
    "mae": "MAE",
    "within_one": "within one",
}  # in the last lines
SLICED_BY = ("brightness", "sharpness", "strap_density", "num_products")


def evaluate(cfg: DictConfig) -> dict[str, Any]:
    """Writes metrics.json, predictions.parquet and report.html; returns (and prints, as one line of JSON) the gist."""
    silence_library_warnings()
    storage = build(cfg.storage)
    checkpoint = Checkpoint.open(cfg.checkpoint, storage)
    model, config = checkpoint.model, checkpoint.config
    model.flip_tta = cfg.flip_tta
    kept = config["data"]
    data = {name: kept[name] for name in ("image_size_px", "resize", "counts")} | {
        "root": cfg.root or kept["root"],
        "limit": cfg.limit,
        "batch_size": cfg.batch_size,
        "num_workers": cfg.num_workers,
        "storage": storage,
    }
    if cfg.root is None:  # `train` is then what was trained on, for the linear baseline too
        data |= {"num_train_bins": kept.get("num_train_bins"), "seed": kept["seed"]}
    datamodule = BinDataModule(**data)
    rows = datamodule.rows(cfg.side)
    about = {
        "checkpoint": checkpoint.place,
        "checkpoint_sha256": checkpoint.sha256,
        "root": datamodule.root.url,
        "split": cfg.side,
        "num_images": rows.num_rows,
        "manifest_sha256": datamodule.manifest.sha256,
        **measure_leakage(checkpoint.data, kept, datamodule.manifest, datamodule.root, rows),
    }
    place = cfg.output_dir or str(_output_dir(checkpoint.place, cfg.side))
    output = Folder(place, storage)
    require_replaceable(output, METRICS_KEY, {name: about[name] for name in MADE_OF}, cfg.overwrite)
    for note in describe_what_was_seen(about):
        print(note, flush=True)
    probabilities_NK = predict_split(model, datamodule, cfg.side, cfg.accelerator, cfg.precision)
    counts_K = numpy.array(model.counts)
    recorded_N = numpy.searchsorted(counts_K, rows["count"].to_numpy())
    groups = rows["group"].to_pylist()
    metrics = {
        **about,
        "num_blocks": len(set(groups)),
        "num_train_bins": _num_train_bins(checkpoint, storage),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "counts": model.counts,
        **measure(recorded_N, probabilities_NK, groups, counts_K),
        "majority_baseline": measure_majority(recorded_N, groups, counts_K),
    }
    if model.calibration is not None:
        metrics["calibration"] = measure_calibration(model.calibration, recorded_N, probabilities_NK, groups)
    if cfg.linear_baseline:
        predicted, counts = linear_baseline(cfg.side, **data)
        metrics["linear_baseline"] = {"test/accuracy": {"value": float((predicted == counts).mean())}}

    temperature = 1.0 if model.calibration is None else model.calibration.temperature
    scores_N = mismatch_score(apply_temperature(probabilities_NK, temperature), recorded_N)
    statistics = measure_images(datamodule.root, rows)
    predictions = _predictions(rows, probabilities_NK, scores_N, counts_K, statistics)
    sliced_by = {name: predictions[name].to_numpy().astype(float) for name in SLICED_BY}  # a null becomes NaN
    metrics["slices"] = measure_slices(sliced_by, recorded_N, probabilities_NK, groups, counts_K)

    table = io.BytesIO()
    pyarrow.parquet.write_table(predictions, table)
    metrics[PREDICTIONS_SHA256] = hashlib.sha256(table.getvalue()).hexdigest()
    report = _report(metrics, predictions, rows, datamodule.root, config, _run_dir(checkpoint.place))
    content = {PREDICTIONS_KEY: table.getvalue(), REPORT_KEY: report.encode()}
    output.write_together(content | {METRICS_KEY: (json.dumps(sealed(metrics), indent=2) + "\n").encode()})

    gist = {"leakage": metrics["leakage"]}
    gist |= {f"test/{name}": metrics[f"test/{name}"]["value"] for name in ("accuracy", "rmse", "rmse_mean")}
    gist |= {name: metrics[name]["test/accuracy"]["value"] for name in metrics if name.endswith("_baseline")}
    gist |= {"num_images": rows.num_rows, "report": join_url(place, REPORT_KEY)}
    print(last_lines(metrics, join_url(place, REPORT_KEY), checkpoint.place))
    print(json.dumps(gist))
    return gist


def _num_train_bins(checkpoint: Checkpoint, storage: StorageOptions) -> int | None:
    """Returns what the checkpoint says; the root, which old ones leave to be counted, may have been split anew."""
    if checkpoint.data is not None:
        return checkpoint.data.num_train_bins
    return count_train_bins(checkpoint.config["data"], storage)


def _predictions(
    rows: pyarrow.Table, probabilities_NK: ndarray, scores_N: ndarray, counts_K: ndarray, statistics: pyarrow.Table
) -> pyarrow.Table:
    return pyarrow.table(
        {
            "image_id": rows["image_id"],
            "split": rows["split"],
            "group": rows["group"],
            "count": rows["count"],
            "predicted": pyarrow.array(counts_K[probabilities_NK.argmax(1)], pyarrow.int32()),
            "probabilities": pyarrow.array(probabilities_NK.tolist(), pyarrow.list_(pyarrow.float64())),
            "mismatch_score": scores_N,  # by which bins are ranked for a recount
            **{name: statistics[name] for name in statistics.column_names},
            "num_products": rows["num_products"],
        }
    )


def _report(
    metrics: dict[str, Any],
    predictions: pyarrow.Table,
    rows: pyarrow.Table,
    root: Folder,
    config: dict[str, Any],
    run_dir: Path | None,
) -> str:
    keys = dict(zip(rows["image_id"].to_pylist(), rows["key"].to_pylist(), strict=True))
    bins = predictions.select(["image_id", "count", "predicted", "probabilities"]).to_pylist()
    products = read_products(root, keys)
    run = {
        "name": config["name"],
        "config": yaml.safe_dump(config, sort_keys=False),
        "versions": versions(("stocktake", "torch", "pytorch-lightning", "timm")),
        "hardware": describe(),
        "command": " ".join(["python", *sys.argv]),
    }
    return render_evaluation(
        metrics,
        [BinPrediction(**row) for row in bins],
        pictures=lambda image_id: root.read(keys[image_id]),
        history=read_history(run_dir) if run_dir else [],
        run=run,
        records=None if products is None else {image_id: _listed(held) for image_id, held in products.items()},
    )


def _listed(products: list[Product]) -> list[tuple[str | None, int]]:
    return [(product.name, product.quantity) for product in products]


def _run_dir(checkpoint: str) -> Path | None:
    """Returns the run folder of `<run>/checkpoints/<name>.ckpt`, if that is a local one."""
    path = Path(checkpoint)
    return path.parent.parent if not is_s3(checkpoint) and path.parent.name == "checkpoints" else None


def _output_dir(checkpoint: str, split: str) -> Path:
    run_dir = _run_dir(checkpoint)
    return (run_dir or Path("runs") / Path(checkpoint).stem) / f"evaluation-{split}"


def last_lines(metrics: dict[str, Any], report: str, checkpoint: str) -> str:
    """Returns the figures with two digits and their 95 % intervals, what to open and what to type."""
    figures = ", ".join(
        f"{title} {_with_interval(metrics[f'test/{name}'])}"
        for name, title in TITLES.items()
        if f"test/{name}" in metrics
    )
    lines = [f"{metrics['num_images']:,} bins ({metrics['split']}), 95 % intervals: {figures}."]
    if baseline := metrics.get("majority_baseline", {}).get("test/accuracy"):
        lines.append(f"Always the most frequent count: exact {_with_interval(baseline)}.")
    lines.append(f"Open {report}")
    lines.append(f"Type next: {command('scripts/export.py', {'checkpoint': checkpoint})}")
    return "\n".join(lines)


def _with_interval(metric: dict[str, float]) -> str:
    """Returns `0.39 (0.37 to 0.41)`, without the interval where there is none."""
    low, high = metric.get("low"), metric.get("high")
    has_interval = low is not None and high is not None and low == low and high == high
    return f"{metric['value']:.2f}" + (f" ({low:.2f} to {high:.2f})" if has_interval else "")
