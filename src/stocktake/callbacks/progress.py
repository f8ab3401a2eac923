"""What is shown of a training while it runs, without making it wait.

A GPU works through a queue. Whoever asks for a number of it waits until the queue is empty, and in that time nothing
new is queued. So it is asked only in steps whose figures are logged anyway (`trainer.log_every_n_steps`).
"""

import time
from collections.abc import Callable
from typing import Any

import torch
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import RichProgressBar, ThroughputMonitor


def is_logged_step(trainer: Trainer) -> bool:
    """Whether the loggers get the figures of the step that has just been taken."""
    # Its logger connector gives a Trainer this attribute.
    return trainer.global_step % trainer.log_every_n_steps == 0  # pyright: ignore[reportAttributeAccessIssue]


class NonBlockingProgressBar(RichProgressBar):
    """Lightning's bar (2.6.6), which reads figures off the device in every step, also where nothing shows it.

    So does `log(prog_bar=True)`, even without a bar: the figures of a training step come from here.
    """

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        of_steps = {name: float(v) for name, v in trainer.callback_metrics.items() if name.startswith("train/")}
        shown = super().get_metrics(trainer, pl_module) | of_steps
        shown.pop("v_num", None)  # a logger's number of the run, which nobody asked for
        return shown

    def _update_metrics(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.training or trainer.is_last_batch or is_logged_step(trainer):
            super()._update_metrics(trainer, pl_module)


class NonBlockingThroughputMonitor(ThroughputMonitor):
    """Lightning's monitor (2.6.6), which waits for the GPU after every batch; and no operations are counted."""

    def __init__(self, batch_size_fn: Callable[[Any], int], window_size: int = 20):
        """
        Args:
            batch_size_fn: Returns how many images a batch holds.
            window_size: Batches that a rate is the mean of.
        """
        super().__init__(batch_size_fn, window_size=window_size)

    @torch.inference_mode()
    def _update(self, trainer: Trainer, pl_module: LightningModule, batch: Any, iter_num: int) -> None:
        # Between these the clock says when a batch was queued, which is at most a queue's length before its end.
        is_asked = not trainer.training or trainer.is_last_batch or is_logged_step(trainer)
        if is_asked and trainer.strategy.root_device.type == "cuda":
            torch.cuda.synchronize()
        stage = trainer.state.stage
        assert stage is not None, "there is a stage while batches come"
        self._samples[stage] += self.batch_size_fn(batch)
        self._batches[stage] += 1
        self._throughputs[stage].update(
            time=time.perf_counter() - self._t0s[stage], batches=self._batches[stage], samples=self._samples[stage]
        )
