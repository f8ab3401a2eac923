"""train.py: builds what the configuration names, fits it, and keeps what a person needs to judge the run."""

import hashlib
import json
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow.compute
import torch
import yaml
from omegaconf import DictConfig, OmegaConf, open_dict
from pytorch_lightning import Trainer, seed_everything
from pytorch_lightning.utilities.exceptions import SIGTERMException
from pytorch_lightning.utilities.rank_zero import rank_zero_info, rank_zero_only

from stocktake.agreement import Agreement, code_sha256, refuse_idle_ranks
from stocktake.callbacks.run_config import RunConfig
from stocktake.callbacks.run_data import RunData
from stocktake.callbacks.spot import Interrupted
from stocktake.checkpoints import read_checkpoint, start_from
from stocktake.config import build, build_all
from stocktake.data.datamodule import BinDataModule
from stocktake.data.identity import DATA_KEY, DataIdentity
from stocktake.model.counter import CALIBRATION_KEY, BinCounter
from stocktake.s3 import let_fsspec_use_obstore
from stocktake.storage import Folder, StorageOptions, is_s3, split_url
from stocktake.workflows.console import quieten
from stocktake.workflows.hardware import suitable_channels_last, suitable_precision
from stocktake.workflows.wandb_run import finished_wandb, prepare_wandb

EXIT_INTERRUPTED = 75  # EX_TEMPFAIL of sysexits.h: type the same again and it goes on
METRICS_NAME = "metrics.json"
CALIBRATION_NAME = "calibration.json"
CONFIG_NAME = "config.yaml"
INTERRUPTED_NAME = "interrupted"  # a file that tells a launcher an interruption from a failure
ERRORS = ("loss", "mae", "rmse", "rmse_mean", "ece")  # metrics whose best value is the smallest
# Where a run is, and on how many machines: none of it changes what is learnt.
MAY_DIFFER = [
    "run_dir",
    "run_name",
    "checkpoint_dir",
    "storage",
    "logger",
    "callbacks",
    "compute",
    "data.root",
    "data.num_workers",
    "data.cache_dir",
    "data.cache_limit_mib",
    "data.storage",
]
MAY_DIFFER += ["trainer.accelerator", "trainer.devices", "trainer.num_nodes", "trainer.strategy"]


def train(cfg: DictConfig) -> float:
    """Trains, or goes on training; returns the best value of `cfg.optimized_metric`, for any sweeper.

    Raises:
        ValueError: The experiment leaves a value to the user who did not give it.
        SystemExit: With `EXIT_INTERRUPTED` after a SIGTERM, once the checkpoint to go on from is saved.
    """
    quieten()
    with Agreement.from_environment() as agreement, finished_wandb():
        return _train(cfg, agreement)


def _train(cfg: DictConfig, agreement: Agreement) -> float:
    run_dir = Path(cfg.run_dir)
    settle(cfg)
    if wandb := cfg.logger.get("wandb"):
        prepare_wandb(wandb, run_dir, cfg.resume)
    plain_config = OmegaConf.to_container(cfg, resolve=True)
    run_config = RunConfig(plain_config, MAY_DIFFER)
    agreement.agree("configuration", run_config.what_is_learnt(), "Start every rank with the same overrides.")
    agreement.agree("code", {"stocktake": code_sha256()[:16]}, "Give every host the same code.")
    if cfg.resume and (finished := _finished(run_dir)) is not None:
        run_config.check(yaml.safe_load((run_dir / CONFIG_NAME).read_bytes()))
        value = finished[cfg.optimized_metric]
        print(f"The run in {run_dir} is finished ({cfg.optimized_metric} {value:.4f}).")
        print(f"To start anew, type run_name=<new>, or remove that folder first: rm -r {run_dir}")
        return value

    seed_everything(cfg.seed, verbose=False)
    torch.set_float32_matmul_precision("high")
    if is_s3(cfg.checkpoint_dir):
        let_fsspec_use_obstore(cfg.checkpoint_dir, build(cfg.storage))
    datamodule: BinDataModule = build(cfg.data)
    module: BinCounter = build(cfg.model)
    storage: StorageOptions = build(cfg.storage)
    earlier = _seen_before(cfg.get("checkpoint"), storage)
    run_data = RunData(DATA_KEY, partial(_identify, datamodule, earlier), agreement)
    callbacks = [*build_all(cfg.callbacks), run_config, run_data]
    loggers = build_all(cfg.logger)
    trainer: Trainer = build(cfg.trainer, callbacks=callbacks, logger=loggers)
    refuse_idle_ranks(trainer.world_size)
    for logger in loggers:
        logger.log_hyperparams(plain_config)
    (run_dir / INTERRUPTED_NAME).unlink(missing_ok=True)

    try:
        with tempfile.TemporaryDirectory() as folder:
            checkpoint = _newest_checkpoint(cfg, Path(folder), agreement) if cfg.resume else None
            if checkpoint is None:  # else what began the run stays beside it
                _write_config(run_dir, cfg)
                if finished := cfg.get("checkpoint"):
                    start_from(module, finished, build(cfg.storage))
                    _say_where_it_starts(trainer, module, datamodule, cfg.optimized_metric)
            trainer.fit(module, datamodule, ckpt_path=checkpoint, weights_only=True)
    except Interrupted as interruption:
        (run_dir / INTERRUPTED_NAME).touch()
        print(f"Interrupted: {interruption}. Type the same again to go on.", file=sys.stderr)
        sys.exit(EXIT_INTERRUPTED)
    except SIGTERMException:  # Lightning's own: the first step was not reached, or callbacks=spot is not on
        (run_dir / INTERRUPTED_NAME).touch()
        print("Interrupted: stopped by SIGTERM, and nothing was saved for it. callbacks=spot does.", file=sys.stderr)
        sys.exit(EXIT_INTERRUPTED)
    return _write_metrics(run_dir, trainer, cfg.optimized_metric, build(cfg.storage))


