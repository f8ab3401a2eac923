"""A network that fails and a service that is asked too often, as boto3 meets them."""

from pathlib import Path

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, ConnectionClosedError

from stocktake.cloud.requests import training_job
from stocktake.rehearsal.api_server import RehearsalServer
from stocktake.rehearsal.faults import Fault

ONCE = Config(retries={"total_max_attempts": 1})


class Starts:
    def check(self, request):
        pass

    def start(self, job):
        job.enter("Training")

    def log_folder(self, job_name):
        return Path("/nowhere")


@pytest.fixture
def server(request):
    with RehearsalServer(Starts(), faults=request.param) as server:
        yield server


def submit(client, name: str) -> None:
    urls = ("s3://bins/code", "s3://bins/config", "s3://bins/jobs")
    client.create_training_job(**training_job(name, "arn:aws:iam::123456789012:role/Stocktake", "image:1", *urls))


FAILS = [Fault("throttle", after_s=0, calls=2), Fault("blip", after_s=0, calls=2)]


@pytest.mark.parametrize("server", [FAILS], indirect=True)
def test_looks_are_throttled_then_lost_then_answered(server):
    client, logs = server.client("sagemaker", config=ONCE), server.client("logs", config=ONCE)
    submit(client, "demo")
    with pytest.raises(ClientError) as raised:
        client.describe_training_job(TrainingJobName="demo")
    assert raised.value.response["Error"] == {"Code": "ThrottlingException", "Message": "Rate exceeded"}
    with pytest.raises(logs.exceptions.ClientError, match="ThrottlingException"):
        logs.describe_log_streams(logGroupName="g", logStreamNamePrefix="demo/")
    for _ in range(2):
        with pytest.raises(ConnectionClosedError):
            client.describe_training_job(TrainingJobName="demo")
    assert server.faults.unplayed == []
    assert client.describe_training_job(TrainingJobName="demo")["SecondaryStatus"] == "Training"


@pytest.mark.parametrize("server", [[Fault("blip", after_s=0, calls=1)]], indirect=True)
def test_boto3_as_it_comes_tries_again_after_a_blip(server, monkeypatch):
    submit(server.client("sagemaker"), "demo")
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", server.key.access_key_id)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", server.key.secret_access_key)
    client = boto3.Session(region_name="us-east-1").client("sagemaker")
    assert client.describe_training_job(TrainingJobName="demo")["SecondaryStatus"] == "Training"
    assert server.faults.unplayed == []


@pytest.mark.parametrize("server", [[Fault("refused_submit", number=2)]], indirect=True)
def test_the_second_of_three_submits_is_refused(server):
    client = server.client("sagemaker")
    submit(client, "demo-0")
    assert server.faults.unplayed == ["refused_submit"]
    with pytest.raises(client.exceptions.ResourceLimitExceeded, match="account-level service limit"):
        submit(client, "demo-1")
    submit(client, "demo-2")
    assert sorted(job.name for job in server.jobs.all()) == ["demo-0", "demo-2"]
    assert server.faults.unplayed == []
