"""SageMaker's HTTP interface for training jobs, on this machine: what boto3 and the `aws` command line talk to.

The protocol is AWS JSON 1.1: every call is a POST to / whose header X-Amz-Target names the operation; times are
seconds since 1970; an error is a status of 400 and a body with `__type` and `message`. The texts of the errors are
AWS's own where they are publicly known. What is not signed with the server's key is refused.
"""

import json
import socket
import struct
import threading
import uuid
from collections.abc import Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Protocol, Self

from stocktake.cloud.validation import RequestError, check_request
from stocktake.rehearsal import log_api
from stocktake.rehearsal.api_faults import ApiFaults, Blip
from stocktake.rehearsal.faults import Fault
from stocktake.rehearsal.job_state import REGION, Job, RequestRefused
from stocktake.rehearsal.job_store import JobStore
from stocktake.rehearsal.signature import SessionKey

TARGET_PREFIX = "SageMaker."
MAX_BODY_BYTES = 2**20  # read before anybody knows who asks


class Runner(Protocol):
    """Whoever plays the jobs; it learns from `job.stop_asked` that it shall end one."""

    def check(self, request: Mapping) -> None:
        """Raises a ValueError for a job that it cannot play."""
        ...

    def start(self, job: Job) -> None:
        """Begins to play a job and returns at once."""
        ...

    def log_folder(self, job_name: str) -> Path:
        """Returns the folder of a job's logs, one `<host>.log` for each instance."""
        ...


class RehearsalServer:
    """SageMaker's API for training jobs and CloudWatch's for their logs, on 127.0.0.1; a context manager.

    Args:
        port: 0 takes a free one; `url` tells which.
        key: What requests have to be signed with; by default a new one.
        faults: What shall go wrong; those that meet a job are the runner's.
    """

    def __init__(
        self,
        runner: Runner,
        jobs: JobStore | None = None,
        port: int = 0,
        key: SessionKey | None = None,
        faults: Sequence[Fault] = (),
    ):
        self.runner = runner
        self.jobs = jobs or JobStore()
        self.logs = log_api.LogStreams(runner.log_folder)
        self.key = key or SessionKey()
        self.faults = ApiFaults(faults)
        self._http = ThreadingHTTPServer(("127.0.0.1", port), _handler(self))
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True)
        self.url = f"http://127.0.0.1:{self._http.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def client(self, service: str, **options: Any) -> Any:
        """Returns boto3's client of `sagemaker` or `logs` with this server's key."""
        import boto3

        return boto3.client(
            service,
            REGION,
            endpoint_url=self.url,
            aws_access_key_id=self.key.access_key_id,
            aws_secret_access_key=self.key.secret_access_key,
            **options,
        )

    def respond(self, operation: str, request: Mapping) -> dict:
        """Returns the response body of one call.

        Raises:
            RequestRefused: AWS would answer with an error.
        """
        operations = {
            "CreateTrainingJob": self._create,
            "DescribeTrainingJob": self._describe,
            "ListTrainingJobs": self._list,
            "StopTrainingJob": self._stop,
        }
        if operation not in operations:
            known = ", ".join(operations)
            raise RequestRefused("UnknownOperationException", f"{operation} is not rehearsed; {known} are.")
        try:
            check_request(operation, request)
        except RequestError as error:
            raise RequestRefused("ValidationException", str(error)) from error
        return operations[operation](request)

    def _create(self, request: Mapping) -> dict:
        try:
            self.runner.check(request)
        except ValueError as error:
            raise RequestRefused("ValidationException", str(error)) from error
        job = self.jobs.create(request)
        self.runner.start(job)
        return {"TrainingJobArn": job.arn}

    def _describe(self, request: Mapping) -> dict:
        return self.jobs.get(request["TrainingJobName"]).describe()

    def _stop(self, request: Mapping) -> dict:
        self.jobs.get(request["TrainingJobName"]).stop()
        return {}

    def _list(self, request: Mapping) -> dict:
        summaries = [job.summary() for job in self.jobs.all()]
        kept = [summary for summary in summaries if _matches(summary, request)]
        sort_by = {"Name": "TrainingJobName", "Status": "TrainingJobStatus"}.get(
            request.get("SortBy", ""), "CreationTime"
        )
        kept.sort(key=lambda summary: summary[sort_by], reverse=request.get("SortOrder") != "Ascending")
        token, size = request.get("NextToken", "0"), request.get("MaxResults", 10)
        if not token.isdecimal():
            raise RequestRefused("ValidationException", f"NextToken={token!r} is none that this server gave.")
        start = int(token)
        page: dict[str, Any] = {"TrainingJobSummaries": kept[start : start + size]}
        if len(kept) > start + size:
            page["NextToken"] = str(start + size)
        return page


def _matches(summary: Mapping, request: Mapping) -> bool:
    bounds = {"CreationTime": summary["CreationTime"], "LastModifiedTime": summary["LastModifiedTime"]}
    return (
        request.get("NameContains", "") in summary["TrainingJobName"]
        and request.get("StatusEquals", summary["TrainingJobStatus"]) == summary["TrainingJobStatus"]
        and all(request.get(f"{name}After", 0) <= value for name, value in bounds.items())
        and all(value <= request.get(f"{name}Before", value) for name, value in bounds.items())
    )


def _handler(server: RehearsalServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 120  # s without a word, and a connection is closed

        def do_POST(self):
            target = self.headers.get("X-Amz-Target", "")
            service, prefix, name = server, TARGET_PREFIX, "sagemaker"
            if target.startswith(log_api.TARGET_PREFIX):
                service, prefix, name = server.logs, log_api.TARGET_PREFIX, "logs"
            try:
                body = self._body()
                server.key.check(self.headers, body, name)
                server.faults.meet(target.removeprefix(prefix))
                self._reply(200, service.respond(target.removeprefix(prefix), json.loads(body or b"{}")))
            except ValueError as error:  # no JSON, no length, no time
                self._reply(400, {"__type": "SerializationException", "message": str(error)})
            except RequestRefused as error:
                self._reply(400, {"__type": error.code, "message": str(error)})
            except Blip:
                self.close_connection = True
                # Closed with nothing lingering: the other side sees a reset, not an end.
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.connection.close()

        def _body(self) -> bytes:
            size = int(self.headers.get("Content-Length", 0))
            if not 0 <= size <= MAX_BODY_BYTES:
                self.close_connection = True
                raise RequestRefused("RequestEntityTooLargeException", f"{size} bytes; at most {MAX_BODY_BYTES}.")
            return self.rfile.read(size)

        def _reply(self, status: int, body: Mapping) -> None:
            content = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/x-amz-json-1.1")
            self.send_header("Content-Length", str(len(content)))
            self.send_header("x-amzn-RequestId", str(uuid.uuid4()))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: Any) -> None:
            pass  # the caller's screen is for the job

    return Handler
