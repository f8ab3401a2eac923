"""What deploy.py sends, against the rehearsed account: all that it makes is there, and all of it goes."""

import time
from dataclasses import replace
from datetime import UTC, datetime

import hosted
import pytest
from hosted import account
from served import gray_image

from stocktake.cloud.deployment import Before, Endpoint
from stocktake.cloud.deployment_outcome import send_all, settled
from stocktake.cloud.endpoint_scaling import Scaling
from stocktake.cloud.endpoints import EndpointFailed, Endpoints

ENDPOINT = replace(hosted.ENDPOINT, capture_url="s3://captured", network_isolation=True, scaling=Scaling(1, 2))
OTHERS = {
    "serverless": replace(ENDPOINT, target="serverless", capture_url=None, network_isolation=False),
    "async": replace(ENDPOINT, target="async", capture_url=None, async_output_url="s3://answers"),
}


@pytest.fixture(scope="module")
def there(tmp_path_factory):
    with account(tmp_path_factory.mktemp("account")) as there:
        yield there


@pytest.mark.parametrize("endpoint", [ENDPOINT, *OTHERS.values()], ids=["realtime", *OTHERS])
def test_all_that_a_deployment_makes_is_there_and_goes(there, endpoint):
    endpoints, said = Endpoints(there.server.client), []
    for call in endpoint.calls("s3://models/good/model.tar.gz", datetime.now(UTC)):
        endpoints.send(call)
    assert endpoints.wait("bins", said.append, poll_s=0.1)["EndpointStatus"] == "InService"
    for call in endpoint.scaling_calls():
        endpoints.send(call)
    assert [(found.name, found.ends_at is not None) for found in endpoints.all()] == [("bins", True)]
    kinds = {"Models", "EndpointConfigs", "Endpoints", "MetricAlarms", "Schedules"}
    scaled = {"ScalableTargets", "ScalingPolicies"} if endpoint.target != "serverless" else set()
    assert set(there.left_over()) == kinds | scaled
    if endpoint.target == "realtime":
        there.runtime.invoke_endpoint(EndpointName="bins", Body=gray_image())
        assert any("brightness-1" in line for line in endpoints.last_log_lines("bins"))
    endpoints.delete("bins", said.append, poll_s=0.1)
    assert there.left_over() == {}


def deploy(endpoints: Endpoints, endpoint: Endpoint, is_new: bool) -> None:
    """Brings an endpoint to the good model, as scripts/deploy.py does."""
    stages = endpoint.stages("s3://models/good/model.tar.gz", datetime.now(UTC), None if is_new else Before())
    if not is_new:
        calls = [call for stage in stages for call in stage]
        described = endpoints.describe("bins")
        assert described
        endpoints.withdraw(described, calls, endpoint.ends_at(datetime.now(UTC)))
    for stage in stages:
        send_all(endpoints, stage)
        assert not settled(endpoints, "bins", stage, lambda line: None, poll_s=0.1).is_rolled_back


def test_an_update_takes_back_the_end_and_the_scaling_that_it_does_not_ask_for(there):
    endpoints = Endpoints(there.server.client)
    deploy(endpoints, ENDPOINT, is_new=True)
    assert {"Schedules", "ScalableTargets"} <= set(there.left_over())
    time.sleep(1)  # a config's name has the second
    deploy(endpoints, replace(ENDPOINT, ttl_h=None, scaling=Scaling()), is_new=False)
    assert not {"Schedules", "ScalableTargets"} & set(there.left_over())
    assert [found.ends_at for found in endpoints.all()] == [None]
    endpoints.delete("bins", lambda line: None, poll_s=0.1)


def test_an_answer_that_got_lost_is_no_refusal_and_what_is_not_ours_is_left_alone(there):
    endpoints = Endpoints(there.server.client)
    calls = OTHERS["serverless"].calls("s3://models/good/model.tar.gz", datetime.now(UTC))
    for call in (*calls, *calls):  # each arrives twice
        endpoints.send(call)
    there.wait("bins")
    arn = there.sagemaker.describe_endpoint(EndpointName="bins")["EndpointArn"]
    there.sagemaker.add_tags(ResourceArn=arn, Tags=[{"Key": "project", "Value": "another"}])
    with pytest.raises(EndpointFailed, match=r"name=bins was not made by deploy\.py"):
        endpoints.delete("bins", lambda line: None, poll_s=0.1)
    there.sagemaker.add_tags(ResourceArn=arn, Tags=[{"Key": "project", "Value": "stocktake"}])
    endpoints.delete("bins", lambda line: None, poll_s=0.1)
    assert there.left_over() == {}
