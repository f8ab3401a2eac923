"""The bodies that boto3 puts on the wire equal reviewed files.

REVIEW_WIRE=1 writes them anew, for a person to read before they are kept.
"""

import inspect
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.awsrequest import AWSResponse

from stocktake.cloud.requests import TRAINING_JOB_PATHS, training_job, training_job_keys
from stocktake.cloud.validation import check_request

WIRE = Path(__file__).parent / "wire"
URLS: dict[str, Any] = {
    "role_arn": "arn:aws:iam::123456789012:role/StocktakeTraining",
    "image_uri": "763104351884.dkr.ecr.us-east-1.amazonaws.com/pytorch:2.14-cu133-amzn2023-sagemaker",
    "code_url": "s3://bins/jobs/demo/code",
    "config_url": "s3://bins/jobs/demo/config",
    "output_url": "s3://bins/jobs",
}
JOBS: dict[str, dict[str, Any]] = {
    "single": {"job_name": "demo", "instance_types": ["ml.g4dn.xlarge"], "max_runtime_s": 3600},
    "spot_2_instances": {
        "job_name": "resnet50-spot",
        "num_instances": 2,
        "spot": True,
        "max_runtime_s": 36_000,
        "max_wait_s": 72_000,
        "checkpoint_url": "s3://bins/jobs/resnet50-spot/checkpoints",
        "environment": {"WANDB_SECRET_ID": "stocktake/wandb"},
        "tags": {"commit": "0123abc", "dirty": "false"},
    },
    "warm_pool": {
        "job_name": "tune-7",
        "keep_alive_s": 1800,
        "channels": {"bins": "s3://bins/abid"},
        "hyperparameters": {"model.optimizer.lr": "0.001"},
        "subnets": ["subnet-0a1b"],
        "security_groups": ["sg-0a1b"],
    },
    "encrypted": {
        "job_name": "sealed",
        "instance_types": ["ml.m5.xlarge"],
        "num_instances": 2,
        "output_kms_key": "arn:aws:kms:us-east-1:123456789012:key/0a1b",
        "volume_kms_key": "alias/stocktake",
        "encrypted_traffic": True,
        "network_isolation": True,
        "environment": {"WANDB_MODE": "offline"},
        "subnets": ["subnet-0a1b"],
        "security_groups": ["sg-0a1b"],
    },
    "preferred_types": {
        "job_name": "any-gpu",
        "instance_types": ["ml.g6.xlarge", "ml.g5.xlarge"],
        "entrypoint": (),
    },
}


def sent(request: Mapping[str, Any]) -> tuple[str, dict]:
    """Returns the target and the body that boto3 would send."""
    seen = {}

    def answer(request, **_):
        seen["target"], seen["body"] = request.headers["X-Amz-Target"].decode(), json.loads(request.body)
        response = AWSResponse(request.url, 200, {}, None)
        response._content = b'{"TrainingJobArn": "arn:aws:sagemaker:us-east-1:123456789012:training-job/x"}'
        return response

    client = boto3.client("sagemaker", "us-east-1", aws_access_key_id="x", aws_secret_access_key="x")
    client.meta.events.register("before-send.sagemaker.CreateTrainingJob", answer)
    client.create_training_job(**request)
    return seen["target"], seen["body"]


@pytest.mark.parametrize("name", JOBS)
def test_the_wire_equals_the_reviewed_file(name):
    request = training_job(**URLS, **JOBS[name])
    check_request("CreateTrainingJob", request)
    target, body = sent(request)
    assert target == "SageMaker.CreateTrainingJob"
    file = WIRE / f"{name}.json"
    if os.environ.get("REVIEW_WIRE"):
        file.write_text(json.dumps(body, indent=2) + "\n")
    assert body == json.loads(file.read_text())


def test_spot_waits_at_least_as_long_as_it_may_run():
    request = training_job(**URLS, job_name="j", spot=True, max_runtime_s=7200)
    assert request["StoppingCondition"] == {"MaxRuntimeInSeconds": 7200, "MaxWaitTimeInSeconds": 7200}


def test_every_path_has_the_key_that_sets_it():
    keys = training_job_keys(role_arn="cloud.role_arn")
    assert keys["StoppingCondition.MaxWaitTimeInSeconds"] == "compute.max_wait_s"
    assert keys["TrainingJobName"] == "hydra.launcher.job_name"
    assert keys["RoleArn"] == "cloud.role_arn"
    assert keys["ResourceConfig.InstancePreferences"] == "compute.instance_types"
    assert set(TRAINING_JOB_PATHS) <= set(inspect.signature(training_job).parameters)


@pytest.mark.parametrize("value", ["0.5", "1", "5e-05", "-1.2", "1e+20", "nan", "inf", "-inf", ".5", "0"])
def test_sagemaker_reads_a_metric_as_it_was_printed(value):
    regex = training_job(**URLS, job_name="j")["AlgorithmSpecification"]["MetricDefinitions"][1]["Regex"]
    assert re.findall(regex, f"step=7/9 valid/accuracy={value} valid/loss=2.0") == [value]


def test_every_prefix_ends_where_its_folder_does():
    """S3 takes a URL for a prefix: `run/1` would bring `run/10` along."""
    request = training_job(**URLS, job_name="j", checkpoint_url="s3://b/run/1", channels={"bins": "s3://b/abid/"})
    assert request.get("CheckpointConfig", {}).get("S3Uri") == "s3://b/run/1/"
    urls = [channel["DataSource"]["S3DataSource"]["S3Uri"] for channel in request["InputDataConfig"]]
    assert urls == ["s3://bins/jobs/demo/code/", "s3://bins/jobs/demo/config/", "s3://b/abid/"]
