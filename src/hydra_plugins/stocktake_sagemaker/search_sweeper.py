"""A search by Optuna over Hydra's launchers: `hydra/sweeper=search`.

Hydra imports this module at each start, so nothing heavy is imported at its top.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from hydra.errors import CompactHydraException
from omegaconf import OmegaConf

from hydra_plugins.stocktake_sagemaker.search_options import SearchOptions
from hydra_plugins.stocktake_sagemaker.trial_config import TrialSweeper, plain_options
from hydra_plugins.stocktake_sagemaker.typed_sweep import TypedSweep, typed_sweep
from stocktake.run_folder import kept_from_others

if TYPE_CHECKING:
    from stocktake.tuning.search import Search

LOST = "each other's trials. Wait for its end, or type hydra.sweeper.name=<new> to search beside it"


class SearchError(CompactHydraException):
    """A search could not begin; Hydra prints the message without a traceback."""


class SearchSweeper(TrialSweeper):
    """`hydra/sweeper=search`: proposes trials, has the launcher run them, goes on with what an earlier call left."""

    def __init__(self, **options: Any):
        """
        Args:
            options: The fields of `SearchOptions`.
        """
        self.options: SearchOptions = SearchOptions(**plain_options(options))

    def sweep(self, arguments: list[str]) -> None:
        from hydra_plugins.stocktake_sagemaker._search_run import SearchRun
        from stocktake.search_journal import JOURNAL_NAME
        from stocktake.tuning.study import SearchStudy

        if "TORCHELASTIC_RUN_ID" in os.environ:
            raise SearchError(
                "A search starts its trainings itself: on several GPUs type trainer.devices=<number>, without torchrun"
            )
        is_dry = bool(getattr(getattr(self.launcher, "options", None), "dry_run", False))
        try:
            typed, search = self._search(arguments)
            with nullcontext() if is_dry else kept_from_others(self.folder, "searching in", LOST):
                study = SearchStudy(search, self.folder, None if is_dry else self.folder / JOURNAL_NAME)
                run = SearchRun(study, self.launcher, self.options, self.of_trials, typed, self.run_name)
                if not study.num_begun:
                    self._compose_each(search, run)
                if not is_dry:
                    OmegaConf.save(self.of_trials, self.folder / "multirun.yaml")
                run.to_its_end()
        except ValueError as error:
            raise SearchError(str(error)) from error

    def _search(self, arguments: Sequence[str]) -> tuple[TypedSweep, Search]:
        from stocktake.tuning.search import Search
        from stocktake.tuning.search_space import SearchSpace

        options = self.options
        typed = typed_sweep(arguments, options.space, options.start, self.config_loader)
        space = SearchSpace.of(typed.space)
        return typed, Search(
            name=options.name,
            metric=str(self.of_trials.optimized_metric),
            space=space,
            fixed=typed.fixed,
            start=typed.start,
            sampler=options.sampler,
            pruner=options.pruner,
            seed=options.seed,
            num_trials=options.num_trials,
        )

    def _compose_each(self, search: Search, run: Any) -> None:
        """Composes a trial with each choice of the space, so that a wrong one is found before anything is trained."""
        for values in examples(search):
            self.config_loader.load_sweep_config(self.of_trials, run.overrides(0, values))


def examples(search: Search) -> list[dict[str, Any]]:
    """Returns points of the space in which each choice comes up, with the lower ends of ranges."""
    space, found = search.space, []
    num_points = max([1, *(len(parameter.choices) for parameter in space.parameters)])
    for index in range(num_points):
        values: dict[str, Any] = {}
        for parameter in space.parameters:
            if space.active(parameter, values):
                choices = parameter.choices
                values[parameter.key] = choices[index % len(choices)] if choices else parameter.low
        found.append(values)
    return found
