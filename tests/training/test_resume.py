"""What a run goes on from, what it refuses to overwrite, and what its metrics.json says."""

import json
import shutil

import pytest
import torch
from recipes import TINY, assert_same_weights, interrupt_at
from untrained import turned

from stocktake import hardware
from stocktake.callbacks.run_config import OtherConfig, RunConfig
from stocktake.callbacks.run_data import OtherData
from stocktake.checkpoints import CheckpointError, read_checkpoint
from stocktake.evaluation.training_history import read_history
from stocktake.model.counter import BinCounter
from stocktake.run_folder import sealed
from stocktake.training.resume import MAY_DIFFER, NothingToResume, WouldOverwrite
from stocktake.workflows.train import EXIT_INTERRUPTED, train

pytestmark = pytest.mark.integration  # whole trainings

RECIPE = [*TINY, "model.backbone=test_resnet", "data.batch_size=8", "data.limit=40"]
SPOT = ["experiment=resnet50_spot", *RECIPE]


@pytest.fixture(scope="module")
def trained(compose, synthetic_root, tmp_path_factory):
    """Returns what trains in a folder of this name, once for each set of words, and gives the folder."""
    base, done = tmp_path_factory.mktemp("trained"), {}

    def run(*words):
        if words not in done:
            done[words] = base / str(len(done))
            train(compose("train", *words, f"data.root={synthetic_root}", output_dir=done[words]))
        return done[words]

    return run


@pytest.fixture
def typed(compose, synthetic_root):
    def run(folder, *words):
        return train(compose("train", *words, f"data.root={synthetic_root}", output_dir=folder))

    return run


@pytest.fixture
def finished(trained, tmp_path):
    """A copy of a finished run of two epochs."""
    return shutil.copytree(trained(*SPOT, "trainer.max_epochs=2"), tmp_path / "finished")


def metrics_of(run):
    return json.loads((run / "metrics.json").read_text())


def losses_of(run):
    return [(row["step"], row["train/loss"]) for row in read_history(run) if "train/loss" in row]


def newest_step(run):
    return max((run / "checkpoints").glob("step-*.ckpt"))


@pytest.mark.parametrize(
    ("first", "then", "options"),
    [
        ("trainer.max_epochs=2", "trainer.max_epochs=3", []),
        ("trainer.max_epochs=2", "trainer.max_epochs=3", ["+trainer.val_check_interval=2"]),
        ("trainer.max_epochs=1", "trainer.max_epochs=3", ["+trainer.check_val_every_n_epoch=2"]),
        ("+trainer.max_steps=7", "+trainer.max_steps=12", ["trainer.max_epochs=-1"]),  # ends within an epoch
        ("+trainer.max_steps=5", "+trainer.max_steps=12", ["trainer.max_epochs=-1"]),  # ends with an epoch
    ],
)
def test_a_finished_run_made_longer_is_the_longer_run(trained, typed, tmp_path, first, then, options):
    run = shutil.copytree(trained(*SPOT, *options, first), tmp_path / "run")
    typed(run, *SPOT, *options, then)
    whole = trained(*SPOT, *options, then)
    assert_same_weights(newest_step(run), newest_step(whole))
    assert metrics_of(run)["steps"] == metrics_of(whole)["steps"] > 10
    assert losses_of(run) == losses_of(whole)
    with pytest.raises(OtherConfig, match=f"{first.partition('=')[0].lstrip('+')} was .*, is "):
        typed(run, *SPOT, *options, first)


def test_a_finished_run_made_longer_is_not_taken_for_finished_when_it_is_stopped(finished, typed, trained, monkeypatch):
    with monkeypatch.context() as patched:
        interrupt_at(patched, 12)
        with pytest.raises(SystemExit):
            typed(finished, *SPOT, "trainer.max_epochs=3")
    typed(finished, *SPOT, "trainer.max_epochs=3")
    whole = trained(*SPOT, "trainer.max_epochs=3")
    assert metrics_of(finished)["steps"] == metrics_of(whole)["steps"] == 15
    assert_same_weights(newest_step(finished), newest_step(whole))


