"""A small repository with a train.py that needs no torch, to be sent by the real launchers."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest
from account import Account
from fork_server import Forked, ForkServer
from local_s3 import local_s3

from stocktake.rehearsal.api_server import RehearsalServer
from stocktake.rehearsal.local_runner import LocalRunner
from stocktake.rehearsal.signature import SessionKey

REPOSITORY = Path(__file__).parents[2]
TRAIN = """
import hydra

@hydra.main(version_base="1.3", config_path="conf", config_name="train")
def main(cfg):
    from tiny import train
    return train(cfg)

if __name__ == "__main__":
    main()
"""
# Tells its words, steps and metrics as the real one does.
TINY = """
import json, os, pathlib, sys, time
VARIABLES = ("WANDB_RUN_ID", "WANDB_RUN_GROUP", "WANDB_MODE", "STOCKTAKE_COMMIT", "STOCKTAKE_EXPORT")

def train(cfg):
    if cfg.fail:
        raise KeyError("no such backbone: " + cfg.fail)
    run = pathlib.Path(cfg.run_dir)
    (run / "checkpoints").mkdir(parents=True, exist_ok=True)
    last = run / "checkpoints" / "last.ckpt"
    began = int(last.read_text()) if cfg.resume and last.exists() else 0
    for step in range(began + 1, cfg.steps + 1):
        print(f"step={step}/{cfg.steps} train/loss={1 / step}", flush=True)
        if cfg.validates:
            print(f"step={step}/{cfg.steps} valid/accuracy={cfg.lr} objective={cfg.lr}", flush=True)
        if cfg.until and pathlib.Path(cfg.until).exists():
            break
        time.sleep(cfg.pause_s)
        if cfg.resume:
            last.with_name("part").write_text(str(step))
            last.with_name("part").rename(last)
    seen = cfg.lr if cfg.logged is None else cfg.logged
    print(f"step={step}/{cfg.steps} valid/accuracy={seen} objective={seen}", flush=True)
    (run / "checkpoints" / "best.ckpt").write_text("best")
    told = {"valid/accuracy": cfg.lr, "words": sys.argv[1:], "texts": list(cfg.texts), "modules": sorted(sys.modules)}
    told |= {"began": began, "run_dir": str(run)}
    told["environment"] = {key: os.environ.get(key) for key in VARIABLES}
    (run / "metrics.json").write_text(json.dumps(told))
    return cfg.lr
"""
CONFIG = """
defaults:
  - compute: on_demand
  - _self_
  - optional experiment: null
name: tiny
run_name: default
run_dir: ${hydra:runtime.output_dir}
optimized_metric: valid/accuracy
resume: false
callbacks: {}
data: {root: null}
model: {weights: none}
lr: 0.5
texts: []
steps: 2
pause_s: 0.0
validates: false  # after each step
logged: null  # what the log says instead of what metrics.json does
until: ""  # a file that ends it before its last step
fail: ""
hydra:
  run: {dir: "${oc.env:RUN_DIR,runs/local}"}
  sweep: {dir: runs/sweep, subdir: "${hydra:job.num}"}
  job: {chdir: false}
