"""AWS's own client, boto3, talks to the server over a socket: from here, and from a script that knows nothing of it."""

import itertools
import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError

from stocktake.cloud.request_types import TrainingJobRequest
from stocktake.cloud.requests import training_job
from stocktake.rehearsal.api_server import RehearsalServer


class OnlyLooks:
    def __init__(self):
        self.jobs = []

    def check(self, request):
        if "fallen" in request["TrainingJobName"]:
            raise ValueError("this runner plays no fallen jobs")

    def start(self, job):
        self.jobs.append(job)

    def log_folder(self, job_name):
        raise AssertionError("nobody asks for logs")


@pytest.fixture
def runner():
    return OnlyLooks()


@pytest.fixture
def server(runner):
    with RehearsalServer(runner) as server:
        yield server


@pytest.fixture
def client(server):
    return server.client("sagemaker")


def request(name: str, **values: Any) -> TrainingJobRequest:
    return training_job(
        name,
        "arn:aws:iam::123456789012:role/Stocktake",
        "123456789012.dkr.ecr.us-east-1.amazonaws.com/stocktake:1",
        "s3://bins/code",
        "s3://bins/config",
        "s3://bins/jobs",
        **values,
    )


def refusal(call, **arguments) -> tuple[str, str]:
    with pytest.raises(ClientError) as raised:
        call(**arguments)
    return raised.value.response["Error"]["Code"], raised.value.response["Error"]["Message"]


def test_a_job_is_created_and_described(client, runner):
    created = client.create_training_job(**request("demo", num_instances=2, spot=True, max_runtime_s=600))
    assert created["TrainingJobArn"] == "arn:aws:sagemaker:us-east-1:123456789012:training-job/demo"
    told = client.describe_training_job(TrainingJobName="demo")
    assert (told["TrainingJobStatus"], told["SecondaryStatus"]) == ("InProgress", "Starting")
    assert told["ResourceConfig"]["InstanceCount"] == 2
    assert told["StoppingCondition"] == {"MaxRuntimeInSeconds": 600, "MaxWaitTimeInSeconds": 600}
    assert datetime.now(UTC) - told["CreationTime"] < timedelta(seconds=30)
    assert [job.name for job in runner.jobs] == ["demo"]


def test_states_go_by_as_aws_names_them(client, runner):
    client.create_training_job(**request("demo"))
    for status in (
        "Downloading",
        "Training",
        "Interrupted",
        "Starting",
        "Downloading",
        "Training",
        "Uploading",
    ):
        runner.jobs[0].enter(status)
        assert client.describe_training_job(TrainingJobName="demo")["TrainingJobStatus"] == "InProgress"
    runner.jobs[0].see_metric("valid/accuracy", 0.5)
    runner.jobs[0].enter("Completed")
    told = client.describe_training_job(TrainingJobName="demo")
    assert told["TrainingJobStatus"] == told["SecondaryStatus"] == "Completed"
    transitions = told["SecondaryStatusTransitions"]
    assert [entry["Status"] for entry in transitions][3:5] == ["Interrupted", "Starting"]
    assert all(before["EndTime"] == after["StartTime"] for before, after in itertools.pairwise(transitions))
    assert told["ModelArtifacts"]["S3ModelArtifacts"] == "s3://bins/jobs/demo/output/model.tar.gz"
    assert told["FinalMetricDataList"][0]["Value"] == 0.5


def test_a_name_is_taken_for_good(client, runner):
    client.create_training_job(**request("demo"))
    runner.jobs[0].enter("Completed")
    code, message = refusal(client.create_training_job, **request("demo"))
    assert code == "ResourceInUse"
    assert "a training job with this name already exists (arn:" in message
    assert len(runner.jobs) == 1


def test_an_unknown_job_is_a_validation_exception_as_with_aws(client):
    for call in (client.describe_training_job, client.stop_training_job):
        assert refusal(call, TrainingJobName="none") == (
            "ValidationException",
            "Requested resource not found.",
        )


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"spot": True, "max_runtime_s": 7200, "max_wait_s": 60}, "StoppingCondition.MaxWaitTimeInSeconds"),
        ({"instance_types": ["ml.nothing"]}, "ResourceConfig.InstanceType"),
        ({"environment": {"A": "x" * 513}}, "Environment.A"),
    ],
)
def test_what_aws_would_refuse_is_refused(client, runner, values, told):
    code, message = refusal(client.create_training_job, **request("demo", **values))
    assert code == "ValidationException"
    assert told in message
    assert runner.jobs == []


