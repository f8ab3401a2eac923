"""Progress for those who read a log: a line for each step and each validation."""

import math
import sys
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.callbacks import ModelCheckpoint

from stocktake.callbacks.progress import is_logged_step


class StepLogger(Callback):
    """Prints `step=12/300 train/loss=1.2` and `step=12/300 valid/accuracy=0.5 objective=0.6` where no bar is shown.

    The first rank prints; SageMaker's metric definitions and the launcher's table read these lines. A step's figures
    stand in the lines of steps that are logged anyway: in each line they would make a GPU wait in each step. The
    objective is the best validation so far of the metric that the best checkpoint is best in, also of a resumed run:
    of what a tuning job reads in a log, the last value counts.
    """

    def __init__(self, every_n_steps: int = 1):
        """
        Args:
            every_n_steps: Steps from one line to the next.
        """
        self.every_n_steps = every_n_steps
        self._last_step = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._last_step = trainer.global_step

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any, **__: Any) -> None:
        is_step = trainer.global_step > self._last_step  # with accumulated gradients not every batch is one
        self._last_step = trainer.global_step
        if is_step and trainer.global_step % self.every_n_steps == 0:
            self._tell(trainer, "train/" if is_logged_step(trainer) else "")

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.sanity_checking:
            self._tell(trainer, "valid/")

    def _tell(self, trainer: Trainer, prefix: str) -> None:
        if not trainer.is_global_zero or sys.stdout.isatty():
            return
        total = trainer.estimated_stepping_batches
        best = best_so_far(trainer) if prefix == "valid/" else None
        shown = sorted(trainer.callback_metrics.items()) if prefix else []
        metrics = [f"{name}={float(value):.6g}" for name, value in shown if name.startswith(prefix)]
        objective = [] if best is None else [f"objective={best:.6g}"]
        print(" ".join([f"step={trainer.global_step}/{total:.0f}", *metrics, *objective]), flush=True)


def best_so_far(trainer: Trainer) -> float | None:
    """Returns the best validation of the metric that the best checkpoint is best in, the newest one included.

    Lightning calls checkpoint callbacks last, so that theirs is yet that of the validations before.
    """
    for callback in trainer.checkpoint_callbacks:
        if not isinstance(callback, ModelCheckpoint) or not str(callback.monitor).startswith("valid/"):
            continue
        known = (callback.best_model_score, trainer.callback_metrics.get(str(callback.monitor)))
        values = [float(value) for value in known if value is not None and math.isfinite(value)]
        if values:
            return min(values) if callback.mode == "min" else max(values)
    return None
