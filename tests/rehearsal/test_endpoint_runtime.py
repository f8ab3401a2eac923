"""Serverless, asynchronous and batch: one endpoint of each, and data capture of one that answers at once."""

import base64
import json
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest
from botocore.exceptions import ClientError, WaiterError
from hosted import ONE_TRY, account, refusal
from served import gray_image

from stocktake.cloud import endpoint_requests as requests
from stocktake.inference.sagemaker_endpoint import SageMakerEndpoint
from stocktake.monitoring.data_capture import read_capture
from stocktake.storage import StorageOptions


@pytest.fixture(scope="module")
def there(tmp_path_factory):
    with account(tmp_path_factory.mktemp("account")) as there:
        there.create_model("good")
        yield there


def wait_for(path) -> bytes:
    deadline = time.monotonic() + 30
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} did not come"
        time.sleep(0.05)
    return path.read_bytes()


def test_serverless_starts_when_somebody_asks_and_has_its_own_limits(there):
    there.create("cold", "good", requests.serverless_variant("good", max_concurrency=2))
    assert not list(there.hosting.machines.folder.glob("*")), "nothing runs yet"
    ask = there.server.client("sagemaker-runtime", config=ONE_TRY).invoke_endpoint

    def outcome(_) -> str:
        try:
            return str(json.loads(ask(EndpointName="cold", Body=gray_image())["Body"].read())["count"])
        except ClientError as error:
            return error.response["Error"]["Code"]

    with ThreadPoolExecutor(4) as pool:
        outcomes = sorted(pool.map(outcome, range(4)))
    assert outcomes == ["3", "3", "ThrottlingException", "ThrottlingException"]
    (instance,) = there.hosting.machines.folder.glob("*")
    assert outcome(None) == "3"
    assert list(there.hosting.machines.folder.glob("*")) == [instance], "the instance is kept"
    assert refusal(ask, EndpointName="cold", Body=b"x" * (4 * 2**20 + 1))[1].endswith("has oversize body.")
    seen = there.sagemaker.describe_endpoint(EndpointName="cold")["ProductionVariants"][0]
    assert seen["CurrentServerlessConfig"]["MemorySizeInMB"] == 2048
    there.sagemaker.delete_endpoint(EndpointName="cold")


def test_an_asynchronous_endpoint_answers_to_s3(there):
    variant, folder = requests.instance_variant("good", "ml.m5.large"), there.s3 / "answers"
    config = requests.endpoint_config("later", variant, async_output_url="s3://answers/out/")
    config["AsyncInferenceConfig"]["OutputConfig"]["S3FailurePath"] = "s3://answers/failures"
    there.sagemaker.create_endpoint_config(**config)
    there.sagemaker.create_endpoint(**requests.create_endpoint("later", "later"))
    there.wait("later")
    ask = there.runtime.invoke_endpoint_async

    told = ask(EndpointName="later", Body=gray_image(), ContentType="image/png", InferenceId="mine")
    assert told["ResponseMetadata"]["HTTPStatusCode"] == 202
    assert told["InferenceId"] == "mine"
    assert told["OutputLocation"].startswith("s3://answers/out/") and told["OutputLocation"].endswith(".out")
    assert json.loads(wait_for(there.s3 / told["OutputLocation"].removeprefix("s3://")))["count"] == 3

    (there.s3 / "bins").mkdir()
    (there.s3 / "bins" / "a.png").write_bytes(gray_image(75))
    told = ask(EndpointName="later", InputLocation="s3://bins/a.png", S3OutputPathExtension="today", Filename="a.json")
    assert told["OutputLocation"] == "s3://answers/out/today/a.json"
    assert json.loads(wait_for(folder / "out" / "today" / "a.json"))["count"] == 2

    told = ask(EndpointName="later", InputLocation="s3://bins/none.png")
    assert b"none.png" in wait_for(there.s3 / told["FailureLocation"].removeprefix("s3://"))
    told = ask(EndpointName="later", Body=b"no image", ContentType="image/png")
    assert b"Received client error (422)" in wait_for(there.s3 / told["FailureLocation"].removeprefix("s3://"))

    assert refusal(ask, EndpointName="later", Body=b"x" * 128_001)[0] == "ValidationError"
    assert refusal(ask, EndpointName="later", Body=b"x", InputLocation="s3://bins/a.png")[0] == "ValidationError"
    assert refusal(there.runtime.invoke_endpoint, EndpointName="later", Body=b"x")[0] == "ValidationError"
    there.sagemaker.delete_endpoint(EndpointName="later")


