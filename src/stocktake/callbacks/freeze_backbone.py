"""Fine-tuning in two stages, the new last layer before the rest."""

from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer
from torch import nn
from torch.optim import Optimizer

from stocktake.model.counter import BinCounter


class FreezeBackbone(Callback):
    """Leaves the backbone as it is for the first epochs, until the new head no longer guesses.

    That is its weights and its statistics: BatchNorm works with those that it has, and does not gather others.

    Its gradients are dropped rather than switched off: DistributedDataParallel settles at the start which parameters
    have one, and an optimizer passes over those that have none.
    """

    def __init__(self, num_epochs: int):
        """
        Args:
            num_epochs: So many epochs train the head alone.
        """
        self.num_epochs = num_epochs
        self._resting: list[nn.Module] = []

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if trainer.current_epoch < self.num_epochs:
            for layer in self._gathering(pl_module):
                layer.eval()
                self._resting.append(layer)
        else:
            while self._resting:
                self._resting.pop().train()

    def _gathering(self, pl_module: LightningModule) -> list[nn.Module]:
        assert isinstance(pl_module, BinCounter)
        head = set(pl_module.backbone.get_classifier().modules())
        layers = (layer for layer in pl_module.backbone.modules() if layer not in head)
        return [layer for layer in layers if layer.training and getattr(layer, "track_running_stats", False)]

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        if trainer.current_epoch >= self.num_epochs:
            return
        assert isinstance(pl_module, BinCounter)
        head = {id(parameter) for parameter in pl_module.backbone.get_classifier().parameters()}
        for parameter in pl_module.parameters():
            if id(parameter) not in head:
                parameter.grad = None
