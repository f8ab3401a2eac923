"""scripts/export.py: a checkpoint as one folder that counts items without torch.

Axes: N checked images.
"""

import hashlib
import json
import sys
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import Any

import numpy
import pyarrow
from omegaconf import DictConfig

from stocktake.checkpoints import Checkpoint, CheckpointError
from stocktake.config import build
from stocktake.console import silence_library_warnings
from stocktake.data.identity import DataIdentity
from stocktake.data.manifest import Manifest
from stocktake.data.transforms import Resize, decode
from stocktake.diagnostics.packages import versions
from stocktake.evaluation.evaluation_result import EvaluationResult
from stocktake.evaluation.image_statistics import are_drawn, measure_training_images
from stocktake.metrics.calibration import Calibration
from stocktake.onnx_export.baseline import measure_baseline
from stocktake.onnx_export.check import CheckedImages, probabilities_in_pytorch, tracked
from stocktake.onnx_export.graph import joined
from stocktake.onnx_export.model_card import model_card
from stocktake.onnx_export.network_graph import network_graph
from stocktake.onnx_export.provenance import (
    commit,
    describe_networks,
    evaluation_of,
    read_file,
    read_recalibration,
    without_locations,
)
from stocktake.onnx_export.quantization import quantized
from stocktake.onnx_export.resize_graph import OPSET, resize_graph
from stocktake.run_folder import require_replaceable, run_dir_of, sealed
from stocktake.serving.baseline import BASELINE, BASELINE_NAME, describe_baseline
from stocktake.serving.model_folder import (
    CARD_NAME,
    FORMAT_VERSION,
    GRAPH_NAME,
    INPUT,
    MODEL_NAME,
    MODEL_SEAL,
    OUTPUT,
    TRAINING_IMAGES,
)
from stocktake.shell import command
from stocktake.storage import Folder, is_s3, join_url, split_url

MAX_DIFFERENCE = 1e-3  # of a probability, between ONNX Runtime and PyTorch
DATA_LICENSE = "CC BY-NC-SA 3.0 US"  # of the Amazon Bin Image Dataset
VERSIONS = ("stocktake", "torch", "torchvision", "timm", "onnx", "onnxscript", "onnxruntime")


class ExportError(ValueError):
    """A checkpoint whose graph cannot be made, or does not say what the checkpoint says."""


def export(cfg: DictConfig) -> dict[str, Any]:
    """Writes model.onnx, baseline.json, README.md and, last, model.json; returns (and prints as JSON) the summary.

    Raises:
        CheckpointError: There is no such checkpoint, or it holds no calibration.
        WouldReplaceError: The folder holds another model.
        ExportError: ONNX Runtime gives other probabilities than PyTorch.
    """
    silence_library_warnings()
    storage = build(cfg.storage)
    checkpoint = Checkpoint.open(cfg.checkpoint, storage)
    counter, calibration, config = checkpoint.model, checkpoint.calibration, checkpoint.config
    if cfg.calibration is not None:
        calibration = read_recalibration(read_file(cfg.calibration, storage), cfg.calibration, checkpoint)
    if calibration is None:
        raise CheckpointError(
            f"checkpoint={checkpoint.location} holds no calibration, because it was not saved after a validation. "
            "Type the run's checkpoints/best.ckpt."
        )
    output = Folder(cfg.output_dir or _output_dir(checkpoint.location), storage)
    made_of = {"checkpoint_sha256": checkpoint.sha256, "int8": cfg.int8}
    require_replaceable(output, MODEL_NAME, made_of, cfg.overwrite)
    resize = Resize(config["data"]["image_size_px"], config["data"]["resize"])
    root = Folder(cfg.root or config["data"]["root"], storage)
    manifest = Manifest.read(root)
    rows = manifest.rows("valid", cfg.num_checked, counter.counts)
    num_seen = _tell_other_data(checkpoint, root, manifest, rows)
    contents = [root.read(key) for key in tracked(rows["key"].to_pylist(), "Reading")]
    labels_N = numpy.searchsorted(counter.counts, rows["count"].to_numpy())
    images = CheckedImages(contents, labels_N, probabilities_in_pytorch(counter, calibration, resize, contents))

    network = network_graph(counter, calibration.temperature, resize.sizes_px[-1], OPSET)
    graph = joined(resize_graph(resize), network)
    found = images.compare(graph)
    if not found.max_difference <= MAX_DIFFERENCE:  # NaN, too
        raise ExportError(
            f"ONNX Runtime's probabilities differ from PyTorch's by up to {found.max_difference:.2g}, more than "
            f"{MAX_DIFFERENCE:g}, on {found.num_images} validation images; nothing was written. Type another "
            "num_checked to see whether one image is odd, and report the backbone."
        )
    check = asdict(found) | {"manifest_sha256": manifest.sha256, "num_trained_on": num_seen}
    if cfg.int8:
        seen = (resize(decode(content))[None].numpy() for content in contents[: cfg.num_calibrated])
        graph = joined(resize_graph(resize), quantized(network, seen))
        check = check | asdict(images.compare(graph)) | {"float32": check}

    baseline = measure_baseline(graph, root, manifest.rows("valid", cfg.num_baseline, counter.counts), counter.counts)
    baseline_bytes, graph_bytes = baseline.to_bytes(), graph.SerializeToString()
    evaluation = evaluation_of(checkpoint, cfg.metrics, storage)
    if evaluation is not None and cfg.calibration is not None:  # it measured the checkpoint's own
        evaluation = replace(evaluation, calibration=None)
    networks = describe_networks(counter, config)
    is_drawn = "synthetic" in str(config["data"].get("_target_")).lower()
    model = {
        "format_version": FORMAT_VERSION,
        "name": config["name"],
        "version": str(cfg.version or f"{config['name']}-{checkpoint.sha256[:8]}{_marks(cfg, calibration)}"),
        "counts": counter.counts,
        "calibration": calibration.to_dict(),
        "input": {"name": INPUT, "dtype": "uint8", "shape": ["height", "width", 3]},
        "output": {"name": OUTPUT, "dtype": "float32", "shape": [len(counter.counts)]},
        "image_size_px": resize.sizes_px[-1],
        "resize": resize.mode,
        "backbone": networks["backbone"],
        "head": networks["head"],
        **made_of,
        "sha256": hashlib.sha256(graph_bytes).hexdigest(),
        "bytes": len(graph_bytes),
        "check": check,
        BASELINE: describe_baseline(baseline_bytes, baseline),
        **_trained_on(checkpoint.data, manifest),
        TRAINING_IMAGES: _training_images(checkpoint.data, root, manifest),
        "data_license": "none: drawn bins" if is_drawn else DATA_LICENSE,
        "weights_license": cfg.weights_license or networks["weights_license"],
        "metrics": without_locations(evaluation),
        "commit": commit(),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": versions(VERSIONS),
    }
    write(output, graph_bytes, baseline_bytes, model, evaluation)
    summary = {"model": output.url, "version": model["version"], "mib": round(len(graph_bytes) / 2**20, 1)}
    summary |= {name: check[name] for name in ("num_images", "max_difference", "accuracy", "accuracy_in_pytorch")}
    if not is_s3(output.url):
        print(f"Type next: {command('scripts/serve.py', {'model': output.url})}")
    print(json.dumps(summary))
    return summary


