"""A learning rate from Lightning's range test: train while the rate rises, and see where the loss falls and rises.

The range test is Lightning's; what is made of it is not. Lightning 2.6.6 keeps a running mean that starts at half the
loss and lags behind by half the range, and takes its slope by the rate itself, so that among the smallest rates, which
lie closest together, any chance is steep.
"""

import math
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy
from pytorch_lightning import Trainer
from pytorch_lightning.tuner.tuning import Tuner
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from stocktake.data.datamodule import BinDataModule
from stocktake.model.counter import BinCounter
from stocktake.tuning.finding import LEARNING_RATE, Finding

FEWEST_STEPS = 20
SMOOTHING = 1 / 16  # standard deviation of the window that losses are averaged in, as a share of the steps
NUM_ERRORS = 4  # a fall or rise of so many standard errors is none of chance
SAFETY = 10  # the rate from which the loss rises is divided by it, where no fall is to be seen


class LearningRateSearch:
    """Finds the rate at which the loss falls fastest (Smith, https://arxiv.org/abs/1506.01186, section 3.3)."""

    def __init__(self, min_lr: float = 1e-6, max_lr: float = 1.0, num_steps: int = 100):
        """
        Args:
            min_lr: Rate of the first step.
            max_lr: Rate of the last step; the search ends before it when the loss has grown fourfold.
            num_steps: Steps between the two, equally far apart on a logarithmic axis.

        Raises:
            ValueError: The rates don't rise, or the steps are too few to tell a slope.
        """
        if not 0 < min_lr < max_lr:
            raise ValueError(
                f"find.min_lr={min_lr} must be above 0 and below find.max_lr={max_lr}; "
                "type find.min_lr=1e-6 find.max_lr=1"
            )
        if num_steps < FEWEST_STEPS:
            raise ValueError(f"find.num_steps={num_steps} are too few to tell a slope; type find.num_steps=100")
        self.min_lr, self.max_lr, self.num_steps = min_lr, max_lr, num_steps

    def run(self, module: BinCounter, datamodule: BinDataModule, make_trainer: Callable[..., Trainer]) -> Finding:
        """Returns the rate, or none where the losses say nothing, and leaves the model's weights as they were.

        Args:
            make_trainer: Gives a Trainer with these options beside its own.

        Raises:
            ValueError: The loss was finite at too few rates.
        """
        # The range test is the schedule. A validation would tell nothing, and fails at weights that have diverged.
        module.scheduler = None
        trainer = make_trainer(max_epochs=-1, check_val_every_n_epoch=sys.maxsize)
        with _each_group_at_its_scale() as rates, _losses_of_steps(module, rates) as losses:
            Tuner(trainer).lr_find(
                module,
                datamodule=datamodule,
                min_lr=self.min_lr,
                max_lr=self.max_lr,
                num_training=self.num_steps,
                update_attr=False,
            )
        num_finite = next((step for step, loss in enumerate(losses) if not math.isfinite(loss)), len(losses))
        rates, losses = rates[:num_finite], losses[:num_finite]
        rate, reason = self.judge(rates, losses)
        smoothed = smooth(losses)[0].tolist()
        return Finding(
            key=LEARNING_RATE,
            value=rate,
            sentences=[
                reason,
                f"{len(rates)} of {self.num_steps} training steps from {rates[0]:.2g} to {rates[-1]:.2g}, at "
                f"data.batch_size={datamodule.batch_size}; with a schedule it is the highest rate.",
            ],
            measured=[
                {"lr": rate, "loss": loss, "smoothed": mean}
                for rate, loss, mean in zip(rates, losses, smoothed, strict=True)
            ],
        )

    def judge(self, rates: Sequence[float], losses: Sequence[float]) -> tuple[float | None, str]:
        """Returns the suggested rate (None: there is none) and a sentence that says why.

        It is where the loss falls fastest by the logarithm of the rate. Where it falls no further than chance, which
        on hard data it often does in so few steps, it is a tenth of the rate from which the loss rises.

        Raises:
            ValueError: The loss was finite at too few rates.
        """
        if len(losses) < FEWEST_STEPS // 2:
            raise ValueError(
                f"The loss was finite at only {len(losses)} rates from find.min_lr={self.min_lr} on; type a lower "
                "find.min_lr and find.max_lr."
            )
        smoothed, error = smooth(losses)
        lowest = int(smoothed.argmin())
        if smoothed[: lowest + 1].max() - smoothed[lowest] > NUM_ERRORS * error:
            slopes = numpy.gradient(smoothed, numpy.log(rates))[: lowest + 1]
            rate = _rounded(rates[int(slopes.argmin())])
            return rate, f"The loss falls fastest at a learning rate of {rate:g}."
        (low_steps,) = numpy.nonzero(smoothed <= smoothed[lowest] + NUM_ERRORS * error)
        if low_steps[-1] == len(losses) - 1:
            return None, (
                f"The loss neither falls nor rises, more than by chance, from {rates[0]:.2g} to {rates[-1]:.2g}; type "
                f"find.num_steps={3 * self.num_steps} to see more of each rate, or a larger find.max_lr."
            )
        rises_from = rates[low_steps[-1] + 1]
        if rises_from / SAFETY < self.min_lr:
            return None, f"The loss rises from {rises_from:.2g} on; type a lower find.min_lr={self.min_lr / 100:g}."
        rate = _rounded(rises_from / SAFETY)
        return rate, (
            f"In so few steps the loss falls no further than by chance; from {rises_from:.2g} on it rises. A tenth of "
            f"that is a learning rate of {rate:g}; find.num_steps={3 * self.num_steps} shows more."
        )


