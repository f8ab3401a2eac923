"""scripts/tune.py: a learning rate or a batch size for an experiment, and the command that uses it."""

import json
import shlex
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning_fabric.utilities.rank_zero import rank_zero_only
from omegaconf import DictConfig
from pytorch_lightning import LightningDataModule, Trainer, seed_everything

from stocktake.checkpoints import start_from
from stocktake.config import build
from stocktake.console import silence_library_warnings
from stocktake.model.counter import BinCounter
from stocktake.report.tuning import render_tuning
from stocktake.storage import Folder
from stocktake.training.preparation import resolve_auto
from stocktake.tuning.finding import BATCH_SIZE, Finding

PAGE_NAME, NUMBERS_NAME = "tune.html", "tune.json"


def tune(cfg: DictConfig, overrides: Sequence[str] = ()) -> float:
    """Writes tune.html and tune.json into the run's folder; prints what to type next, and a summary as JSON.

    It suggests and changes nothing: a value that a run found for itself would not stand in its configuration, and the
    run could be neither resumed nor repeated by its overrides.

    Args:
        cfg: That of conf/tune.yaml.
        overrides: What was typed, to be typed again with what was found.

    Returns:
        The suggested value.

    Raises:
        ValueError: The experiment leaves a value to the user who did not give it, or the search finds nothing, of
            which the page is written all the same.
    """
    silence_library_warnings()
    resolve_auto(cfg)
    seed_everything(cfg.seed, verbose=False)
    torch.set_float32_matmul_precision("high")
    search = build(cfg.find)
    datamodule: LightningDataModule = build(cfg.data)
    module: BinCounter = build(cfg.model)
    if finished := cfg.get("checkpoint"):
        start_from(module, finished, build(cfg.storage))
    with tempfile.TemporaryDirectory() as folder:  # Lightning keeps the weights in a file while it searches
        finding = search.run(module, datamodule, partial(_make_trainer, cfg.trainer, folder))
    _write(Path(cfg.run_dir), cfg.name, finding, _commands(finding, overrides))
    return finding.value


def _make_trainer(node: DictConfig, folder: str, **options: Any) -> Trainer:
    """Builds the experiment's Trainer without loggers, checkpoints and callbacks, which are for runs that count."""
    quiet = {
        "logger": False,
        "callbacks": [],
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "default_root_dir": folder,
    }
    return build(node, **quiet | options)


def _commands(finding: Finding, overrides: Sequence[str]) -> list[str]:
    """Returns what to type next: the same overrides with what was found."""
    if finding.value is None:
        return []
    found = f"{finding.key}={finding.value:g}"
    replaced = ("-", "find=", "find.", f"{finding.key}=", "trainer.devices=", "hydra")
    kept = [override for override in overrides if not override.startswith(replaced)]
    commands = [shlex.join(["python", "train.py", *kept, found])]
    if finding.key == BATCH_SIZE:
        commands.insert(0, shlex.join(["python", "scripts/tune.py", *kept, found, "find=lr"]))
    return commands


@rank_zero_only
def _write(run_dir: Path, name: str, finding: Finding, commands: Sequence[str]) -> None:
    summary = {"found": {finding.key: finding.value}, "next": commands, "report": str(run_dir / PAGE_NAME)}
    numbers = json.dumps(summary | {"measured": list(finding.measured)}, indent=2) + "\n"
    page = render_tuning(name, finding, commands)
    Folder(str(run_dir)).write_together({PAGE_NAME: page.encode(), NUMBERS_NAME: numbers.encode()})
    if finding.value is None:
        raise ValueError(f"{finding.sentences[0]} The curve is in {run_dir / PAGE_NAME}.")
    print("\n".join(finding.sentences))
    print("Type next:", *commands, sep="\n    ")
    print(json.dumps(summary))
