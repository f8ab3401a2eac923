"""What a network has to beat: a line through the pixels."""

from typing import Any

import numpy
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from stocktake.data.datamodule import BinDataModule

SIDE_PX = 32


def linear_baseline(split: str, **data: Any) -> tuple[numpy.ndarray, numpy.ndarray]:
    """Fits a logistic regression to the training split's grey pixels, 32 x 32.

    Args:
        split: The split to predict.
        data: As for `BinDataModule`.

    Returns:
        The predicted and the record's count of every image of the split, in the order of its ids.
    """
    datamodule = BinDataModule(**{**data, "image_size_px": SIDE_PX, "batch_size": 256, "augment": None})
    classifier = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=1000))
    classifier.fit(*_grey_pixels(datamodule, "train"))
    pixels, counts = _grey_pixels(datamodule, split)
    return classifier.predict(pixels), counts


def _grey_pixels(datamodule: BinDataModule, split: str) -> tuple[numpy.ndarray, numpy.ndarray]:
    batches = list(datamodule.loader(split))
    pixels = [batch["images"].float().mean(1).flatten(1).numpy() for batch in batches]
    return numpy.concatenate(pixels), numpy.concatenate([batch["counts"].numpy() for batch in batches])
