"""docs/wandb_sweep.yaml: what W&B's agent would type composes, and every key of it binds and has a rule."""

import pathlib

import pytest
import yaml
from omegaconf import OmegaConf

from stocktake.cli.check import problems
from stocktake.cli.command_keys import COMMANDS
from stocktake.training.job_check import binding_errors

REPOSITORY = pathlib.Path(__file__).parents[1]
SWEEP = yaml.safe_load((REPOSITORY / "docs" / "wandb_sweep.yaml").read_text())
HERE = yaml.safe_load((REPOSITORY / "conf" / "sweep" / "lr_dropout.yaml").read_text())["hydra"]["sweeper"]


def typed(values: dict) -> list[str]:
    """Returns what the agent starts, as its documentation says: https://docs.wandb.ai/guides/sweeps."""
    words = []
    for word in SWEEP["command"]:
        if word == "${args_no_hyphens}":
            words += [f"{key}={value}" for key, value in values.items()]
        else:
            words.append({"${env}": "/usr/bin/env", "${interpreter}": "python"}.get(word, word))
    return [SWEEP["program"] if word == "${program}" else word for word in words]


@pytest.mark.parametrize("end", ["min", "max"])
def test_each_trial_composes_and_binds(compose, end):
    values = {key: parameter[end] for key, parameter in SWEEP["parameters"].items()}
    assert all(isinstance(value, float) for value in values.values()), (
        "not text: YAML reads 1e-5 without its point as one"
    )
    words = typed(values)
    assert words[:3] == ["/usr/bin/env", "python", "train.py"]
    assert not any(word.startswith("-") for word in words)
    cfg = compose("train", *words[3:])
    assert problems(cfg, COMMANDS["train"]) == []
    assert binding_errors(OmegaConf.to_container(cfg, resolve=True)) == []
    assert [OmegaConf.select(cfg, key) for key in values] == list(values.values())
    assert cfg.logger.wandb.group == SWEEP["name"]
    assert cfg.optimized_metric == SWEEP["metric"]["name"]


def test_it_is_the_space_that_is_searched_here():
    assert SWEEP["run_cap"] == HERE["num_trials"]
    ranges = {key: [parameter["min"], parameter["max"]] for key, parameter in SWEEP["parameters"].items()}
    assert ranges == {key: parameter["range"] for key, parameter in HERE["space"].items()}
