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

from stocktake.checkpoints import Checkpoint
from stocktake.config import build
from stocktake.console import silence_library_warnings
from stocktake.data.datamodule import BinDataModule
from stocktake.data.ingest.products import read_products
from stocktake.data.sources.abid_records import Product
from stocktake.diagnostics.packages import versions
from stocktake.evaluation.baselines import measure_linear, measure_majority
from stocktake.evaluation.calibration_metrics import measure_calibration
from stocktake.evaluation.count_intervals import measure
from stocktake.evaluation.evaluation_result import EvaluationResult
from stocktake.evaluation.image_statistics import measure_images
from stocktake.evaluation.leakage import count_train_bins, describe_subject
from stocktake.evaluation.predict_split import predict_split
from stocktake.evaluation.results import PREDICTIONS_KEY
from stocktake.evaluation.slices import measure_slices
from stocktake.evaluation.subject import describe_what_was_seen
from stocktake.evaluation.training_history import read_history
from stocktake.hardware import describe
from stocktake.metrics.calibration import apply_temperature, mismatch_score
from stocktake.metrics.definitions import COUNT_METRICS
from stocktake.metrics.estimate import Estimate
from stocktake.report.bins import BinPrediction
from stocktake.report.html import Run, render_evaluation
from stocktake.run_folder import METRICS_NAME, require_replaceable, run_dir_of, sealed
from stocktake.shell import command
from stocktake.storage import Folder, StorageOptions, is_local, join_url

REPORT_KEY = "report.html"
# What an evaluation is, whatever it is called.
MADE_OF = ("checkpoint_sha256", "manifest_sha256", "num_images", "flip_tta")
LAST_LINES = ("accuracy", "rmse", "mae", "within_one")
SUMMARY = ("accuracy", "rmse", "rmse_expected")
SLICED_BY = ("brightness", "sharpness", "strap_density", "num_products")


def evaluate(cfg: DictConfig) -> dict[str, Any]:
    """Writes metrics.json, predictions.parquet and report.html; returns (and prints, as JSON) a summary."""
    silence_library_warnings()
    storage = build(cfg.storage)
    checkpoint = Checkpoint.open(cfg.checkpoint, storage)
    model = checkpoint.model
    model.flip_tta = cfg.flip_tta
    datamodule = _datamodule(cfg, checkpoint.config["data"], storage)
    rows = datamodule.rows(cfg.split)
    subject = describe_subject(checkpoint, datamodule, cfg.split, rows, cfg.flip_tta)
    output_dir = cfg.output_dir or str(default_output_dir(checkpoint.location, cfg.split))
    output = Folder(output_dir, storage)
    require_replaceable(output, METRICS_NAME, {name: getattr(subject, name) for name in MADE_OF}, cfg.overwrite)
    for note in describe_what_was_seen(subject):
        print(note, flush=True)
    probabilities_NK = predict_split(model, datamodule, cfg.split, cfg.accelerator, cfg.precision)
    counts_K = numpy.array(model.counts)
    labels_N = numpy.searchsorted(counts_K, rows["count"].to_numpy())
    groups = rows["group"].to_pylist()

    calibration = checkpoint.calibration
    temperature = 1.0 if calibration is None else calibration.temperature
    scores_N = mismatch_score(apply_temperature(probabilities_NK, temperature), labels_N)
    statistics = measure_images(datamodule.root, rows)
    predictions = _predictions(rows, probabilities_NK, scores_N, counts_K, statistics)
    sliced_by = {name: predictions[name].to_numpy().astype(float) for name in SLICED_BY}  # a null becomes NaN
    table = io.BytesIO()
    pyarrow.parquet.write_table(predictions, table)

    measured = measure(labels_N, probabilities_NK, groups, counts_K)
    result = EvaluationResult(
        subject=subject,
        counts=model.counts,
        metrics=measured.metrics,
        per_count=measured.per_count,
        confusion_matrix=measured.confusion_matrix,
        majority_baseline=measure_majority(labels_N, groups, counts_K),
        linear_baseline=measure_linear(datamodule, cfg.split) if cfg.linear_baseline else None,
        calibration=calibration and measure_calibration(calibration, labels_N, probabilities_NK, groups),
        slices=measure_slices(sliced_by, labels_N, probabilities_NK, groups, counts_K),
        num_blocks=len(set(groups)),
        num_train_bins=count_train_bins(checkpoint, storage),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        predictions_sha256=hashlib.sha256(table.getvalue()).hexdigest(),
    )
    report = _report(result, predictions, rows, datamodule.root, checkpoint.config)
    content = {PREDICTIONS_KEY: table.getvalue(), REPORT_KEY: report.encode()}
    metrics = (json.dumps(sealed(result.to_json()), indent=2) + "\n").encode()
    output.write_together(content | {METRICS_NAME: metrics})

    summary: dict[str, Any] = {"leakage": subject.leakage, "split": subject.split}
    summary |= {name: result.metrics[name].value for name in SUMMARY}
    summary |= {name: baseline.metrics["accuracy"].value for name, baseline in result.baselines.items()}
    summary |= {"num_images": rows.num_rows, "report": join_url(output_dir, REPORT_KEY)}
    print(last_lines(result, join_url(output_dir, REPORT_KEY)))
    print(json.dumps(summary))
    return summary


