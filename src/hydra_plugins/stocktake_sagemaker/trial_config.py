"""What both searches are before they search: where their results lie, and what their trials are composed of.

Hydra imports this module at each start, so nothing heavy is imported at its top.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from hydra_plugins.stocktake_sagemaker.search_options import SweepOptions
from stocktake.shell import hydra_value


class TrialSweeper(Sweeper):
    """A search whose trials lie in a folder without a time, and are run by a launcher."""

    options: SweepOptions

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.config_loader = hydra_context.config_loader
        self.run_name, self.folder = sweep_folder(config, self.options.name)
        self.of_trials = of_trials(config, self.folder)
        self.launcher: Launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=self.of_trials
        )


def plain_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what Hydra gives a sweeper as plain lists and dicts."""
    return {
        key: OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
        for key, value in options.items()
    }


def sweep_folder(config: DictConfig, name: str) -> tuple[str, Path]:
    """Returns the run name of a sweep's trials, and its folder: without a time, so that typed again it is found.

    Args:
        name: The sweep's.
    """
    run_name = str(config.get("run_name", "default"))
    of_sweep = f"sweep-{name}" if run_name == "default" else f"sweep-{name}-{run_name}"
    is_typed = any(text.startswith("hydra.sweep.dir=") for text in config.hydra.overrides.hydra)
    if is_typed or "RUN_DIR" in os.environ:
        return of_sweep, Path(str(config.hydra.sweep.dir))
    return of_sweep, Path("runs", str(config.get("name", "search")), of_sweep)


def of_trials(config: DictConfig, folder: Path) -> DictConfig:
    """Returns the configuration that trials are composed of: it knows the sweep's folder, and nothing of the sweep."""
    of_hydra = [
        text for text in config.hydra.overrides.hydra if not text.startswith(("hydra.sweeper", "hydra/sweeper"))
    ]
    of_hydra = [text for text in of_hydra if not text.startswith("hydra.sweep.dir=")]
    config = config.copy()
    with read_write(config), open_dict(config):
        config.hydra.sweep.dir = str(folder)
        config.hydra.overrides.hydra = [*of_hydra, f"hydra.sweep.dir={hydra_value(str(folder))}"]
        task: list[str] = [text for text in config.hydra.overrides.task if not text.startswith("sweep=")]
        config.hydra.overrides.task = task
    return config
