"""A checkpoint knows its data, and goes on with no other."""

from types import SimpleNamespace

import pytest

from stocktake.agreement import Agreement
from stocktake.callbacks import run_data
from stocktake.callbacks.run_data import CODE_KEY, OtherData, RunData

KEY = "data"
RANK_ZERO = SimpleNamespace(is_global_zero=True)


def run(manifest_sha256: str) -> RunData:
    identity = SimpleNamespace(
        manifest_sha256=manifest_sha256, num_train_bins=3, to_state=lambda: {"manifest_sha256": manifest_sha256}
    )
    callback = RunData(KEY, lambda: identity, Agreement())
    callback.setup(RANK_ZERO, None, "fit")
    return callback


def checkpoint_of(callback: RunData) -> dict:
    checkpoint = {}
    callback.on_save_checkpoint(RANK_ZERO, None, checkpoint)
    return checkpoint


def test_the_same_data_goes_on_in_silence(capsys):
    run("a").on_load_checkpoint(RANK_ZERO, None, checkpoint_of(run("a")))
    assert capsys.readouterr().err == ""


def test_other_data_is_refused_with_what_to_type():
    with pytest.raises(OtherData, match=r"was a, is b .* run_name=<new>"):
        run("b").on_load_checkpoint(RANK_ZERO, None, checkpoint_of(run("a")))


def test_a_checkpoint_from_before_data_was_kept_goes_on_and_says_so(capsys):
    run("a").on_load_checkpoint(RANK_ZERO, None, {})
    assert "whether it is the same is not known" in capsys.readouterr().err


def test_other_code_is_told(capsys, monkeypatch):
    before = checkpoint_of(run("a"))
    assert before[CODE_KEY] == run_data.code_sha256()
    monkeypatch.setattr(run_data, "code_sha256", lambda: "other")
    run("a").on_load_checkpoint(RANK_ZERO, None, before)
    assert "another version of the code" in capsys.readouterr().err
