"""train.py: builds what the configuration names, fits it, and keeps what a person needs to judge the run."""

import shlex
import sys
import tempfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow.compute
import torch
from lightning_utilities.core.rank_zero import rank_zero_info
from omegaconf import DictConfig
from pytorch_lightning import Trainer, seed_everything
from pytorch_lightning.callbacks import LambdaCallback, Timer
from pytorch_lightning.utilities.exceptions import SIGTERMException

from stocktake.agreement import Agreement, code_sha256, refuse_idle_ranks
from stocktake.callbacks.calibration import FitCalibration
from stocktake.callbacks.run_config import RunConfig
from stocktake.callbacks.run_data import RunData, refuse_other_data
from stocktake.callbacks.spot import Interrupted
from stocktake.callbacks.validations import Validations
from stocktake.checkpoints import read_checkpoint, start_from
from stocktake.cli.training_messages import how_to_resume, what_is_kept
from stocktake.config import as_plain, build, build_all
from stocktake.console import silence_library_warnings
from stocktake.data.datamodule import BinDataModule
from stocktake.data.identity import DATA_KEY, DataIdentity
from stocktake.data.manifest import Manifest, ManifestError
from stocktake.model.counter import BinCounter
from stocktake.run_folder import INTERRUPTED_NAME, METRICS_NAME
from stocktake.s3 import let_fsspec_use_obstore
from stocktake.storage import Folder, StorageOptions, is_s3
from stocktake.training.preparation import begins, require_size, resolve_auto, what_is_shown
from stocktake.training.results import read_metrics, write_results
from stocktake.training.resume import (
    MAY_DIFFER,
    Start,
    alone_in,
    begin_anew,
    newest_start,
    raised_lengths,
    read_config,
    write_config,
)
from stocktake.training.wandb_run import finished_wandb, prepare_wandb, tell_where

EXIT_INTERRUPTED = 75  # EX_TEMPFAIL of sysexits.h: type the same again and it goes on


def train(cfg: DictConfig) -> float:
    """Trains, or goes on training; returns the best value of `cfg.optimized_metric`, for any sweeper.

    Raises:
        ValueError: The experiment leaves a value to the user who did not give it.
        FolderInUse: Another process trains in this run's folder.
        SystemExit: With `EXIT_INTERRUPTED` after a SIGTERM, once the checkpoint to go on from is saved.
    """
    silence_library_warnings()
    with (
        Agreement.from_environment() as agreement,
        alone_in(cfg),
        finished_wandb(),
        tempfile.TemporaryDirectory() as folder,
    ):
        return _train(cfg, agreement, Path(folder))


