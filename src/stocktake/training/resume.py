"""Going on with a run: from which checkpoint, by which overrides, never over another run's, and alone in its folder."""

import contextlib
import hashlib
import os
import re
import shlex
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any

import yaml
from lightning_fabric.utilities.rank_zero import rank_zero_only
from omegaconf import DictConfig, OmegaConf

from stocktake.agreement import Agreement, is_first_rank
from stocktake.callbacks.run_config import CONFIG_KEY, OtherConfig
from stocktake.config import build
from stocktake.model.counter import open_lengths
from stocktake.model.torch_files import load_plain
from stocktake.run_folder import BEFORE_NAME, BEST_NAME, CONFIG_NAME, METRICS_NAME, kept_from_others
from stocktake.shell import hydra_value, typed_again
from stocktake.storage import Folder, is_s3, local_path

TIMED = re.compile(r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d")  # a run folder that Hydra has just made
# Where a run is, on how many machines, and what it shows: none of it changes what is learnt.
MAY_DIFFER = [
    *("run_dir", "run_name", "checkpoint_dir", "resume", "storage", "logger", "compute"),
    *("data.root", "data.num_workers", "data.cache_dir", "data.cache_limit_mib", "data.storage", "data.draw"),
    *("trainer.accelerator", "trainer.devices", "trainer.num_nodes", "trainer.strategy", "trainer.plugins"),
    *(f"callbacks.{name}" for name in ("best", "spot", "learning_rate", "throughput", "progress", "step_logger")),
    "callbacks.report_trial",
]
RUN_LENGTHS = ("trainer.max_epochs", "trainer.max_steps")


class NothingToResume(ValueError):
    """`resume=true` where there is no run to go on with, or none that can be gone on with."""


class WouldOverwrite(ValueError):
    """The folder of a new run holds another run's checkpoints."""


@contextlib.contextmanager
def alone_in(cfg: DictConfig) -> Iterator[None]:
    """Keeps the run's folder, and that of its checkpoints, for this process until it ends, however it ends.

    The first rank does so for all. A link to a folder is that folder.

    Raises:
        FolderInUse: Another process has one of them.
    """
    run_dir, folders = Path(cfg.run_dir).absolute(), []
    if not is_s3(cfg.checkpoint_dir):
        checkpoints = local_path(cfg.checkpoint_dir).resolve()
        folders += [local_path(cfg.checkpoint_dir)] * (run_dir.resolve() not in (checkpoints, *checkpoints.parents))
    hint = f"Wait for its end, or type {elsewhere(cfg)} to train another run beside it."
    with contextlib.ExitStack() as held:
        for folder in (run_dir, *folders) if is_first_rank() else ():
            held.enter_context(kept_from_others(folder, "training in", f"each other's checkpoints. {hint}"))
        yield


@dataclass(frozen=True)
class Start:
    """A whole checkpoint, and the configuration of the run that wrote it.

    Attributes:
        path: Of a copy on this machine, under its own name.
        config: Plain values.
        num_lost_batches: Of the step that it was saved within: no checkpoint holds accumulated gradients.
    """

    path: Path
    config: dict[str, Any]
    num_lost_batches: int = 0


def newest_start(checkpoints: Folder, folder: Path, agreement: Agreement) -> Start | None:
    """Returns a local copy, in `folder`, of the checkpoint to go on from: the newest whole one that all ranks have.

    Lightning would find it on disk, but not in S3, and would take a half-written one.
    """
    starts, digests = {}, []
    for key in _keys(checkpoints):
        path = folder / key
        content = checkpoints.read(key)
        try:
            state = load_plain(content, "meta")
            start = Start(path, state[CONFIG_KEY], _num_lost_batches(state))
        except Exception:  # torch raises a dozen different ones for a broken file
            message = f"{key} ({len(content)} bytes) is damaged or not a run's"
            print(f"{message}; trying the one before it.", file=sys.stderr)
            continue
        path.write_bytes(content)
        starts[key] = start
        digests.append((key, hashlib.sha256(content).hexdigest()))
        if agreement.num_ranks == 1:
            break  # the others need not be read
    newest = agreement.newest_common(digests)
    start = None if newest is None else starts[newest]
    if start is not None and start.num_lost_batches and agreement.rank == 0:
        print(
            f"{start.path.name} was saved within a step with accumulated gradients, which it does not hold: those of "
            f"{start.num_lost_batches} batches are lost, and the run need not end as it would have.",
            file=sys.stderr,
        )
    return start


def _num_lost_batches(state: Mapping[str, Any]) -> int:
    """Returns how many batches of the next optimizer's step a checkpoint was saved after."""
    num_accumulated = (state[CONFIG_KEY].get("trainer") or {}).get("accumulate_grad_batches") or 1
    progress = state.get("loops", {}).get("fit_loop", {}).get("epoch_loop.batch_progress")
    if progress is None or progress["is_last_batch"]:
        return 0
    return progress["current"]["ready"] % num_accumulated


def _keys(checkpoints: Folder) -> list[str]:
    names = {key for key, _ in checkpoints.sizes()}
    steps = sorted((name for name in names if re.fullmatch(r"step-\d+\.ckpt", name)), reverse=True)
    return steps + [name for name in (BEST_NAME, BEFORE_NAME) if name in names]


def begin_anew(cfg: DictConfig, checkpoints: Folder) -> None:
    """Checks that a run which goes on from nothing takes no other run's place.

    Raises:
        NothingToResume: `resume=true`, and the folder is new, or nothing in it can be gone on from.
        WouldOverwrite: The folder holds the results of another run.
    """
    run_dir = Path(cfg.run_dir)
    held = _keys(checkpoints) + [METRICS_NAME] * (run_dir / METRICS_NAME).is_file()
    anew = f"{elsewhere(cfg)}, or remove what lies there to start anew in its place: {_removal(run_dir, checkpoints)}"
    if cfg.resume and held and all(name.startswith("step-") for name in held):
        # The first save of a machine that was taken away came half: nothing was won yet that could be lost.
        print(f"There are only damaged checkpoints ({', '.join(held)}): the run starts anew.", file=sys.stderr)
    elif cfg.resume and held:
        raise NothingToResume(
            f"resume=true finds no whole checkpoint in {checkpoints.url} to go on from; there are {', '.join(held)}. "
            f"To start another run, type {anew}"
        )
    elif held:
        raise WouldOverwrite(
            f"{checkpoints.url} holds an earlier run ({', '.join(held)}), which this one would overwrite. "
            f"To go on with that one, type resume=true; to start another, {anew}"
        )
    if cfg.resume and (timed := _timed_folder(cfg)) is not None:
        again = typed_again(f"hydra.run.dir={hydra_value(_newest_beside(timed))}")
        raise NothingToResume(
            f"resume=true finds nothing to go on from: {timed} is a new folder, named by the time. To go on with a "
            f"run, name its folder: {again}"
        )


def elsewhere(cfg: DictConfig) -> str:
    """Returns the override that gives a run another folder."""
    is_named = cfg.run_name in Path(cfg.run_dir).parts
    return "run_name=<new>" if is_named else f"hydra.run.dir=runs/{cfg.name}/<new>"


def _removal(run_dir: Path, checkpoints: Folder) -> str:
    command = f"rm -r {shlex.quote(str(run_dir))}"
    if is_s3(checkpoints.url):
        return f"{command} ; aws s3 rm --recursive {shlex.quote(checkpoints.url)}"
    path = local_path(checkpoints.url)
    return command if run_dir.absolute() in path.parents else f"{command} {shlex.quote(str(path))}"


def _timed_folder(cfg: DictConfig) -> Path | None:
    """Returns the run's folder, or a sweep's, if Hydra named it by the time and the checkpoints are in it."""
    if "RUN_DIR" in os.environ or is_s3(cfg.checkpoint_dir):
        return None
    run_dir = Path(cfg.run_dir)
    timed = (folder for folder in (run_dir, run_dir.parent) if TIMED.fullmatch(folder.name))
    return next(timed, None) if run_dir in Path(cfg.checkpoint_dir).parents else None


def _newest_beside(folder: Path) -> str:
    beside = sorted(path.parents[1] for path in folder.parent.glob("*/checkpoints/*.ckpt"))
    return str(beside[-1]) if beside else f"{folder.parent}/<time>"


def read_config(run_dir: Path) -> dict[str, Any] | None:
    """Returns the configuration that a run folder's run was begun with, or None."""
    try:
        config = yaml.safe_load((run_dir / CONFIG_NAME).read_bytes())
    except (OSError, yaml.YAMLError):
        return None
    return config if isinstance(config, dict) else None


@rank_zero_only
def write_config(run_dir: Path, cfg: DictConfig) -> None:
    Folder(str(run_dir)).write(CONFIG_NAME, OmegaConf.to_yaml(cfg, resolve=True).encode())


def raised_lengths(cfg: DictConfig, before: Mapping[str, Any]) -> list[str]:
    """Returns which keys make a run longer than it was to be when it began.

    Raises:
        OtherConfig: The learning rate's schedule depends on the length.
    """
    trainer = before.get("trainer") or {}
    lengths = {name: (trainer.get(name.split(".")[1]), OmegaConf.select(cfg, name)) for name in RUN_LENGTHS}
    raised = [name for name, (was, now) in lengths.items() if _length(now) > _length(was)]
    schedule = cfg.model.scheduler and build(cfg.model.scheduler)
    if raised and schedule is not None and open_lengths(schedule):
        was, now = lengths[raised[0]]
        raise OtherConfig(
            f"{raised[0]} was {was}, is {now}: {cfg.model.scheduler._target_.split('.')[-1]} spreads the learning rate "
            "over the whole run, so a longer one would have had other rates from its first step on. Type "
            f"{raised[0]}={hydra_value(was)} to go on with this run, or start another one beside it."
        )
    return raised


def _length(value: Any) -> float:
    return inf if value in (None, -1) else float(value)
