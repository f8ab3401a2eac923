"""scripts/evaluate.py: how well a checkpoint counts the bins of a split, with intervals, baselines and a report."""

import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy
import pyarrow
import pyarrow.parquet
import torch
import yaml
from numpy import ndarray
from omegaconf import DictConfig
from pytorch_lightning import Trainer
from pytorch_lightning.callbacks import RichProgressBar

from stocktake.config import build
from stocktake.data.datamodule import BinDataModule
from stocktake.model.metrics import SCALARS, bootstrap, group_errors, summarise
from stocktake.report.bins import BinPrediction
from stocktake.report.html import render_evaluation
from stocktake.storage import Folder, is_s3
from stocktake.workflows.baselines import linear_baseline
from stocktake.workflows.checkpoints import count_train_bins, load_counter
from stocktake.workflows.console import quieten
from stocktake.workflows.hardware import describe
from stocktake.workflows.history import read_history
from stocktake.workflows.measured_certainty import measure_calibration

PER_COUNT = ("precision", "recall", "f1")


def evaluate(cfg: DictConfig) -> dict[str, Any]:
    """Writes metrics.json, predictions.parquet and report.html; returns (and prints, as one line of JSON) the gist."""
    quieten()
    storage = build(cfg.storage)
    model, config = load_counter(cfg.checkpoint, storage)
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
    trainer = Trainer(
        accelerator=cfg.accelerator,
        devices=1,
        precision=cfg.precision,
        logger=False,
        enable_model_summary=False,
        callbacks=[RichProgressBar()],
    )
    batches = trainer.predict(model, datamodule.loader(cfg.side))
    probabilities_NK = torch.cat([batch["probabilities"] for batch in batches]).double().numpy()

    counts_K = numpy.array(model.counts)
    recorded_N = numpy.searchsorted(counts_K, rows["count"].to_numpy())
    groups = rows["group"].to_pylist()
    metrics = {
        "checkpoint": cfg.checkpoint,
        "root": datamodule.root.url,
        "split": cfg.side,
        "num_images": rows.num_rows,
        "num_blocks": len(set(groups)),
        "num_train_bins": count_train_bins(kept, storage),
        "manifest_sha256": datamodule.manifest.sha256,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "counts": model.counts,
        **measure(recorded_N, probabilities_NK, groups, counts_K),
        "majority_baseline": _majority_baseline(recorded_N, groups, counts_K),
    }
    if model.calibration is not None:
        metrics["calibration"] = measure_calibration(model.calibration, recorded_N, probabilities_NK, groups)
    if cfg.linear_baseline:
        predicted, counts = linear_baseline(cfg.side, **data)
        metrics["linear_baseline"] = {"test/accuracy": {"value": float((predicted == counts).mean())}}

    output = Path(cfg.output_dir) if cfg.output_dir else _output_dir(cfg.checkpoint, cfg.side)
    output.mkdir(parents=True, exist_ok=True)
    predictions = _predictions(rows, probabilities_NK, counts_K)
    pyarrow.parquet.write_table(predictions, output / "predictions.parquet")
    (output / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n")
    report = _report(metrics, predictions, rows, datamodule.root, config, _run_dir(cfg.checkpoint))
    (output / "report.html").write_text(report, encoding="utf-8")

    gist = {f"test/{name}": metrics[f"test/{name}"]["value"] for name in ("accuracy", "rmse", "rmse_mean")}
    gist |= {name: metrics[name]["test/accuracy"]["value"] for name in metrics if name.endswith("_baseline")}
    gist |= {"num_images": rows.num_rows, "report": str(output / "report.html")}
    print(json.dumps(gist))
    return gist


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


def _majority_baseline(recorded_N: ndarray, groups: Sequence[str], counts_K: ndarray) -> dict[str, Any]:
    """Returns the metrics of always saying the most frequent count."""
    most_frequent = int(numpy.bincount(recorded_N).argmax())
    certain_NK = numpy.tile(numpy.eye(len(counts_K))[most_frequent], (len(recorded_N), 1))
    metrics = measure(recorded_N, certain_NK, groups, counts_K)
    return {"count": int(counts_K[most_frequent])} | {
        name: metrics[name] for name in metrics if name.startswith("test/")
    }


def _predictions(rows: pyarrow.Table, probabilities_NK: ndarray, counts_K: ndarray) -> pyarrow.Table:
    return pyarrow.table(
        {
            "image_id": rows["image_id"],
            "split": rows["split"],
            "group": rows["group"],
            "count": rows["count"],
            "predicted": pyarrow.array(counts_K[probabilities_NK.argmax(1)], pyarrow.int32()),
            "probabilities": pyarrow.array(probabilities_NK.tolist(), pyarrow.list_(pyarrow.float64())),
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
    run = {
        "name": config["name"],
        "config": yaml.safe_dump(config, sort_keys=False),
        "versions": {name: version(name) for name in ("stocktake", "torch", "pytorch-lightning", "timm")},
        "hardware": describe(),
        "command": " ".join(["python", *sys.argv]),
    }
    history = read_history(run_dir) if run_dir else []
    return render_evaluation(
        metrics, [BinPrediction(**row) for row in bins], lambda image_id: root.read(keys[image_id]), history, run
    )


def _run_dir(checkpoint: str) -> Path | None:
    """Returns the run folder of `<run>/checkpoints/<name>.ckpt`, if that is a local one."""
    path = Path(checkpoint)
    return path.parent.parent if not is_s3(checkpoint) and path.parent.name == "checkpoints" else None


def _output_dir(checkpoint: str, split: str) -> Path:
    run_dir = _run_dir(checkpoint)
    return (run_dir or Path("runs") / Path(checkpoint).stem) / f"evaluation-{split}"
