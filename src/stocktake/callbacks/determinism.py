"""Dropout as a function of (seed, step, rank), so that a resumed run draws what it would have drawn."""

from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer

from stocktake.seeding import derive_seed


class StatelessDropout(Callback):
    """Seeds torch before every training step."""

    def __init__(self, seed: int):
        self.seed = seed

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        # The batch's number, not the optimizer's: with accumulated gradients a step has several batches.
        torch.manual_seed(derive_seed("dropout", self.seed, trainer.current_epoch, batch_idx, trainer.global_rank))
