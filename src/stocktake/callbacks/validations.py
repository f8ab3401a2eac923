"""The figures of the newest validation in every checkpoint, and a validation of a run's last steps."""

import time
from math import inf
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.callbacks.early_stopping import EarlyStoppingReason


def is_validation_due(trainer: Trainer) -> bool:
    """Whether Lightning validates after the batch that has just been trained on."""
    fetcher: Any = trainer.fit_loop._data_fetcher  # none before the first batch, when it is not asked
    return trainer.fit_loop.epoch_loop._should_check_val_fx(fetcher)


class Validations(Callback):
    """Remembers what a checkpoint's weights got in their validation and its last step, and validates before a run ends.

    Without it a run whose `max_steps` or `max_time` end inside an epoch, or whose last epoch is not a multiple of
    `check_val_every_n_epoch`, would neither validate nor keep its last steps.
    """

    def __init__(self):
        self.metrics: dict[str, float] = {}
        self.of_step: dict[str, float] = {}  # the figures of the step before it, such as train/loss
        self.step: int | None = None  # at which they were measured
        self._intervals: tuple[Any, Any] | None = None

    def state_dict(self) -> dict[str, Any]:
        return {"metrics": self.metrics, "of_step": self.of_step, "step": self.step}

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        # Of logged steps alone, such as the learning rate: a run that goes on may come to its end before the next.
        checkpoint["callbacks"][self.state_key]["of_step"] = self.of_step | _of_step(trainer)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.metrics, self.step = state_dict["metrics"], state_dict["step"]
        self.of_step = state_dict.get("of_step", {})  # older checkpoints lack it

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Ends at once what had ended before it could write its results.

        Raises:
            ValueError: Validation is off, and no best checkpoint would ever be kept.
        """
        if not trainer.enable_validation:
            raise ValueError("trainer.limit_val_batches=0: without a validation nothing says which weights to keep.")
        stopped_early = any(
            callback.stopping_reason != EarlyStoppingReason.NOT_STOPPED for callback in trainer.early_stopping_callbacks
        )
        if self.step != trainer.global_step:
            return
        if stopped_early or is_end(trainer):
            trainer.should_stop = True
        elif not is_validation_due(trainer):
            # It was the end, and no longer is. Lightning goes on right only after a validation that was due.
            self._intervals = trainer.val_check_batch, trainer.check_val_every_n_epoch
            _make_due(trainer)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, *_: Any, **__: Any) -> None:
        if self._intervals is not None:
            trainer.val_check_batch, trainer.check_val_every_n_epoch = self._intervals
            _set_last_validation(trainer, time.monotonic())
            self._intervals = None

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any, **__: Any) -> None:
        if is_end(trainer):
            _make_due(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            measured = trainer.callback_metrics.items()
            self.metrics = {name: float(value) for name, value in measured if name.startswith("valid/")}
            self.of_step |= _of_step(trainer)
            self.step = trainer.global_step


def _of_step(trainer: Trainer) -> dict[str, float]:
    return {name: float(value) for name, value in trainer.callback_metrics.items() if not name.startswith("valid/")}


def is_end(trainer: Trainer) -> bool:
    """Whether the run ends with this batch."""
    is_last_step = 0 <= trainer.max_steps <= trainer.global_step
    is_last_epoch = 0 < (trainer.max_epochs or 0) <= trainer.current_epoch + 1
    is_told_to_stop = trainer.should_stop and trainer.fit_loop._can_stop_early  # such as by max_time
    return is_last_step or is_told_to_stop or (is_last_epoch and trainer.is_last_batch)


def _make_due(trainer: Trainer) -> None:
    """Has Lightning validate after this batch."""
    epoch_loop, is_within_epoch = trainer.fit_loop.epoch_loop, trainer.check_val_every_n_epoch is not None
    trainer.val_check_batch = (epoch_loop.batch_idx if is_within_epoch else epoch_loop.total_batch_idx) + 1
    trainer.check_val_every_n_epoch = 1 if is_within_epoch else None
    _set_last_validation(trainer, -inf)


def _set_last_validation(trainer: Trainer, at_s: float) -> None:
    """For intervals of time: Lightning sets it in Trainer.fit, and declares it nowhere."""
    trainer._last_val_time = at_s  # pyright: ignore[reportAttributeAccessIssue]
