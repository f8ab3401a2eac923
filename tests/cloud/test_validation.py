"""Wrong requests that boto3 would send as they are, each refused with the user's own key."""

import copy
import os
import re
import subprocess
import sys
from functools import cache
from typing import Any

import botocore.session
import pytest
from botocore.validate import ParamValidator

from stocktake.cloud.requests import training_job, training_job_keys
from stocktake.cloud.validation import RequestError, check_request, problem_lines, python_pattern

GOOD: dict[str, Any] = {
    "job_name": "demo",
    "role_arn": "arn:aws:iam::123456789012:role/StocktakeTraining",
    "image_uri": "763104351884.dkr.ecr.us-east-1.amazonaws.com/pytorch-training:2.14",
    "code_url": "s3://bins/code",
    "config_url": "s3://bins/config",
    "output_url": "s3://bins/jobs",
}
SPOT: dict[str, Any] = {"spot": True, "max_runtime_s": 7200}
WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "name with underscore": ({"job_name": "my_job"}, "hydra.launcher.job_name"),
    "name of 64 characters": ({"job_name": "n" * 64}, "hydra.launcher.job_name"),
    "misspelt instance type": ({"instance_types": ["ml.g5.xlage"]}, "compute.instance_types"),
    "no instances": ({"num_instances": 0}, "compute.num_instances"),
    "no disk": ({"volume_gb": 0}, "compute.volume_gb"),
    "wait shorter than run": (SPOT | {"max_wait_s": 3600}, "compute.max_wait_s"),
    "wait without spot": ({"max_wait_s": 90_000}, "compute.max_wait_s"),
    "29 days": ({"max_runtime_s": 29 * 86_400}, "compute.max_runtime_s"),
    "spot and several types": (
        SPOT | {"instance_types": ["ml.g5.xlarge", "ml.g6.xlarge"]},
        "compute.instance_types",
    ),
    "spot and warm pool": (SPOT | {"keep_alive_s": 600}, "compute.keep_alive_s"),
    "warm for 7 hours": ({"keep_alive_s": 7 * 3600}, "compute.keep_alive_s"),
    "role is a name": ({"role_arn": "StocktakeTraining-of-mine"}, "compute.role_arn"),
    "output is no URL": ({"output_url": "bins/jobs"}, "compute.output_url"),
    "long argument": ({"arguments": ["x" * 257]}, "compute.arguments"),
    "line break in argument": ({"arguments": ["a\nb"]}, "compute.arguments"),
    "long environment value": ({"environment": {"WORDS": "x" * 513}}, "compute.environment"),
    "environment name": ({"environment": {"no-dash": "x"}}, "compute.environment"),
    "101 hyperparameters": (
        {"hyperparameters": {f"h{i}": "1" for i in range(101)}},
        "compute.hyperparameters",
    ),
    "long hyperparameter": ({"hyperparameters": {"a": "x" * 2501}}, "compute.hyperparameters"),
    "line break in hyperparameter": ({"hyperparameters": {"a": "x\ny"}}, "compute.hyperparameters"),
    "key in hyperparameters": ({"hyperparameters": {"wandb_api_key": "0"}}, "compute.hyperparameters"),
    "key in tags": ({"tags": {"WANDB_API_KEY": "0"}}, "compute.tags"),
    "tag with exclamation mark": ({"tags": {"note": "yes!"}}, "compute.tags"),
    "channel with a space": ({"channels": {"all bins": "s3://b/c"}}, "compute.channels"),
    "isolated, W&B online": ({"network_isolation": True}, "compute.network_isolation"),
    "isolated, pip at start": (
        {
            "network_isolation": True,
            "environment": {"WANDB_MODE": "offline", "STOCKTAKE_REQUIREMENTS": "requirements.container.lock"},
        },
        "compute.network_isolation",
    ),
    "metric without group": ({"metrics": {"loss": "loss=[0-9.]+"}}, "compute.metrics"),
}


@cache
def shape():
    return botocore.session.Session().get_service_model("sagemaker").operation_model("CreateTrainingJob").input_shape


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_request_is_refused_with_the_users_key(name):
    values, key = WRONG[name]
    request = training_job(**GOOD | values)
    assert not ParamValidator().validate(request, shape()).has_errors(), "botocore would have told"
    with pytest.raises(RequestError, match=re.escape(f"  {key} (")) as raised:
        check_request("CreateTrainingJob", request, training_job_keys())
    assert all(line.startswith(f"  {key} (") for line in str(raised.value).splitlines()[1:]), "nothing else is wrong"


