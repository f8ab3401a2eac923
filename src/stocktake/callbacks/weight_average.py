"""WeightAverage: what is validated and kept is the moving mean of the weights, and of nothing that is not one."""

from itertools import chain
from typing import Any

import torch
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import EMAWeightAveraging
from torch import nn
from torch.optim.swa_utils import AveragedModel


class WeightAverage(EMAWeightAveraging):
    """Lightning's exponential moving average, with a mean that leaves whole numbers whole and constants alone.

    As it comes (Lightning 2.6.6, torch 2.15), each buffer is averaged, integers by cutting off: of the counts 1 to 5
    a decay of 0.9 makes 1, 2, 2, 4, 5. It is also made before the model is on its GPU, so that each step would carry
    all weights to the CPU, and asks the GPU in every step how often it has averaged.
    """

    def __init__(self, decay: float = 0.999, **options: Any):
        """
        Args:
            decay: Share of the old mean in the new one; the mean is over about the last 1 / (1 - decay) steps.
            options: As for Lightning's `EMAWeightAveraging`.

        Raises:
            ValueError: It is not between 0 and 1.
        """
        if not 0 <= decay < 1:
            raise ValueError(
                f"callbacks.average.decay={decay} must be from 0 to below 1; type 0.99 for about the last 100 steps."
            )
        super().__init__(decay=decay, **options)
        self.decay = decay

    @property
    def state_key(self) -> str:
        return EMAWeightAveraging.__name__  # as in the checkpoints of runs that took Lightning's

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if stage == "fit":
            device = torch.device(self._device) if self._device else trainer.strategy.root_device
            self._average_model = MovingMean(pl_module, device, self.decay)


class MovingMean(AveragedModel):
    """A copy of a model whose floating-point numbers follow the model's."""

    def __init__(self, model: nn.Module, device: torch.device, decay: float):
        super().__init__(model, device, use_buffers=True)
        self.decay = decay
        self.n_averaged = torch.tensor(0)  # on the CPU, to be asked without waiting for a GPU

    @torch.no_grad()
    def update_parameters(self, model: nn.Module) -> None:
        means = list(_tensors_of(self.module))
        now = [tensor.detach().to(mean.device) for mean, tensor in zip(means, _tensors_of(model), strict=True)]
        if self.n_averaged == 0:
            torch._foreach_copy_(means, now)  # pyright: ignore[reportPrivateImportUsage]  # as torch.optim does
        else:
            pairs = list(zip(means, now, strict=True))
            for mean, tensor in pairs:
                if not mean.is_floating_point():
                    mean.copy_(tensor)
            floats = [pair for pair in pairs if pair[0].is_floating_point()]
            # mean + (1 - decay) (now - mean): a number that stays the same is its own mean, to the last bit.
            torch._foreach_lerp_(  # pyright: ignore[reportPrivateImportUsage]  # as torch.optim does
                [mean for mean, _ in floats], [tensor for _, tensor in floats], 1 - self.decay
            )
        self.n_averaged += 1


def _tensors_of(model: nn.Module) -> chain[torch.Tensor]:
    return chain(model.parameters(), model.buffers())
