"""Tells a search what its trial gets in each validation, and ends a trial that is not worth going on with."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytorch_lightning import Callback, LightningModule, Trainer

from stocktake.callbacks.validations import is_end

if TYPE_CHECKING:
    from optuna import Study


class ReportTrial(Callback):
    """Writes the metric into the search's journal after each validation.

    The search adds it to its trials on this machine; those that run as jobs are known by their log. The first rank
    alone meets the journal, and all stop after the same validation.
    """

    def __init__(self, journal: str, number: int, metric: str, pruner: str = "none"):
        """
        Args:
            journal: The search's file.
            number: The trial's.
            metric: A logged key, such as `valid/accuracy`.
            pruner: What decides whether to go on: none, median or hyperband.
        """
        self.journal, self.number, self.metric, self.pruner = Path(journal), number, metric, pruner
        self._num_validations = 0
        self._study: Study | None = None

    def state_dict(self) -> dict[str, Any]:
        return {"num_validations": self._num_validations}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._num_validations = state_dict["num_validations"]

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.sanity_checking or trainer.state.fn != "fit":
            return
        self._num_validations += 1
        is_to_stop = trainer.is_global_zero and self._is_to_stop(trainer)
        if trainer.strategy.broadcast(is_to_stop):
            trainer.should_stop = True

    def _is_to_stop(self, trainer: Trainer) -> bool:
        """Reports the validation; returns whether the rest of the run is not worth its time."""
        if self.metric not in trainer.callback_metrics:
            return False
        from stocktake.search_journal import is_pruned, open_study, report  # and Optuna

        self._study = self._study or open_study(self.journal, self.pruner)
        report(self._study, self.number, self._num_validations, float(trainer.callback_metrics[self.metric]))
        return not is_end(trainer) and is_pruned(self._study, self.number, self._num_validations)