def _train(cfg: DictConfig, agreement: Agreement, folder: Path) -> float:
    run_dir, storage = Path(cfg.run_dir), build(cfg.storage)
    checkpoints = Folder(cfg.checkpoint_dir, storage)
    before = read_config(run_dir) if cfg.resume else None
    finished = read_metrics(run_dir, cfg.optimized_metric) if before is not None else None
    if finished is not None and before is not None and raised_lengths(cfg, before):
        _check_data(cfg, finished, storage)
        finished = None
    whole = agreement.finished(finished and {"metrics": finished, "config": before}, run_dir)
    if whole is not None:  # hosts without a shared folder learn of it from the first rank
        finished, before = whole["metrics"], whole["config"]
    start: Start | None = None
    if finished is None:
        start = newest_start(checkpoints, folder, agreement) if cfg.resume else None
        before = None if start is None else start.config
    if before is None:
        begin_anew(cfg, checkpoints)
    resolve_auto(cfg, before)
    if wandb := cfg.logger.get("wandb"):
        prepare_wandb(wandb, run_dir, cfg.resume)
    plain_config = as_plain(cfg)
    run_config = RunConfig(plain_config, MAY_DIFFER)
    agreement.agree("configuration", run_config.what_is_learnt(), "Start every rank with the same overrides.")
    agreement.agree("code", {"stocktake": code_sha256()[:16]}, "Give every host the same code.")
    raised = [] if before is None else raised_lengths(cfg, before)
    if before is not None:
        run_config.may_differ += tuple(raised)
        run_config.check(before)
    if finished is not None:
        _check_data(cfg, finished, storage)
        value = finished[cfg.optimized_metric]
        print(f"The run in {run_dir} is finished ({cfg.optimized_metric} {value:.4f}).")
        print(f"To start anew, type run_name=<new>, or remove that folder first: rm -r {shlex.quote(str(run_dir))}")
        return value

    seed_everything(cfg.seed, verbose=False)
    torch.set_float32_matmul_precision("high")
    if is_s3(cfg.checkpoint_dir):
        let_fsspec_use_obstore(cfg.checkpoint_dir, storage)
    datamodule: BinDataModule = build(cfg.data)
    module: BinCounter = build(cfg.model)
    require_size(module.backbone, cfg.model.backbone, cfg.data.image_size_px, cfg.data.train_sizes_px)
    earlier = _seen_before(cfg.get("checkpoint") if start is None else str(start.path), storage)
    run_data = RunData(DATA_KEY, partial(_identify, datamodule, earlier), agreement)
    validations = Validations()
    max_time = plain_config["trainer"].get("max_time")
    timers = [] if max_time is None else [Timer(max_time)]  # before what validates the last step that it admits
    callbacks = [*timers, validations, FitCalibration(), *build_all(cfg.callbacks), run_config, run_data]
    if raised:  # the shorter run's results stay until nothing can refuse the longer one any more
        callbacks.append(LambdaCallback(on_train_start=lambda *_: _begin_record(run_dir, cfg)))
    loggers = build_all(cfg.logger)
    shown = what_is_shown(cfg.trainer, callbacks)
    trainer: Trainer = build(cfg.trainer, callbacks=callbacks, logger=loggers, max_time=None, **shown)
    refuse_idle_ranks(trainer.world_size)
    for logger in loggers:
        logger.log_hyperparams(plain_config)
    (run_dir / INTERRUPTED_NAME).unlink(missing_ok=True)

    if start is None:  # else what began the run stays beside it
        _begin_record(run_dir, cfg)
    try:
        if start is None and (given := cfg.get("checkpoint")):
            start_from(module, given, storage)
            _say_where_it_starts(trainer, module, datamodule, cfg.optimized_metric)
        tell_where()
        rank_zero_info(begins(cfg, module))
        trainer.fit(module, datamodule, ckpt_path=start and start.path, weights_only=True)
    except Interrupted as interruption:
        (run_dir / INTERRUPTED_NAME).touch()
        print(f"Interrupted: {interruption}. {how_to_resume(cfg)}", file=sys.stderr)
        sys.exit(EXIT_INTERRUPTED)
    except SIGTERMException:  # Lightning's own: the first step was not reached, or callbacks=spot is not on
        (run_dir / INTERRUPTED_NAME).touch()
        hint = "Type the same again." if cfg.callbacks.get("spot") else what_is_kept(cfg)
        print(f"Interrupted: stopped by SIGTERM, and nothing was saved for it. {hint}", file=sys.stderr)
        sys.exit(EXIT_INTERRUPTED)
    return write_results(run_dir, trainer, validations, cfg.optimized_metric, storage)


def _begin_record(run_dir: Path, cfg: DictConfig) -> None:
    """Says what this run is, and that it is not finished."""
    (run_dir / METRICS_NAME).unlink(missing_ok=True)
    write_config(run_dir, cfg)


def _say_where_it_starts(trainer: Trainer, module: BinCounter, datamodule: BinDataModule, metric: str) -> None:
    """Validates once before the first step; the figures are the log's first."""
    trainer.validate(module, datamodule, verbose=False)
    rank_zero_info(f"Starts from {metric} {trainer.callback_metrics[metric]:.4f}")
    module.reset_metrics()  # what was made in inference mode cannot be added to in a fit


def _seen_before(checkpoint: str | None, storage: StorageOptions) -> DataIdentity | None:
    """Returns what the model that this run begins or goes on with was trained on, as far as its checkpoint says so."""
    state = read_checkpoint(checkpoint, storage).get(DATA_KEY) if checkpoint else None
    return None if state is None else DataIdentity.from_state(state)


def _check_data(cfg: DictConfig, finished: Mapping[str, Any], storage: StorageOptions) -> None:
    """Refuses another dataset than the one that a finished run was trained on; one that is gone tells nothing."""
    try:
        manifest = Manifest.read(Folder(cfg.data.root, storage))
    except (ManifestError, OSError):
        return
    refuse_other_data(finished.get("manifest_sha256", manifest.sha256), manifest.sha256)


def _identify(datamodule: BinDataModule, earlier: DataIdentity | None) -> DataIdentity:
    """Returns what this run is trained on, and tells which bins of the other splits the model has seen already."""
    identity = DataIdentity.of(datamodule.manifest, datamodule.rows("train"))
    if earlier is None:
        return identity
    for split in ("valid", "test"):
        rows = datamodule.manifest.table.filter(pyarrow.compute.field("split") == split)
        if num_seen := earlier.num_seen(datamodule.manifest, rows):
            rank_zero_info(
                f"Leak: the model that this run begins with was trained on {num_seen} of the {rows.num_rows} {split} "
                f"bins, so figures on {split} will be too good. Use the data.root that it was trained on."
            )
    return identity.including(earlier)
