"""Ensemble: several counters as one, whose P(count) is the mean of theirs.

Axes: B images of a batch, M members, C 3 channels, H height, W width, K counts that the model tells apart.
"""

from collections.abc import Sequence
from typing import Any

import torch
from pytorch_lightning import LightningModule
from torch import Tensor, nn

from stocktake.model.counter import BinCounter


class Ensemble(LightningModule):
    """Counters that were trained apart and answer together (Lakshminarayanan et al. 2017,
    https://arxiv.org/abs/1612.01474, section 2.4): members of other seeds, heads or recipes err on other bins.

    The mean is taken of what they say untempered, and tempered as a whole: a mean is less sure than its members are
    (Rahaman & Thiery 2021, https://arxiv.org/abs/2007.08792).
    """

    def __init__(self, members: Sequence[BinCounter]):
        """
        Raises:
            ValueError: There is none, or they tell other counts apart.
        """
        super().__init__()
        differing = sorted({tuple(member.counts) for member in members})
        if len(differing) != 1:
            raise ValueError(f"The members tell the counts {differing} apart: members of the same counts are needed.")
        self.members = nn.ModuleList(members)
        self.counts = members[0].counts

    @property
    def counters(self) -> list[BinCounter]:
        """The members, as what they are."""
        return [member for member in self.members if isinstance(member, BinCounter)]

    @property
    def flip_tta(self) -> bool:
        """Whether P(count) is the mean over each image and its mirror image."""
        return all(member.flip_tta for member in self.counters)

    @flip_tta.setter
    def flip_tta(self, wanted: bool) -> None:
        for member in self.counters:
            member.flip_tta = wanted

    def probabilities_of_members(self, images_BCHW: Tensor) -> Tensor:
        """Returns each member's P(count), `probabilities_BMK`, for uint8 pixels."""
        return torch.stack([member.probabilities(images_BCHW) for member in self.counters], dim=1)

    def probabilities(self, images_BCHW: Tensor) -> Tensor:
        """Returns P(count), `probabilities_BK`, for uint8 pixels."""
        return self.probabilities_of_members(images_BCHW).mean(dim=1)

    def predict_step(self, batch: dict[str, Any], _batch_index: int = 0) -> dict[str, Any]:
        """Returns `{"image_ids": [str], "probabilities": probabilities_BK, "members": probabilities_BMK}`."""
        members_BMK = self.probabilities_of_members(batch["images"])
        return {"image_ids": batch["image_ids"], "probabilities": members_BMK.mean(dim=1), "members": members_BMK}
