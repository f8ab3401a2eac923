"""A trial that reports to its search, in real trainings of a module that gets what it is told to."""

import json
import os
import pathlib
import subprocess
import sys

import optuna
import pytest
import torch
from pytorch_lightning import LightningModule, Trainer
from torch.utils.data import DataLoader

from stocktake.callbacks.report_trial import ReportTrial
from stocktake.search_journal import PRUNED, STUDY_NAME, journal_storage


class Scripted(LightningModule):
    """Its validations give the accuracies of a list, one after the other."""

    def __init__(self, accuracies):
        super().__init__()
        self.accuracies, self.weight = accuracies, torch.nn.Parameter(torch.zeros(1))

    def training_step(self, batch):
        return self.weight.sum() * 0

    def validation_step(self, batch):
        self.log("valid/accuracy", self.accuracies[self.current_epoch])

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def trained(accuracies, callback, **options) -> Trainer:
    options = {"max_epochs": len(accuracies)} | options
    trainer = Trainer(
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=1,
        callbacks=[callback],
        **options,
    )
    loader = DataLoader([0], num_workers=0)
    trainer.fit(Scripted(accuracies), loader, loader)
    return trainer


@pytest.fixture
def journal(tmp_path) -> pathlib.Path:
    """Of a search with four trials that got 0.5, 0.6, 0.7, 0.8 and one that is to run."""
    path = tmp_path / "journal.log"
    study = optuna.create_study(storage=journal_storage(path), study_name=STUDY_NAME, direction="maximize")
    for _ in range(4):
        trial = study.ask()
        for validation, value in enumerate((0.5, 0.6, 0.7, 0.8), 1):
            trial.report(value, validation)
        study.tell(trial, 0.8)
    study.ask()
    return path


def last(journal) -> optuna.trial.FrozenTrial:
    return optuna.load_study(storage=journal_storage(journal), study_name=STUDY_NAME).trials[-1]


def test_a_trial_that_is_worse_than_the_median_stops(journal):
    trainer = trained([0.55, 0.3, 0.9, 0.9], ReportTrial(str(journal), 4, "valid/accuracy", "median"))
    assert trainer.current_epoch == 2, "after its second validation: one is too early to judge"
    assert last(journal).intermediate_values == pytest.approx({1: 0.55, 2: 0.3})
    assert last(journal).user_attrs == {PRUNED: 2}


def test_a_trial_that_is_as_good_goes_on(journal):
    trained([0.5, 0.65, 0.75, 0.9], ReportTrial(str(journal), 4, "valid/accuracy", "median"))
    assert last(journal).intermediate_values == pytest.approx({1: 0.5, 2: 0.65, 3: 0.75, 4: 0.9})
    assert PRUNED not in last(journal).user_attrs


def test_without_a_pruner_it_only_reports(journal):
    trained([0.1, 0.1], ReportTrial(str(journal), 4, "valid/accuracy"))
    assert last(journal).intermediate_values == pytest.approx({1: 0.1, 2: 0.1})
    assert PRUNED not in last(journal).user_attrs


def test_one_that_has_come_to_its_end_is_complete(journal):
    trained([0.5, 0.65, 0.75, 0.1], ReportTrial(str(journal), 4, "valid/accuracy", "median"))
    assert last(journal).last_step == 4 and PRUNED not in last(journal).user_attrs


def test_a_validation_that_is_repeated_after_an_interruption_is_the_same_one(journal):
    trained([0.5, 0.6], ReportTrial(str(journal), 4, "valid/accuracy"))
    resumed = ReportTrial(str(journal), 4, "valid/accuracy")
    resumed.load_state_dict({"num_validations": 1})
    trained([0.61, 0.7], resumed)
    assert last(journal).intermediate_values == pytest.approx({1: 0.5, 2: 0.6, 3: 0.7})


def test_its_module_imports_no_optuna():
    script = "import sys; import stocktake.callbacks.report_trial; print('optuna' in sys.modules)"
    environment = os.environ | {"PYTHONPATH": str(pathlib.Path(__file__).parents[2] / "src")}
    told = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "False"


TWO_RANKS = """
import json, os, pathlib, sys
sys.path.insert(0, sys.argv[1])
import optuna
import test_report_trial as tests
rank = os.environ["RANK"]
callback = tests.ReportTrial(sys.argv[2], 4, "valid/accuracy", "median")
trainer = tests.trained([0.55, 0.3, 0.9, 0.9], callback, devices=2, strategy="ddp")
told = {"epochs": trainer.current_epoch, "step": trainer.global_step, "met": callback._study is not None}
pathlib.Path(sys.argv[3], rank).write_text(json.dumps(told))
"""


@pytest.mark.slow
def test_all_ranks_stop_at_the_same_step_and_one_meets_the_journal(journal, tmp_path):
    (tmp_path / "two.py").write_text(TWO_RANKS)
    words = [str(tmp_path / "two.py"), str(pathlib.Path(__file__).parent), str(journal), str(tmp_path)]
    source = str(pathlib.Path(__file__).parents[2] / "src")
    subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", *words],
        env=os.environ | {"PYTHONPATH": source},
        check=True,
        timeout=240,
    )
    first, second = (json.loads((tmp_path / rank).read_text()) for rank in "01")
    assert first == {"epochs": 2, "step": 2, "met": True}
    assert second == {"epochs": 2, "step": 2, "met": False}
