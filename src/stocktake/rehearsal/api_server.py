"""AWS's HTTP interfaces, as far as a rehearsal has them, on this machine: what boto3 and the `aws` command talk to.

One port answers for all of them; whose call it is, its path and headers tell (`stocktake.rehearsal.api_protocols`).
Times are seconds since 1970, and the texts of the errors are AWS's own where they are publicly known. What is not
signed with the server's key is refused.
"""

import socket
import struct
import threading
import uuid
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from stocktake.rehearsal.api_faults import ApiFaults, Blip
from stocktake.rehearsal.api_protocols import MAX_BODY_BYTES, Answer, Call, JsonApi, Service
from stocktake.rehearsal.faults import Fault
from stocktake.rehearsal.hosting import Hosting
from stocktake.rehearsal.job_state import REGION, RequestRefused
from stocktake.rehearsal.job_store import JobStore
from stocktake.rehearsal.log_api import LogStreams
from stocktake.rehearsal.signature import SessionKey
from stocktake.rehearsal.training_api import Runner, TrainingJobs
from stocktake.rehearsal.tuning_api import TuningJobs

__all__ = ["MAX_BODY_BYTES", "RehearsalServer", "Runner"]

MAX_DISCARDED_BYTES = 64 * 2**20  # of a body that is refused: who is still sending would not hear the answer


class RehearsalServer:
    """The APIs of training jobs, endpoints and what stands beside them, on 127.0.0.1; a context manager.

    Args:
        runner: Plays the training jobs; `None` where none are sent.
        port: 0 takes a free one; `url` tells which.
        key: What requests have to be signed with; by default a new one.
        faults: What shall go wrong; those that meet a job are the runner's.
        hosting: Plays endpoints and batch jobs; `None` where there are none.
    """

    def __init__(
        self,
        runner: Runner | None = None,
        jobs: JobStore | None = None,
        port: int = 0,
        key: SessionKey | None = None,
        faults: Sequence[Fault] = (),
        hosting: Hosting | None = None,
    ):
        self.runner, self.hosting = runner, hosting
        self.jobs = jobs or JobStore()
        self.key = key or SessionKey()
        self.faults = ApiFaults(faults)
        self.tuning = TuningJobs(runner, self.jobs) if runner else None
        training = TrainingJobs(runner, self.jobs).operations() if runner else {}
        tuning = self.tuning.operations() if self.tuning else {}
        hosted = hosting.sagemaker_operations() if hosting else {}
        logs = LogStreams(runner.log_folder if runner else None, hosting.logs if hosting else None)
        self.services: list[Service] = [
            JsonApi("sagemaker", {**training, **tuning, **hosted}),
            JsonApi("logs", logs.operations(), invalid="InvalidParameterException"),
            *(hosting.services() if hosting else ()),
        ]
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
        if self.tuning:
            self.tuning.close()

    def client(self, service: str, **options: Any) -> Any:
        """Returns boto3's client of an API, such as `sagemaker` or `logs`, with this server's key."""
        import boto3

        return boto3.client(
            service,
            REGION,
            endpoint_url=self.url,
            aws_access_key_id=self.key.access_key_id,
            aws_secret_access_key=self.key.secret_access_key,
            **options,
        )

    def service(self, call: Call) -> tuple[Service, str]:
        """Returns the API that a call is for, and the operation; SageMaker's, where no API knows it."""
        for service in self.services:
            if (operation := service.operation(call)) is not None:
                return service, operation
        return self.services[0], call.headers.get("X-Amz-Target") or f"{call.method} {call.path}"


def _handler(server: RehearsalServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 120  # s without a word, and a connection is closed

        def do_POST(self):
            path, _, query = self.path.partition("?")
            call = Call(self.command, path, query, self.headers)
            service, operation = server.service(call)
            num_refused_bytes = 0
            try:
                size = int(self.headers.get("Content-Length", 0))
                if not 0 <= size <= service.max_body_bytes:
                    num_refused_bytes, self.close_connection = min(size, MAX_DISCARDED_BYTES), True
                    raise service.too_large(size)
                call = replace(call, body=self.rfile.read(size))
                server.key.check(call, service.signing_name)
                server.faults.meet(operation)
                answer = service.answer(operation, call)
            except ValueError as error:  # no JSON, no length, no time
                answer = service.refusal(RequestRefused("SerializationException", str(error)))
            except RequestRefused as error:
                answer = service.refusal(error)
            except Blip:
                self.close_connection = True
                # Closed with nothing lingering: the other side sees a reset, not an end.
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.connection.close()
                return
            self._reply(answer)
            self._discard(num_refused_bytes)

        do_GET = do_DELETE = do_PUT = do_POST

        def _reply(self, answer: Answer) -> None:
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(answer.content)))
            self.send_header("x-amzn-RequestId", str(uuid.uuid4()))
            self.end_headers()
            self.wfile.write(answer.content)

        def _discard(self, num_bytes: int) -> None:
            """Takes the rest of a body that nobody reads: a connection closed before is reset, the answer with it."""
            with suppress(OSError):
                self.wfile.flush()
                while num_bytes > 0 and (chunk := self.rfile.read(min(num_bytes, 2**16))):
                    num_bytes -= len(chunk)

        def log_message(self, format: str, *args: Any) -> None:
            pass  # the caller's screen is for the job

    return Handler
