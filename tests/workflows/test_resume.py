"""A training that was stopped from outside ends as one that was not: weights, optimizer and losses, bit for bit."""

import io
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from stocktake.storage import Folder
from stocktake.workflows.history import read_history
from stocktake.workflows.train import EXIT_INTERRUPTED

REPOSITORY = Path(__file__).parents[2]
# (signal, what the training is doing when it comes); steps and delays are drawn, so no two runs stop alike.
MOMENTS = [
    (signal.SIGTERM, "step"),
    (signal.SIGKILL, "step"),
    (signal.SIGKILL, "saving"),
    (signal.SIGTERM, "saving"),
    (signal.SIGKILL, "validating"),
    (signal.SIGTERM, "validating"),
    (signal.SIGKILL, "step"),
    (signal.SIGTERM, "step"),
    (signal.SIGKILL, "saving"),
    (signal.SIGKILL, "validating"),
]


@dataclass
class Training:
    """One run folder and the words that are typed for it, again and again."""

    folder: Path
    checkpoints: str
    words: list[str]

    def start(self) -> subprocess.Popen:
        log = self.folder / "steps.log"
        log.unlink(missing_ok=True)
        words = [*self.words, "+callbacks.log._target_=step_log.StepLog", f"+callbacks.log.path={log}"]
        environment = {"RUN_DIR": str(self.folder), "PYTHONPATH": str(Path(__file__).parent), "OMP_NUM_THREADS": "1"}
        return subprocess.Popen(
            [sys.executable, "train.py", *words, "+callbacks.log.pause_s=0.02"],
            cwd=REPOSITORY,
            env=os.environ | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def finish(self) -> None:
        process = self.start()
        output, _ = process.communicate(timeout=300)
        assert process.returncode == 0, output[-3000:]

    def stop(self, number: int, doing: str, chance: random.Random) -> None:
        """Sends the signal at a drawn moment of what the training is doing, and waits for its end."""
        process = self.start()
        wanted = chance.randint(1, 6 if doing == "step" else 2)  # few enough that the run is not over
        log, seen = self.folder / "steps.log", 0
        deadline = time.monotonic() + 120
        while seen < wanted:
            assert process.poll() is None, process.stdout.read()[-3000:]
            assert time.monotonic() < deadline, "the training did not come so far"
            time.sleep(0.002)
            seen = log.read_text().count(doing) if log.exists() else 0
        time.sleep(chance.uniform(0, 0.03))
        process.send_signal(number)
        output, _ = process.communicate(timeout=120)
        assert process.returncode == (EXIT_INTERRUPTED if number == signal.SIGTERM else -signal.SIGKILL), output[-3000:]

    def end_state(self) -> tuple[dict, list[tuple[float, float]], list[tuple[float, float]]]:
        """Returns the last checkpoint, and the losses of every step and of every validation."""
        place = Folder(self.checkpoints)
        newest = max(key for key, _ in place.sizes() if key.startswith("step-"))
        checkpoint = torch.load(io.BytesIO(place.read(newest)), weights_only=True)
        history = read_history(self.folder)
        losses = [(row["step"], row["train/loss"]) for row in history if "train/loss" in row]
        valid = [(row["step"], row["valid/loss"], row["valid/rmse_mean"]) for row in history if "valid/loss" in row]
        return checkpoint, losses, valid


def training(folder: Path, root: Path, checkpoints: str, *words: str) -> Training:
    folder.mkdir()
    recipe = [
        "experiment=resnet50_spot", "model=small", "logger=csv", f"data.root={root}", "data.image_size_px=32",
        "data.batch_size=8", "trainer.max_epochs=3", "trainer.log_every_n_steps=1", "trainer.precision=32-true",
        "callbacks.spot.every_n_train_steps=3", "callbacks.progress=null", "callbacks.throughput=null",
        "scheduler=one_cycle",
        f"checkpoint_dir={checkpoints}",
    ]  # fmt: skip
    return Training(folder, checkpoints, [*recipe, *words])


def assert_same(one: Training, other: Training) -> None:
    (checkpoint, losses, valid), (expected, expected_losses, expected_valid) = one.end_state(), other.end_state()
    assert checkpoint["global_step"] == expected["global_step"] > 0
    assert losses == expected_losses
    assert valid == expected_valid
    for name, tensor in expected["state_dict"].items():
        assert torch.equal(checkpoint["state_dict"][name], tensor), name
    ours, theirs = checkpoint["optimizer_states"][0]["state"], expected["optimizer_states"][0]["state"]
    for index, state in theirs.items():
        for name, value in state.items():
            assert torch.equal(torch.as_tensor(ours[index][name]), torch.as_tensor(value)), (index, name)
    assert checkpoint["lr_schedulers"] == expected["lr_schedulers"]


@pytest.mark.slow
@pytest.mark.parametrize(("num_workers", "moments"), [(0, MOMENTS[:4]), (2, MOMENTS[4:7])])
def test_stopped_again_and_again_and_resumed_ends_like_one_that_was_not(tmp_path, synthetic_root, num_workers, moments):
    assert_same(*stopped_and_whole(tmp_path, synthetic_root, str(tmp_path), num_workers, moments))


@pytest.mark.slow
def test_the_same_with_checkpoints_in_s3(tmp_path, synthetic_root, s3):
    assert_same(*stopped_and_whole(tmp_path, synthetic_root, "s3://bins", 2, MOMENTS[7:]))


def stopped_and_whole(
    folder: Path, root: Path, checkpoints: str, num_workers: int, moments: list
) -> tuple[Training, Training]:
    words = f"data.num_workers={num_workers}"
    whole = training(folder / "whole", root, f"{checkpoints}/whole/checkpoints", words)
    whole.finish()
    stopped = training(folder / "stopped", root, f"{checkpoints}/stopped/checkpoints", words)
    chance = random.Random(num_workers)
    for number, doing in moments:
        stopped.stop(number, doing, chance)
    stopped.finish()
    return stopped, whole
