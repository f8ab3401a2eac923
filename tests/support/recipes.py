"""Trainings of seconds, what interrupts them, and whether two came to the same weights."""

import os
import signal

import torch

from stocktake.model.counter import BinCounter

TINY = [
    "model=small",
    "model.weights=none",
    "data.image_size_px=32",
    "data.num_workers=0",
    "trainer.accelerator=cpu",
    "trainer.precision=32-true",
    "trainer.log_every_n_steps=1",
    "+trainer.enable_model_summary=false",
    "model.channels_last=false",
    "callbacks.progress=null",
    "logger=csv",
]
SPOT = ["experiment=resnet50_spot", *TINY, "data.batch_size=8", "data.limit=40", "trainer.max_epochs=2"]


def state_of(path) -> dict[str, torch.Tensor]:
    return torch.load(path, weights_only=True)["state_dict"]


def assert_same_weights(one, other):
    one, other = state_of(one), state_of(other)
    assert one.keys() == other.keys()
    for key, value in one.items():
        assert torch.equal(value, other[key]), key


def interrupt_at(monkeypatch, step: int) -> None:
    """The run sends itself SIGTERM in the training step that makes `step` steps."""
    original = BinCounter.training_step

    def training_step(module, batch, batch_index):
        if module.global_step + 1 == step:
            os.kill(os.getpid(), signal.SIGTERM)
        return original(module, batch, batch_index)

    monkeypatch.setattr(BinCounter, "training_step", training_step)
