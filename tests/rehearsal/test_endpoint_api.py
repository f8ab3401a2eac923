"""Models, configurations and endpoints through boto3, with the real server behind an endpoint."""

import json
import os
import shutil
import signal
import subprocess
import time

import psutil
import pytest
from botocore.exceptions import ClientError
from hosted import ROLE, account, refusal
from served import by_hand, gray_image

from stocktake.cloud import endpoint_requests as requests


@pytest.fixture(scope="module")
def there(tmp_path_factory):
    """An account with the endpoint `demo`, which the module's tests share."""
    with account(tmp_path_factory.mktemp("account")) as there:
        there.create("demo")
        yield there


def server_processes(there) -> list[psutil.Process]:
    """Returns the servers of this account, and none that other tests of this process share."""
    folder = str(there.hosting.machines.folder)
    children = [each for each in psutil.Process().children() if each.status() != psutil.STATUS_ZOMBIE]
    return [each for each in children if any(word.startswith(f"model={folder}") for word in each.cmdline())]


def test_boto3_asks_the_real_server_with_a_photo(there):
    answer = there.runtime.invoke_endpoint(
        EndpointName="demo",
        Body=gray_image(125, "JPEG"),
        ContentType="image/jpeg",
        CustomAttributes="expected_count=3",
    )
    told = json.loads(answer["Body"].read())
    assert told["count"] == 3
    assert told["probabilities"]["3"] == pytest.approx(by_hand(125)[2], abs=1e-3)
    assert answer["InvokedProductionVariant"] == "all"
    assert answer["ContentType"] == "application/json"
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 200


@pytest.mark.skipif(shutil.which("aws") is None, reason="needs AWS's command line: pip install awscli")
def test_aws_own_command_line_asks_it(there, tmp_path):
    (tmp_path / "photo.jpg").write_bytes(gray_image(75, "JPEG"))
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "AWS_ENDPOINT_URL": there.server.url,
        "AWS_ACCESS_KEY_ID": there.server.key.access_key_id,
        "AWS_SECRET_ACCESS_KEY": there.server.key.secret_access_key,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_PAGER": "",
    }

    def aws(*words: str) -> dict:
        done = subprocess.run(
            ["aws", *words], env=environment, cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout or "{}")

    options = ["--endpoint-name", "demo", "--content-type", "image/jpeg"]
    told = aws("sagemaker-runtime", "invoke-endpoint", *options, "--body", "fileb://photo.jpg", "answer.json")
    assert told["InvokedProductionVariant"] == "all"
    assert json.loads((tmp_path / "answer.json").read_text())["count"] == 2
    assert [each["EndpointName"] for each in aws("sagemaker", "list-endpoints")["Endpoints"]] == ["demo"]
    assert aws("cloudwatch", "describe-alarms")["MetricAlarms"] == []


def test_an_endpoint_is_described_as_aws_does(there):
    seen = there.sagemaker.describe_endpoint(EndpointName="demo")
    assert seen["EndpointArn"] == "arn:aws:sagemaker:us-east-1:123456789012:endpoint/demo"
    assert (seen["EndpointStatus"], seen["EndpointConfigName"]) == ("InService", "demo")
    assert seen["ProductionVariants"][0]["CurrentInstanceCount"] == 1
    assert there.sagemaker.describe_model(ModelName="demo")["ExecutionRoleArn"] == ROLE
    config = there.sagemaker.describe_endpoint_config(EndpointConfigName="demo")
    assert config["ProductionVariants"][0]["InstanceType"] == "ml.m5.large"


def test_the_server_sees_nothing_of_this_users_environment(there):
    (process,) = server_processes(there)
    assert set(process.environ()) <= {"PATH", "PYTHONPATH", "PYTHONUNBUFFERED", "LANG", "AWS_REGION", "LC_CTYPE"}
    assert process.cmdline()[2] == "serve"


def test_its_output_is_a_log_stream(there):
    there.runtime.invoke_endpoint(EndpointName="demo", Body=gray_image())
    logs, group = there.server.client("logs"), "/aws/sagemaker/Endpoints/demo"
    streams = logs.describe_log_streams(logGroupName=group, logStreamNamePrefix="all/")["logStreams"]
    (stream,) = [stream["logStreamName"] for stream in streams]
    assert stream.startswith("all/i-")
    events = logs.get_log_events(logGroupName=group, logStreamName=stream, startFromHead=True)["events"]
    assert any("brightness-1" in event["message"] for event in events)
    assert any("/invocations" in event["message"] for event in events)