WITHIN_A_STEP = [*SPOT, "trainer.accumulate_grad_batches=3", "+trainer.val_check_interval=2", "trainer.max_epochs=1"]
WITHIN_A_STEP_OF_NO_EPOCH = [
    *(*SPOT, "trainer.accumulate_grad_batches=2", "+trainer.val_check_interval=3"),
    *("trainer.max_epochs=-1", "+trainer.max_steps=5"),
]


@pytest.fixture
def killed(typed, tmp_path, monkeypatch):
    """Returns what kills a run of these words in its fifth batch, and gives the run's folder."""
    original = BinCounter.training_step

    def training_step(module, batch, batch_index):
        if batch_index == 4:
            raise MemoryError("killed")
        return original(module, batch, batch_index)

    def run(*words):
        with monkeypatch.context() as patched:
            patched.setattr(BinCounter, "training_step", training_step)
            with pytest.raises(MemoryError, match="killed"):
                typed(tmp_path, *words)
        assert {path.name for path in (tmp_path / "checkpoints").glob("*.ckpt")} >= {"best.ckpt", "step-00000000.ckpt"}
        return tmp_path

    return run


@pytest.mark.parametrize("words", [WITHIN_A_STEP, WITHIN_A_STEP_OF_NO_EPOCH])
def test_before_the_first_saved_step_a_run_goes_on_from_its_start(killed, typed, trained, words):
    """Killed after a validation between the batches of a step, whose gradients best.ckpt does not hold."""
    run, whole = killed(*words), trained(*words)
    typed(run, *words)
    assert_same_weights(newest_step(run), newest_step(whole))
    assert_same_weights(run / "checkpoints/best.ckpt", whole / "checkpoints/best.ckpt")
    assert losses_of(run) == losses_of(whole)


def test_a_checkpoint_from_within_a_step_is_told_when_the_run_goes_on_from_it(killed, typed, capsys):
    run = killed(*WITHIN_A_STEP)
    (run / "checkpoints/step-00000000.ckpt").unlink()
    capsys.readouterr()
    typed(run, *WITHIN_A_STEP)
    (message,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("best.ckpt was saved")]
    assert "saved within a step with accumulated gradients" in message and "of 1 batches are lost" in message
    assert metrics_of(run)["steps"] == 2


def test_a_run_that_is_stopped_in_its_last_step_ends_with_the_same_figures(trained, typed, tmp_path, monkeypatch):
    _assert_same_figures(trained, typed, tmp_path, monkeypatch, [*SPOT, "trainer.max_epochs=1"], 5)


def test_a_run_that_goes_on_to_an_end_before_its_next_logged_step_has_the_same_figures(
    trained, typed, tmp_path, monkeypatch
):
    words = [*SPOT, "trainer.max_epochs=1", "scheduler=cosine", "trainer.log_every_n_steps=3"]
    _assert_same_figures(trained, typed, tmp_path, monkeypatch, words, 4)


def _assert_same_figures(trained, typed, tmp_path, monkeypatch, words, step):
    with monkeypatch.context() as patched:
        interrupt_at(patched, step)
        with pytest.raises(SystemExit):
            typed(tmp_path, *words)
    typed(tmp_path, *words)
    stopped, whole = metrics_of(tmp_path), metrics_of(trained(*words))
    assert "last/train/loss" in whole and any(name.startswith("last/lr-") for name in whole)
    of_a_folder = ("checkpoint", "metrics_sha256")
    for metrics in (stopped, whole):
        assert [metrics.pop(name) for name in of_a_folder]
    assert stopped == whole


