"""What a deployment sends equals reviewed files, passes AWS's own models, and what AWS would refuse is told by its key.

REVIEW_WIRE=1 writes the files anew, for a person to read before they are kept.
"""

import json
import os
import re
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore import xform_name
from botocore.awsrequest import AWSResponse
from botocore.exceptions import ParamValidationError

from stocktake.cli.command_keys import COMMANDS
from stocktake.cloud.deployment import Before, Call, Endpoint, Update
from stocktake.cloud.deployment_checks import CONFIG_KEYS
from stocktake.cloud.endpoint_requests import instance_variant, serverless_variant, transform_job
from stocktake.cloud.endpoint_scaling import Scaling
from stocktake.cloud.endpoint_upkeep import made_for
from stocktake.cloud.endpoints import Endpoints
from stocktake.cloud.service_calls import CallRefused
from stocktake.cloud.validation import check_request

WIRE = Path(__file__).parent / "wire"
ROLE = "arn:aws:iam::123456789012:role/StocktakeServing"
NOW = datetime(2026, 11, 28, 12, 0, 0, tzinfo=UTC)
MODEL_URL = "s3://bins/stocktake/endpoints/bins/0123456789ab/model.tar.gz"
SERVERLESS = Endpoint(
    name="bins",
    target="serverless",
    role_arn=ROLE,
    image_uri="123456789012.dkr.ecr.us-east-1.amazonaws.com/stocktake-serving@sha256:" + "0" * 64,
    instance_type="ml.c6i.large",
    num_instances=1,
    memory_mb=2048,
    max_concurrency=5,
    ttl_h=24,
)
REALTIME = replace(
    SERVERLESS,
    target="realtime",
    num_instances=2,
    capture_url="s3://bins/stocktake/endpoints/bins/captured",
    capture_percent=20,
    kms_key="arn:aws:kms:us-east-1:123456789012:key/1234abcd",
    subnets=["subnet-0a1b"],
    security_groups=["sg-0a1b"],
    tags={"team": "bins"},
    environment={"OMP_NUM_THREADS": "1"},
    scheduler_role_arn="arn:aws:iam::123456789012:role/StocktakeScheduler",
    scaling=Scaling(min_instances=2, max_instances=6),
)
ASYNC = replace(SERVERLESS, target="async", async_output_url="s3://bins/stocktake/endpoints/bins/answers", ttl_h=None)
SHADOW = replace(REALTIME, shadow_percent=20, capture_percent=100, scaling=Scaling())
ANSWERING = instance_variant("bins-ba9876543210", "ml.c6i.large", 2)
TO_ZERO = replace(REALTIME, capture_url=None, num_instances=1, scaling=Scaling(min_instances=0, max_instances=4))
CASES: dict[str, tuple[Endpoint, bool]] = {
    "deploy_serverless": (SERVERLESS, True),
    "deploy_realtime": (REALTIME, True),
    "deploy_async": (ASYNC, True),
    "deploy_async_to_zero": (replace(ASYNC, scaling=Scaling(0, 3, invocations_per_instance=5)), True),
    "deploy_realtime_to_zero": (TO_ZERO, True),
    "deploy_update_to_zero": (TO_ZERO, False),
    "deploy_update_all_at_once": (SERVERLESS, False),
    "deploy_update_canary": (replace(REALTIME, update=Update("canary", step_percent=25, wait_s=600)), False),
    "deploy_update_linear": (replace(REALTIME, update=Update("linear", step_percent=20, wait_s=60)), False),
    "deploy_shadow": (SHADOW, False),
}


def calls(endpoint: Endpoint, is_new: bool = True, answering: Any = None) -> list[Call]:
    stages = endpoint.stages(MODEL_URL, NOW, None if is_new else Before(answering or ANSWERING))
    return [call for stage in stages for call in stage]


