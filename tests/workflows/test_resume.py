"""A training that was stopped from outside ends as one that was not: weights, optimizer and losses, bit for bit.

RESUME_KILLS=30 RESUME_SEED=1 python -m pytest -m slow tests/workflows/test_resume.py -k drawn
"""

import io
import json
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

from stocktake.evaluation.training_history import read_history
from stocktake.storage import Folder
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
MORE_MOMENTS = [*MOMENTS, *[(signal.SIGXFSZ, "saving")] * 4]  # killed by the system within the write of a checkpoint
NUM_KILLS = int(os.environ.get("RESUME_KILLS", "6"))
SEED = int(os.environ.get("RESUME_SEED", "0"))
# Each draw has one of these in turn, and each other one by chance.
OPTIONS = [
    ["+trainer.val_check_interval=4"],
    ["callbacks=[spot,early_stopping]", "callbacks.early_stopping.patience=2"],
    ["+callbacks.average._target_=stocktake.callbacks.weight_average.WeightAverage", "+callbacks.average.decay=0.6"],
    ["trainer.accumulate_grad_batches=2"],
    ["trainer.max_epochs=-1", "+trainer.max_steps=13"],
    ["+trainer.val_check_interval=3"],
    ["optimized_metric=valid/loss"],
]


@dataclass
class Training:
    """One run folder and the words that are typed for it, again and again."""

    folder: Path
    checkpoints: str
    words: list[str]

    def start(self, **environment: str) -> subprocess.Popen:
        log = self.folder / "steps.log"
        log.unlink(missing_ok=True)
        words = [*self.words, "+callbacks.log._target_=step_log.StepLog", f"+callbacks.log.path={log}"]
        python_path = os.pathsep.join([str(REPOSITORY / "tests" / "support"), os.environ.get("PYTHONPATH", "")])
        environment |= {"RUN_DIR": str(self.folder), "PYTHONPATH": python_path, "OMP_NUM_THREADS": "1"}
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

    def kill_in_write(self, chance: random.Random) -> bool:
        """Has the training killed within the write of a checkpoint; returns whether there was one to write."""
        at_bytes = chance.randint(50_000, 5_000_000)
        process = self.start(KILLED_SAVE=str(chance.randint(1, 4)), KILLED_AT_BYTES=str(at_bytes))
        output, _ = process.communicate(timeout=300)
        assert process.returncode in (0, -signal.SIGXFSZ), output[-3000:]
        return process.returncode != 0

    def stop(self, number: int, doing: str, chance: random.Random, may_end: bool = False) -> bool:
        """Sends the signal at a drawn moment of what the training is doing, and waits for its end.

        Returns whether it came before the training's own end.
        """
        process = self.start()
        wanted = chance.randint(1, 6 if doing == "step" else 2)  # few enough that the run is not over
        log, seen = self.folder / "steps.log", 0
        deadline = time.monotonic() + 120
        while seen < wanted:
            if process.poll() == 0 and may_end:
                return False
            assert process.poll() is None, process.stdout.read()[-3000:]
            assert time.monotonic() < deadline, "the training did not come so far"
            time.sleep(0.002)
            seen = log.read_text().count(doing) if log.exists() else 0
        time.sleep(chance.uniform(0, 0.03))
        process.send_signal(number)
        output, _ = process.communicate(timeout=120)
        if process.returncode == 0 and may_end:
            return False
        assert process.returncode == (EXIT_INTERRUPTED if number == signal.SIGTERM else -signal.SIGKILL), output[-3000:]
        return True

    def checkpoint(self, key: str) -> dict:
        return torch.load(io.BytesIO(Folder(self.checkpoints).read(key)), weights_only=True)

    def metrics(self) -> dict[str, float]:
        """Returns the figures of metrics.json that do not depend on how often a run was started."""
        metrics = json.loads((self.folder / "metrics.json").read_text())
        return {name: value for name, value in metrics.items() if "valid/" in name or "step" in name}

    def end_state(self) -> tuple[dict, list[tuple[float, float]], list[tuple[float, float]]]:
        """Returns the last checkpoint, and the losses of every step and of every validation."""
        keys = [key for key, _ in Folder(self.checkpoints).sizes()]
        checkpoint = self.checkpoint(max(key for key in keys if key.startswith("step-")))
        history = read_history(self.folder)
        losses = [(row["step"], row["train/loss"]) for row in history if "train/loss" in row]
        valid = [(row["step"], row["valid/loss"], row["valid/rmse_expected"]) for row in history if "valid/loss" in row]
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
    assert_same_state(checkpoint, expected)
    assert_same_state(one.checkpoint("best.ckpt"), other.checkpoint("best.ckpt"))
    assert one.metrics() == other.metrics()


def assert_same_state(checkpoint: dict, expected: dict) -> None:
    assert checkpoint["global_step"] == expected["global_step"]
    assert checkpoint.keys() == expected.keys()
    for part in {"state_dict", "current_model_state", "averaging_state"} & expected.keys():
        for name, tensor in expected[part].items():
            assert torch.equal(checkpoint[part][name], tensor), (part, name)
    ours, theirs = checkpoint["optimizer_states"][0]["state"], expected["optimizer_states"][0]["state"]
    for index, state in theirs.items():
        for name, value in state.items():
            assert torch.equal(torch.as_tensor(ours[index][name]), torch.as_tensor(value)), (index, name)
    assert checkpoint["lr_schedulers"] == expected["lr_schedulers"]
    assert checkpoint.get("calibration") == expected.get("calibration")
    for name, state in expected["callbacks"].items():
        if name.startswith(("EarlyStopping", "Validations", "EMA")):
            assert checkpoint["callbacks"][name] == state


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


@pytest.mark.slow
def test_drawn_options_killed_at_drawn_moments_end_alike(tmp_path, synthetic_root):
    chance, num_kills, num_runs = random.Random(SEED), 0, 0
    while num_kills < NUM_KILLS:
        always = (SEED + num_runs) % len(OPTIONS)
        options = [option for index, option in enumerate(OPTIONS) if index == always or chance.random() < 0.4]
        words = ["data.num_workers=0", *(word for option in options for word in option)]
        words = list({word.partition("=")[0]: word for word in words}.values())  # the last of each key
        print(f"run {num_runs} of seed {SEED}: {' '.join(words)}", flush=True)
        folders = tmp_path / f"whole-{num_runs}", tmp_path / f"stopped-{num_runs}"
        whole, stopped = (training(folder, synthetic_root, str(folder / "checkpoints"), *words) for folder in folders)
        whole.finish()
        is_over = False
        for number, doing in chance.sample(MORE_MOMENTS, 5):
            if number == signal.SIGXFSZ:
                is_over = not stopped.kill_in_write(chance)
            else:
                is_over = not stopped.stop(number, doing, chance, may_end=True)
            if is_over or num_kills == NUM_KILLS:
                break
            num_kills += 1
            print(f"kill {num_kills}: {signal.Signals(number).name} while {doing}", flush=True)
        stopped.finish()
        assert_same(stopped, whole)
        num_runs += 1
