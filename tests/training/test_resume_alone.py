"""Two processes in one run folder: the second is told, and the first one's run is what it would have been."""

import errno
import fcntl
import os

import pytest
from omegaconf import OmegaConf
from recipes import TINY, interrupt_at

from stocktake.model.counter import BinCounter
from stocktake.training.resume import alone_in
from stocktake.workflows.train import EXIT_INTERRUPTED, train

pytestmark = pytest.mark.integration  # whole trainings

RECIPE = [*TINY, "model.backbone=test_resnet", "data.batch_size=8", "data.limit=40", "trainer.max_epochs=1"]
SPOT = ["experiment=resnet50_spot", *RECIPE]


@pytest.fixture
def typed(compose, synthetic_root):
    def run(folder, *words):
        return train(compose("train", *words, f"data.root={synthetic_root}", output_dir=folder))

    return run


@pytest.mark.parametrize(
    ("words", "cure"),
    [(SPOT, "run_name=<new>"), (["experiment=resnet50", *RECIPE], r"hydra\.run\.dir=runs/resnet50/<new>")],
)
def test_a_second_process_in_a_run_folder_is_refused_while_the_first_one_trains(
    typed, tmp_path, monkeypatch, words, cure
):
    folder, refused = tmp_path / ("default" if words is SPOT else "run"), []
    with monkeypatch.context() as patched:
        original = BinCounter.training_step

        def training_step(module, batch, batch_index):
            if not refused:
                patched.undo()
                refused.append(None)
                with pytest.raises(ValueError, match=rf"Another process is training in {folder}.*{cure}") as caught:
                    typed(folder, *words)
                refused.append(caught.value)
            return original(module, batch, batch_index)

        patched.setattr(BinCounter, "training_step", training_step)
        typed(folder, *words)
    assert len(refused) == 2
    assert (folder / "metrics.json").is_file()
    assert not list(folder.rglob("*lock*"))


def test_a_folder_of_checkpoints_elsewhere_is_one_runs_too(typed, tmp_path):
    elsewhere = tmp_path / "checkpoints"
    elsewhere.mkdir()
    place = os.open(elsewhere, os.O_RDONLY)
    try:
        fcntl.flock(place, fcntl.LOCK_EX)
        with pytest.raises(ValueError, match=f"Another process is training in {elsewhere}"):
            typed(tmp_path / "run", *SPOT, f"checkpoint_dir={elsewhere}")
    finally:
        os.close(place)
    typed(tmp_path / "run", *SPOT, f"checkpoint_dir={elsewhere}")


def run_in(folder, checkpoints):
    return OmegaConf.create(
        {"name": "n", "run_name": "r", "run_dir": str(folder), "checkpoint_dir": str(folder / checkpoints)}
    )


def test_a_link_to_a_folder_of_checkpoints_is_that_folder(tmp_path):
    (tmp_path / "common").mkdir()
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "checkpoints").symlink_to(tmp_path / "common")
    other = run_in(tmp_path / "other", "checkpoints")
    with (
        alone_in(run_in(tmp_path / "one", "checkpoints")),
        pytest.raises(ValueError, match=f"is training in {tmp_path}/other/checkpoints"),
        alone_in(other),
    ):
        pass
    for folder in (other, run_in(tmp_path / "one", "."), run_in(tmp_path / "common", "a/b")):
        with alone_in(folder):
            pass


def test_a_file_system_without_locks_is_told_and_no_reason_to_end(tmp_path, monkeypatch, capsys):
    def flock(_place, _operation):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("fcntl.flock", flock)
    with alone_in(run_in(tmp_path / "run", "checkpoints")):
        (told,) = capsys.readouterr().err.splitlines()
    assert told.startswith(f"Note: the file system of {tmp_path / 'run'} has no locks (No locks available)")
    assert "Start one at a time" in told


@pytest.mark.parametrize("resume", [True, False])
def test_after_sigterm_what_is_told_to_type_goes_on_with_this_run(typed, tmp_path, monkeypatch, capsys, resume):
    monkeypatch.setattr("sys.argv", ["train.py", "callbacks=spot"])
    words = SPOT if resume else ["experiment=resnet50", "callbacks=spot", *RECIPE]
    interrupt_at(monkeypatch, 2)
    with pytest.raises(SystemExit) as caught:
        typed(tmp_path, *words)
    assert caught.value.code == EXIT_INTERRUPTED
    told = capsys.readouterr().err.strip().splitlines()[-1]
    again = f"To go on with it, type python train.py callbacks=spot resume=true hydra.run.dir={tmp_path}"
    assert told.endswith("Type the same again to go on." if resume else again)


def test_after_sigterm_without_spot_it_is_told_what_is_kept(typed, tmp_path, monkeypatch, capsys):
    interrupt_at(monkeypatch, 7)  # in the second epoch: the first one's best is there
    words = ["experiment=resnet50", *RECIPE, "trainer.max_epochs=2"]
    with pytest.raises(SystemExit) as caught:
        typed(tmp_path, *words)
    assert caught.value.code == EXIT_INTERRUPTED
    told = capsys.readouterr().err
    assert f"checkpoint={tmp_path}/checkpoints/best.ckpt" in told and "This run cannot go on" in told