def test_a_longer_run_on_other_data_is_refused_and_the_finished_one_stays(finished, typed):
    config, manifest = (finished / "config.yaml").read_bytes(), "0" * 64
    metrics = sealed(metrics_of(finished) | {"manifest_sha256": manifest})
    (finished / "metrics.json").write_text(json.dumps(metrics))
    with pytest.raises(OtherData, match="begun on another dataset"):
        typed(finished, *SPOT, "trainer.max_epochs=3")
    assert metrics_of(finished)["manifest_sha256"] == manifest
    assert (finished / "config.yaml").read_bytes() == config


def test_what_is_refused_in_the_last_moment_leaves_the_finished_run_as_it_was(finished, typed, monkeypatch):
    """Other bins that are only drawn when the longer run begins."""

    def refuse(*_):
        raise OtherData("begun on another dataset")

    before = [(finished / name).read_bytes() for name in ("config.yaml", "metrics.json")]
    monkeypatch.setattr("stocktake.workflows.train._check_data", lambda *_: None)
    monkeypatch.setattr("stocktake.callbacks.run_data.refuse_other_data", refuse)
    with pytest.raises(OtherData):
        typed(finished, *SPOT, "trainer.max_epochs=3")
    assert [(finished / name).read_bytes() for name in ("config.yaml", "metrics.json")] == before


def test_loaders_that_are_made_anew_in_each_epoch_read_whole_epochs_after_an_interruption(
    trained, typed, tmp_path, monkeypatch
):
    words = [*SPOT, "+trainer.reload_dataloaders_every_n_epochs=1", "trainer.max_epochs=3"]
    with monkeypatch.context() as patched:
        interrupt_at(patched, 2)
        with pytest.raises(SystemExit):
            typed(tmp_path, *words)
    typed(tmp_path, *words)
    whole = trained(*words)
    assert metrics_of(tmp_path)["steps"] == metrics_of(whole)["steps"] == 15
    assert_same_weights(newest_step(tmp_path), newest_step(whole))


def test_a_schedule_over_the_whole_run_is_named_as_the_reason_why_it_gets_no_longer(trained, typed, tmp_path):
    words = [*SPOT, "scheduler=one_cycle"]
    run = shutil.copytree(trained(*words, "trainer.max_epochs=1"), tmp_path / "run")
    with pytest.raises(OtherConfig, match=r"max_epochs was 1, is 2: OneCycleLR spreads.*max_epochs=1 to go on"):
        typed(run, *words, "trainer.max_epochs=2")
    assert (run / "metrics.json").exists()


@pytest.mark.parametrize("damage", ["gone", "empty", "foreign", "turned"])
def test_without_a_whole_step_checkpoint_it_goes_on_from_the_best(finished, typed, trained, damage, capsys):
    (finished / "metrics.json").unlink()
    best = metrics_of(trained(*SPOT, "trainer.max_epochs=2"))["checkpoint_step"]
    for path in (finished / "checkpoints").glob("step-*.ckpt"):
        content = turned(path.read_bytes())
        path.unlink()
        if damage == "empty":
            path.write_bytes(b"")
        elif damage == "foreign":
            torch.save({"global_step": 10}, path)
        elif damage == "turned":
            path.write_bytes(content)
    typed(finished, *SPOT, "trainer.max_epochs=2")
    whole = trained(*SPOT, "trainer.max_epochs=2")
    assert_same_weights(newest_step(finished), newest_step(whole))
    assert_same_weights(finished / "checkpoints/best.ckpt", whole / "checkpoints/best.ckpt")
    assert metrics_of(finished)["checkpoint_step"] == best
    told = capsys.readouterr().err.count("is damaged or not a run's; trying the one before it.")
    assert told == (0 if damage == "gone" else 2)