"""
# Takes torchrun's options and starts in no time.
TORCHRUN = """
import os, pathlib, subprocess, sys
options = dict(word[2:].split("=", 1) for word in sys.argv[1:] if word.startswith("--"))
words = sys.argv[sys.argv.index("train.py"):]
logs = pathlib.Path(options["log-dir"]) / "none_x" / "attempt_0" / "0"
logs.mkdir(parents=True)
child = subprocess.Popen([sys.executable, *words], stderr=subprocess.PIPE, text=True)
_, written = child.communicate()
(logs / "stderr.log").write_text(written)
sys.stderr.write(written)
sys.exit(1 if child.returncode else 0)
"""


def git(folder: Path, *words: str) -> None:
    identity = {"GIT_CONFIG_GLOBAL": os.devnull}
    for role in ("AUTHOR", "COMMITTER"):
        identity |= {f"GIT_{role}_NAME": "t", f"GIT_{role}_EMAIL": "t@example.com"}
    subprocess.run(["git", *words], cwd=folder, check=True, capture_output=True, env=os.environ | identity)


class Tiny:
    """The repository, and what is typed in it."""

    def __init__(self, folder: Path, fork_server: ForkServer):
        self.folder, self._fork_server = folder, fork_server
        self.environment: dict[str, str] = {}
        self.typed_in = folder

    def start(
        self,
        *words: str,
        terminal: int | None = None,
        variables: Mapping[str, str] | None = None,
        is_fresh: bool = False,
    ) -> subprocess.Popen | Forked:
        """Starts train.py in a terminal, or with a pipe each for its output and its errors.

        Args:
            is_fresh: In a Python of its own, and not in one that has imported already what it needs.
        """
        environment = {key: value for key, value in os.environ.items() if not key.startswith(("AWS_", "WANDB_"))}
        path = os.pathsep.join([str(REPOSITORY / "src"), str(self.folder / "src-local")])
        environment |= {"PYTHONPATH": path, "HOME": str(self.folder)} | self.environment | dict(variables or {})
        line = [os.path.relpath(self.folder / "train.py", self.typed_in), *words]
        if not is_fresh:
            return self._fork_server.start(line, self.typed_in, environment, terminal)
        return subprocess.Popen(
            [sys.executable, *line],
            cwd=self.typed_in,
            env=environment,
            stdin=terminal or subprocess.DEVNULL,
            stdout=terminal or subprocess.PIPE,
            stderr=terminal or subprocess.PIPE,
            text=True,
        )

    def type(self, *words: str, is_fresh: bool = False, **variables: str) -> subprocess.CompletedProcess:
        """Runs train.py to its end."""
        process = self.start(*words, variables=variables, is_fresh=is_fresh)
        output, errors = process.communicate(timeout=120)
        return subprocess.CompletedProcess(words, process.returncode, output, errors)


@pytest.fixture(scope="session")
def fork_server() -> Iterator[ForkServer]:
    server = ForkServer("launcher_imports", [REPOSITORY / "src"])
    yield server
    server.close()


@pytest.fixture
def tiny(tmp_path, fork_server) -> Tiny:
    folder = tmp_path / "tiny"
    files = {
        "train.py": TRAIN,
        "src/tiny.py": TINY,
        "src/torch/__init__.py": "",
        "src/torch/distributed/__init__.py": "",
        "src/torch/distributed/run.py": TORCHRUN,
        "src-local/tiny.py": TINY,
        "conf/train.yaml": CONFIG,
        ".gitignore": "runs/\n__pycache__/\n",
    }
    for file, text in files.items():
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_text(text)
    shutil.copytree(REPOSITORY / "conf" / "compute", folder / "conf" / "compute")
    git(folder, "init", "-q")
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "tiny")
    return Tiny(folder, fork_server)


class Aws:
    def __init__(self, stack: ExitStack, folder, monkeypatch):
        self.buckets = folder / "buckets"
        (self.buckets / "bins").mkdir(parents=True)
        s3 = stack.enter_context(local_s3(self.buckets))
        for name, value in s3.environment().items():
            monkeypatch.setenv(name, value)
        self.runner = stack.enter_context(LocalRunner(folder / "jobs", grace_s=10, upload_interval_s=0.1))
        keys = (s3.environment()[f"AWS_{name}"] for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY"))
        self.server = stack.enter_context(RehearsalServer(self.runner, key=SessionKey(*keys)))
        self.account = stack.enter_context(Account())
        self.environment = s3.environment() | self.account.environment() | {"AWS_REGION": "us-east-1"}
        self.environment["AWS_ENDPOINT_URL_S3"] = s3.environment()["AWS_ENDPOINT_URL"]
        self.environment.pop("AWS_ENDPOINT_URL")  # whom a test forgot must not be reached
        for service in ("SAGEMAKER", "CLOUDWATCH_LOGS"):
            self.environment[f"AWS_ENDPOINT_URL_{service}"] = self.server.url
        self.environment["AWS_EC2_METADATA_DISABLED"] = "true"

    @property
    def jobs(self) -> list:
        return self.server.jobs.all()


@pytest.fixture
def aws(tmp_path, monkeypatch, tiny):
    with ExitStack() as stack:
        aws = Aws(stack, tmp_path, monkeypatch)
        tiny.environment = aws.environment
        yield aws
