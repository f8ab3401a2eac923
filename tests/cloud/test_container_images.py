"""Which image a job gets and what it runs on; the accounts are those of AWS's own SDK (sagemaker-core 2.27.0)."""

import pytest

from stocktake.cloud.requests import training_job
from stocktake.cloud.training_images import ACCOUNTS, CPU_TAG, OLDER_ACCOUNTS, image_in, image_problems

AWSS = "{account}.dkr.ecr.{region}.{domain}/pytorch:2.14-cu133-amzn2023-sagemaker"


def problems(image_uri: str, region: str, *instance_types: str) -> list[str]:
    types = instance_types or ("ml.g5.xlarge",)
    request = training_job("j", "r", image_in(image_uri, region), "s3://b/c", "s3://b/d", "s3://b/o", types)
    return [f"{key}: {message}" for key, message in image_problems(request, region)]


@pytest.mark.parametrize(
    ("region", "account"),
    # As sagemaker.core.image_uris.retrieve("pytorch-amzn2023", region, version="2.14", ...) answers.
    [("us-east-1", "763104351884"), ("af-south-1", "626614931356"), ("eu-central-2", "380420809688")],
)
def test_the_account_is_the_regions(region, account):
    expected = f"{account}.dkr.ecr.{region}.amazonaws.com/pytorch:2.14-cu133-amzn2023-sagemaker"
    assert image_in(AWSS, region) == expected
    assert problems(AWSS, region) == []


def test_a_region_without_the_image_is_refused_by_name():
    (told,) = problems(AWSS, "cn-north-1")
    assert "in region cn-north-1" in told
    assert "727897471807.dkr.ecr.cn-north-1.amazonaws.com.cn/pytorch:2.13-cu133-amzn2023-sagemaker" in told
    (told,) = problems(AWSS, "moon-west-1")
    assert "in region moon-west-1. Take another hydra.launcher.region" in told
    assert ACCOUNTS.keys().isdisjoint(OLDER_ACCOUNTS)
    assert len(ACCOUNTS) == 35


@pytest.mark.parametrize(
    "image",
    [
        "pytorch:latest",
        "docker.io/me/stocktake:1",
        "123456789012.dkr.ecr.us-east-1.amazonaws.com",
        "",
        "12345.dkr.ecr.us-east-1.amazonaws.com/x:1",
    ],
)
def test_what_is_no_image_in_ecr_is_refused(image):
    assert "is no image in ECR" in problems(image, "us-east-1")[0]


@pytest.mark.parametrize(
    "image",
    [
        "123456789012.dkr.ecr.{region}.amazonaws.com/stocktake:1",
        "123456789012.dkr.ecr.us-east-1.amazonaws.com/team/stocktake@sha256:0123abcd",
        "123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn/stocktake",
    ],
)
def test_ones_own_image_is_taken_as_it_is(image):
    assert problems(image, "us-east-1", "ml.m5.xlarge", "ml.p3.2xlarge") == []


@pytest.mark.parametrize(
    ("instance_type", "told"),
    [
        ("ml.m5.xlarge", f"pytorch:{CPU_TAG}"),
        ("ml.c7i.4xlarge", "has no NVIDIA GPU"),
        ("ml.trn1.2xlarge", "has no NVIDIA GPU"),
        ("ml.p2.xlarge", "too old"),
        ("ml.p3.2xlarge", "compute.instance_types=[ml.g4dn.xlarge]"),
        ("ml.p3dn.24xlarge", "too old"),
    ],
)
def test_instances_that_the_image_does_not_suit_are_refused(instance_type, told):
    (line,) = problems(AWSS, "us-east-1", "ml.g5.xlarge", instance_type)
    assert line.startswith("compute.instance_types: ")
    assert instance_type in line
    assert told in line


@pytest.mark.parametrize("instance_type", ["ml.g4dn.xlarge", "ml.g6e.xlarge", "ml.g7e.2xlarge", "ml.p4d.24xlarge"])
def test_instances_that_it_suits_pass(instance_type):
    assert problems(AWSS, "us-east-1", instance_type) == []


def test_the_cpu_image_runs_on_cpus():
    assert problems(AWSS.replace("cu133", "cpu"), "us-east-1", "ml.m5.xlarge") == []
