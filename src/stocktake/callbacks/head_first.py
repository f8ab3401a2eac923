"""HeadFirst: fine-tuning in two stages, the new last layer before the rest."""

from pytorch_lightning import Callback, LightningModule, Trainer
from torch.optim import Optimizer


class HeadFirst(Callback):
    """Leaves the backbone as it is for the first epochs, until the new head no longer guesses.

    Its gradients are dropped rather than switched off: DistributedDataParallel settles at the start which parameters
    have one, and an optimizer passes over those that have none.
    """

    def __init__(self, num_epochs: int):
        """
        Args:
            num_epochs: So many epochs train the head alone.
        """
        self.num_epochs = num_epochs

    def on_before_optimizer_step(self, trainer: Trainer, module: LightningModule, optimizer: Optimizer) -> None:
        if trainer.current_epoch >= self.num_epochs:
            return
        head = {id(parameter) for parameter in module.backbone.get_classifier().parameters()}
        for parameter in module.parameters():
            if id(parameter) not in head:
                parameter.grad = None
