"""The real training through the rehearsal's launcher: scripts/rehearse.py and train.py, as a user types them."""

import json
import os
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from imported import LIST_IMPORTS, imported_modules

REPOSITORY = Path(__file__).parents[2]
pytestmark = pytest.mark.slow
SMALL = ("data=synthetic", "data.num_bins=200", "data.draw=true", "data.limit=64", "trainer.max_epochs=1", "logger=csv")


def typed(*words: str) -> subprocess.CompletedProcess:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("AWS_")}
    return subprocess.run(
        [sys.executable, *words], cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False
    )


def rehearsed(folder: Path, *words: str) -> dict:
    data = ("experiment=demo", f"data.root={folder}/bins", "data.num_bins=400", "data.draw=true")
    told = typed("scripts/rehearse.py", *data, f"folder={folder}/rehearsals", *words)
    assert told.returncode == 0, told.stdout[-3000:] + told.stderr[-3000:]
    return json.loads(told.stdout.splitlines()[-1])


def test_two_interruptions_change_nothing_in_the_model(tmp_path):
    told = rehearsed(tmp_path, "hosts=2", "faults=[notice,kill]", "compare=true")
    at_notice, at_kill = told.pop("steps_lost")
    assert at_notice == 0
    assert 0 <= at_kill <= 4, "at most from one checkpoint to the next"
    assert told.pop("billed_s") > 0
    whole = {"status": "Completed", "attempts": 3, "world_size": 2, "model_answers": True, "weights_equal": True}
    assert told == whole


def test_a_clean_environment_changes_nothing_and_its_model_is_served(tmp_path):
    """The first time it installs torch and what else AWS's image holds: minutes, and a package index."""
    told = rehearsed(tmp_path, "hosts=2", "faults=[notice,kill]", "compare=true", "clean=true")
    assert (told["status"], told["attempts"], told["weights_equal"]) == ("Completed", 3, True)
    (model,) = (tmp_path / "rehearsals").glob("*/with-faults/model")
    (picture,) = sorted((tmp_path / "bins").rglob("*.jpg"))[:1]
    words = [sys.executable, "scripts/serve.py", f"model={model}", "port=0"]
    with subprocess.Popen(words, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout
        url = json.loads(server.stdout.readline())["url"]
        asked = urllib.request.Request(f"{url}/invocations", picture.read_bytes(), {"Content-Type": "image/jpeg"})
        with urllib.request.urlopen(asked, timeout=60) as answer:
            assert json.loads(answer.read())["model_version"].startswith("demo-")
        server.terminate()


def test_a_rehearsal_goes_on_through_throttling_and_a_blip(tmp_path):
    told = rehearsed(tmp_path, "hosts=1", "faults=[throttle,blip,pending]")
    assert (told["status"], told["attempts"]) == ("Completed", 1)


def test_one_host_of_two_is_interrupted_and_both_go_on(tmp_path):
    faults = "faults=[{kind: notice, host: algo-2, step: 3},{kind: kill, host: algo-2, step: 9}]"
    told = rehearsed(tmp_path, faults, "logger=[csv,wandb]")
    assert (told["status"], told["attempts"]) == ("Completed", 3)
    assert told["steps_lost"][0] == 0
    assert told["steps_lost"][1] <= 4
    # offline-run-<date>_<time>-<id>, one for each attempt: W&B joins them by the id, which is the job's name.
    runs = {path.name for path in (tmp_path / "rehearsals").glob("**/wandb/offline-run-*")}
    assert len(runs) == 3
    assert {name.split("-", 3)[3] for name in runs} == {"with-faults"}


def train(tmp_path: Path, *words: str) -> subprocess.CompletedProcess:
    here = (f"hydra.launcher.folder={tmp_path}/rehearsals", f"hydra.sweep.dir={tmp_path}/results")
    return typed("train.py", "-m", *words, f"data.root={tmp_path}/bins", "hydra/launcher=rehearsal", *here)


def test_the_users_own_sentence(tmp_path):
    told = train(tmp_path, "experiment=resnet50_spot", "model.weights=none", *SMALL)
    assert told.returncode == 0, told.stdout[-3000:] + told.stderr[-3000:]
    assert "2 × ml.g5.xlarge │ Completed" in told.stdout
    (path,) = (tmp_path / "results" / "0").rglob("metrics.json")
    assert json.loads(path.read_text())["steps"] == 2


def test_two_jobs_at_the_same_time(tmp_path):
    told = train(tmp_path, "experiment=demo", "model.optimizer.lr=1e-4,1e-3", *SMALL)
    assert told.returncode == 0, told.stdout[-3000:] + told.stderr[-3000:]
    metrics = [json.loads(path.read_text()) for path in sorted((tmp_path / "results").rglob("metrics.json"))]
    assert len(metrics) == 2
    assert metrics[0]["valid/loss"] != metrics[1]["valid/loss"]


def test_a_users_exception_is_told_where_it_was_typed(tmp_path):
    told = train(tmp_path, "experiment=demo", "model.backbone=resnet5", *SMALL)
    assert told.returncode == 1
    assert "model.backbone='resnet5' is no model of timm's" in told.stderr
    assert "AlgorithmError" in told.stderr
    assert "weights.py" in told.stderr, "the traceback says where"


def test_a_training_on_this_machine_never_imports_aws(tmp_path):
    words = ("experiment=resnet50_spot", "model=small", *SMALL, "data.image_size_px=32", f"data.root={tmp_path}/bins")
    told = typed(*LIST_IMPORTS, "train.py", *words, f"hydra.run.dir={tmp_path}/run")
    assert told.returncode == 0, told.stderr[-3000:]
    imported = imported_modules(told.stderr)
    assert "torch" in imported
    assert not {"boto3", "botocore", "sagemaker", "psutil"} & imported
