"""Training jobs through SageMaker's API: submit, look, read logs, stop, fetch results.

boto3 sends them, see `stocktake.cloud.requests` for why. Pointed at another endpoint the same calls reach a
rehearsal on this machine.
"""

import io
import json
import re
import tarfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stocktake.storage import Folder

LOG_GROUP = "/aws/sagemaker/TrainingJobs"
ENDED = ("Completed", "Failed", "Stopped")
METRICS_NAME = "metrics.json"
# AWS's words for a job name that nobody used yet.
NOT_FOUND = re.compile(r"not found|could not find", re.IGNORECASE)
CURES = {
    "AccessDenied": "the account may not do this: ask for a policy that allows it",
    "AccessDeniedException": "the account may not do this: ask for a policy that allows it",
    "ExpiredToken": "the credentials have expired: log in again (aws sso login)",
    "ExpiredTokenException": "the credentials have expired: log in again (aws sso login)",
    "InvalidClientTokenId": "AWS does not know these credentials: see aws configure",
    "UnrecognizedClientException": "AWS does not know these credentials: see aws configure",
    "ResourceLimitExceeded": "the account's quota is used up: ask for more at "
    "https://console.aws.amazon.com/servicequotas, or take another of compute.instance_types",
    "ResourceInUse": "type another hydra.launcher.job_name",
}


class JobError(RuntimeError):
    """A job could not be sent, looked at or stopped; the message says why and what to do."""


class JobFailed(RuntimeError):
    """A job ended without a result; the message holds the reason and, if there is one, the traceback."""


@dataclass
class LogPosition:
    """How far the log streams of a job were read: stream name to CloudWatch's token."""

    tokens: dict[str, str] = field(default_factory=dict)


class Jobs:
    """The training jobs of one account and region.

    Args:
        sagemaker: boto3's client of SageMaker.
        logs: boto3's client of CloudWatch Logs.
        open_folder: The way from an s3:// URL to its folder.
    """

    def __init__(self, sagemaker: Any, logs: Any, open_folder: Callable[[str], Folder]):
        self.sagemaker, self.logs, self.open_folder = sagemaker, logs, open_folder

    def submit(self, request: Mapping[str, Any]) -> None:
        """Sends a checked CreateTrainingJob.

        Raises:
            JobError: AWS refuses it.
        """
        self._call("create_training_job", request["TrainingJobName"], **request)

    def describe(self, name: str) -> dict[str, Any]:
        """Returns what DescribeTrainingJob tells.

        Raises:
            JobError: There is no such job, or it may not be looked at.
        """
        return self._call("describe_training_job", name, TrainingJobName=name)

    def exists(self, name: str) -> bool:
        try:
            self.describe(name)
        except JobError as error:
            if NOT_FOUND.search(str(error)):
                return False
            raise
        return True

    def stop(self, name: str) -> None:
        """Asks a job to end; one that has ended stays as it is."""
        if self.describe(name)["TrainingJobStatus"] == "InProgress":
            self._call("stop_training_job", name, TrainingJobName=name)

    def new_log_lines(self, name: str, position: LogPosition) -> Iterator[tuple[str, str]]:
        """Yields (host, line) of what was logged since `position`, which is moved on."""
        from botocore.exceptions import ClientError

        try:
            pages = self.logs.get_paginator("describe_log_streams").paginate(
                logGroupName=LOG_GROUP, logStreamNamePrefix=f"{name}/"
            )
            streams = sorted(stream["logStreamName"] for page in pages for stream in page["logStreams"])
        except ClientError as error:
            if error.response["Error"]["Code"] == "ResourceNotFoundException":  # the account's first job
                return
            raise JobError(_explained(error, f"logs of {name}")) from error
        for stream in streams:
            host = stream.split("/")[1]
            yield from ((host, line) for line in self._new_events(stream, position))

    def _new_events(self, stream: str, position: LogPosition) -> Iterator[str]:
        while True:
            token = position.tokens.get(stream)
            page = self.logs.get_log_events(
                logGroupName=LOG_GROUP,
                logStreamName=stream,
                startFromHead=True,
                **({"nextToken": token} if token else {}),
            )
            yield from (event["message"] for event in page["events"])
            position.tokens[stream] = page["nextForwardToken"]
            if page["nextForwardToken"] == token:
                return

    def results(self, name: str, folder: Path) -> dict[str, Any]:
        """Unpacks what a job left (its run folder without checkpoints) and returns its metrics.json.

        Raises:
            JobError: It left none.
        """
        described = self.describe(name)
        url = f"{described['OutputDataConfig']['S3OutputPath'].rstrip('/')}/{name}/output"
        try:
            content = self.open_folder(url).read("output.tar.gz")
        except OSError as error:
            raise JobError(f"{name}: no results: {error}") from error
        folder.mkdir(parents=True, exist_ok=True)
        with tarfile.open(fileobj=io.BytesIO(content)) as archive:
            archive.extractall(folder, filter="data")
        found = sorted(folder.rglob(METRICS_NAME), key=lambda path: len(path.parts))
        if not found:
            raise JobError(f"{name}: there is no {METRICS_NAME} in {url}/output.tar.gz, so the run was not finished.")
        return json.loads(found[0].read_text())

    def _call(self, operation: str, name: str, **request: Any) -> dict[str, Any]:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            return getattr(self.sagemaker, operation)(**request)
        except (ClientError, BotoCoreError) as error:
            raise JobError(_explained(error, name)) from error


def _explained(error: Exception, what: str) -> str:
    response = getattr(error, "response", {}).get("Error", {})
    code, message = response.get("Code", type(error).__name__), response.get("Message", str(error))
    cure = f" Cure: {CURES[code]}." if code in CURES else ""
    return f"{what}: {message.rstrip('.')} ({code}).{cure}"
