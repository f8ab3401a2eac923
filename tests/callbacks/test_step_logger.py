"""The lines that SageMaker's metric definitions read, of a stand-in for a trainer."""

import re
from types import SimpleNamespace

import pytest
import torch
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import ModelCheckpoint

from stocktake.callbacks.best import BestCheckpoint
from stocktake.callbacks.step_logger import StepLogger
from stocktake.cloud.requests import DEFAULT_METRICS, training_job
from stocktake.cloud.tuning_jobs import tuning_job


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
        checkpoint_callbacks=[],
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


@pytest.mark.parametrize(
    ("mode", "before", "now", "objective"),
    [
        ("max", None, 0.25, "0.25"),
        ("max", 0.5, 0.25, "0.5"),
        ("max", 0.125, 0.25, "0.25"),
        ("min", 0.125, 0.25, "0.125"),
        ("min", None, 0.00005, "5e-05"),
        ("max", 0.5, float("nan"), "0.5"),
        ("max", None, float("nan"), None),
    ],
)
def test_a_validation_ends_with_the_best_so_far_which_sagemaker_reads(trainer, capsys, mode, before, now, objective):
    best = ModelCheckpoint(monitor="valid/accuracy", mode=mode)
    best.best_model_score = None if before is None else torch.tensor(before)
    trainer.checkpoint_callbacks = [ModelCheckpoint(monitor="step", mode="max"), best]
    trainer.callback_metrics["valid/accuracy"] = torch.tensor(now)
    StepLogger().on_validation_end(trainer, None)
    line = capsys.readouterr().out.rstrip()
    trial = training_job("j", "arn:aws:iam::123456789012:role/Stocktake", "i", "s3://b/c", "s3://b/d", "s3://b/o")
    ranges = {"ContinuousParameterRanges": [], "IntegerParameterRanges": [], "CategoricalParameterRanges": []}
    request = tuning_job("t", trial, ranges, "valid/accuracy", "higher")
    named = request["HyperParameterTuningJobConfig"]["HyperParameterTuningJobObjective"]["MetricName"]
    definitions = request["TrainingJobDefinition"]["AlgorithmSpecification"]["MetricDefinitions"]
    (regex,) = [one["Regex"] for one in definitions if one["Name"] == named]
    assert re.findall(regex, line) == ([] if objective is None else [objective])


def test_a_resumed_run_tells_the_best_of_before(tmp_path, capsys):
    """Lightning's own loop, twice: the second goes on from a checkpoint and never gets as good again."""
    for max_epochs, values in ((2, [0.75, 0.5]), (4, [0.25, 0.125])):
        module = Scores(values)
        best = BestCheckpoint(str(tmp_path), "valid/accuracy", "max")
        trainer = Trainer(
            max_epochs=max_epochs,
            callbacks=[StepLogger(), best, ModelCheckpoint(tmp_path, "last-{epoch}", save_top_k=-1)],
            logger=False,
            accelerator="cpu",
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        newest = tmp_path / "last-epoch=1.ckpt"
        trainer.fit(module, ckpt_path=str(newest) if newest.exists() else None, weights_only=True)
    lines = [line for line in capsys.readouterr().out.splitlines() if "valid/accuracy" in line]
    assert [line.rpartition("objective=")[2] for line in lines] == ["0.75", "0.75", "0.75", "0.75"]


class Scores(LightningModule):
    """Validates to the given values, one an epoch."""

    def __init__(self, values):
        super().__init__()
        self.layer, self.values = torch.nn.Linear(1, 1), iter(values)

    def train_dataloader(self):
        return torch.utils.data.DataLoader(torch.ones(2, 1))

    val_dataloader = train_dataloader

    def training_step(self, batch):
        return self.layer(batch).sum()

    def validation_step(self, batch):
        pass

    def on_validation_epoch_end(self):
        if not self.trainer.sanity_checking:
            self.log("valid/accuracy", next(self.values))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.0)
