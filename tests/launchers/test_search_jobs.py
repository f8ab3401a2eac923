"""`hydra/sweeper=search` whose trials are jobs: rehearsed ones, and the requests of a dry run."""

import json
import os
import subprocess

import pytest

SWEEP = """# @package _global_
defaults:
  - override /hydra/sweeper: search
hydra:
  sweeper:
    name: rates
    num_trials: 4
    space:
      lr: {choice: [0.5, 0.6, 0.7, 0.1]}
    start: [{lr: 0.5}, {lr: 0.6}, {lr: 0.7}, {lr: 0.1}]
"""
# Validates at each step, and has its rate as its score from the first on; runs on until it is stopped where told to.
TINY = """
import json, os, pathlib, time

def train(cfg):
    run, parent = pathlib.Path(cfg.run_dir), os.getppid()
    (run / "checkpoints").mkdir(parents=True, exist_ok=True)
    if cfg.fail and cfg.lr == float(cfg.fail):
        raise KeyError("no such backbone")
    is_bad = cfg.until and cfg.lr == float(cfg.until)
    for step in range(1, 1000 if is_bad else 4):
        print(f"step={step}/3 valid/accuracy={cfg.lr}", flush=True)
        time.sleep(cfg.pause_s)
        if os.getppid() != parent:  # what started it was stopped
            return None
    (run / "checkpoints" / "best.ckpt").write_text("best")
    (run / "metrics.json").write_text(json.dumps({"valid/accuracy": cfg.lr}))
    return cfg.lr
"""
JOBS = ("-m", "sweep=rates", "hydra/launcher=rehearsal", "hydra.launcher.poll_s=0.1")


@pytest.fixture
def searched(tiny):
    (tiny.folder / "conf" / "sweep").mkdir()
    (tiny.folder / "conf" / "sweep" / "rates.yaml").write_text(SWEEP)
    config = tiny.folder / "conf" / "train.yaml"
    config.write_text(config.read_text().replace("  - optional experiment: null", "  - sweep: null"))
    for file in ("src/tiny.py", "src-local/tiny.py"):
        (tiny.folder / file).write_text(TINY)
    commit(tiny)
    return tiny


def git(folder, *words: str) -> None:
    names = {f"GIT_{role}_{what}": "t@example.com" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    environment = os.environ | names | {"GIT_CONFIG_GLOBAL": os.devnull}
    subprocess.run(["git", *words], cwd=folder, check=True, capture_output=True, env=environment)


def commit(tiny) -> None:
    git(tiny.folder, "add", ".")
    git(tiny.folder, "commit", "-qm", "a sweep")


def last_line(done) -> dict:
    return json.loads(done.stdout.splitlines()[-1])


def test_rehearsed_trials_run_at_once_and_one_that_fails_ends_nothing(searched):
    done = searched.type(*JOBS, "hydra.sweeper.parallel=2", "fail='0.6'")
    assert done.returncode == 0, done.stdout + done.stderr
    summary = last_line(done)
    assert (summary["trials"], summary["failed"], summary["complete"]) == (4, 1, 3)
    assert summary["best"]["values"] == {"lr": 0.7} and summary["best"]["trial"] == 2
    (metrics,) = (searched.folder / "runs/tiny/sweep-rates/2").rglob("metrics.json")
    assert json.loads(metrics.read_text())["valid/accuracy"] == summary["best"]["score"] == 0.7
    assert str(metrics.parent).startswith(str(searched.folder / summary["best"]["folder"])[:-1])
    assert done.stdout.count("┏") == 3, "a table for each batch of two, and one of all trials"
    assert "Trial 1 failed: " in done.stdout and "AlgorithmError" in done.stdout
    (overrides,) = (searched.folder / "runs/rehearsal").glob("*-2/s3/**/*-2/config/overrides.json")
    assert json.loads(overrides.read_text())["overrides"][:3] == ["fail='0.6'", "lr=0.7", "run_name=sweep-rates"]


def test_a_job_that_is_worse_is_stopped_and_pruned(searched):
    words = ("until='0.1'", "pause_s=0.3", "hydra.sweeper.pruner=median", "hydra.sweeper.num_trials=5")
    words += ("hydra.sweeper.parallel=4", "hydra.launcher.grace_s=1")
    sweep = searched.folder / "conf" / "sweep" / "rates.yaml"
    sweep.write_text(SWEEP.replace("0.7, 0.1]", "0.7, 0.8, 0.1]").replace("{lr: 0.7}, ", "{lr: 0.7}, {lr: 0.8}, "))
    commit(searched)
    done = searched.type(*JOBS, *words)
    assert done.returncode == 0, done.stdout + done.stderr
    summary = last_line(done)
    assert (summary["complete"], summary["pruned"], summary["failed"]) == (4, 1, 0)
    assert "worse than other trials were by then (median)" in done.stdout
    assert "Trial 4 pruned" in done.stdout


def test_a_dry_run_shows_the_first_batch_and_leaves_nothing(searched):
    words = ("-m", "sweep=rates", "hydra/launcher=sagemaker", "hydra.launcher.dry_run=true")
    done = searched.type(*words, "hydra.sweeper.parallel=3", "hydra.launcher.region=us-east-1")
    shown = [line for line in done.stdout.splitlines() if line.startswith("CreateTrainingJob ")]
    assert len(shown) == 3, done.stdout + done.stderr
    assert '"lr=0.5", "run_name=sweep-rates"' in done.stdout
    assert "sweep=rates" not in done.stdout, "the job knows nothing of the search"
    assert "Nothing was sent" in done.stdout
    assert not (searched.folder / "runs/tiny").exists()


def test_what_is_not_on_this_machine_is_not_measured(searched):
    done = searched.type(*JOBS, "hydra.sweeper.num_trials=1", "hydra.sweeper.evaluate=true")
    assert done.returncode == 1
    assert "hydra.sweeper.evaluate=true" in done.stderr
