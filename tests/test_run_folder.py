"""What a command may write over, and what only if it is told to."""

import json

import pytest
from untrained import write_checkpoint

from stocktake.checkpoints import Checkpoint
from stocktake.run_folder import WouldReplaceError, require_replaceable
from stocktake.storage import Folder, StorageError
from stocktake.workflows.evaluate import evaluate


def test_a_folder_that_cannot_be_written_is_told_before_the_work(tmp_path, monkeypatch):
    """An evaluation was lost at its end, hours later. Root may write everywhere, so the kernel's answer is put on."""
    monkeypatch.setattr("os.access", lambda _path, _mode: False)
    with pytest.raises(StorageError, match=f"{tmp_path} cannot be written to. Type another folder"):
        require_replaceable(Folder(str(tmp_path)), "metrics.json", {}, overwrite=True)


def test_an_evaluation_of_something_else_is_replaced_only_when_told(compose, synthetic_root, tmp_path, monkeypatch):
    first, second = (write_checkpoint(tmp_path / name, synthetic_root, seed=seed) for seed, name in enumerate("ab"))
    output = tmp_path / "evaluated"

    def evaluated(checkpoint, *words):
        return evaluate(
            compose("evaluate", f"checkpoint={checkpoint}", f"output_dir={output}", "num_workers=0", *words)
        )

    evaluated(first, "limit=8")
    kept = {path.name: path.read_bytes() for path in output.iterdir()}
    assert kept.keys() == {"metrics.json", "predictions.parquet", "report.html"}
    assert json.loads(kept["metrics.json"])["checkpoint_sha256"] == Checkpoint.open(str(first)).sha256
    monkeypatch.setattr("stocktake.workflows.evaluate.predict_split", lambda *_: pytest.fail("it was begun"))
    for checkpoint, words, named in [
        (second, ["limit=8"], r"checkpoint_sha256 is .* there"),
        (first, ["limit=7"], "num_images is 8 there, 7 here"),
    ]:
        with pytest.raises(WouldReplaceError, match=named) as caught:
            evaluated(checkpoint, *words)
        assert "overwrite=true" in str(caught.value)
    assert {path.name: path.read_bytes() for path in output.iterdir()} == kept
    monkeypatch.undo()
    assert evaluated(first, "limit=9")["num_images"] == 9  # more of the same
    assert evaluated(second, "limit=8", "overwrite=true")["num_images"] == 8


@pytest.mark.parametrize("content", [None, b"", b"[" * 10**5, b'{"num_images": 8', b"[]", b'{"made_of": 1}'])
def test_what_is_half_written_or_the_same_may_go(tmp_path, content):
    if content is not None:
        (tmp_path / "metrics.json").write_bytes(content)
    made_of = {"made_of": 1, "num_images": 7}
    assert require_replaceable(Folder(str(tmp_path)), "metrics.json", made_of, overwrite=False) is None


def test_files_that_belong_together_are_the_old_ones_no_longer_once_one_is_new(tmp_path, monkeypatch):
    folder = Folder(str(tmp_path / "new"))
    folder.write_together({"table": b"old", "figures": b"old"})
    write = Folder.write

    def fail_at_the_last(self, key, content):
        if key == "figures":
            raise StorageError("the machine was taken away")
        write(self, key, content)

    monkeypatch.setattr(Folder, "write", fail_at_the_last)
    with pytest.raises(StorageError):
        folder.write_together({"table": b"new", "figures": b"new"})
    assert (folder.read("table"), folder.exists("figures")) == (b"new", False)
