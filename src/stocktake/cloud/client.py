"""Training jobs through SageMaker's API: submit, look, read logs, stop, fetch results.

boto3 sends them, see `stocktake.cloud.requests` for why. Pointed at another endpoint the same calls reach a
rehearsal on this machine.
"""

import io
import json
import re
import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stocktake.cloud.retries import Patience, Unavailable, is_passing
from stocktake.run_folder import METRICS_NAME
from stocktake.storage import Folder

LOG_GROUP = "/aws/sagemaker/TrainingJobs"
ENDED = ("Completed", "Failed", "Stopped")
# AWS's words for a job name that nobody used yet.
NOT_FOUND = re.compile(r"not found|could not find", re.IGNORECASE)
HINTS = {
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
    """A job could not be sent, looked at or stopped; the message says why and what to do.

    Attributes:
        code: AWS's name of the error, where it has one.
        num_retries: How often boto3 had sent the request before the answer.
    """

    def __init__(self, message: str, code: str = "", num_retries: int = 0):
        super().__init__(message)
        self.code, self.num_retries = code, num_retries


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
        hourly_usd: What an instance type costs an hour, `None` where it is not known.
        patience: How often and how long a call is made again that AWS did not answer.
    """

    def __init__(
        self,
        sagemaker: Any,
        logs: Any,
        open_folder: Callable[[str], Folder],
        hourly_usd: Callable[[str], float | None] = lambda _: None,
        patience: Patience | None = None,
    ):
        self.sagemaker, self.logs, self.open_folder, self.hourly_usd = sagemaker, logs, open_folder, hourly_usd
        self.patience = patience or Patience()

    def submit(self, request: Mapping[str, Any]) -> None:
        """Sends a checked CreateTrainingJob.

        Raises:
            JobError: AWS refuses it.
        """
        self.create("create_training_job", request["TrainingJobName"], request)

    def create(self, operation: str, name: str, request: Mapping[str, Any]) -> None:
        """Sends a request that makes something, until it is there.

        Raises:
            JobError: AWS refuses it.
        """
        num_tries = 0

        def send() -> None:
            nonlocal num_tries
            num_tries += 1
            try:
                self._once(self.sagemaker, operation, name, **request)
            except JobError as error:
                # The answer to a request that had arrived was lost: by now the job is there.
                if error.code != "ResourceInUse" or num_tries + error.num_retries == 1:
                    raise

        self.patience(send)

    def describe(self, name: str) -> dict[str, Any]:
        """Returns the answer of DescribeTrainingJob.

        Raises:
            JobError: There is no such job, or it may not be looked at.
        """
        return self.call(self.sagemaker, "describe_training_job", name, TrainingJobName=name)

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
            self.call(self.sagemaker, "stop_training_job", name, TrainingJobName=name)

    def new_log_lines(self, name: str, position: LogPosition) -> Iterator[tuple[str, str]]:
        """Yields (host, line) of what was logged since `position`, which is moved on."""
        try:
            streams = sorted(self._log_streams(name))
        except JobError as error:
            if error.code == "ResourceNotFoundException":  # the account's first job
                return
            raise
        for stream in streams:
            host = stream.split("/")[1]
            yield from ((host, line) for line in self._new_events(stream, position))

    def _log_streams(self, name: str) -> Iterator[str]:
        token: dict[str, str] = {}
        while True:
            request = {"logGroupName": LOG_GROUP, "logStreamNamePrefix": f"{name}/"} | token
            page = self.call(self.logs, "describe_log_streams", f"logs of {name}", **request)
            yield from (stream["logStreamName"] for stream in page["logStreams"])
            if "nextToken" not in page:
                return
            token = {"nextToken": page["nextToken"]}

    def _new_events(self, stream: str, position: LogPosition) -> Iterator[str]:
        while True:
            token = position.tokens.get(stream)
            request = {"logGroupName": LOG_GROUP, "logStreamName": stream, "startFromHead": True}
            if token:
                request["nextToken"] = token
            page = self.call(self.logs, "get_log_events", f"log {stream}", **request)
            yield from (event["message"] for event in page["events"])
            position.tokens[stream] = page["nextForwardToken"]
            if page["nextForwardToken"] == token:
                return

    def results(self, name: str, folder: Path) -> dict[str, Any]:
        """Unpacks what a job left (its run folder without checkpoints) and returns its metrics.json.

        Raises:
            JobError: It left none, or what it left is damaged.
        """
        described = self.describe(name)
        url = f"{described['OutputDataConfig']['S3OutputPath'].rstrip('/')}/{name}/output"
        try:
            content = self.open_folder(url).read("output.tar.gz")
        except OSError as error:
            raise JobError(f"{name}: no results: {error}") from error
        folder.parent.mkdir(parents=True, exist_ok=True)
        # Beside it first: nothing of a damaged archive shall look like a result.
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{name}-") as unpacked:
            try:
                with tarfile.open(fileobj=io.BytesIO(content)) as archive:
                    archive.extractall(unpacked, filter="data")
                found = sorted(Path(unpacked).rglob(METRICS_NAME), key=lambda path: len(path.parts))
                metrics = dict(json.loads(found[0].read_text())) if found else None
            except (tarfile.TarError, zlib.error, EOFError, OSError, TypeError, ValueError) as error:
                raise JobError(f"{name}: {url}/output.tar.gz is damaged: {error}") from error
            shutil.copytree(unpacked, folder, dirs_exist_ok=True)
        if metrics is None:
            raise JobError(f"{name}: there is no {METRICS_NAME} in {url}/output.tar.gz, so the run was not finished.")
        return metrics

    def call(self, client: Any, operation: str, what: str, **request: Any) -> dict[str, Any]:
        """Makes a call until AWS answers it."""
        return self.patience(lambda: self._once(client, operation, what, **request))

    def _once(self, client: Any, operation: str, what: str, **request: Any) -> dict[str, Any]:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            return getattr(client, operation)(**request)
        except (ClientError, BotoCoreError) as error:
            response = getattr(error, "response", None) or {}
            code = response.get("Error", {}).get("Code", type(error).__name__)
            if is_passing(error):
                raise Unavailable(_explained(error, what), code) from error
            num_retries = response.get("ResponseMetadata", {}).get("RetryAttempts", 0)
            raise JobError(_explained(error, what), code, num_retries) from error


def _explained(error: Exception, what: str) -> str:
    response = (getattr(error, "response", None) or {}).get("Error", {})
    code, message = response.get("Code", type(error).__name__), response.get("Message", str(error))
    hint = f" Hint: {HINTS[code]}." if code in HINTS else ""
    return f"{what}: {message.rstrip('.')} ({code}).{hint}"