def test_what_the_runner_cannot_play_is_refused(client, runner):
    code, message = refusal(client.create_training_job, **request("fallen"))
    assert (code, message) == ("ValidationException", "this runner plays no fallen jobs")
    assert refusal(client.describe_training_job, TrainingJobName="fallen")[0] == "ValidationException"


def test_stop_is_for_jobs_that_run(client, runner):
    client.create_training_job(**request("demo"))
    client.stop_training_job(TrainingJobName="demo")
    assert runner.jobs[0].stop_asked.is_set()
    runner.jobs[0].enter("Training")  # the runner had not yet heard of it
    assert client.describe_training_job(TrainingJobName="demo")["TrainingJobStatus"] == "Stopping"
    runner.jobs[0].enter("Stopped")
    code, message = refusal(client.stop_training_job, TrainingJobName="demo")
    assert code == "ValidationException"
    assert message == "The request was rejected because the training job is in status Stopped."


def test_list_filters_sorts_and_pages(client, runner):
    for number in range(12):
        client.create_training_job(**request(f"{'odd' if number % 2 else 'even'}-{number:02}"))
    runner.jobs[3].fail("x")
    pages = client.get_paginator("list_training_jobs")
    names = [
        [job["TrainingJobName"] for job in page["TrainingJobSummaries"]]
        for page in pages.paginate(SortBy="Name", SortOrder="Ascending", NameContains="even")
    ]
    assert names == [["even-00", "even-02", "even-04", "even-06", "even-08", "even-10"]]
    newest_first = [page["TrainingJobSummaries"] for page in pages.paginate(PaginationConfig={"PageSize": 5})]
    assert [len(page) for page in newest_first] == [5, 5, 2]
    assert newest_first[0][0]["TrainingJobName"] == "odd-11"
    failed = client.list_training_jobs(StatusEquals="Failed")["TrainingJobSummaries"]
    assert [job["TrainingJobName"] for job in failed] == ["odd-03"]
    hour = timedelta(hours=1)
    assert client.list_training_jobs(CreationTimeAfter=datetime.now(UTC) + hour)["TrainingJobSummaries"] == []
    assert len(client.list_training_jobs(CreationTimeBefore=datetime.now(UTC) + hour)["TrainingJobSummaries"]) == 10
    assert refusal(client.list_training_jobs, NextToken="mine")[0] == "ValidationException"


def test_what_is_not_rehearsed_says_so(client):
    code, message = refusal(client.delete_training_job, TrainingJobName="demo")
    assert code == "UnknownOperationException"
    assert "DeleteTrainingJob is not rehearsed" in message


# Whoever's script: where the server is, and who asks, stands in the environment, as for AWS itself.
SCRIPT = """
import json, sys, boto3
operation, request = sys.argv[1:]
print(json.dumps(getattr(boto3.client("sagemaker"), operation)(**json.loads(request)), default=str))
"""


def test_a_script_set_up_by_its_environment_creates_describes_lists_and_stops(server):
    def aws(operation: str, **request) -> subprocess.CompletedProcess:
        environment = os.environ | {
            "AWS_ENDPOINT_URL": server.url,
            "AWS_ACCESS_KEY_ID": server.key.access_key_id,
            "AWS_SECRET_ACCESS_KEY": server.key.secret_access_key,
            "AWS_DEFAULT_REGION": "us-east-1",
        }
        command = [sys.executable, "-c", SCRIPT, operation, json.dumps(request)]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    created = aws("create_training_job", **request("demo"))
    assert json.loads(created.stdout)["TrainingJobArn"].endswith("/demo"), created.stderr
    again = aws("create_training_job", **request("demo"))
    assert again.returncode != 0
    assert "ResourceInUse" in again.stderr
    assert json.loads(aws("list_training_jobs").stdout)["TrainingJobSummaries"][0]["TrainingJobName"] == "demo"
    assert aws("stop_training_job", TrainingJobName="demo").returncode == 0
    told = json.loads(aws("describe_training_job", TrainingJobName="demo").stdout)
    assert told["TrainingJobStatus"] == "Stopping"
