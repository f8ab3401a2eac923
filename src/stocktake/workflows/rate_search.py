"""A learning rate from Lightning's range test: train while the rate rises, and see where the loss falls fastest."""

import math
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy
from pytorch_lightning import Trainer
from pytorch_lightning.tuner import Tuner
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from stocktake.data.datamodule import BinDataModule
from stocktake.model.counter import BinCounter
from stocktake.report.tuning import Finding, draw_losses

NUM_UNSETTLED = 10  # the first losses, of whose running mean too little is known; as many as Lightning leaves out


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
        if num_steps < 2 * NUM_UNSETTLED:
            raise ValueError(f"find.num_steps={num_steps} are too few to tell a slope; type find.num_steps=100")
        self.min_lr, self.max_lr, self.num_steps = min_lr, max_lr, num_steps

    def run(self, module: BinCounter, datamodule: BinDataModule, make_trainer: Callable[..., Trainer]) -> Finding:
        """Returns the rate, or none where the loss never fell, and leaves the model's weights as they were.

        Args:
            make_trainer: Gives a Trainer with these options beside its own.

        Raises:
            ValueError: The loss was finite at too few rates.
        """
        # The range test is the schedule. A validation would tell nothing, and fails at weights that have diverged.
        module.scheduler = None
        trainer = make_trainer(max_epochs=-1, check_val_every_n_epoch=sys.maxsize)
        with _each_group_at_its_scale():
            search = Tuner(trainer).lr_find(
                module,
                datamodule=datamodule,
                min_lr=self.min_lr,
                max_lr=self.max_lr,
                num_training=self.num_steps,
                update_attr=False,
            )
        rates, losses = search.results["lr"], search.results["loss"]
        at = self.steepest(rates, losses)
        rate = None if at is None else float(f"{rates[at]:.2g}")
        if rate is None:
            said = (
                "The loss fell nowhere below that of the first rates. Either too little is seen of each rate (type "
                f"find.num_steps={3 * self.num_steps}, or a larger data.batch_size), or all are too high (type "
                f"find.min_lr={self.min_lr / 100:g})."
            )
        else:
            said = f"The loss falls fastest at a learning rate of {rate:g}."
            module.lr = rate
        return Finding(
            key="model.optimizer.lr",
            value=rate,
            sentences=[
                said,
                f"{len(rates)} of {self.num_steps} training steps from {rates[0]:.2g} to {rates[-1]:.2g}, at "
                f"data.batch_size={datamodule.batch_size}; with a schedule it is the highest rate.",
            ],
            plots={"Loss by learning rate": draw_losses(rates, losses, rate)},
            measured=[{"lr": r, "loss": loss} for r, loss in zip(rates, losses, strict=True) if math.isfinite(loss)],
        )

    def steepest(self, rates: Sequence[float], losses: Sequence[float]) -> int | None:
        """Returns where the loss falls fastest by the logarithm of the rate, before it is lowest; None: nowhere.

        Lightning's own suggestion takes the slope by the rate itself, in which the smallest rates always win: a
        change by chance at 1e-6 weighs as much as one a thousand times as large at 1e-3.
        """
        finite = [index for index, loss in enumerate(losses) if index >= NUM_UNSETTLED and math.isfinite(loss)]
        if len(finite) < 2:
            raise ValueError(
                f"The loss was finite at only {len(finite)} rates from find.min_lr={self.min_lr} on; type a lower "
                "find.min_lr and find.max_lr, or more data (data.limit) for find.num_steps."
            )
        slopes = numpy.gradient([losses[index] for index in finite], numpy.log([rates[index] for index in finite]))
        lowest = int(numpy.argmin([losses[index] for index in finite]))
        steepest = int(numpy.argmin(slopes[: lowest + 1]))
        return finite[steepest] if slopes[steepest] < 0 else None


@contextmanager
def _each_group_at_its_scale() -> Iterator[None]:
    """With `model.layer_decay` a layer takes its share of the rate, although the range test sets all alike."""

    def scale(optimizer: Optimizer, *_: Any) -> None:
        for group in optimizer.param_groups:
            group["lr"] *= group.get("lr_scale", 1.0)

    def scale_back(optimizer: Optimizer, *_: Any) -> None:
        for group in optimizer.param_groups:
            group["lr"] /= group.get("lr_scale", 1.0)

    hooks = register_optimizer_step_pre_hook(scale), register_optimizer_step_post_hook(scale_back)
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
