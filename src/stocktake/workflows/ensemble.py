"""scripts/ensemble.py: finished runs as one model that counts with all of them.

Axes: N validation images, M members, K counts that the model tells apart.
"""

import functools
import io
import json
import sys
from collections.abc import Sequence
from typing import Any

import numpy
import torch
import yaml
from numpy import ndarray
from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table

from stocktake.callbacks.calibration import CALIBRATION_KEY
from stocktake.callbacks.run_config import CONFIG_KEY
from stocktake.checkpoints import Checkpoint, CheckpointError, find_checkpoint
from stocktake.config import build
from stocktake.console import silence_library_warnings
from stocktake.data.datamodule import BinDataModule
from stocktake.data.identity import DATA_KEY, DataIdentity
from stocktake.evaluation.predict_split import predict_split
from stocktake.evaluation.results import short_names
from stocktake.metrics.calibration import Calibration
from stocktake.metrics.counts import group_errors, summarize
from stocktake.model.counter import BinCounter
from stocktake.model.ensemble import Ensemble
from stocktake.model.registry import ENSEMBLE
from stocktake.run_folder import BEST_KEY, CALIBRATION_NAME, CONFIG_NAME
from stocktake.shell import command, override
from stocktake.storage import Folder, StorageOptions, join_url

# Members that differ in one of these see other images, may have seen the others' validation bins, or make it
# impossible to say on how many bins the whole was trained.
SHARED = ("root", "counts", "image_size_px", "resize", "limit", "num_train_bins")
SHOWN = ("accuracy", "rmse", "rmse_expected")


def combine(cfg: DictConfig) -> dict[str, Any]:
    """Writes checkpoints/best.ckpt, calibration.json and config.yaml; returns (and prints, as JSON) the summary.

    Raises:
        CheckpointError: A checkpoint cannot be read, is an ensemble itself, or does not fit the others.
    """
    silence_library_warnings()
    storage = build(cfg.storage)
    output = Folder(cfg.output_dir, storage)
    output.create()
    if output.exists(BEST_KEY):
        raise CheckpointError(
            f"output_dir={cfg.output_dir} holds a model already, {BEST_KEY}. Type output_dir=<a new folder>."
        )
    members = _members(cfg.checkpoints, cfg.root, storage)
    ensemble, config = _joined(members, cfg.root)
    data = {name: config["data"].get(name) for name in ("counts", "image_size_px", "resize", "seed")}
    data |= {"root": config["data"]["root"], "limit": cfg.limit, "storage": storage}
    datamodule = BinDataModule(**data, batch_size=cfg.batch_size, num_workers=cfg.num_workers)
    _refuse_seen(members, datamodule)
    members_NMK = predict_split(ensemble, datamodule, "valid", cfg.accelerator, cfg.precision, part="members")
    labels_N = numpy.searchsorted(ensemble.counts, datamodule.rows("valid")["count"].to_numpy())
    calibration = Calibration.fit(members_NMK.mean(axis=1), labels_N, ensemble.counts)

    _write(output, ensemble, calibration, config, _seen_by_all(members))
    rows = _validation_rows(
        short_names([member.location for member in members]), members_NMK, labels_N, numpy.array(ensemble.counts)
    )
    Console(stderr=True).print(_table(rows))
    checkpoint = join_url(output.url, BEST_KEY)
    summary = {"checkpoint": checkpoint, "num_members": len(ensemble.members), "num_images": len(labels_N)}
    summary |= {f"valid/{name}": rows[-1][name] for name in SHOWN}
    print(f"Evaluate it: {command('scripts/evaluate.py', {'checkpoint': checkpoint})}")
    print(json.dumps(summary))
    return summary


def _members(checkpoints: Sequence[str], root: str | None, storage: StorageOptions) -> list[Checkpoint]:
    """Returns the members, of which each fits the first.

    Args:
        root: Where the one dataset root of all members is now; `None` if they name the same.
    """
    locations = [] if isinstance(checkpoints, str) else [find_checkpoint(location, storage) for location in checkpoints]
    if len({*locations}) < max(2, len(locations)):
        raise CheckpointError(
            f"checkpoints={checkpoints}: two or more are needed, each once. Type "
            f"{override('checkpoints', ['runs/a', 'runs/b'])}"
        )
    members = [Checkpoint.open(location, storage) for location in locations]
    for member in members:
        if isinstance(member.model, Ensemble):
            raise CheckpointError(
                f"checkpoints: {member.location} is an ensemble. Type its members' checkpoints instead."
            )
        for name in SHARED:
            own, first = (each.config["data"].get(name) for each in (member, members[0]))
            if own != first and not (name == "root" and root):
                hint = "Train one of them again with the other's value."
                if name == "root":
                    hint = "If both are the same dataset, type root=<where it is now>."
                raise CheckpointError(
                    f"checkpoints: {member.location} was trained with data.{name}={own}, {members[0].location} with "
                    f"{first}; members of an ensemble share it. {hint}"
                )
    return members


