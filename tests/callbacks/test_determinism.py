"""Dropout that depends on (seed, epoch, batch, rank) and on nothing that was drawn before."""

from types import SimpleNamespace

import pytest
import torch

from stocktake.callbacks.determinism import StatelessDropout


def mask(seed=0, epoch=2, batch_index=7, rank=0) -> list[float]:
    trainer = SimpleNamespace(current_epoch=epoch, global_rank=rank)
    StatelessDropout(seed).on_train_batch_start(trainer, None, None, batch_index)
    return torch.nn.functional.dropout(torch.ones(200)).tolist()


def test_the_same_step_drops_the_same_whatever_came_before():
    first = mask()
    torch.rand(1000)
    assert mask() == first


@pytest.mark.parametrize("other", [{"seed": 1}, {"epoch": 3}, {"batch_index": 8}, {"rank": 1}])
def test_another_step_drops_others(other):
    assert mask(**other) != mask()