def test_a_server_that_dies_is_started_again(there):
    (process,) = server_processes(there)
    os.kill(process.pid, signal.SIGKILL)
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            there.runtime.invoke_endpoint(EndpointName="demo", Body=gray_image())
            break
        except ClientError:
            time.sleep(0.1)
    (again,) = server_processes(there)
    assert again.pid != process.pid


def test_what_is_not_there_and_what_is_there_already(there):
    for kind, name, words in (
        ("endpoint", "EndpointName", "endpoint"),
        ("endpoint-config", "EndpointConfigName", "endpoint configuration"),
        ("model", "ModelName", "model"),
    ):
        operation = kind.replace("-", "_")
        for verb in ("describe", "delete"):
            assert refusal(getattr(there.sagemaker, f"{verb}_{operation}"), **{name: "none"}) == (
                "ValidationException",
                f'Could not find {words} "arn:aws:sagemaker:us-east-1:123456789012:{kind}/none".',
            )
    code, message = refusal(there.sagemaker.create_endpoint, **requests.create_endpoint("demo", "demo"))
    assert code == "ValidationException"
    assert message.startswith('Cannot create already existing endpoint "arn:')
    assert refusal(there.runtime.invoke_endpoint, EndpointName="none", Body=b"x") == (
        "ValidationError",
        "Endpoint none of account 123456789012 not found.",
    )


def test_what_aws_would_refuse_is_refused(there):
    with pytest.raises(ClientError, match="Could not find model data at s3://models/none/"):
        there.create_model("none", "s3://models/none/model.tar.gz")
    with pytest.raises(ClientError, match="EndpointConfigName"):
        there.create_config("no_underscores", "demo")
    with pytest.raises(ClientError, match="is none of 1024, 2048"):
        there.create_config("odd", "demo", requests.serverless_variant("demo", memory_mb=2000))


def test_a_models_error_is_told_with_its_status_and_its_log(there):
    with pytest.raises(there.runtime.exceptions.ModelError) as raised:
        there.runtime.invoke_endpoint(EndpointName="demo", Body=b"no image", ContentType="image/jpeg")
    told = raised.value.response
    assert told["ResponseMetadata"]["HTTPStatusCode"] == 424
    assert told["OriginalStatusCode"] == 422
    assert "error" in json.loads(told["OriginalMessage"])
    assert told["Error"]["Message"].startswith("Received client error (422) from primary with message")
    assert told["LogStreamArn"].startswith(
        "arn:aws:logs:us-east-1:123456789012:log-group:/aws/sagemaker/Endpoints/demo:log-stream:all/i-"
    )


def test_a_body_past_the_limit_is_refused_in_aws_words(there):
    largest = 6 * 2**20
    code, message = refusal(there.runtime.invoke_endpoint, EndpointName="demo", Body=b"x" * (largest + 1))
    assert (code, message) == ("413", f"HTTP content length exceeded {largest} bytes.")
    assert refusal(there.runtime.invoke_endpoint, EndpointName="demo", Body=b"x" * largest)[0] == "ModelError"


def test_lists_filter(there):
    there.create_model("other")
    models = there.sagemaker.list_models(SortBy="Name", SortOrder="Ascending")["Models"]
    assert [model["ModelName"] for model in models] == ["demo", "other"]
    assert there.sagemaker.list_models(NameContains="oth")["Models"][0]["ModelName"] == "other"
    assert [each["EndpointName"] for each in there.sagemaker.list_endpoints()["Endpoints"]] == ["demo"]
    assert there.sagemaker.list_endpoints(StatusEquals="Failed")["Endpoints"] == []
    there.sagemaker.delete_model(ModelName="other")


def test_a_model_that_cannot_be_served_fails(there, tmp_path):
    (tmp_path / "model.json").write_text("{}")
    there.create_model("broken", there.put_model("broken", tmp_path))
    there.create_config("broken", "broken")
    there.sagemaker.create_endpoint(**requests.create_endpoint("broken", "broken"))
    seen = there.wait("broken")
    assert seen["EndpointStatus"] == "Failed"
    assert "did not pass the ping health check" in seen["FailureReason"]
    assert refusal(there.runtime.invoke_endpoint, EndpointName="broken", Body=b"x")[0] == "ValidationError"
    there.delete("broken")


def test_delete_leaves_nothing(tmp_path):
    with account(tmp_path) as alone:  # the others' endpoint stays: on several cores they run in any order
        alone.create("demo")
        assert len(server_processes(alone)) == 1
        alone.delete("demo")
        assert server_processes(alone) == []
        assert list(alone.hosting.machines.folder.iterdir()) == []
        assert alone.sagemaker.list_endpoints()["Endpoints"] == []
        assert alone.sagemaker.list_endpoint_configs()["EndpointConfigs"] == []
        assert alone.sagemaker.list_models()["Models"] == []
