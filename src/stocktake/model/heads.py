"""From the network's last layer to P(count), and the loss that trains it.

Axes: B images of a batch, K counts that the model tells apart (in rising order), J = K - 1 questions, of which the
j-th is whether there are more than the j-th count.
"""

import math
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional


class Head(Protocol):
    """What a counter asks of its head."""

    def num_logits(self, num_counts: int) -> int:
        """Returns how many numbers the network has to end in."""
        ...

    def loss(self, logits: Tensor, classes_B: Tensor, /) -> Tensor:
        """Returns the mean loss of a batch, float32; `classes_B` are positions among the K counts, int64."""
        ...

    def probabilities(self, logits: Tensor, /) -> Tensor:
        """Returns P(count), `probabilities_BK`, float32; every row sums to 1."""
        ...


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


class SoftLabelHead(SoftmaxHead):
    """Counts as classes with neighbors: the target is a bell around the record's count.

    target_i is proportional to exp(-phi(t, i)) with phi(t, i) = (t - i)^2 / (2 spread_items^2), which is SORD with a
    squared distance (Diaz & Marathe 2019, https://doi.org/10.1109/CVPR.2019.00487, section 3). t and i are positions
    among the K counts: the distance is in items where the counts follow one another without a gap.
    """

    def __init__(self, spread_items: float = 0.5):
        """
        Args:
            spread_items: Standard deviation of the bell, before it is cut off at the lowest and the highest count.
                At 0.5 a count between two others keeps 0.79 of the mass and gives each of them 0.11; towards 0 this
                becomes SoftmaxHead.

        Raises:
            ValueError: It is not above 0, or not finite.
        """
        super().__init__()
        if not 0 < spread_items < math.inf:
            raise ValueError(
                f"head.spread_items={spread_items} is no standard deviation: it is a number of items above 0. "
                "Type head.spread_items=0.5, or head=softmax for a target without neighbors."
            )
        self.spread_items = spread_items

    def loss(self, logits_BK: Tensor, classes_B: Tensor) -> Tensor:
        """Returns the mean cross-entropy of a batch with its soft targets.

        At best it is the targets' entropy, not 0. `classes_B` are positions among the K counts, int64.
        """
        positions_K = torch.arange(logits_BK.shape[1], device=logits_BK.device)
        distance_KK = positions_K[:, None] - positions_K
        targets_KK = (-0.5 * (distance_KK / self.spread_items) ** 2).softmax(dim=1)
        return functional.cross_entropy(logits_BK.float(), targets_KK[classes_B])


class CornHead:
    """Counts as questions in a row, "are there more than this?", each asked only after a yes to the one before.

    The sigmoid of logit j is P(more than the j-th count | more than the one before): CORN of Shi, Cao & Raschka 2023,
    https://arxiv.org/abs/2111.08851. P(more than the j-th) is the product of these up to j, so it never rises with j.
    """

    def num_logits(self, num_counts: int) -> int:
        """
        Raises:
            ValueError: There is nothing to ask, with a single count.
        """
        if num_counts < 2:
            raise ValueError(
                f"head=corn tells counts from one another, and data.counts has {num_counts} of them: it takes 2 or "
                "more. Type more counts, or head=softmax."
            )
        return num_counts - 1

    def loss(self, logits_BJ: Tensor, classes_B: Tensor) -> Tensor:
        """Returns the mean cross-entropy of all the questions that a batch's counts ask (equation 5).

        A count that is the k-th of K asks the first min(k, K - 1) questions, so a batch of high counts is a mean of
        more of them. `classes_B` are positions among the K counts, int64.
        """
        positions_J = torch.arange(logits_BJ.shape[1], device=logits_BJ.device)
        is_asked_BJ, is_more_BJ = classes_B[:, None] >= positions_J, classes_B[:, None] > positions_J
        loss_BJ = functional.binary_cross_entropy_with_logits(logits_BJ.float(), is_more_BJ.float(), reduction="none")
        # As a product: to pick the questions that are asked, a GPU would have to say first how many they are.
        return (loss_BJ * is_asked_BJ).sum() / is_asked_BJ.sum()

    def probabilities(self, logits_BJ: Tensor) -> Tensor:
        """Returns P(count), `probabilities_BK`; every row sums to 1."""
        logits_BJ = logits_BJ.float()
        # P(more than the one before) - P(more than this one), as a product: of small ones a difference leaves nothing.
        log_reached_BK = functional.pad(functional.logsigmoid(logits_BJ).cumsum(dim=1), (1, 0))
        log_stopped_BK = functional.pad(functional.logsigmoid(-logits_BJ), (0, 1))
        return (log_reached_BK + log_stopped_BK).exp()