def _joined(members: Sequence[Checkpoint], root: str | None) -> tuple[Ensemble, dict[str, Any]]:
    """Returns the untempered ensemble, and a configuration that rebuilds it."""
    configs = [member.config for member in members]
    model = {"_target_": ENSEMBLE, "members": [config["model"] for config in configs]}
    return Ensemble([member.model for member in members if isinstance(member.model, BinCounter)]), {
        "name": "ensemble",
        "model": model,
        "data": configs[0]["data"] | ({"root": root} if root else {}),
        "members": configs,
    }


def _refuse_seen(members: Sequence[Checkpoint], datamodule: BinDataModule) -> None:
    """Refuses to calibrate on bins that a member was trained on, and tells where other data was used.

    Raises:
        CheckpointError: A member has seen some of the validation bins.
    """
    manifest, rows = datamodule.manifest, datamodule.rows("valid")
    for member in members:
        if member.data is None:
            print(f"{member.location} does not say on which data it was trained: it may be other.", file=sys.stderr)
            continue
        if num_seen := member.data.num_seen(manifest, rows):
            raise CheckpointError(
                f"checkpoints: {member.location} was trained on {num_seen} of the {rows.num_rows} validation bins in "
                f"{datamodule.root.url}, whose manifest.parquet is {manifest.sha256[:16]} (its own was "
                f"{member.data.manifest_sha256[:16]}): calibrated on them, the ensemble would be too sure. Type "
                "root=<the dataset root as it was when all were trained>, or train that member again."
            )
        if member.data.manifest_sha256 != manifest.sha256:
            print(
                f"{member.location} was trained on another manifest.parquet ({member.data.manifest_sha256[:16]}, not "
                f"{manifest.sha256[:16]}), but on none of these validation bins.",
                file=sys.stderr,
            )


def _seen_by_all(members: Sequence[Checkpoint]) -> DataIdentity | None:
    """Returns what the members together were trained on, `None` where that is not known of each."""
    known = [member.data for member in members if member.data is not None]
    return functools.reduce(DataIdentity.including, known) if len(known) == len(members) else None


def _write(
    output: Folder, ensemble: Ensemble, fitted: Calibration, config: dict[str, Any], seen: DataIdentity | None
) -> None:
    """Writes the folder so that the checkpoint, which comes last, means that all is there."""
    calibration = fitted.to_dict()
    output.write(CONFIG_NAME, yaml.safe_dump(config, sort_keys=False).encode())
    output.write(f"checkpoints/{CALIBRATION_NAME}", (json.dumps(calibration, indent=2) + "\n").encode())
    content = io.BytesIO()
    state = {"state_dict": ensemble.state_dict(), CONFIG_KEY: config, CALIBRATION_KEY: calibration}
    torch.save(state if seen is None else state | {DATA_KEY: seen.to_state()}, content)
    output.write(BEST_KEY, content.getvalue())


def _validation_rows(
    names: Sequence[str], members_NMK: ndarray, labels_N: ndarray, counts_K: ndarray
) -> list[dict[str, Any]]:
    """Returns accuracy, rmse and rmse_expected of each member, and last those of all together."""
    rows = []
    for name, found_NK in [
        *zip(names, members_NMK.swapaxes(0, 1), strict=True),
        ("together", members_NMK.mean(axis=1)),
    ]:
        confusion_1KK, squared_error_1 = group_errors(labels_N, found_NK, [""] * len(labels_N), counts_K)
        metrics = summarize(confusion_1KK[0], squared_error_1[0], counts_K)
        rows.append({"name": name} | {figure: float(metrics[figure]) for figure in SHOWN})
    return rows


def _table(rows: Sequence[dict[str, Any]]) -> Table:
    table = Table("validation", "accuracy", "RMSE", "RMSE of the expectation")
    for row in rows:
        table.add_row(row["name"], *(f"{row[name]:.3f}" for name in SHOWN))
    return table