def test_sagemakers_markers_beside_checkpoints_are_left_alone(finished, typed, capsys):
    value = json.loads((finished / "metrics.json").read_text())["valid/accuracy"]
    (finished / "metrics.json").unlink()
    newest = newest_step(finished)
    markers = [newest.with_name(f"{newest.name}.sagemaker-{state}") for state in ("uploading", "uploaded")]
    for marker in markers:
        marker.touch()
    assert typed(finished, *SPOT, "trainer.max_epochs=2") == value
    assert "damaged" not in capsys.readouterr().err
    assert all(marker.exists() for marker in markers)


def test_where_nothing_is_whole_nothing_is_overwritten(finished, typed):
    (finished / "metrics.json").unlink()
    for path in (finished / "checkpoints").glob("*.ckpt"):
        path.write_bytes(b"half of a checkpo")
    with pytest.raises(NothingToResume, match=r"no whole checkpoint in .*best\.ckpt.*rm -r"):
        typed(finished, *SPOT, "trainer.max_epochs=2")
    assert (finished / "checkpoints/best.ckpt").read_bytes() == b"half of a checkpo"


def test_where_the_first_save_came_half_the_run_starts_anew(finished, typed, capsys):
    value = json.loads((finished / "metrics.json").read_text())["valid/accuracy"]
    (finished / "metrics.json").unlink()
    for path in (finished / "checkpoints").glob("*.ckpt"):
        path.unlink()
    (finished / "checkpoints/step-00000001.ckpt").write_bytes(b"half of a checkpo")
    assert typed(finished, *SPOT, "trainer.max_epochs=2") == value
    assert "only damaged checkpoints (step-00000001.ckpt): the run starts anew" in capsys.readouterr().err


def test_a_damaged_best_names_the_one_before_it_to_whoever_reads_it(tmp_path):
    (tmp_path / "best.ckpt").write_bytes(b"PK half of a checkpo")
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(str(tmp_path / "best.ckpt"))
    assert "best-before" not in str(caught.value)
    (tmp_path / "best-before.ckpt").write_bytes(b"PK")
    with pytest.raises(CheckpointError, match=rf"is broken.*checkpoint={tmp_path}/best-before\.ckpt"):
        read_checkpoint(str(tmp_path / "best.ckpt"))


def test_a_new_run_does_not_overwrite_another_one(finished, typed):
    words = ["experiment=resnet50", *RECIPE, "trainer.max_epochs=1"]
    content = (finished / "checkpoints/best.ckpt").read_bytes()
    with pytest.raises(WouldOverwrite, match=r"best\.ckpt.*type resume=true; to start another, hydra\.run\.dir="):
        typed(finished, *words)
    assert (finished / "checkpoints/best.ckpt").read_bytes() == content
    shutil.rmtree(finished / "checkpoints")
    with pytest.raises(WouldOverwrite, match=r"metrics\.json"):
        typed(finished, *words)


def test_resume_in_a_folder_that_hydra_has_just_named_is_refused(tmp_path, typed, monkeypatch):
    monkeypatch.delenv("RUN_DIR", raising=False)
    monkeypatch.setattr("sys.argv", ["train.py", "resume=true", "data.limit=40"])
    earlier = tmp_path / "my runs/2026-11-20_08-00-00"
    (earlier / "checkpoints").mkdir(parents=True)
    (earlier / "checkpoints/best.ckpt").write_bytes(b"")
    with pytest.raises(NothingToResume) as caught:
        typed(tmp_path / "my runs/2026-11-28_10-00-00", "experiment=resnet50", *RECIPE, "resume=true")
    assert str(caught.value).endswith(f"python train.py resume=true data.limit=40 'hydra.run.dir=\"{earlier}\"'")


def test_an_empty_metrics_file_is_written_again(finished, typed):
    (finished / "metrics.json").write_bytes(b"")
    value = typed(finished, *SPOT, "trainer.max_epochs=2")
    assert metrics_of(finished)["valid/accuracy"] == value
    assert metrics_of(finished)["steps"] == 10