def _datamodule(cfg: DictConfig, kept: dict[str, Any], storage: StorageOptions) -> BinDataModule:
    """Returns the bins to evaluate on, as the model sees them.

    Args:
        kept: The part `data` of the training's configuration.
    """
    data = {name: kept[name] for name in ("image_size_px", "resize", "counts")}
    if cfg.root is None:  # `train` is then what was trained on, for the linear baseline too
        data |= {"num_train_bins": kept.get("num_train_bins"), "seed": kept["seed"]}
    return BinDataModule(
        root=cfg.root or kept["root"],
        limit=cfg.limit,
        batch_size=cfg.batch_size,
        num_workers=cfg.num_workers,
        storage=storage,
        **data,
    )


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
    result: EvaluationResult, predictions: pyarrow.Table, rows: pyarrow.Table, root: Folder, config: dict[str, Any]
) -> str:
    keys = dict(zip(rows["image_id"].to_pylist(), rows["key"].to_pylist(), strict=True))
    bins = predictions.select(["image_id", "count", "predicted", "probabilities"]).to_pylist()
    products, run_dir = read_products(root, keys), _run_dir(result.subject.checkpoint)
    return render_evaluation(
        result,
        [BinPrediction(**row) for row in bins],
        read_image=lambda image_id: root.read(keys[image_id]),
        history=read_history(run_dir) if run_dir else [],
        run=Run(
            name=config["name"],
            config=yaml.safe_dump(config, sort_keys=False),
            versions=versions(("stocktake", "torch", "pytorch-lightning", "timm")),
            hardware=describe(),
            command=" ".join(["python", *sys.argv]),
        ),
        records=None if products is None else {image_id: _listed(held) for image_id, held in products.items()},
    )


def _listed(products: list[Product]) -> list[tuple[str | None, int]]:
    return [(product.name, product.quantity) for product in products]


def _run_dir(checkpoint: str) -> Path | None:
    """Returns a checkpoint's run folder, if that is a local one."""
    run_dir = run_dir_of(checkpoint) if is_local(checkpoint) else None
    return None if run_dir is None else Path(run_dir.removeprefix("file://"))


def default_output_dir(checkpoint: str, split: str) -> Path:
    """Returns a folder on this machine: beside the checkpoints of a run that is here, else below runs/."""
    run_dir = _run_dir(checkpoint)
    return (run_dir or Path("runs") / Path(checkpoint).stem) / f"evaluation-{split}"


def last_lines(result: EvaluationResult, report: str) -> str:
    """Returns the figures with two digits and their 95 % intervals, what to open and what to type."""
    subject, baseline = result.subject, result.majority_baseline.metrics["accuracy"]
    figures = "; ".join(f"{COUNT_METRICS[name].title} {_with_interval(result.metrics[name])}" for name in LAST_LINES)
    lines = [
        f"{subject.num_images:,} bins ({subject.split}), 95 % intervals: {figures}.",
        f"Always the most frequent count: exact {_with_interval(baseline)}.",
        f"Open {report}",
        f"Type next: {command('scripts/export.py', {'checkpoint': subject.checkpoint})}",
    ]
    return "\n".join(lines)


def _with_interval(estimate: Estimate) -> str:
    """Returns `0.39 (0.37 to 0.41)`, without the interval where there is none."""
    if estimate.value is None:
        return str(estimate)
    has_interval = estimate.low is not None and estimate.high is not None
    return f"{estimate.value:.2f}" + (f" ({estimate.low:.2f} to {estimate.high:.2f})" if has_interval else "")
