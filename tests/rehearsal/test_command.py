"""How the words of scripts/rehearse.py part: its own, and train.py's."""

import io
import tarfile
from pathlib import Path

import pytest

from stocktake.rehearsal.command import exported_model_answers, split_words, with_defaults

OWN = ("hosts", "faults")


def test_own_words_and_the_others():
    words = ["experiment=demo", "hosts=2", "faults=[notice,{kind: kill}]", "hosts.x=1", "a='hosts=2'", "--help"]
    own, others = split_words(words, OWN)
    assert own == ["hosts=2", "faults=[notice,{kind: kill}]", "--help"]
    assert others == ["experiment=demo", "hosts.x=1", "a='hosts=2'"]


def test_what_was_typed_goes_before_the_defaults():
    typed = ["trainer.max_epochs=5", "++trainer.limit_val_batches=1"]
    words = with_defaults(typed, ["trainer.max_epochs=2", "+trainer.limit_val_batches=2", "resume=true"])
    assert words == [*typed, "resume=true"]


@pytest.mark.parametrize("names", [None, ["best.ckpt"], ["best.ckpt", "model.json"]])
def test_a_job_that_left_no_exported_model_is_told(tmp_path, capsys, names):
    told = {"folder": str(tmp_path), "model_url": "s3://bins/jobs/demo/output/model.tar.gz"}
    if names is not None:
        packed = Path(tmp_path, "s3/bins/jobs/demo/output/model.tar.gz")
        packed.parent.mkdir(parents=True)
        with tarfile.open(packed, "w:gz") as archive:
            for name in names:
                archive.addfile(tarfile.TarInfo(name), io.BytesIO())
    assert not exported_model_answers(told)
    assert "No exported model that could be served came out of the job: " in capsys.readouterr().out
