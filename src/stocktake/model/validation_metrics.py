"""The count metrics of a split, gathered over batches and ranks.

Axes: B batch, K counts.
"""

import numpy
import torch
from torch import Tensor
from torchmetrics import Metric

from stocktake.metrics.counts import summarize
from stocktake.metrics.definitions import COUNT_METRICS


class CountMetrics(Metric):
    """COUNT_METRICS, gathered over batches and ranks."""

    full_state_update = False
    confusion_KK: Tensor
    squared_error: Tensor

    def __init__(self, counts: list[int]):
        super().__init__()
        self.counts = numpy.array(counts)
        num_counts = len(counts)
        self.add_state("confusion_KK", torch.zeros(num_counts, num_counts, dtype=torch.long), dist_reduce_fx="sum")
        # MPS has no float64, and single precision is exact enough for a sum of errors of a few thousand images.
        self.add_state("squared_error", torch.zeros(()), dist_reduce_fx="sum")

    def update(self, probabilities_BK: Tensor, classes_B: Tensor) -> None:
        num_counts = len(self.counts)
        flat_B = classes_B * num_counts + probabilities_BK.argmax(1)
        self.confusion_KK += torch.bincount(flat_B, minlength=num_counts**2).reshape(num_counts, num_counts)
        counts_K = torch.tensor(self.counts, dtype=probabilities_BK.dtype, device=probabilities_BK.device)
        # Not as a matrix product, which mixed precision would round to bfloat16.
        expected_B = (probabilities_BK * counts_K).sum(1)
        self.squared_error += ((expected_B - counts_K[classes_B]) ** 2).sum()

    def compute(self) -> dict[str, float]:
        metrics = summarize(self.confusion_KK.cpu().numpy(), self.squared_error.cpu().numpy(), self.counts)
        return {name: float(metrics[name]) for name in COUNT_METRICS}
