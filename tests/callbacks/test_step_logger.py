"""The lines that SageMaker's metric definitions read, of a stand-in for a trainer."""

import re
from types import SimpleNamespace

import pytest
import torch

from stocktake.callbacks.step_logger import StepLogger
from stocktake.cloud.requests import DEFAULT_METRICS


@pytest.fixture
def trainer():
    metrics = {"train/loss": torch.tensor(1.5), "valid/loss": torch.tensor(2.0), "valid/accuracy": torch.tensor(0.25)}
    return SimpleNamespace(
        global_step=12,
        log_every_n_steps=4,
        estimated_stepping_batches=300,
        is_global_zero=True,
        sanity_checking=False,
        callback_metrics=metrics,
    )


def test_metric_definitions_find_step_and_accuracy(trainer, capsys):
    callback = StepLogger()
    callback.on_train_batch_end(trainer, None)
    callback.on_validation_end(trainer, None)
    step, validation = capsys.readouterr().out.splitlines()
    assert step == "step=12/300 train/loss=1.5"
    assert validation == "step=12/300 valid/accuracy=0.25 valid/loss=2"
    found = {name: re.search(regex, validation)[1] for name, regex in DEFAULT_METRICS.items()}
    assert found == {"step": "12", "valid/accuracy": "0.25"}


def test_only_the_first_rank_speaks_and_only_where_there_is_no_terminal(trainer, capsys, monkeypatch):
    trainer.is_global_zero = False
    StepLogger().on_train_batch_end(trainer, None)
    trainer.is_global_zero, trainer.sanity_checking = True, True
    StepLogger().on_validation_end(trainer, None)
    StepLogger(every_n_steps=5).on_train_batch_end(trainer, None)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    StepLogger().on_train_batch_end(trainer, None)
    assert capsys.readouterr().out == ""


def test_a_step_that_is_not_logged_is_told_without_asking_the_device(trainer, capsys):
    trainer.log_every_n_steps = 10
    trainer.callback_metrics["train/loss"] = torch.tensor(1.5, device="meta")  # to read it fails
    StepLogger().on_train_batch_end(trainer, None)
    assert capsys.readouterr().out == "step=12/300\n"
