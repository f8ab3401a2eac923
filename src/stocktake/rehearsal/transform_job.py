"""A batch transform job: every object of an input is a request to servers of the job's own.

API reference of CreateTransformJob, TransformInput and TransformOutput; developer guide, "Batch transform".
"""

import json
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from stocktake.rehearsal.endpoint_instance import ContainerAnswer, NoAnswer, NotHealthy
from stocktake.rehearsal.fleet import Fleet, Machines
from stocktake.rehearsal.job_state import RequestRefused
from stocktake.rehearsal.resource_store import arn
from stocktake.storage import StorageError, split_url

LOG_GROUP = "/aws/sagemaker/TransformJobs"
ENDED = ("Completed", "Failed", "Stopped")
# What CreateTransformJob has where it says nothing.
NUM_AT_ONCE, PAYLOAD_MB, TIMEOUT_S, NUM_RETRIES = 1, 6, 600, 3
CLIENT_ERROR = "ClientError: See job logs for more information"
ALGORITHM_ERROR = "AlgorithmError: See job logs for more information"
SUMMARY_FIELDS = ("TransformJobName", "TransformJobArn", "TransformJobStatus", "CreationTime", "LastModifiedTime")
SUMMARY_FIELDS += ("TransformEndTime", "FailureReason")


class InputMissing(Exception):
    """There is nothing to transform, in SageMaker's words."""


@dataclass(frozen=True)
class InputObject:
    """One object of the input; its answer goes to `<path>.out` below the output's folder."""

    url: str
    path: str


