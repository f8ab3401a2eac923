"""The first line of a training, and how to go on with it."""

import sys

import pytest
from omegaconf import OmegaConf

from stocktake.cli.training_messages import first_line, how_to_resume


@pytest.mark.parametrize(
    ("trainer", "length"),
    [
        ({"max_epochs": 30}, "30 epochs"),
        ({"max_epochs": 1}, "1 epoch"),
        ({"max_epochs": None}, "1000 epochs"),  # Lightning's own, once it begins
        ({"max_epochs": -1}, "until it is stopped"),
        ({"max_epochs": -1, "max_steps": 20}, "20 steps"),
        ({"max_epochs": None, "max_steps": 20}, "20 steps"),
        ({"max_epochs": 3, "max_steps": 20}, "3 epochs or 20 steps"),
        ({"max_epochs": None, "max_time": "00:01:00:00"}, "max_time=00:01:00:00"),
    ],
)
def test_how_long_it_will_train(monkeypatch, trainer, length):
    monkeypatch.setattr(sys, "argv", ["train.py"])
    cfg = {"name": "demo", "model": {"backbone": "resnet10t"}, "data": {"root": "bins"}, "trainer": trainer}
    told = first_line(OmegaConf.create(cfg))
    assert told == f"Trains demo: resnet10t on the bins in bins, {length}. Loading PyTorch ..."


def test_a_sweep_goes_on_in_its_own_folder(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["train.py", "-m", "seed=0,1"])
    told = how_to_resume(OmegaConf.create({"resume": False, "run_dir": "my runs/3"}))
    assert told == """To go on with it, type python train.py -m seed=0,1 resume=true 'hydra.sweep.dir="my runs"'"""
