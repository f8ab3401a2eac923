"""What a network has to beat: a line through the pixels."""

import numpy
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from stocktake.data.datamodule import BinDataModule
from stocktake.data.transforms import Resize
from stocktake.evaluation.evaluation_result import Baseline
from stocktake.metrics.table import METRICS

SIDE_PX = 32


def measure_linear(datamodule: BinDataModule, split: str) -> Baseline:
    """Fits a logistic regression to the training split's gray pixels, 32 x 32, and measures it on a split."""
    classifier = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=1000))
    classifier.fit(*_gray_pixels(datamodule, "train"))
    pixels, counts = _gray_pixels(datamodule, split)
    accuracy = float((classifier.predict(pixels) == counts).mean())
    return Baseline({"accuracy": METRICS["accuracy"].estimate(accuracy, numpy.nan, numpy.nan)})


def _gray_pixels(datamodule: BinDataModule, split: str) -> tuple[numpy.ndarray, numpy.ndarray]:
    batches = list(datamodule.loader(split, resize=Resize(SIDE_PX, datamodule.resize.mode)))
    pixels = [batch["images"].float().mean(1).flatten(1).numpy() for batch in batches]
    return numpy.concatenate(pixels), numpy.concatenate([batch["counts"].numpy() for batch in batches])
