"""A trial's hyperparameters become overrides, with hostile values, under AWS's own toolkit as without it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from container_host import COMPLETES, failure, make_host
from hypothesis import given
from hypothesis import strategies as st

from stocktake.cloud import container
from stocktake.cloud.container_trial import trial_overrides
from stocktake.cloud.tuning_jobs import TOOLKIT
from stocktake.shell import hydra_value
from stocktake.tuning.sagemaker_space import parameter_ranges, read_values, searched, sent
from stocktake.tuning.search_space import SearchSpace

pytestmark = pytest.mark.integration  # whole processes

HOSTILE = [
    'it\'s "quoted"',
    "a,b=c [d] {e: f}",
    "$HOME $(touch ran) `touch ran` ; touch ran",
    "x trainer.max_epochs=99",
    "--config-dir=/tmp",
    "${oc.env:HOME}",
    "ü 数 🛒",
    "line\nbreak $(touch ran)",
    "back\\slash\\",
    " spaces ",
    "",
]
SPACE = SearchSpace.of(
    {
        "model.optimizer.lr": {"range": [1e-5, 1e-2], "log": True},
        "data.batch_size": {"range": [8, 64]},
        "name": {"choice": [*HOSTILE, 32, "32", 0.5, True, None]},
    }
)


def test_numbers_keep_their_digits_and_choices_their_type():
    given = {"model.optimizer.lr": "1.0E-4", "data.batch_size": '"16"', "_tuning_objective_metric": "best/valid/loss"}
    assert trial_overrides(given, searched(SPACE)) == ["model.optimizer.lr=1.0E-4", "data.batch_size=16"]
    for value in (32, "32", 0.5, True, None):
        assert trial_overrides({"name": sent(value)}, searched(SPACE)) == [f"name={hydra_value(value)}"]


def test_a_list_among_the_choices_is_hydras_list():
    """A choice's override is whatever text the table holds, also one that a newer space might."""
    table = {"data.counts": {"[1, 2]": "[1,2]", "[3]": "[3]"}}
    assert trial_overrides({"data.counts": "[1, 2]"}, table) == ["data.counts=[1,2]"]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("model.optimizer.lr", "0.1 trainer.max_epochs=99"),
        ("model.optimizer.lr", "$(touch ran)"),
        ("model.optimizer.lr", "0.1,0.2"),
        ("model.optimizer.lr", "0.1\n"),
        ("model.optimizer.lr", "nan"),
        ("data.batch_size", "8.5"),
        ("name", '"else"'),
        ("trainer.max_epochs", "99"),
        ("hydra.run.dir", "/tmp"),
    ],
)
def test_what_is_not_searched_becomes_no_override(key, value):
    with pytest.raises(ValueError, match=key):
        trial_overrides({key: value}, searched(SPACE))


@given(st.text(max_size=60), st.text(max_size=60))
def test_no_text_adds_an_override(key, value):
    try:
        overrides = trial_overrides({key: value}, searched(SPACE))
    except ValueError:
        return
    assert len(overrides) <= 1
    assert all(one.partition("=")[0] in SPACE.keys for one in overrides)


@given(st.lists(st.one_of(st.text(max_size=40), st.integers(), st.booleans(), st.none()), min_size=1, max_size=8))
def test_what_comes_back_is_what_was_sent(choices):
    distinct = list({repr(choice): choice for choice in choices}.values())
    space = SearchSpace.of({"name": {"choice": distinct}})
    (texts,) = (one["Values"] for one in parameter_ranges(space)["CategoricalParameterRanges"])
    for choice, text in zip(distinct, texts, strict=True):
        assert text.isascii() and "\n" not in text
        back = read_values(space, {"name": text})["name"]
        assert (back, type(back)) == (choice, type(choice))


@pytest.mark.parametrize("number", range(len(HOSTILE)))
def test_hostile_values_arrive_byte_for_byte_under_awss_toolkit(tmp_path, number):
    """sagemaker-training starts container.py as in AWS's image: with the program and folder that the request names."""
    value = HOSTILE[number]
    name = "tuning-001-0123abcd"
    base = trial_host(tmp_path, {"name": sent(value), "model.optimizer.lr": "5e-05"})
    done = run_toolkit(base, TRAINING_JOB_NAME=name, WANDB_RUN_ID="of all trials")
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads((base / "checkpoints" / name / "run" / "metrics.json").read_text())
    assert told["words"] == ["a=1", "model.optimizer.lr=5e-05", f"name={hydra_value(value)}"]
    assert told["wandb"] == [name, "allow"]
    assert json.loads((base / "output/data/metrics.json").read_text()) == told
    assert not list(tmp_path.rglob("ran"))


def test_a_value_that_is_not_searched_fails_the_trial_under_the_toolkit_with_its_reason(tmp_path):
    base = trial_host(tmp_path, {"name": "$(touch ran)"})
    done = run_toolkit(base, TRAINING_JOB_NAME="tuning-001-0123abcd")
    assert done.returncode != 0
    assert "Hyperparameter name='$(touch ran)' is not what is searched" in failure(base)
    assert not list(tmp_path.rglob("ran"))


def test_each_trial_has_a_folder_of_its_own_among_those_of_all(tmp_path):
    base = trial_host(tmp_path, {"data.batch_size": "8"})
    other = base / "checkpoints" / "tuning-002-ffffffff" / "run" / "metrics.json"
    other.parent.mkdir(parents=True)
    other.write_text("another trial's")
    done = run_entrypoint(base, TRAINING_JOB_NAME="tuning-001-0123abcd")
    assert done.returncode == 0, failure(base)
    assert (base / "checkpoints" / "tuning-001-0123abcd" / "run" / "metrics.json").exists()
    assert other.read_text() == "another trial's"
    assert json.loads((base / "output/data/metrics.json").read_text())["words"] == ["a=1", "data.batch_size=8"]


@pytest.mark.parametrize("name", ["", "../../elsewhere", "a/b"])
def test_a_trial_without_a_name_does_not_mix_its_checkpoints_with_others(tmp_path, name):
    base = trial_host(tmp_path, {"data.batch_size": "8"})
    assert run_entrypoint(base, TRAINING_JOB_NAME=name).returncode == 1
    assert f"TRAINING_JOB_NAME={name!r} is no name of a job" in failure(base)


def trial_host(folder: Path, hyperparameters: dict[str, str]) -> Path:
    """Lays out a base folder as SageMaker does, with the toolkit's two hyperparameters moved along with /opt/ml."""
    base = folder / "ml"
    toolkit = {key: text.replace("/opt/ml", str(base)) for key, text in TOOLKIT.items()}
    own = {"_tuning_objective_metric": "best/valid/accuracy"}
    given = hyperparameters | toolkit | own
    make_host(base, COMPLETES, ["127.0.0.1"], "127.0.0.1", ["a=1"], searched(SPACE), given)
    for path in container.SOURCES:
        (base / "input/data/code" / path.name).write_bytes(path.read_bytes())
    return base


def run_toolkit(base: Path, **environment: str) -> subprocess.CompletedProcess:
    return run([sys.executable, "-m", "sagemaker_training.cli.train"], base, environment)


def run_entrypoint(base: Path, **environment: str) -> subprocess.CompletedProcess:
    return run([sys.executable, str(base / "input/data/code/container.py")], base, environment)


def run(command: list[str], base: Path, environment: dict[str, str]) -> subprocess.CompletedProcess:
    variables = {"PATH": os.environ["PATH"], "SAGEMAKER_BASE_DIR": str(base)} | environment
    return subprocess.run(command, env=variables, cwd=base, capture_output=True, text=True, timeout=60)
