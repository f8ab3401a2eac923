"""The loss and P(count), from their formulas."""

import math

import pytest
import torch

from stocktake.model.heads import SoftmaxHead


def test_the_loss_by_hand():
    logits_BK = torch.tensor([[math.log(2), 0.0, 0.0]])  # probabilities 1/2, 1/4, 1/4
    assert SoftmaxHead().loss(logits_BK, torch.tensor([0])).item() == pytest.approx(math.log(2))
    # With 0.3 of the mass spread evenly over three counts, the target is 0.8, 0.1, 0.1.
    smoothed = 0.8 * math.log(2) + 0.2 * math.log(4)
    assert SoftmaxHead(0.3).loss(logits_BK, torch.tensor([0])).item() == pytest.approx(smoothed)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_loss_against_torch(dtype):
    torch.manual_seed(0)
    logits_BK, classes_B = torch.randn(16, 5).to(dtype), torch.randint(5, (16,))
    expected = torch.nn.CrossEntropyLoss(label_smoothing=0.1)(logits_BK.double(), classes_B)
    loss = SoftmaxHead(0.1).loss(logits_BK, classes_B)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, expected.float())


def test_probabilities():
    probabilities_BK = SoftmaxHead().probabilities(torch.tensor([[math.log(2), 0.0, 0.0], [900.0, 0.0, -900.0]]))
    torch.testing.assert_close(probabilities_BK, torch.tensor([[0.5, 0.25, 0.25], [1.0, 0.0, 0.0]]))


def test_one_logit_a_count():
    assert SoftmaxHead().num_logits(5) == 5
