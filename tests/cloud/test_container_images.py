"""Which image a job gets and what it runs on; the accounts are those of AWS's own SDK (sagemaker-core 2.27.0).

Where the SDK is installed, or its wheel's data lies in $SAGEMAKER_CORE, every region's image is compared with it.
"""

import importlib.util
import json
import os
import tomllib
from pathlib import Path

import botocore
import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from stocktake.cloud.requests import training_job
from stocktake.cloud.training_images import (
    ACCOUNTS,
    CPU_TAG,
    FOR_TRAINING_ALONE,
    LEAST_PYTHON,
    LEAST_TORCH,
    OLDER_ACCOUNTS,
    PYTHON_BELOW,
    aws_image,
    image_in,
    image_problems,
)
from stocktake.cloud.validation import problem_lines

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
        "123456789012.dkr.ecr.us-east-1.amazonaws.com/x@sha256:0123abcd",
    ],
)
def test_what_is_no_image_in_ecr_is_refused(image):
    assert "is no image in ECR" in problems(image, "us-east-1")[0]


@pytest.mark.parametrize(
    "image",
    [
        "123456789012.dkr.ecr.{region}.amazonaws.com/stocktake:1",
        "123456789012.dkr.ecr.us-east-1.amazonaws.com/team/stocktake@sha256:" + "0a" * 32,
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


def sdk_data(name: str) -> dict:
    """Returns a table of AWS's SDK, which this project's lock cannot have; skips where there is none."""
    root = os.environ.get("SAGEMAKER_CORE")  # what `pip download --no-deps sagemaker-core` got, unpacked
    if root is None:
        found = importlib.util.find_spec("sagemaker.core") if importlib.util.find_spec("sagemaker") else None
        if found is None or not found.submodule_search_locations:
            pytest.skip("sagemaker-core is not installed, and SAGEMAKER_CORE=<folder of its wheel> is not set")
        root = Path(found.submodule_search_locations[0]).parents[1]
    return json.loads((Path(root) / "sagemaker/core/image_uri_config" / name).read_text())["training"]["versions"]


def test_every_regions_image_is_in_the_sdks_data_and_none_is_missing():
    versions = sdk_data("pytorch-amzn2023.json")
    assert versions["2.14"]["registries"] == ACCOUNTS
    older = {region: account for region, (account, _) in (OLDER_ACCOUNTS | FOR_TRAINING_ALONE).items()}
    assert older == {
        region: account
        for region, account in versions["2.13"]["registries"].items()
        if region not in versions["2.14"]["registries"]
    }
    for region in (*ACCOUNTS, *older):
        version = "2.14" if region in ACCOUNTS else "2.13"
        tags = {has_gpu: aws_image(region, has_gpu).partition(":")[2] for has_gpu in (True, False)}
        listed = versions[version]["container_version"]
        assert tags == {True: f"{version}-{listed['gpu']}", False: f"{version}-{listed['cpu']}"}, region
    assert max(versions, key=lambda version: tuple(map(int, version.split(".")))) == "2.14", "there is a newer one"


def test_the_domains_are_those_of_the_regions_partitions():
    partitions = json.loads((Path(botocore.__file__).parent / "data/partitions.json").read_text())["partitions"]
    domains = {region: one["outputs"]["dnsSuffix"] for one in partitions for region in one["regions"]}
    older = OLDER_ACCOUNTS | FOR_TRAINING_ALONE
    assert {region: domain for region, (_, domain) in older.items()} == {region: domains[region] for region in older}
    assert {domains[region] for region in ACCOUNTS} == {"amazonaws.com"}


@pytest.mark.parametrize(
    ("instance_type", "region", "tag"),
    [
        ("ml.g5.xlarge", "eu-west-1", "pytorch:2.14-cu133-amzn2023-sagemaker"),
        ("ml.m5.xlarge", "eu-west-1", "pytorch:2.14-cpu-amzn2023-sagemaker"),
        ("ml.c7i.4xlarge", "us-gov-west-1", "pytorch:2.13-cpu-amzn2023-sagemaker"),
        ("ml.g4dn.xlarge", "eusc-de-east-1", "pytorch:2.13-cu133-amzn2023-sagemaker"),
    ],
)
def test_awss_image_suits_region_and_instances(instance_type, region, tag):
    image = image_in("aws", region, [instance_type])
    assert image.endswith(tag)
    assert problems(image, region, instance_type) == []


def test_where_aws_has_none_its_image_is_refused():
    assert "AWS lists no PyTorch image" in problems("aws", "moon-west-1")[0]


@pytest.mark.parametrize(
    ("image", "told"),
    [
        ("763104351884.dkr.ecr.us-east-1.amazonaws.com/pytorch-training:2.6.0-gpu-py312-cu126", "brings torch 2.6"),
        ("763104351884.dkr.ecr.us-east-1.amazonaws.com/pytorch-training:2.12.0-gpu-py310-cu130", "brings Python 3.10"),
        ("763104351884.dkr.ecr.us-east-1.amazonaws.com/pytorch-training:2.12.0-gpu-py314-cu130", "below 3.14"),
    ],
)
def test_an_image_that_the_lock_does_not_suit_is_refused(image, told):
    (line,) = problems(image, "us-east-1")
    assert line.startswith("compute.image_uri: ") and told in line


def test_what_is_asked_of_an_image_is_what_the_project_asks():
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    (torch,) = [one for one in map(Requirement, project["optional-dependencies"]["train"]) if one.name == "torch"]
    least = ".".join(map(str, LEAST_TORCH))
    assert torch.specifier == SpecifierSet(f">={least}")
    least, below = (".".join(map(str, version)) for version in (LEAST_PYTHON, PYTHON_BELOW))
    assert project["requires-python"].startswith(f">={least}.") and project["requires-python"].endswith(f"<{below}")


def test_a_digest_goes_into_the_request_as_it_is():
    image = f"763104351884.dkr.ecr.us-east-1.amazonaws.com/pytorch@sha256:{'0a' * 32}"
    role = "arn:aws:iam::123456789012:role/Stocktake"
    request = training_job("j", role, image_in(image, "us-east-1"), "s3://b/c", "s3://b/d", "s3://b/o")
    assert request["AlgorithmSpecification"]["TrainingImage"] == image
    assert problem_lines("CreateTrainingJob", request) == [] and problems(image, "us-east-1") == []
