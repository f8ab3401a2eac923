"""Every choice of `compute` gives requests that AWS's own service model takes."""

import inspect
from pathlib import Path
from typing import Any

import pytest

from hydra_plugins.stocktake_sagemaker.plan import OWN_KEYS, job_name, resolved_compute, training_requests
from stocktake.cloud.requests import training_job, training_job_keys
from stocktake.cloud.validation import check_request

CONF = Path(__file__).parents[2] / "conf"
ACCOUNT = {"bucket": "bins", "role_arn": "arn:aws:iam::123456789012:role/Stocktake"}
CHOICES = sorted(path.stem for path in (CONF / "compute").glob("*.yaml"))
EXPERIMENTS = sorted(path.stem for path in (CONF / "experiment").glob("*.yaml"))


def requests(compose, *overrides: str) -> list[dict[str, Any]]:
    compute = resolved_compute(compose("train", *overrides), **ACCOUNT)
    urls = ("s3://bins/code", "s3://bins/config")
    return [{**request} for request in training_requests(compute, "demo", 3, *urls, "eu-west-1", {}, {})]


@pytest.mark.parametrize("word", [f"compute={c}" for c in CHOICES] + [f"experiment={e}" for e in EXPERIMENTS])
def test_every_choice_is_a_request_that_aws_takes(compose, word):
    (request,) = requests(compose, word, "model.weights=none")
    check_request("CreateTrainingJob", request, training_job_keys())
    assert "eu-west-1" in request["AlgorithmSpecification"]["TrainingImage"]


def test_resnet50_spot_is_two_spot_instances_with_checkpoints(compose):
    (request,) = requests(compose, "experiment=resnet50_spot")
    assert request["ResourceConfig"]["InstanceCount"] == 2
    assert request["EnableManagedSpotTraining"]
    assert request["StoppingCondition"] == {"MaxRuntimeInSeconds": 86400, "MaxWaitTimeInSeconds": 172800}
    assert request["CheckpointConfig"]["S3Uri"] == "s3://bins/stocktake/checkpoints/resnet50_spot/default/3/"
    assert request["Environment"]["STOCKTAKE_REQUIREMENTS"] == "requirements.container.lock"
    assert (CONF.parent / "requirements.container.lock").exists()


def test_several_types_are_one_request_on_demand_and_several_for_spot(compose):
    types = "compute.instance_types=[ml.g6.xlarge,ml.g5.xlarge]"
    (request,) = requests(compose, types)
    assert [entry["InstanceType"] for entry in request["ResourceConfig"]["InstancePreferences"]] == [
        "ml.g6.xlarge",
        "ml.g5.xlarge",
    ]
    first, second = requests(compose, types, "compute=spot")
    assert (first["TrainingJobName"], second["TrainingJobName"]) == ("demo", "demo-try2")
    assert first["CheckpointConfig"] == second["CheckpointConfig"]


def test_compute_has_every_value_of_a_training_job_that_is_not_the_launchers(compose):
    launchers = {"job_name", "code_url", "config_url", "entrypoint", "arguments", "hyperparameters", "metrics"}
    assert set(compose("train").compute) - OWN_KEYS == set(inspect.signature(training_job).parameters) - launchers


@pytest.mark.parametrize(
    ("parts", "name"),
    [
        (("resnet50_spot", "1122-1015"), "resnet50-spot-1122-1015"),
        (("--a  b__c", "1"), "a-b-c-1"),
        (("x" * 80, "1122"), "x" * 58 + "-1122"),
        (("ü数", "7"), "7"),
    ],
)
def test_job_names_are_sagemakers(parts, name):
    assert job_name(*parts) == name
    assert len(name) <= 63
