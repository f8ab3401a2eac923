"""What a model says of every image of a split."""

from typing import cast

import torch
from numpy import ndarray
from pytorch_lightning import Trainer
from pytorch_lightning.callbacks import RichProgressBar
from torch import Tensor

from stocktake.data.datamodule import BinDataModule
from stocktake.hardware import require_accelerator
from stocktake.model.counter import BinCounter
from stocktake.model.ensemble import Ensemble


def predict_split(
    model: BinCounter | Ensemble,
    datamodule: BinDataModule,
    split: str,
    accelerator: str,
    precision: str,
    part: str = "probabilities",
) -> ndarray:
    """Returns untempered P(count), `probabilities_NK`, float64, of `datamodule.rows(split)`, in their order.

    Args:
        part: Of what the model's `predict_step` returns; with `members`, an ensemble's `probabilities_NMK`.
    """
    require_accelerator("accelerator", accelerator)
    trainer = Trainer(
        accelerator=accelerator,
        devices=1,
        precision=precision,  # pyright: ignore[reportArgumentType]: Lightning itself refuses other values
        logger=False,
        enable_model_summary=False,
        callbacks=[RichProgressBar()],
    )
    batches = cast(list[dict[str, Tensor]], trainer.predict(model, datamodule.loader(split)))
    return torch.cat([batch[part] for batch in batches]).cpu().double().numpy()  # MPS has no float64
