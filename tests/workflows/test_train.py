"""A run from its first step to its last: what it leaves, how it goes on, and what ranks change, which is nothing."""

import contextlib
import csv
import json
import os
import pathlib
import signal
import subprocess
import sys

import pytest
import torch
from recipes import SPOT, TINY, assert_same_weights, interrupt_at, state_of

from stocktake.callbacks.run_config import OtherConfig
from stocktake.checkpoints import Checkpoint
from stocktake.data.datamodule import BinDataModule
from stocktake.metrics.calibration import fit_temperature
from stocktake.workflows.train import EXIT_INTERRUPTED, train

REPOSITORY = pathlib.Path(__file__).parents[2]


@pytest.fixture
def configured(compose, synthetic_root):
    def made(run_dir, *words):
        return compose("train", *words, f"data.root={synthetic_root}", output_dir=run_dir)

    return made


def test_a_run_leaves_what_a_person_needs_to_judge_it(configured, tmp_path):
    words = ["experiment=resnet50", *TINY, "model.backbone=test_resnet", "data.batch_size=16", "trainer.max_epochs=2"]
    value = train(configured(tmp_path, *words))
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert value == metrics["valid/accuracy"]
    assert metrics["checkpoint"] == str(tmp_path / "checkpoints/best.ckpt")
    checkpoint = torch.load(metrics["checkpoint"], weights_only=True)
    assert checkpoint["stocktake_config"]["model"]["backbone"] == "test_resnet"
    assert "trainer" in (tmp_path / "config.yaml").read_text()
    with open(next(tmp_path.glob("csv/*/metrics.csv"))) as file:
        rows = list(csv.DictReader(file))
    accuracies = [float(row["valid/accuracy"]) for row in rows if row["valid/accuracy"]]
    assert len(accuracies) == 2
    assert value == pytest.approx(max(accuracies))
    assert sum(bool(row["train/loss"]) for row in rows) == metrics["steps"]


@pytest.fixture(scope="module")
def uninterrupted(compose, synthetic_root, tmp_path_factory):
    folder = tmp_path_factory.mktemp("uninterrupted")
    words = [*SPOT, "model.backbone=test_resnet", f"data.root={synthetic_root}"]
    train(compose("train", *words, output_dir=folder))
    return folder


@pytest.mark.parametrize("step", [2, 5, 8])  # within an epoch, at its end, in the next one
def test_interrupted_and_typed_again_ends_with_the_same_weights(
    configured, tmp_path, monkeypatch, uninterrupted, step, capsys
):
    words = [*SPOT, "model.backbone=test_resnet"]
    with monkeypatch.context() as patched:
        interrupt_at(patched, step)
        with pytest.raises(SystemExit) as caught:
            train(configured(tmp_path, *words))
    assert caught.value.code == EXIT_INTERRUPTED
    assert f"after step {step}" in capsys.readouterr().err
    assert not (tmp_path / "metrics.json").exists()
    torch.rand(10)

    value = train(configured(tmp_path, *words))
    assert_same_weights(*(max((run / "checkpoints").glob("step-*.ckpt")) for run in (tmp_path, uninterrupted)))
    assert_same_weights(tmp_path / "checkpoints/best.ckpt", uninterrupted / "checkpoints/best.ckpt")
    before = json.loads((uninterrupted / "metrics.json").read_text())
    after = json.loads((tmp_path / "metrics.json").read_text())
    for name in before.keys() - {"checkpoint"}:
        if name.startswith(("valid/", "steps")):
            assert after[name] == before[name], name

    assert train(configured(tmp_path, *words)) == value
    assert f"The run in {tmp_path} is finished" in capsys.readouterr().out


def test_other_words_are_refused_and_leave_the_folder_as_it_was(configured, tmp_path, monkeypatch):
    words = [*SPOT, "model.backbone=test_resnet"]
    with monkeypatch.context() as patched:
        interrupt_at(patched, 2)
        with pytest.raises(SystemExit):
            train(configured(tmp_path, *words))
    kept = (tmp_path / "config.yaml").read_text()
    with pytest.raises(OtherConfig, match=r"model\.optimizer\.lr was 0\.[0-9]+, is 0\.5"):
        train(configured(tmp_path, *words, "model.optimizer.lr=0.5"))
    with pytest.raises(OtherConfig, match=r"data\.num_train_bins was None, is 50"):
        train(configured(tmp_path, *words, "data.num_train_bins=50"))
    assert (tmp_path / "config.yaml").read_text() == kept


@pytest.mark.parametrize(
    ("word", "named"),
    [
        ("model.optimizer.lr=0.5", r"model\.optimizer\.lr"),
        ("data.num_train_bins=50", r"data\.num_train_bins was None, is 50"),
    ],
)
def test_a_finished_run_under_other_words_is_refused_too(configured, uninterrupted, word, named):
    with pytest.raises(OtherConfig, match=named):
        train(configured(uninterrupted, *SPOT, "model.backbone=test_resnet", word))


def test_a_run_without_a_logger(configured, tmp_path):
    words = ["experiment=resnet50", *TINY, "logger=none", "model.backbone=test_resnet", "trainer.max_epochs=1"]
    train(configured(tmp_path, *words, "data.batch_size=16", "data.limit=16"))
    assert (tmp_path / "metrics.json").exists()