def test_captured_data_has_aws_form(there):
    there.create(
        "seen",
        "good",
        requests.instance_variant("good", "ml.m5.large"),
        capture_url="s3://captured",
        capture_percent=50,
    )
    for _ in range(2):
        there.runtime.invoke_endpoint(
            EndpointName="seen",
            Body=gray_image(),
            ContentType="image/png",
            CustomAttributes="expected_count=4",
            InferenceId="bin-7",
        )
    by_predict = SageMakerEndpoint("seen", there.runtime, there.sagemaker, StorageOptions(), timeout_s=30)
    for _ in range(2):
        by_predict.count(gray_image(), "bin 8")
    assert refusal(there.runtime.invoke_endpoint_async, EndpointName="seen", Body=b"x")[0] == "ValidationError"
    there.sagemaker.delete_endpoint(EndpointName="seen")
    deadline = time.monotonic() + 10
    while len(paths := sorted((there.s3 / "captured").glob("seen/all/*/*/*/*/*.jsonl"))) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert len(paths) == 2, "half of them"
    (line,) = paths[0].read_text().splitlines()
    told = json.loads(line)
    assert told["eventVersion"] == "0"
    assert told["eventMetadata"]["customAttributes"] == ["expected_count=4"]
    assert told["eventMetadata"]["inferenceId"] == "bin-7"
    assert set(told["eventMetadata"]) >= {"eventId", "inferenceTime"}
    asked, answered = told["captureData"]["endpointInput"], told["captureData"]["endpointOutput"]
    assert (asked["observedContentType"], asked["mode"], asked["encoding"]) == ("image/png", "INPUT", "BASE64")
    assert base64.b64decode(asked["data"]) == gray_image()
    assert (answered["observedContentType"], answered["mode"]) == ("application/json", "OUTPUT")
    assert answered["encoding"] == "JSON"
    assert json.loads(answered["data"])["mismatch_score"] > 0.1
    first, second = (read_capture(json.loads(path.read_text())) for path in paths)
    assert (first.request_id, first.expected_count, first.image_id) == ("bin-7", 4, None)
    assert (second.image_id, second.count, second.width_px) == ("bin 8", 3, 48)


def transformed(there, name: str, input_url: str, **values) -> dict:
    """Runs a batch job to its end; returns its description."""
    request = requests.transform_job(name, "good", input_url, f"s3://batch/{name}", **values)
    there.sagemaker.create_transform_job(**request)
    with suppress(WaiterError):  # of a job that fails
        there.sagemaker.get_waiter("transform_job_completed_or_stopped").wait(
            TransformJobName=name, WaiterConfig={"Delay": 1}
        )
    return there.sagemaker.describe_transform_job(TransformJobName=name)


def test_a_batch_job_walks_a_prefix(there):
    folder = there.s3 / "photos" / "shelf"
    (folder / "b").mkdir(parents=True)
    (folder / "a.png").write_bytes(gray_image(25))
    (folder / "b" / "c.png").write_bytes(gray_image(225))
    (there.s3 / "photos" / "other.png").write_bytes(b"of no interest")
    seen = transformed(there, "whole", "s3://photos/shelf/")
    assert (seen["TransformJobStatus"], seen["ModelName"]) == ("Completed", "good")
    assert seen["TransformEndTime"] >= seen["TransformStartTime"]
    out = there.s3 / "batch" / "whole"
    assert sorted(str(path.relative_to(out)) for path in out.rglob("*.*")) == ["a.png.out", "b/c.png.out"]
    assert json.loads((out / "a.png.out").read_text())["count"] == 1
    assert json.loads((out / "b" / "c.png.out").read_text())["count"] == 5
    code, _ = refusal(
        there.sagemaker.create_transform_job, **requests.transform_job("whole", "good", "s3://x", "s3://y")
    )
    assert code == "ResourceInUse"


def test_a_batch_job_with_a_bad_object_does_the_others_and_fails(there):
    folder = there.s3 / "mixed"
    folder.mkdir()
    (folder / "bad.png").write_bytes(b"no image")
    (folder / "good.png").write_bytes(gray_image(25))
    (folder / "list.manifest").write_text(json.dumps([{"prefix": "s3://mixed/"}, "bad.png", "good.png"]))
    seen = transformed(there, "mixed", "s3://mixed/list.manifest", is_manifest=True)
    assert (seen["TransformJobStatus"], seen["FailureReason"]) == (
        "Failed",
        "ClientError: See job logs for more information",
    )
    assert [path.name for path in (there.s3 / "batch" / "mixed").iterdir()] == ["good.png.out"]
    logs, group = there.server.client("logs"), "/aws/sagemaker/TransformJobs"
    streams = logs.describe_log_streams(logGroupName=group, logStreamNamePrefix="mixed/")["logStreams"]
    assert len(streams) == 2, "one of the instance, one of the job"
    events = logs.get_log_events(logGroupName=group, logStreamName="mixed/data-log", limit=2)["events"]
    assert "mixed/bad.png: Bad HTTP status received from algorithm: 422" in events[0]["message"]


def test_a_batch_job_without_input_fails_and_one_can_be_stopped(there):
    assert "No S3 objects found under S3 URL" in transformed(there, "empty", "s3://photos/none/")["FailureReason"]
    (there.s3 / "one").mkdir()
    (there.s3 / "one" / "a.png").write_bytes(gray_image())
    request = requests.transform_job("stopped", "good", "s3://one/", "s3://batch/stopped")
    there.sagemaker.create_transform_job(**request)
    there.sagemaker.stop_transform_job(TransformJobName="stopped")
    seen = there.sagemaker.describe_transform_job(TransformJobName="stopped")["TransformJobStatus"]
    assert seen in ("Stopping", "Stopped")
    there.sagemaker.get_waiter("transform_job_completed_or_stopped").wait(
        TransformJobName="stopped", WaiterConfig={"Delay": 1}
    )
    listed = there.sagemaker.list_transform_jobs(StatusEquals="Stopped")["TransformJobSummaries"]
    assert [job["TransformJobName"] for job in listed] == ["stopped"]
    code, message = refusal(there.sagemaker.stop_transform_job, TransformJobName="stopped")
    assert message == "The request was rejected because the transform job is in status Stopped."
    assert refusal(there.sagemaker.describe_transform_job, TransformJobName="none")[1].endswith("with name: none")
    assert code == "ValidationException"
