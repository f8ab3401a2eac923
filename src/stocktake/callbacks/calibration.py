"""How far a model's P(count) may be believed: fitted to each validation, and kept with the weights that it fits.

Axes: B images of a batch, N of a validation over all ranks, K counts that the model tells apart.
"""

from typing import Any

import torch
from numpy import isfinite
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor
from torchmetrics import CatMetric

from stocktake.metrics.calibration import Calibration, expected_calibration_error
from stocktake.model.counter import BinCounter

CALIBRATION_KEY = "calibration"  # in a checkpoint


class FitCalibration(Callback):
    """Fits the calibration to each validation, logs `valid/ece`, and keeps it in the checkpoints of those weights."""

    def __init__(self):
        # Rows of P(count) and the record's position among the counts, over all batches and ranks.
        self.outcomes = CatMetric(nan_strategy="disable")
        self.calibration: Calibration | None = None
        self._fitted_at_step = -1

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.outcomes.to(pl_module.device).reset()

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self.outcomes.update(as_rows(**outputs))

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """
        Raises:
            ValueError: The model says NaN.
        """
        assert isinstance(pl_module, BinCounter)
        outcomes = self.outcomes.compute().cpu().double().numpy()  # MPS has no float64
        probabilities_NK, classes_N = outcomes[:, :-1], outcomes[:, -1].astype(int)
        if not isfinite(probabilities_NK).all():
            raise ValueError(
                "The model says NaN: the training has diverged. Type a lower model.optimizer.lr, "
                "trainer.gradient_clip_val=1, or trainer.precision=32-true."
            )
        self.calibration = Calibration.fit(probabilities_NK, classes_N, pl_module.counts)
        self._fitted_at_step = trainer.global_step
        pl_module.log("valid/ece", expected_calibration_error(probabilities_NK, classes_N))
        self.outcomes.reset()

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        # Between two validations the weights are others than those that it was fitted to.
        if self.calibration is not None and self._fitted_at_step == trainer.global_step:
            checkpoint[CALIBRATION_KEY] = self.calibration.to_dict()


def as_rows(probabilities: Tensor, classes: Tensor) -> Tensor:
    """Returns `probabilities_BK` with `classes_B` as one more column."""
    return torch.cat([probabilities, classes[:, None]], dim=1)
