"""From the network's last layer to P(count), and the loss that trains it.

Axes: B images of a batch, K counts that the model tells apart (in rising order).
"""

from torch import Tensor
from torch.nn import functional


class SoftmaxHead:
    """Counts as unordered classes: cross-entropy over K logits."""

    def __init__(self, label_smoothing: float = 0.0):
        """
        Args:
            label_smoothing: Share of the target's mass that is spread evenly over all counts
                (Szegedy et al. 2016, https://arxiv.org/abs/1512.00567, section 7).
        """
        self.label_smoothing = label_smoothing

    def num_logits(self, num_counts: int) -> int:
        return num_counts

    def loss(self, logits_BK: Tensor, classes_B: Tensor) -> Tensor:
        """Returns the mean loss of a batch; `classes_B` are positions among the K counts, int64."""
        return functional.cross_entropy(logits_BK.float(), classes_B, label_smoothing=self.label_smoothing)

    def probabilities(self, logits_BK: Tensor) -> Tensor:
        """Returns P(count), `probabilities_BK`; every row sums to 1."""
        return logits_BK.float().softmax(dim=1)