def test_the_best_of_an_error_is_the_smallest(configured, tmp_path):
    words = ["experiment=resnet50", *TINY, "model.backbone=test_resnet", "trainer.max_epochs=3", "data.batch_size=16"]
    value = train(configured(tmp_path, *words, "data.limit=16", "optimized_metric=valid/loss"))
    with open(next(tmp_path.glob("csv/*/metrics.csv"))) as file:
        losses = [float(row["valid/loss"]) for row in csv.DictReader(file) if row["valid/loss"]]
    assert len(set(losses)) == 3
    assert value == pytest.approx(min(losses))


def test_two_ranks_take_the_step_of_one(configured, synthetic_root, tmp_path):
    # A net without batch statistics or dropout: they alone may depend on how a batch is shared out.
    words = [
        *("experiment=resnet50", *TINY, "model.backbone=test_convnext", "model.drop_rate=0", "trainer.max_epochs=1"),
        *("data.batch_size=16", "data.limit=16", "model.optimizer._target_=torch.optim.SGD", "model.optimizer.lr=0.1"),
    ]
    train(configured(tmp_path / "one", *words))
    two = tmp_path / "two"
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "train.py"]
    process = subprocess.Popen(
        [*torchrun, *words, f"data.root={synthetic_root}"],
        cwd=REPOSITORY,
        env=os.environ | {"RUN_DIR": str(two)},
        start_new_session=True,  # so that its ranks can be ended with it
    )
    try:
        assert process.wait(timeout=300) == 0
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    one_state, two_state = (state_of(tmp_path / name / "checkpoints/best.ckpt") for name in ("one", "two"))
    for key, value in one_state.items():
        torch.testing.assert_close(two_state[key], value, atol=1e-5, rtol=1e-4, msg=key)
    one_metrics, two_metrics = (json.loads((tmp_path / name / "metrics.json").read_text()) for name in ("one", "two"))
    for name in one_metrics:
        if name.startswith("valid/"):
            assert two_metrics[name] == pytest.approx(one_metrics[name], rel=1e-4), name


def test_fine_tuning_starts_where_the_finished_run_ended(configured, tmp_path):
    words = [*TINY, "model.backbone=test_resnet", "data.batch_size=8", "trainer.max_epochs=2"]
    reached = train(configured(tmp_path / "first", "experiment=resnet50", *words))
    checkpoint = tmp_path / "first/checkpoints/best.ckpt"
    train(configured(tmp_path / "second", "experiment=resnet50_finetune", *words, f"checkpoint={checkpoint}"))
    (path,) = (tmp_path / "second").rglob("metrics.csv")
    rows = list(csv.DictReader(path.open()))
    first = next(row for row in rows if row["valid/accuracy"])
    assert (int(first["step"]), float(first["valid/accuracy"])) == (0, pytest.approx(reached))
    rates = [float(row["lr-AdamW"]) for row in rows if row.get("lr-AdamW")]
    assert rates[0] == 0.0001
    assert rates == sorted(rates, reverse=True)
    other = [*words, f"checkpoint={checkpoint}", "data.counts=[1,2,3]"]
    with pytest.raises(ValueError, match=r"does not fit this model .* type the same"):
        train(configured(tmp_path / "third", "experiment=resnet50_finetune", *other))


def test_the_calibration_is_that_of_the_best_checkpoint(configured, synthetic_root, tmp_path):
    words = ["experiment=resnet50", *TINY, "model.backbone=test_resnet", "data.batch_size=8", "trainer.max_epochs=3"]
    train(configured(tmp_path, *words, "callbacks=finetune", "callbacks.average.decay=0.8"))
    path = tmp_path / "checkpoints/best.ckpt"
    kept = json.loads((path.parent / "calibration.json").read_text())
    finished = Checkpoint.open(str(path))
    module, config = finished.model, finished.config
    datamodule = BinDataModule(str(synthetic_root), 8, 32, counts=config["data"]["counts"], num_workers=0)
    probabilities, recorded = [], []
    with torch.no_grad():
        for batch in datamodule.loader("valid"):
            probabilities.append(module.predict_step(batch)["probabilities"])
            recorded.append(module.classes(batch["counts"]))
    probabilities, recorded = torch.cat(probabilities).double().numpy(), torch.cat(recorded).numpy()
    assert kept["temperature"] == pytest.approx(fit_temperature(probabilities, recorded), rel=1e-3)
    assert kept["num_images"] == len(recorded)
    assert kept["counts"] == config["data"]["counts"]


def test_a_training_that_diverges_says_so(configured, tmp_path):
    words = ["experiment=resnet50", *TINY, "model.backbone=test_resnet", "data.batch_size=8", "trainer.max_epochs=2"]
    with pytest.raises(ValueError, match=r"diverged.*model.optimizer.lr"):
        train(configured(tmp_path, *words, "model.optimizer.lr=1e30"))


def test_a_value_that_only_the_user_knows_is_asked_for(configured, tmp_path):
    with pytest.raises(ValueError, match=r"checkpoint has no value in experiment=resnet50_finetune: type checkpoint="):
        train(configured(tmp_path, "experiment=resnet50_finetune", *TINY))


def test_a_sampler_of_lightnings_own_is_refused(configured, tmp_path):
    with pytest.raises(ValueError, match=r"trainer\.overfit_batches=2 is not supported.*type data\.limit=32"):
        train(configured(tmp_path, "experiment=resnet50", *TINY, "+trainer.overfit_batches=2"))
