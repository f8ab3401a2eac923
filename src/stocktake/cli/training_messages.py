"""The first line of a training, and the one after Ctrl-C or SIGTERM."""

import sys
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from stocktake.run_folder import BEST_NAME
from stocktake.shell import command, hydra_value, typed_again

GO_ON = "The search keeps the trials that are done. Type the same again to go on with it."


def first_line(cfg: DictConfig) -> str:
    """Returns what begins, for a person who waits while libraries are imported."""
    if OmegaConf.select(cfg, "hydra.sweeper.space") is not None:
        sweeper = cfg.hydra.sweeper
        what = f"{sweeper.num_trials} trials of {cfg.model.backbone}, {_length(cfg.trainer)} each"
        return f"Searches {cfg.name} by {sweeper.name}: {what} ..."
    launcher = next((argument for argument in sys.argv if argument.startswith("hydra/launcher=")), None)
    if launcher is not None and not launcher.endswith("=basic"):
        what = f"{cfg.model.backbone}, {_length(cfg.trainer)}"
        return f"Prepares {cfg.name} as jobs of {launcher}: {what}. Checking them first ..."
    what = f"{cfg.model.backbone} on the bins in {cfg.data.root}, {_length(cfg.trainer)}"
    return f"Trains {cfg.name}: {what}. Loading PyTorch ..."


def _length(trainer: DictConfig) -> str:
    """Returns how long Lightning will train: epochs, steps, time, or whichever of them comes first."""
    epochs, steps, time = trainer.max_epochs, trainer.get("max_steps", -1), trainer.get("max_time")
    if epochs is None and steps == -1 and time is None:
        epochs = 1000  # Lightning's own, where nothing is said
    limits = [_several(epochs, "epoch")] if epochs not in (None, -1) else []
    limits += [_several(steps, "step")] if steps != -1 else []
    limits += [f"max_time={time}"] if time is not None else []
    return " or ".join(limits) or "until it is stopped"


def _several(number: int, noun: str) -> str:
    return f"{number} {noun}" + "s" * (number != 1)


def what_is_kept(cfg: DictConfig) -> str:
    """Returns where the best checkpoint is, and how to go on."""
    if in_search(cfg):
        return GO_ON
    folder = Path(cfg.checkpoint_dir)
    best = folder / BEST_NAME
    kept = "Nothing is kept: no validation was finished."
    if "://" in cfg.checkpoint_dir:
        kept = f"What was saved is in {cfg.checkpoint_dir}."
    elif best.is_file():
        kept = f"The best so far is kept; evaluate it: {command('scripts/evaluate.py', {'checkpoint': best})}."
    if cfg.callbacks and cfg.callbacks.get("spot"):
        return f"{kept} Go on from the newest step: {_resumed(cfg)}"
    return f"{kept} This run cannot go on; with callbacks=spot resume=true run_name=<name> one can."


def how_to_resume(cfg: DictConfig) -> str:
    """Returns what to type after an interruption: the same overrides begin another run unless they resume."""
    if in_search(cfg):
        return GO_ON
    return "Type the same again to go on." if cfg.resume else f"To go on with it, type {_resumed(cfg)}"


def in_search(cfg: DictConfig) -> bool:
    """Whether this training is a trial of a search on this machine."""
    return OmegaConf.select(cfg, "callbacks.report_trial") is not None


def _resumed(cfg: DictConfig) -> str:
    if cfg.resume:
        return typed_again()
    is_sweep = not {"-m", "--multirun"}.isdisjoint(sys.argv)
    key, folder = ("hydra.sweep.dir", str(Path(cfg.run_dir).parent)) if is_sweep else ("hydra.run.dir", cfg.run_dir)
    return typed_again("resume=true", f"{key}={hydra_value(folder)}")