def write(
    output: Folder, graph: bytes, baseline: bytes, model: dict[str, Any], evaluation: EvaluationResult | None
) -> None:
    """Writes the folder so that it is never taken for whole before it is: model.json goes first and comes last."""
    files = {GRAPH_NAME: graph, BASELINE_NAME: baseline, CARD_NAME: model_card(model, evaluation).encode()}
    output.write_together(files | {MODEL_NAME: (json.dumps(sealed(model, MODEL_SEAL), indent=2) + "\n").encode()})


def _marks(cfg: DictConfig, calibration: Calibration) -> str:
    """Returns what tells a version from the plain one of the same checkpoint: its answers are others."""
    temperature = "" if cfg.calibration is None else f"-t{calibration.temperature:.3f}"
    return temperature + ("-int8" if cfg.int8 else "")


def _tell_other_data(checkpoint: Checkpoint, root: Folder, manifest: Manifest, rows: pyarrow.Table) -> int | None:
    """Returns how many of the checked images the model was trained on, if that is known; says it, if there are any."""
    if (data := checkpoint.data) is None:
        print(
            f"{checkpoint.location} is from before checkpoints kept their data: {root.url} may be other.",
            file=sys.stderr,
        )
        return None
    num_seen = data.num_seen(manifest, rows)
    if data.manifest_sha256 != manifest.sha256:
        print(
            f"{root.url} is not the dataset that the model was trained on (manifest.parquet is {manifest.sha256[:16]}, "
            f"was {data.manifest_sha256[:16]}); {num_seen} of the {rows.num_rows} images that are checked were trained "
            "on, and accuracy is of them, too. model.json names the dataset of the training.",
            file=sys.stderr,
        )
    return num_seen


def _trained_on(data: DataIdentity | None, manifest: Manifest) -> dict[str, Any]:
    """Returns what model.json says of the data, as far as checkpoint and dataset root tell."""
    if data is None:
        return {"manifest_sha256": manifest.sha256, "num_train_bins": None, "data": manifest.origin}
    is_same = data.manifest_sha256 == manifest.sha256
    return {
        "manifest_sha256": data.manifest_sha256,
        "num_train_bins": data.num_train_bins,
        "data": manifest.origin if is_same else {"source": data.source},
    }


def _training_images(data: DataIdentity | None, root: Folder, manifest: Manifest) -> dict[str, Any] | None:
    """Returns what the images of the training are like; `None` where they are not the ones in this root."""
    if data is not None and data.manifest_sha256 != manifest.sha256:
        return None
    return measure_training_images(root, manifest.rows("train"), are_drawn(manifest, root)).to_dict()


def _output_dir(checkpoint: str) -> str:
    return join_url(run_dir_of(checkpoint) or split_url(checkpoint)[0], "model")