@pytest.mark.parametrize("name", CASES)
def test_what_is_sent_equals_the_reviewed_file(name):
    sent = [[call.service, call.operation, call.request] for call in calls(*CASES[name])]
    file = WIRE / f"{name}.json"
    if os.environ.get("REVIEW_WIRE"):
        file.write_text(json.dumps(sent, indent=2) + "\n")
    assert sent == json.loads(file.read_text())


@pytest.mark.parametrize("name", CASES)
def test_aws_has_nothing_against_it_and_boto3_sends_it(name):
    session = boto3.Session("x", "x", region_name="us-east-1")  # of its own: boto3's one keeps the first credentials
    for call in calls(*CASES[name]):
        assert call.problems({}) == []
        client, seen = session.client(call.service), []

        def answer(request, seen=seen, **_):
            seen.append(request)
            response = AWSResponse(request.url, 400, {}, None)
            response._content = b"{}"
            return response

        client.meta.events.register(f"before-send.{call.service}.{call.operation}", answer)
        with pytest.raises(Exception, match=call.operation) as raised:
            getattr(client, xform_name(call.operation))(**call.request)
        assert not isinstance(raised.value, ParamValidationError)
        assert seen


# What botocore lets pass and AWS refuses: the key that is named.
WRONG: dict[str, tuple[Endpoint, str]] = {
    "name with underscore": (replace(SERVERLESS, name="my_bins"), "name"),
    "memory between the steps": (replace(SERVERLESS, memory_mb=3000), "memory_mb"),
    "serverless with capture": (replace(SERVERLESS, capture_url="s3://bins/captured"), "capture_percent"),
    "misspelt instance type": (replace(REALTIME, instance_type="ml.c6i.lage"), "instance_type"),
    "an image with a space": (replace(SERVERLESS, image_uri="my image"), "image_uri"),
    "no image": (replace(SERVERLESS, image_uri=""), "image_uri"),
    "a role of no account": (replace(SERVERLESS, role_arn="arn:aws:iam::12:role/Stocktake"), "role_arn"),
    "less than the least of instances": (replace(REALTIME, scaling=Scaling(5, 2)), "scaling.min_instances"),
    "less memory than a copy may have": (replace(TO_ZERO, memory_mb=0), "memory_mb"),
    "a canary of 60 %": (replace(REALTIME, update=Update("canary", step_percent=60)), "update.step_percent"),
    "linear steps of 5 %": (
        replace(REALTIME, update=Update("linear", step_percent=5, wait_s=0)),
        "update.step_percent",
    ),
    "waits beyond the longest time": (
        replace(REALTIME, update=Update("linear", step_percent=10, wait_s=600)),
        "update.max_time_s",
    ),
    "a tag of AWS's": (replace(SERVERLESS, tags={"aws:team": "bins"}), "tags"),
    "a scheduler's role of no account": (replace(SERVERLESS, scheduler_role_arn="StocktakeRole"), "scheduler_role_arn"),
    "17 subnets": (replace(REALTIME, subnets=[f"subnet-{i}" for i in range(17)]), "subnets"),
    "a variable of 2,000 characters": (replace(SERVERLESS, environment={"A": "x" * 2000}), "environment"),
    "a shadow on a misspelt instance type": (replace(SHADOW, instance_type="ml.c6i.lage"), "instance_type"),
    "a shadow of more than there is": (replace(SHADOW, shadow_percent=150), "shadow_percent"),
    "a shadow of an asynchronous endpoint": (replace(ASYNC, shadow_percent=20), "shadow_percent"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_aws_would_refuse_is_told_by_its_key(name):
    endpoint, key = WRONG[name]
    sent = [*calls(endpoint), *calls(endpoint, is_new=False)]
    found = [problem for call in sent for problem in call.problems(CONFIG_KEYS)]
    assert found
    assert all(problem.startswith(f"{key} (") for problem in found), found


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"ProductionVariants": [serverless_variant("bins")]}, "instances alone: type target=realtime"),
        ({"ProductionVariants": [ANSWERING, ANSWERING | {"VariantName": "b"}]}, "beside one production variant"),
        ({"ProductionVariants": [ANSWERING | {"VariantName": "shadow"}]}, "'shadow' is the production variant's, too"),
    ],
)
def test_a_shadow_stands_beside_one_other_variant_on_instances(changes, told):
    (request,) = [call.request for call in calls(SHADOW, False) if call.operation == "CreateEndpointConfig"]
    kept = {key: value for key, value in request.items() if key not in ("DataCaptureConfig", "KmsKeyId")}
    check_request("CreateEndpointConfig", kept)
    with pytest.raises(ValueError, match=told):
        check_request("CreateEndpointConfig", kept | changes)