def test_spot_without_max_wait_is_refused():
    request = training_job(**GOOD | SPOT)
    request["StoppingCondition"].pop("MaxWaitTimeInSeconds")
    with pytest.raises(RequestError, match=r"compute.max_wait_s \(.*at least the maximum runtime of 7200 s"):
        check_request("CreateTrainingJob", request, training_job_keys())


def test_all_problems_are_told_at_once():
    request = training_job(**GOOD | {"job_name": "a_b", "max_wait_s": 1, "num_instances": 0})
    with pytest.raises(RequestError) as raised:
        check_request("CreateTrainingJob", request, training_job_keys())
    assert "3 problem(s)" in str(raised.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r: r.pop("RoleArn"), "RoleArn: is missing"),
        (lambda r: r.update(Spot=True), "Spot: is not known to AWS"),
        (lambda r: r.update(EnableManagedSpotTraning=True), "did you mean EnableManagedSpotTraining?"),
        (lambda r: r["ResourceConfig"].update(InstanceCount="2"), "'2' is a str; it must be of type integer"),
        (
            lambda r: r["ResourceConfig"].update(InstanceCount=True),
            "True is a bool; it must be of type integer",
        ),
        (
            lambda r: r["InputDataConfig"].append(copy.deepcopy(r["InputDataConfig"][0])),
            "'code' is there 2 times",
        ),
    ],
)
def test_what_botocore_tells_is_told_as_well(change, message):
    request: dict[str, Any] = {**training_job(**GOOD)}
    change(request)
    with pytest.raises(RequestError, match=re.escape(message)):
        check_request("CreateTrainingJob", request)


def test_good_requests_pass():
    good: list[dict[str, Any]] = [
        SPOT,
        {"keep_alive_s": 600},
        {"network_isolation": True, "environment": {"WANDB_MODE": "offline"}},
        {"tags": {"Größe": "zwölf Bündel 数 1"}},
    ]
    for values in good:
        check_request("CreateTrainingJob", training_job(**GOOD | values))


@pytest.mark.parametrize(
    ("instance_type", "has_disks"),
    [
        *(
            (name, True)
            for name in ("ml.g4dn.xlarge", "ml.g5.12xlarge", "ml.g6.xlarge", "ml.g6e.xlarge", "ml.p4d.24xlarge")
        ),
        *((name, True) for name in ("ml.p4de.24xlarge", "ml.p5.48xlarge", "ml.p5en.48xlarge", "ml.trn1.2xlarge")),
        *((name, False) for name in ("ml.m5.xlarge", "ml.c6i.xlarge", "ml.p3.2xlarge", "ml.c5n.xlarge", "ml.r5.large")),
    ],
)
def test_a_key_for_volumes_is_refused_where_instances_have_disks_of_their_own(instance_type, has_disks):
    request = training_job(**GOOD | {"instance_types": [instance_type], "volume_kms_key": "alias/mine"})
    lines = problem_lines("CreateTrainingJob", request, training_job_keys())
    wrong = f"compute.volume_kms_key (ResourceConfig.VolumeKmsKeyId): {instance_type} has disks of its own"
    assert [line.startswith(wrong) for line in lines] == [True] * has_disks


def test_an_unknown_operation_names_the_near_one():
    with pytest.raises(ValueError, match="did you mean CreateTrainingJob"):
        check_request("CreateTrainJob", {})


def test_every_pattern_of_the_training_calls_is_understood():
    model, seen = botocore.session.Session().get_service_model("sagemaker"), []

    def walk(shape, path=()):
        if "pattern" in shape.metadata:
            seen.append(python_pattern(shape.metadata["pattern"]))
        if shape.name in path:
            return
        children = {"structure": lambda: shape.members.values(), "list": lambda: [shape.member]}
        children["map"] = lambda: [shape.key, shape.value]
        for child in children.get(shape.type_name, list)():
            walk(child, (*path, shape.name))

    for name in ("CreateTrainingJob", "DescribeTrainingJob", "ListTrainingJobs", "StopTrainingJob"):
        walk(model.operation_model(name).input_shape)
    assert len(seen) > 30


def test_neither_region_nor_credentials_nor_home_are_needed(tmp_path):
    code = "from tests.cloud.test_validation import *; check_request('CreateTrainingJob', training_job(**GOOD))"
    environment = {"HOME": str(tmp_path), "PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(sys.path)}
    environment["AWS_EC2_METADATA_DISABLED"] = "true"
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