class TransformJob:
    """A job in a thread of its own. Any thread may call its methods."""

    def __init__(self, request: Mapping[str, Any], model: Mapping[str, Any], machines: Machines):
        self.request, self.model, self.machines = request, model, machines
        self.name = request["TransformJobName"]
        self.arn = arn("transform-job", self.name)
        self.status, self.failure_reason = "InProgress", None
        self.created_at = self.modified_at = time.time()
        self.started_at = self.ended_at = None
        self._stop_asked, self._lock = threading.Event(), threading.Lock()
        self._fleet = self._new_fleet()
        self._thread = threading.Thread(target=self._run, name=self.name)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """
        Raises:
            RequestRefused: It does not run.
        """
        with self._lock:
            if self.status in (*ENDED, "Stopping"):
                text = f"The request was rejected because the transform job is in status {self.status}."
                raise RequestRefused("ValidationException", text)
            self.status, self.modified_at = "Stopping", time.time()
        self._give_up()

    def close(self) -> None:
        """Ends the job, in whatever state it is, and returns when it has ended."""
        self._give_up()
        self._thread.join()

    def _give_up(self) -> None:
        self._stop_asked.set()
        self._fleet.give_up()

    def describe(self) -> dict[str, Any]:
        """Returns the job as in the answer of DescribeTransformJob."""
        seen = {key: value for key, value in self.request.items() if key != "Tags"} | {
            "TransformJobArn": self.arn,
            "TransformJobStatus": self.status,
            "CreationTime": self.created_at,
        }
        optional = {
            "FailureReason": self.failure_reason,
            "TransformStartTime": self.started_at,
            "TransformEndTime": self.ended_at,
        }
        return seen | {name: value for name, value in optional.items() if value is not None}

    def summary(self) -> dict[str, Any]:
        """Returns the job as in the answer of ListTransformJobs."""
        seen = self.describe() | {"LastModifiedTime": self.modified_at}
        return {field: seen[field] for field in SUMMARY_FIELDS if field in seen}

    def _end(self, status: str, failure_reason: str | None = None) -> None:
        with self._lock:
            self.status, self.failure_reason = status, failure_reason
            self.ended_at = self.modified_at = time.time()

    def _run(self) -> None:
        try:
            failure = self._failure()
        except NotHealthy:
            failure = ALGORITHM_ERROR
        except (InputMissing, StorageError, OSError) as error:
            failure = f"ClientError: {error}"
        except BaseException as error:  # a fault of the rehearsal's own, which shall not leave it InProgress for ever
            self._end("Failed", f"The rehearsal failed: {error!r}")
            raise
        finally:
            self._fleet.close()
        if self._stop_asked.is_set():
            self._end("Stopped")
        else:
            self._end("Failed" if failure else "Completed", failure)

    def _failure(self) -> str | None:
        """Transforms all there is; returns the reason of the first failure."""
        objects = list(self._objects())
        self._fleet.start()
        self.started_at = time.time()
        num_at_once = self.request.get("MaxConcurrentTransforms", NUM_AT_ONCE) * self._fleet.num_instances
        with ThreadPoolExecutor(num_at_once, self.name) as pool:
            return next(filter(None, [*pool.map(self._transform, objects)]), None)

    def _new_fleet(self) -> Fleet:
        """Returns the job's own servers, with the variables that SageMaker documents for them."""
        container = self.model["PrimaryContainer"]
        batch = {
            "SAGEMAKER_BATCH": "true",
            "SAGEMAKER_MAX_PAYLOAD_IN_MB": str(self.request.get("MaxPayloadInMB", PAYLOAD_MB)),
            "SAGEMAKER_BATCH_STRATEGY": "SINGLE_RECORD",
            "SAGEMAKER_MAX_CONCURRENT_TRANSFORMS": str(self.request.get("MaxConcurrentTransforms", NUM_AT_ONCE)),
        }
        environment = {**batch, **container.get("Environment", {}), **self.request.get("Environment", {})}
        variant = {
            "VariantName": self.name,
            "InitialInstanceCount": self.request["TransformResources"]["InstanceCount"],
        }
        model = {"PrimaryContainer": {**container, "Environment": environment}}
        return Fleet(variant, model, LOG_GROUP, self.machines)

    def _objects(self) -> Iterator[InputObject]:
        """Yields what is to be transformed: what lies under a prefix, or what a manifest names.

        Raises:
            InputMissing: That is nothing.
        """
        source = self.request["TransformInput"]["DataSource"]["S3DataSource"]
        url = source["S3Uri"]
        folder, beginning = split_url(url)
        if source["S3DataType"] == "ManifestFile":
            first, *names = json.loads(self.machines.open_folder(folder).read(beginning))
            yield from (InputObject(f"{first['prefix']}{name}", name) for name in names)
            return
        num_found = 0
        for key in sorted(key for key, _ in self.machines.open_folder(folder).sizes() if key.startswith(beginning)):
            num_found += 1
            inside = key.removeprefix(f"{beginning}/") if beginning else key  # of the folder that the prefix names
            yield InputObject(f"{folder}/{key}", inside)
        if not num_found:
            raise InputMissing(f"No S3 objects found under S3 URL {url!r} given in input data source.")

    def _transform(self, item: InputObject) -> str | None:
        """Transforms an object, unless the job is being stopped; returns the reason of a failure.

        Of several objects the others are transformed all the same, and the job fails in the end.
        """
        if self._stop_asked.is_set():
            return None
        folder, name = split_url(item.url)
        body = self.machines.open_folder(folder).read(name)
        max_bytes = self.request.get("MaxPayloadInMB", PAYLOAD_MB) * 2**20
        if max_bytes and len(body) > max_bytes:  # 0: no limit
            self._log(item, f"{len(body)} bytes are more than MaxPayloadInMB={max_bytes >> 20}")
            return CLIENT_ERROR
        answer = self._ask(item, body)
        if answer is None or not 200 <= answer.status < 300:
            return CLIENT_ERROR if answer and answer.status < 500 else ALGORITHM_ERROR
        output = self.request["TransformOutput"]["S3OutputPath"].rstrip("/")
        folder, name = split_url(f"{output}/{item.path}.out")
        self.machines.open_folder(folder).write(name, answer.content)
        return None

    def _ask(self, item: InputObject, body: bytes) -> ContainerAnswer | None:
        """Asks a server, and again where it failed; returns its last answer, if there was one."""
        client, answer = self.request.get("ModelClientConfig", {}), None
        given = {
            "Content-Type": self.request["TransformInput"].get("ContentType"),
            "Accept": self.request["TransformOutput"].get("Accept"),
        }
        headers = {name: value for name, value in given.items() if value}
        for _ in range(1 + client.get("InvocationsMaxRetries", NUM_RETRIES)):
            try:
                _, answer = self._fleet.invoke(body, headers, client.get("InvocationsTimeoutInSeconds", TIMEOUT_S))
            except (NoAnswer, NotHealthy) as error:
                self._log(item, f"Unable to get response from algorithm: {error}")
                continue
            if 200 <= answer.status < 300:
                break
            self._log(item, f"Bad HTTP status received from algorithm: {answer.status}")
            self._log(item, answer.content.decode(errors="replace"))
            if answer.status < 500:
                break
        return answer

    def _log(self, item: InputObject, text: str) -> None:
        """Writes a line into the job's own log, beside those of its instances."""
        path = self.machines.logs.create(LOG_GROUP, f"{self.name}/data-log")
        line = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S}:[sagemaker logs]: {item.url.removeprefix('s3://')}: {text}\n"
        with self._lock, path.open("a") as log:
            log.write(line)