@pytest.mark.parametrize(
    ("code", "message", "hint"),
    [
        ("ResourceLimitExceeded", "The limit 'ml.c6i.large for endpoint usage' is 0.", "type another instance_type"),
        ("AccessDeniedException", "User: x is not authorized to perform: y", "docs/operations.md lists what"),
        ("ExpiredTokenException", "The security token has expired", "log in again"),
    ],
)
def test_a_call_that_is_refused_says_what_to_do(code, message, hint):
    session = boto3.Session("x", "x", region_name="us-east-1")
    client = session.client("sagemaker")
    answer = AWSResponse("https://x", 400, {"content-type": "application/x-amz-json-1.1"}, None)
    answer._content = json.dumps({"__type": code, "message": message}).encode()
    client.meta.events.register("before-send.sagemaker.CreateEndpoint", lambda **_: answer)
    create = next(call for call in calls(SERVERLESS) if call.operation == "CreateEndpoint")
    with pytest.raises(CallRefused, match=re.escape(hint)) as raised:
        Endpoints(lambda service: client).send(create)
    assert "\n" not in str(raised.value) and raised.value.code == code


def test_every_key_that_is_named_is_one_of_the_command():
    rules = COMMANDS["deploy"].rules
    keys = {*rules, *(key.partition(".")[0] for key in rules)}
    assert set(CONFIG_KEYS.values()) <= keys


def test_an_equal_model_keeps_its_name_and_another_image_gives_another():
    names = [calls(endpoint)[0].request["ModelName"] for endpoint in (SERVERLESS, REALTIME, SERVERLESS)]
    assert names[0] == names[2] != names[1]
    other = replace(SERVERLESS, image_uri=SERVERLESS.image_uri.replace("@sha256:0", "@sha256:1"))
    assert calls(other)[0].request["ModelName"] != names[0]


@pytest.mark.parametrize(
    ("name", "is_ours"),
    [
        ("bins-0123456789ab", True),
        ("bins-0123456789ab-261128120000", True),
        ("bins-2-0123456789ab", False),  # of the endpoint bins-2
        ("bins", False),
        ("my-bins-0123456789ab", False),
    ],
)
def test_what_belongs_to_an_endpoint_is_known_by_its_name(name, is_ours):
    assert made_for("bins", name) is is_ours


def test_what_a_deployment_makes_belongs_to_its_endpoint():
    requests = [call.request for call in calls(SERVERLESS)]
    names = [request[key] for request in requests for key in ("ModelName", "EndpointConfigName") if key in request]
    assert len(names) == 3  # the config twice: made, and taken by the endpoint
    assert all(made_for("bins", name) for name in names)


TRANSFORM: dict[str, Any] = {
    "name": "bins-2611281200",
    "model_name": "bins-0123456789ab",
    "input_url": "s3://bins/asked/",
    "output_url": "s3://bins/answers/",
}


def test_a_batch_job_passes_and_its_limits_are_told():
    request = transform_job(**TRANSFORM)
    check_request("CreateTransformJob", request)
    file = WIRE / "deploy_batch.json"
    if os.environ.get("REVIEW_WIRE"):
        file.write_text(json.dumps(request, indent=2) + "\n")
    assert request == json.loads(file.read_text())
    with pytest.raises(ValueError, match="MaxConcurrentTransforms: 20 times MaxPayloadInMB=6 is more than 100 MB"):
        check_request("CreateTransformJob", transform_job(**TRANSFORM, num_at_once=20))