def smooth(losses: Sequence[float]) -> tuple[numpy.ndarray, float]:
    """Returns the losses averaged in a Gaussian window around each, and the standard error of such an average."""
    values, steps = numpy.asarray(losses), numpy.arange(len(losses))
    weights = numpy.exp(-0.5 * ((steps[:, None] - steps) / (SMOOTHING * len(losses))) ** 2)
    weights /= weights.sum(axis=1, keepdims=True)
    smoothed = weights @ values
    # Of the quieter half of the steps: at high rates the loss jumps, which says nothing of chance.
    spread = numpy.sqrt(numpy.median((values - smoothed) ** 2) / 0.455)  # the median of chi-squared is 0.455
    return smoothed, float(spread * numpy.sqrt((weights[len(losses) // 2] ** 2).sum()))


def _rounded(rate: float) -> float:
    return float(f"{rate:.2g}")


@contextmanager
def _losses_of_steps(module: BinCounter, rates: Sequence[float]) -> Iterator[list[float]]:
    """Collects the loss of each step, the mean over its batches; a step is over when its rate stands in `rates`."""
    losses, batches, hook = [], [], module.on_train_batch_end

    def on_train_batch_end(outputs: Any, batch: Any, batch_idx: int) -> None:
        # Lightning hands on each batch's share of the step.
        batches.append(outputs["loss"].item() * module.trainer.accumulate_grad_batches)
        if len(rates) > len(losses):
            losses.append(sum(batches) / len(batches))
            batches.clear()
        hook(outputs, batch, batch_idx)

    # Lightning's range test takes the trainer's callbacks away.
    module.on_train_batch_end = on_train_batch_end  # pyright: ignore[reportAttributeAccessIssue]: for a while
    try:
        yield losses
    finally:
        del module.on_train_batch_end


@contextmanager
def _each_group_at_its_scale() -> Iterator[list[float]]:
    """Collects the rate of each step. With `model.layer_decay` a layer takes its share of what is one rate for all."""
    rates: list[float] = []

    def scale(optimizer: Optimizer, *_: Any) -> None:
        rates.append(optimizer.param_groups[0]["lr"])
        for group in optimizer.param_groups:
            group["lr"] *= group.get("lr_scale", 1.0)

    def scale_back(optimizer: Optimizer, *_: Any) -> None:
        for group in optimizer.param_groups:
            group["lr"] /= group.get("lr_scale", 1.0)

    hooks = register_optimizer_step_pre_hook(scale), register_optimizer_step_post_hook(scale_back)
    try:
        yield rates
    finally:
        for hook in hooks:
            hook.remove()
