"""How the words of scripts/rehearse.py part: its own, and train.py's."""

import io
import runpy
import tarfile
from pathlib import Path

import pytest

from stocktake.cloud.requests import training_job
from stocktake.rehearsal.command import Rehearsed, exported_model_predicts, split_overrides, with_defaults
from stocktake.rehearsal.job_state import Job
from stocktake.rehearsal.summary import summary

ROLE, IMAGE = "arn:aws:iam::123456789012:role/R", "123456789012.dkr.ecr.us-east-1.amazonaws.com/stocktake:1"
REQUEST = training_job("demo", ROLE, IMAGE, "s3://bins/code", "s3://bins/config", "s3://bins/jobs")


def test_own_words_and_the_others():
    words = ["experiment=demo", "hosts=2", "faults=[notice,{kind: kill}]", "hosts.x=1", "a='hosts=2'", "--help"]
    own, others = split_overrides(words)
    assert own == ["hosts=2", "faults=[notice,{kind: kill}]", "--help"]
    assert others == ["experiment=demo", "hosts.x=1", "a='hosts=2'"]


def test_what_was_typed_goes_before_the_defaults():
    typed = ["trainer.max_epochs=5", "++trainer.limit_val_batches=1"]
    words = with_defaults(typed, ["trainer.max_epochs=2", "+trainer.limit_val_batches=2", "resume=true"])
    assert words == [*typed, "resume=true"]


@pytest.mark.parametrize("names", [None, ["best.ckpt"], ["best.ckpt", "model.json"]])
def test_a_job_that_left_no_exported_model_is_told(tmp_path, capsys, names):
    job = Rehearsed(tmp_path, summary(Job(REQUEST)))
    if names is not None:
        packed = Path(tmp_path, "s3/bins/jobs/demo/output/model.tar.gz")
        packed.parent.mkdir(parents=True)
        with tarfile.open(packed, "w:gz") as archive:
            for name in names:
                archive.addfile(tarfile.TarInfo(name), io.BytesIO())
    assert not exported_model_predicts(job)
    assert "No exported model that could be served came out of the job: " in capsys.readouterr().out


def test_the_checkpoints_of_two_rehearsals_are_compared(tmp_path):
    import torch

    for name, weight in (("one", 1.0), ("same", 1.0), ("other", 2.0)):
        torch.save({"state_dict": {"w": torch.tensor([weight])}}, tmp_path / name)
    script = Path(__file__).parents[2] / "scripts/rehearse.py"
    differences = runpy.run_path(str(script), run_name="rehearse")["differences"]
    assert differences(tmp_path / "one", tmp_path / "same") == []
    assert differences(tmp_path / "one", tmp_path / "other") == ["state_dict.w"]
