"""What a network has to beat: always the most frequent count, and a line through the pixels.

Axes: N images, K counts.
"""

from collections.abc import Sequence

import numpy
from numpy import ndarray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from stocktake.data.datamodule import BinDataModule
from stocktake.data.transforms import Resize
from stocktake.evaluation.count_intervals import measure
from stocktake.evaluation.evaluation_result import Baseline
from stocktake.metrics.definitions import METRICS

SIDE_PX = 32


def measure_majority(labels_N: ndarray, groups: Sequence[str], counts_K: ndarray) -> Baseline:
    """Returns the metrics of always saying the most frequent count."""
    most_frequent = int(numpy.bincount(labels_N).argmax())
    certain_NK = numpy.tile(numpy.eye(len(counts_K))[most_frequent], (len(labels_N), 1))
    return Baseline(measure(labels_N, certain_NK, groups, counts_K).metrics, int(counts_K[most_frequent]))


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