def _say_where_it_starts(trainer: Trainer, module: BinCounter, datamodule: BinDataModule, metric: str) -> None:
    """Validates once before the first step; the figures are the log's first."""
    trainer.validate(module, datamodule, verbose=False)
    rank_zero_info(f"Starts from {metric} {trainer.callback_metrics[metric]:.4f}")
    module.reset_metrics()  # what was made in inference mode cannot be added to in a fit


def settle(cfg: DictConfig) -> None:
    """Replaces each `auto` by what suits this machine, so that the kept configuration says what was done.

    Raises:
        ValueError: The experiment leaves a value to the user who did not give it.
    """
    if missing := sorted(OmegaConf.missing_keys(cfg)):
        raise ValueError(f"{', '.join(missing)} has no value in experiment={cfg.name}: type {missing[0]}=<value>.")
    with open_dict(cfg):
        cfg.trainer.precision = suitable_precision(cfg.trainer.precision)
        cfg.model.channels_last = suitable_channels_last(cfg.model.channels_last)
        if (best := cfg.callbacks.get("best")) and best.mode == "auto":
            best.mode = "min" if cfg.optimized_metric.split("/")[-1] in ERRORS else "max"


def _newest_checkpoint(cfg: DictConfig, folder: Path, agreement: Agreement) -> Path | None:
    """Returns a local copy, in `folder`, of the newest whole checkpoint that all ranks have, if there is one.

    Lightning would find it in a local folder, but not on S3, and would take a half-written one.
    """
    checkpoints = Folder(cfg.checkpoint_dir, build(cfg.storage))
    keys = sorted((key for key, _ in checkpoints.sizes() if key.startswith("step-")), reverse=True)
    whole = []
    for key in keys:
        path = folder / key
        content = checkpoints.read(key)
        path.write_bytes(content)
        try:
            torch.load(path, map_location="meta", weights_only=True)
        except Exception as error:  # torch raises a dozen different ones for a broken file
            reason = (str(error) or type(error).__name__).splitlines()[0]
            print(f"{key} is not whole ({reason}); trying the one before it.", file=sys.stderr)
        else:
            whole.append((key, hashlib.sha256(content).hexdigest()))
            if agreement.num_ranks == 1:
                break  # the others need not be read
    newest = agreement.newest_common(whole)
    return None if newest is None else folder / newest


def _seen_before(checkpoint: str | None, storage: StorageOptions) -> DataIdentity | None:
    """Returns what the model that a fine-tuning begins with was trained on, as far as its checkpoint says so."""
    state = read_checkpoint(checkpoint, storage).get(DATA_KEY) if checkpoint else None
    return None if state is None else DataIdentity.from_state(state)


def _identify(datamodule: BinDataModule, earlier: DataIdentity | None) -> DataIdentity:
    """Returns what this run is trained on, and tells which bins of the other splits the model has seen already."""
    identity = DataIdentity.of(datamodule.manifest, datamodule.rows("train"))
    if earlier is None:
        return identity
    for split in ("valid", "test"):
        rows = datamodule.manifest.table.filter(pyarrow.compute.equal(datamodule.manifest.table["split"], split))
        if num_seen := earlier.num_seen(datamodule.manifest, rows):
            rank_zero_info(
                f"Leak: the model that this run begins with was trained on {num_seen} of the {rows.num_rows} {split} "
                f"bins, so figures on {split} will be too good. Use the data.root that it was trained on."
            )
    return identity.including(earlier)


def _finished(run_dir: Path) -> dict[str, Any] | None:
    path = run_dir / METRICS_NAME
    return json.loads(path.read_text()) if path.is_file() else None


@rank_zero_only
def _write_config(run_dir: Path, cfg: DictConfig) -> None:
    run_dir.mkdir(parents=True, exist_ok=True)
    (run_dir / CONFIG_NAME).write_text(OmegaConf.to_yaml(cfg, resolve=True))


def _write_metrics(run_dir: Path, trainer: Trainer, optimized_metric: str, storage: StorageOptions) -> float:
    """Writes the run's metrics.json last of all, so that its presence means that the run is finished."""
    metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
    best = trainer.checkpoint_callback
    if best is not None and best.best_model_score is not None:
        metrics |= {optimized_metric: float(best.best_model_score), "checkpoint": best.best_model_path}
        rank_zero_info(f"{optimized_metric} {metrics[optimized_metric]:.4f} in {best.best_model_path}")
        rank_zero_info(f"Evaluate it: python scripts/evaluate.py checkpoint={best.best_model_path}")
    if optimized_metric not in metrics:
        raise ValueError(f"optimized_metric={optimized_metric!r} was never measured; there are {sorted(metrics)}.")
    if trainer.is_global_zero:
        if "checkpoint" in metrics:
            _copy_calibration(metrics["checkpoint"], storage)
        metrics["steps"] = trainer.global_step
        (run_dir / METRICS_NAME).write_text(json.dumps(metrics, indent=2) + "\n")
    return metrics[optimized_metric]


def _copy_calibration(checkpoint: str, storage: StorageOptions) -> None:
    """Writes what a checkpoint holds of its calibration beside it, for people and for what has no torch."""
    if (calibration := read_checkpoint(checkpoint, storage).get(CALIBRATION_KEY)) is not None:
        content = json.dumps(calibration, indent=2) + "\n"
        Folder(split_url(checkpoint)[0], storage).write(CALIBRATION_NAME, content.encode())
