"""What a registration sends equals a reviewed file and passes AWS's model; what AWS would refuse is told by its key.

REVIEW_WIRE=1 writes the file anew, for a person to read before it is kept.
"""

import json
import os
from dataclasses import replace
from pathlib import Path

import boto3
import pytest
from botocore import xform_name
from botocore.awsrequest import AWSResponse

from stocktake.cli.command_keys import COMMANDS
from stocktake.cloud.model_registry import CONFIG_KEYS, RegisteredModel
from stocktake.cloud.validation import check_request

WIRE = Path(__file__).parent / "wire" / "register_model.json"
FOLDER = "s3://bins/stocktake/registry/bins/0123456789ab"
MODEL = RegisteredModel(
    group="bins",
    description="resnet50-0123abcd: exact on 0.408 of the test bins",
    image_uri="123456789012.dkr.ecr.us-east-1.amazonaws.com/stocktake-serving@sha256:" + "0" * 64,
    model_url=f"{FOLDER}/model.tar.gz",
    metrics_url=f"{FOLDER}/metrics.json",
    content_types=["image/jpeg", "image/png"],
    instance_type="ml.c6i.large",
    properties={
        "model_version": "resnet50-0123abcd",
        "checkpoint_sha256": "c" * 64,
        "manifest_sha256": "9f2c" * 16,
        "commit": None,
        "accuracy": "0.408",
        "p_value": "1.2e-05",
        "evaluation": "/data/runs/b/evaluation-test",
    },
    commit="b" * 40,
    environment={"OMP_NUM_THREADS": "1"},
    tags={"team": "bins"},
)


def test_what_is_sent_equals_the_reviewed_file():
    sent = [[call.service, call.operation, call.request] for call in MODEL.calls()]
    if os.environ.get("REVIEW_WIRE"):
        WIRE.write_text(json.dumps(sent, indent=2) + "\n")
    assert sent == json.loads(WIRE.read_text())


def test_boto3_sends_just_that():
    client, bodies = boto3.Session("x", "x", region_name="us-east-1").client("sagemaker"), []

    def answer(request, **_):
        bodies.append(json.loads(request.body))
        response = AWSResponse(request.url, 200, {}, None)
        response._content = b"{}"
        return response

    client.meta.events.register("before-send.sagemaker", answer)
    for call in MODEL.calls():
        assert call.problems({}) == []
        getattr(client, xform_name(call.operation))(**call.request)
    assert bodies == [request for _, _, request in json.loads(WIRE.read_text())]


def test_a_call_that_is_made_again_has_the_same_token_and_another_model_has_not():
    tokens = [
        model.package_call().request["ClientToken"] for model in (MODEL, replace(MODEL), replace(MODEL, commit="d"))
    ]
    assert tokens[0] == tokens[1] != tokens[2]


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"group": "my_bins"}, "registry"),
        ({"approval": "approved"}, "approval"),
        ({"image_uri": "my image"}, "image_uri"),
        ({"image_uri": ""}, "image_uri"),
        ({"model_url": f"{FOLDER}/model.zip"}, "bucket"),
        ({"instance_type": "ml.c6i.lage"}, "instance_type"),
        ({"properties": {"evaluation": "/data/100%/b"}}, "challenger"),
        ({"properties": {"evaluation": "/" + "x" * 256}}, "challenger"),
        ({"environment": {"A": "x" * 2000}}, "environment"),
        ({"tags": {"aws:team": "bins"}}, "tags"),
    ],
)
def test_what_aws_would_refuse_is_told_by_its_key(changes, key):
    found = [problem for call in replace(MODEL, **changes).calls() for problem in call.problems(CONFIG_KEYS)]
    assert found
    assert all(problem.startswith(f"{key} (") for problem in found), found


def test_tags_are_the_groups_and_a_version_has_none():
    request = MODEL.package_call().request
    with pytest.raises(ValueError, match="Tags: are the group's"):
        check_request("CreateModelPackage", request | {"Tags": [{"Key": "a", "Value": "b"}]})
    with pytest.raises(ValueError, match="one of them"):
        check_request("CreateModelPackage", request | {"ModelPackageName": "bins"})


def test_every_key_that_is_named_is_one_of_the_command():
    assert set(CONFIG_KEYS.values()) <= set(COMMANDS["promote"].rules)
