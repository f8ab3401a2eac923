"""Checkpoints for machines that may be taken away: periodic ones, and one when SIGTERM says so.

A spot instance gets SIGTERM up to two minutes before it goes. The signal only raises a flag; at the next step
all ranks agree on it, save the same step and stop. In a validation, which has no step to save, that is its end.
"""

import signal
from typing import Any

import torch
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import ModelCheckpoint

from stocktake.callbacks.progress import is_logged_step
from stocktake.callbacks.validations import is_validation_due

ASK_EVERY_N_STEPS = 10  # steps of even 10 s leave a spot machine's two minutes time for a checkpoint


class Interrupted(Exception):
    """Training was told to stop and has saved a checkpoint to go on from."""


class SpotCheckpoint(ModelCheckpoint):
    """Writes `step-<number>.ckpt` at the start, every so many steps, after each validation, and on SIGTERM.

    The newest two are kept: where a folder is only copied now and then, the newest may have come half.
    """

    def __init__(self, dirpath: str, every_n_train_steps: int):
        """
        Args:
            dirpath: Folder or s3:// URL of the checkpoints.
            every_n_train_steps: At most so many steps are lost when the machine vanishes without notice.
        """
        super().__init__(
            dirpath=dirpath,
            filename="step-{step:08d}",
            auto_insert_metric_name=False,
            monitor="step",
            mode="max",
            save_top_k=2,
            every_n_train_steps=every_n_train_steps,
            enable_version_counter=False,
        )
        self._is_signaled = False
        self._is_stopping = False
        self._handler_before: Any = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_train_start(trainer, pl_module)
        self._is_signaled, self._is_stopping = False, False
        self._last_global_step_saved = trainer.global_step
        # In the place of Lightning's own handler, which broadcasts inside the signal and may cross other collectives.
        self._handler_before = signal.signal(signal.SIGTERM, self._take_note)
        if trainer.global_step == 0:
            # A validation within a step with accumulated gradients writes best.ckpt, which lacks them: who is killed
            # before the next save goes on from here. And a folder that cannot be written is found out now.
            self._save_last(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_train_end(trainer, pl_module)
        self._give_back_signal()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        super().on_exception(trainer, pl_module, exception)
        self._give_back_signal()

    def _give_back_signal(self) -> None:
        # Not in teardown, which comes after Lightning has put back the handler that it found.
        if self._handler_before is not None:
            signal.signal(signal.SIGTERM, self._handler_before)
            self._handler_before = None

    def _take_note(self, _number: int, _frame: Any) -> None:
        self._is_signaled = True

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, *_: Any, **__: Any) -> None:
        if self._is_stopping:
            self._stop(trainer)
        epoch_loop = trainer.fit_loop.epoch_loop
        if epoch_loop.batch_progress.total.ready == 1:
            # Going on from before the first step, Lightning (2.6.6) may count one, and log each step as the next one.
            epoch_loop._batches_that_stepped = 0

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any, **__: Any) -> None:
        epoch_loop = trainer.fit_loop.epoch_loop
        if epoch_loop.batch_progress.is_last_batch or is_validation_due(trainer) or epoch_loop._should_accumulate():
            return  # an epoch's end, a validation, or gradients that no checkpoint holds: none can be resumed from
        # Counted from the last save, because one that is due at an epoch's end comes with the first step after it.
        if trainer.global_step // self._every_n_train_steps > self._last_global_step_saved // self._every_n_train_steps:
            self._save_last(trainer)
        if self._is_any_rank_signaled(trainer):
            self._save_last(trainer)
            self._is_stopping = True  # at the start of the next step, when this one has been logged

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        is_in_step = trainer.fit_loop.epoch_loop._should_accumulate()  # and no checkpoint holds its gradients
        if trainer.state.fn == "fit" and not trainer.sanity_checking and not is_in_step:
            self._save_last(trainer)
            if self._is_any_rank_signaled(trainer):
                self._stop(trainer)

    def _is_any_rank_signaled(self, trainer: Trainer) -> bool:
        """Whether any rank got the signal; the same answer on all of them."""
        if trainer.world_size == 1:
            return self._is_signaled
        if trainer.training and trainer.global_step % ASK_EVERY_N_STEPS:
            return False  # to ask the other ranks is to wait for all of them, and for the GPU's queue
        flag = torch.tensor(float(self._is_signaled), device=trainer.strategy.root_device)
        return bool(trainer.strategy.reduce(flag, reduce_op="max") > 0)

    def _stop(self, trainer: Trainer) -> None:
        raise Interrupted(f"stopped by SIGTERM after step {trainer.global_step}, saved {self.best_model_path}")

    def _save_last(self, trainer: Trainer) -> None:
        candidates = self._monitor_candidates(trainer)
        path = self.format_checkpoint_name(candidates)
        if path in self.best_k_models:  # saved before its validation, which it is to know of
            self._save_checkpoint(trainer, path)
        else:
            self._save_topk_checkpoint(trainer, candidates)

    def _save_checkpoint(self, trainer: Trainer, filepath: str) -> None:
        # Lightning logs a step only after this hook, and a machine that vanishes in between would have lost it: what
        # a checkpoint holds is in the logs before. The step's own row, which follows, is the same.
        metrics = {name: float(v) for name, v in trainer.logged_metrics.items() if name.startswith("train/")}
        for logger in trainer.loggers:
            if metrics and trainer.training and is_logged_step(trainer):
                logger.log_metrics(metrics, step=trainer.global_step - 1)
            logger.save()
        super()._save_checkpoint(trainer, filepath)