def test_metrics_are_those_of_the_best_checkpoint_and_the_last_ones_stand_beside(trained):
    run = trained(*SPOT, "trainer.max_epochs=3", "model.optimizer.lr=0.05")
    rows = [row for row in read_history(run) if "valid/accuracy" in row]
    best = max(rows, key=lambda row: row["valid/accuracy"])
    metrics = metrics_of(run)
    names = [name for name in best if name.startswith("valid/")]
    assert len(names) > 5
    assert {name: metrics[name] for name in names} == pytest.approx({name: best[name] for name in names})
    assert {name: metrics[f"last/{name}"] for name in names} == pytest.approx({name: rows[-1][name] for name in names})
    assert metrics["checkpoint_step"] == best["step"] + 1
    assert "train/loss" not in metrics
    assert "last/train/loss" in metrics


def test_without_a_best_checkpoint_the_figures_are_the_last_ones(trained):
    run = trained(*SPOT, "trainer.max_epochs=2", "callbacks.best=null")
    last = [row["valid/accuracy"] for row in read_history(run) if "valid/accuracy" in row][-1]
    metrics = metrics_of(run)
    assert metrics["valid/accuracy"] == pytest.approx(last)
    assert metrics["checkpoint"] == str(newest_step(run))
    assert not (run / "checkpoints/best.ckpt").exists()


def test_what_auto_was_on_the_first_machine_it_stays_on_the_next(tmp_path, typed, monkeypatch, capsys):
    words = [word for word in SPOT if "precision" not in word and "channels_last" not in word]
    words += ["trainer.precision=auto", "model.channels_last=auto", "trainer.max_epochs=1"]
    monkeypatch.setattr(hardware, "has_fast_bfloat16", lambda: False)
    with monkeypatch.context() as patched:
        interrupt_at(patched, 2)
        with pytest.raises(SystemExit):
            typed(tmp_path, *words)
    monkeypatch.setattr(hardware, "has_fast_bfloat16", lambda: True)
    typed(tmp_path, *words)
    config = torch.load(newest_step(tmp_path), weights_only=True)["stocktake_config"]
    assert (config["trainer"]["precision"], config["model"]["channels_last"]) == ("32-true", False)


def test_an_early_stopping_run_goes_on_from_an_epochs_end_and_stays_stopped(trained, typed, tmp_path, monkeypatch):
    options = ["callbacks=[spot,early_stopping]", "callbacks.progress=null", "callbacks.early_stopping.patience=2"]
    words = [*SPOT, *options, "model.optimizer.lr=0", "trainer.max_epochs=9"]
    whole = trained(*words)
    run = tmp_path / "run"
    with monkeypatch.context() as patched:
        interrupt_at(patched, 5)
        with pytest.raises(SystemExit) as caught:
            typed(run, *words)
    assert caught.value.code == EXIT_INTERRUPTED
    typed(run, *words)
    assert metrics_of(run)["steps"] == metrics_of(whole)["steps"] == 15
    (run / "metrics.json").unlink()  # killed before it was written
    typed(run, *words)
    assert metrics_of(run)["steps"] == 15


def test_callbacks_that_change_what_is_learnt_may_not_change_on_the_way(finished, typed):
    mean = ["+callbacks.average._target_=stocktake.callbacks.weight_average.WeightAverage"]
    with pytest.raises(OtherConfig, match=r"callbacks\.average\._target_ was None"):
        typed(finished, *SPOT, *mean, "trainer.max_epochs=2")


def test_the_line_that_goes_on_is_not_refused_for_saying_so():
    """It says resume=true, and the run that it goes on with began without."""
    begun = {"resume": False, "seed": 1, "model": {"backbone": "resnet10t"}}
    RunConfig(begun | {"resume": True}, MAY_DIFFER).check(begun)
    with pytest.raises(OtherConfig, match="seed was 1, is 2"):
        RunConfig(begun | {"seed": 2}, MAY_DIFFER).check(begun)
