"""The first line of a training, and the one after Ctrl-C or SIGTERM."""

import sys
from pathlib import Path

from omegaconf import DictConfig

from stocktake.shell import command, hydra_value, typed_again


def begin_training(cfg: DictConfig) -> str:
    """Returns what begins, for a person who waits while libraries are imported."""
    length = (
        f"max_steps={cfg.trainer.max_steps}" if cfg.trainer.max_epochs == -1 else f"{cfg.trainer.max_epochs} epochs"
    )
    launcher = next((word for word in sys.argv if word.startswith("hydra/launcher=")), None)
    if launcher is not None and not launcher.endswith("=basic"):
        return f"Prepares {cfg.name} as jobs of {launcher}: {cfg.model.backbone}, {length}. Checking them first ..."
    return f"Trains {cfg.name}: {cfg.model.backbone} on the bins in {cfg.data.root}, {length}. Loading PyTorch ..."


def kept_of_training(cfg: DictConfig) -> str:
    """Returns where the best checkpoint is, and how to go on."""
    folder = Path(cfg.checkpoint_dir)
    best = folder / "best.ckpt"
    told = "Nothing is kept: no validation was finished."
    if "://" in cfg.checkpoint_dir:
        told = f"What was saved is in {cfg.checkpoint_dir}."
    elif best.is_file():
        told = f"The best so far is kept; evaluate it: {command('scripts/evaluate.py', {'checkpoint': best})}."
    if cfg.callbacks and cfg.callbacks.get("spot"):
        return f"{told} Go on from the newest step: {_resumed(cfg)}"
    return f"{told} This run cannot go on; with callbacks=spot resume=true run_name=<name> one can."


def how_to_go_on(cfg: DictConfig) -> str:
    """Returns what to type after an interruption: the same words begin another run where they do not say to resume."""
    return "Type the same again to go on." if cfg.resume else f"To go on with it, type {_resumed(cfg)}"


def _resumed(cfg: DictConfig) -> str:
    return typed_again(*(() if cfg.resume else ("resume=true", f"hydra.run.dir={hydra_value(cfg.run_dir)}")))
