"""An endpoint that goes down to no instance: made, asked, updated, rolled back, brought back by a request, deleted."""

import json
import time
from dataclasses import replace
from datetime import UTC, datetime

import hosted
import pytest
from hosted import account, export_failing, refusal
from served import export, gray_image

from stocktake.cloud.deployment import Before, Endpoint, Update
from stocktake.cloud.deployment_outcome import Outcome, send_all, settled
from stocktake.cloud.endpoint_scaling import Scaling
from stocktake.cloud.endpoints import Endpoints
from stocktake.inference.endpoint_backend import EndpointError
from stocktake.inference.sagemaker_endpoint import SageMakerEndpoint
from stocktake.storage import StorageOptions

ENDPOINT = replace(hosted.ENDPOINT, scaling=Scaling(0, 2), update=Update(wait_s=60))
MODELS = ("good", "newer", "silent", "failing")


@pytest.fixture(scope="module")
def there(tmp_path_factory):
    folder = tmp_path_factory.mktemp("components")
    with account(folder, startup_timeout_s=12) as there:
        for name in set(MODELS) - {"good"}:
            (folder / name).mkdir()
        there.put_model("newer", export(folder / "newer"))
        there.put_model("silent", export_failing(folder / "silent", answers_ping=False))
        there.put_model("failing", export_failing(folder / "failing", answers_ping=True))
        yield there


@pytest.fixture
def endpoints(there):
    """Returns the account's endpoints, one of which is `bins`; it goes when the test has ended."""
    endpoints = Endpoints(there.server.client)
    assert deploy(endpoints, "good", is_new=True) == Outcome("InService")
    yield endpoints
    endpoints.delete("bins", lambda line: None, poll_s=0.1)
    assert there.left_over() == {}
    assert there.sagemaker.list_inference_components()["InferenceComponents"] == []


def deploy(endpoints: Endpoints, model: str, is_new: bool = False, endpoint: Endpoint = ENDPOINT) -> Outcome:
    outcome = Outcome("")
    url = f"s3://models/{model}/model.tar.gz"
    for stage in endpoint.stages(url, datetime.now(UTC), None if is_new else Before()):
        assert [problem for call in stage for problem in call.problems({})] == []
        send_all(endpoints, stage)
        outcome = settled(endpoints, endpoint.name, stage, lambda line: None, poll_s=0.1)
        if outcome.is_rolled_back:
            break
    return outcome


def asked(there) -> SageMakerEndpoint:
    endpoint = SageMakerEndpoint("bins", there.runtime, there.sagemaker, StorageOptions(), timeout_s=30)
    endpoint.check()
    return endpoint


def test_it_is_asked_by_its_name_and_by_boto3_with_its_components(there, endpoints):
    answered = there.runtime.invoke_endpoint(
        EndpointName="bins", InferenceComponentName="bins", Body=gray_image(), ContentType="application/x-image"
    )
    expected = {int(count): p for count, p in json.loads(answered["Body"].read())["probabilities"].items()}
    assert asked(there).count(gray_image()) == expected
    code, message = refusal(there.runtime.invoke_endpoint, EndpointName="bins", Body=gray_image())
    assert (code, "Inference Component Name header is required" in message) == ("ValidationError", True)
    assert any("brightness-1" in line for line in endpoints.last_log_lines("bins"))


def test_an_update_changes_the_model_and_one_that_fails_rolls_back(there, endpoints):
    assert deploy(endpoints, "newer") == Outcome("InService")
    runs = endpoints.describe_component("bins")["Specification"]["ModelName"]
    outcome = deploy(endpoints, "silent")
    assert outcome.is_rolled_back
    assert "did not pass the ping health check" in outcome.reason
    assert endpoints.describe_component("bins")["Specification"]["ModelName"] == runs
    asked(there).count(gray_image())


def test_errors_of_the_new_model_raise_the_components_own_alarm(there, endpoints):
    patient = replace(ENDPOINT, update=Update(wait_s=3000, max_errors=0))  # 30 s, in which one answer of 5xx is enough
    stage = patient.calls("s3://models/failing/model.tar.gz", datetime.now(UTC), Before())
    send_all(endpoints, stage)
    endpoint, num_failed, deadline = asked(there), 0, time.monotonic() + 60
    while endpoints.describe_component("bins")["InferenceComponentStatus"] != "InService":
        assert time.monotonic() < deadline
        try:
            endpoint.count(gray_image())
        except EndpointError:
            num_failed += 1
    outcome = settled(endpoints, "bins", stage, lambda line: None, poll_s=0.1)
    assert num_failed
    assert outcome.is_rolled_back
    assert "bins-5xx" in outcome.reason


def test_without_a_copy_the_first_request_brings_one(there, endpoints):
    there.sagemaker.update_inference_component_runtime_config(
        InferenceComponentName="bins", DesiredRuntimeConfig={"CopyCount": 0}
    )
    at_rest(endpoints)
    assert endpoints.describe_component("bins")["RuntimeConfig"]["CurrentCopyCount"] == 0
    with pytest.raises(EndpointError, match=r"stands at no instance.*ask again"):
        asked(there).count(gray_image())
    at_rest(endpoints)
    asked(there).count(gray_image())


def test_a_deployment_that_was_broken_off_before_its_component_goes_on(there, endpoints):
    there.sagemaker.delete_inference_component(InferenceComponentName="bins")
    while endpoints.describe_component("bins") is not None:
        time.sleep(0.05)
    now = datetime.now(UTC)
    stages = ENDPOINT.stages("s3://models/good/model.tar.gz", now, Before(has_component=False))
    for stage in stages:
        send_all(endpoints, stage)
        assert settled(endpoints, "bins", stage, lambda line: None, poll_s=0.1) == Outcome("InService")
    asked(there).count(gray_image())


def test_an_endpoint_is_not_deleted_before_its_component(there, endpoints):
    code, message = refusal(there.sagemaker.delete_endpoint, EndpointName="bins")
    assert (code, "inference components" in message) == ("ValidationException", True)
    schedules = there.server.client("scheduler").list_schedules()["Schedules"]
    assert [schedule["Name"] for schedule in schedules] == ["bins-end", "bins-end-component"]


def at_rest(endpoints: Endpoints) -> None:
    deadline = time.monotonic() + 30
    while endpoints.describe_component("bins")["InferenceComponentStatus"] != "InService":
        assert time.monotonic() < deadline
        time.sleep(0.05)
