"""scripts/ensemble.py: finished runs as one model that counts with all of them.

Axes: N validation images, M members, K counts that the model tells apart.
"""

import io
import json
from collections.abc import Sequence
from typing import Any

import numpy
import torch
import yaml
from numpy import ndarray
from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table

from stocktake.calibration import Calibration
from stocktake.callbacks.run_config import CONFIG_KEY
from stocktake.checkpoints import CheckpointError, load_counter
from stocktake.config import build
from stocktake.data.datamodule import BinDataModule
from stocktake.model.counter import CALIBRATION_KEY
from stocktake.model.ensemble import Ensemble
from stocktake.model.metrics import group_errors, summarise
from stocktake.storage import Folder, StorageOptions, join_url
from stocktake.workflows.console import quieten
from stocktake.workflows.evaluations import short_names
from stocktake.workflows.finishing import CALIBRATION_NAME
from stocktake.workflows.predicted_split import predict_split
from stocktake.workflows.resuming import CONFIG_NAME

CHECKPOINT_KEY = "checkpoints/best.ckpt"  # as of a run, so that all that reads a run's checkpoint reads this one
# Members that differ in one of these see other pictures, may have seen the others' validation bins, or make it
# impossible to say on how many bins the whole was trained.
SHARED = ("root", "counts", "image_size_px", "resize", "limit", "num_train_bins")
SHOWN = ("accuracy", "rmse", "rmse_mean")


def combine(cfg: DictConfig) -> dict[str, Any]:
    """Writes checkpoints/best.ckpt, calibration.json and config.yaml; returns (and prints, as JSON) the gist.

    Raises:
        CheckpointError: A checkpoint cannot be read, is an ensemble itself, or does not fit the others.
    """
    quieten()
    storage = build(cfg.storage)
    output = Folder(cfg.output_dir, storage)
    output.create()
    if output.exists(CHECKPOINT_KEY):
        raise CheckpointError(
            f"output_dir={cfg.output_dir} holds a model already, {CHECKPOINT_KEY}. Type output_dir=<a new folder>."
        )
    ensemble, config = _joined(cfg.checkpoints, cfg.root, storage)
    data = {name: config["data"].get(name) for name in ("counts", "image_size_px", "resize", "seed")}
    data |= {"root": config["data"]["root"], "limit": cfg.limit, "storage": storage}
    datamodule = BinDataModule(**data, batch_size=cfg.batch_size, num_workers=cfg.num_workers)
    members_NMK = predict_split(ensemble, datamodule, "valid", cfg.accelerator, cfg.precision, part="members")
    recorded_N = numpy.searchsorted(ensemble.counts, datamodule.rows("valid")["count"].to_numpy())
    ensemble.calibration = Calibration.fit(members_NMK.mean(axis=1), recorded_N, ensemble.counts)

    _write(output, ensemble, config)
    rows = _validation_rows(short_names(cfg.checkpoints), members_NMK, recorded_N, numpy.array(ensemble.counts))
    Console(stderr=True).print(_table(rows))
    checkpoint = join_url(output.url, CHECKPOINT_KEY)
    gist = {"checkpoint": checkpoint, "num_members": len(ensemble.members), "num_images": len(recorded_N)}
    gist |= {f"valid/{name}": rows[-1][name] for name in SHOWN}
    print(f"Evaluate it: python scripts/evaluate.py checkpoint={checkpoint}")
    print(json.dumps(gist))
    return gist


def _joined(checkpoints: Sequence[str], root: str | None, storage: StorageOptions) -> tuple[Ensemble, dict[str, Any]]:
    """Returns the untempered ensemble, and a configuration that rebuilds it.

    Args:
        root: Where the one dataset root of all members is now; `None` if they name the same.
    """
    if isinstance(checkpoints, str) or len({*checkpoints}) < max(2, len(checkpoints)):
        raise CheckpointError(
            f"checkpoints={checkpoints}: two or more are needed, each once. Type 'checkpoints=[runs/a/checkpoints/"
            "best.ckpt,runs/b/checkpoints/best.ckpt]'."
        )
    counters, configs = zip(*(load_counter(checkpoint, storage) for checkpoint in checkpoints), strict=True)
    for checkpoint, counter, config in zip(checkpoints, counters, configs, strict=True):
        if isinstance(counter, Ensemble):
            raise CheckpointError(f"checkpoints: {checkpoint} is an ensemble. Type its members' checkpoints instead.")
        for name in SHARED:
            own, first = config["data"].get(name), configs[0]["data"].get(name)
            if own != first and not (name == "root" and root):
                cure = "Train one of them again with the other's value."
                if name == "root":
                    cure = "If both are the same dataset, type root=<where it is now>."
                raise CheckpointError(
                    f"checkpoints: {checkpoint} was trained with data.{name}={own}, {checkpoints[0]} with {first}; "
                    f"members of an ensemble share it. {cure}"
                )
    model = {"_target_": "stocktake.model.ensemble.Ensemble", "members": [config["model"] for config in configs]}
    return Ensemble(counters), {
        "name": "ensemble",
        "model": model,
        "data": configs[0]["data"] | ({"root": root} if root else {}),
        "members": list(configs),
    }


def _write(output: Folder, ensemble: Ensemble, config: dict[str, Any]) -> None:
    """Writes the folder so that the checkpoint, which comes last, means that all is there."""
    calibration = ensemble.calibration.to_dict()
    output.write(CONFIG_NAME, yaml.safe_dump(config, sort_keys=False).encode())
    output.write(f"checkpoints/{CALIBRATION_NAME}", (json.dumps(calibration, indent=2) + "\n").encode())
    content = io.BytesIO()
    torch.save({"state_dict": ensemble.state_dict(), CONFIG_KEY: config, CALIBRATION_KEY: calibration}, content)
    output.write(CHECKPOINT_KEY, content.getvalue())


def _validation_rows(
    names: Sequence[str], members_NMK: ndarray, recorded_N: ndarray, counts_K: ndarray
) -> list[dict[str, Any]]:
    """Returns accuracy, rmse and rmse_mean of each member, and last those of all together."""
    rows = []
    for name, found_NK in [
        *zip(names, members_NMK.swapaxes(0, 1), strict=True),
        ("together", members_NMK.mean(axis=1)),
    ]:
        confusion_1KK, squared_error_1 = group_errors(recorded_N, found_NK, [""] * len(recorded_N), counts_K)
        metrics = summarise(confusion_1KK[0], squared_error_1[0], counts_K)
        rows.append({"name": name} | {figure: float(metrics[figure]) for figure in SHOWN})
    return rows


def _table(rows: Sequence[dict[str, Any]]) -> Table:
    table = Table("validation", "accuracy", "RMSE", "RMSE of the expectation")
    for row in rows:
        table.add_row(row["name"], *(f"{row[name]:.3f}" for name in SHOWN))
    return table
