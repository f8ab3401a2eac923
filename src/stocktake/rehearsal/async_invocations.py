"""InvokeEndpointAsync: requests that wait in a queue, and whose answers go to S3."""

import threading
import time
import uuid
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from stocktake.rehearsal.endpoint_state import Endpoint
from stocktake.rehearsal.job_state import RequestRefused
from stocktake.rehearsal.s3_sync import OpenFolder
from stocktake.storage import StorageError, split_url

MAX_INLINE_BYTES = 128_000
INVOCATION_TIMEOUT_S, TIME_TO_LIVE_S = 900, 21_600  # AWS's own where a request names none
NUM_AT_ONCE = 4  # where the configuration names none: AWS "chooses an optimal value"


@dataclass(frozen=True)
class Location:
    """Where one answer goes; `failure` is `None` where the configuration has no S3FailurePath: AWS names no other."""

    output: str
    failure: str | None


def location_of(config: Mapping, request: Mapping) -> Location:
    """Returns where the answer to a request goes, under an endpoint's AsyncInferenceConfig."""
    output, number = config["OutputConfig"], str(uuid.uuid4())
    extension, failure = request.get("S3OutputPathExtension", "").strip("/"), output.get("S3FailurePath")
    folder = output["S3OutputPath"].rstrip("/") + (f"/{extension}" if extension else "")
    return Location(
        f"{folder}/{request.get('Filename', f'{number}.out')}",
        f"{failure.rstrip('/')}/{number}-error.out" if failure else None,
    )


def payload(request: Mapping, open_folder: OpenFolder) -> bytes:
    """Returns the body of a request, which came with it or lies in S3.

    Raises:
        StorageError: It cannot be read.
        FileNotFoundError: It is not there.
    """
    if "InputLocation" not in request:
        return request["Body"]
    folder, name = split_url(request["InputLocation"])
    return open_folder(folder).read(name)


def check_input(request: Mapping) -> None:
    """
    Raises:
        RequestRefused: The request names its input in no way, in two, or is too large.
    """
    body = request.get("Body", b"")
    if bool(body) == ("InputLocation" in request):
        raise RequestRefused("ValidationError", "Body and InputLocation are mutually exclusive. Provide exactly one.")
    if len(body) > MAX_INLINE_BYTES:
        text = f"Body has {len(body)} bytes; at most {MAX_INLINE_BYTES} are sent inline, more go into InputLocation."
        raise RequestRefused("ValidationError", text)


class Queues:
    """A queue for each endpoint, of which so many requests are with an instance at a time."""

    def __init__(self, open_folder: OpenFolder):
        self.open_folder = open_folder
        self._pools: dict[Endpoint, ThreadPoolExecutor] = {}
        self._lock = threading.Lock()

    def submit(
        self,
        endpoint: Endpoint,
        ask: Callable[[bytes, float], bytes],
        request: Mapping,
        goes_to: Location,
    ) -> None:
        """Has a request answered later.

        Args:
            ask: Is given the body and the time in seconds that the answer may take, and returns the answer.
        """
        open_folder = self.open_folder
        client = endpoint.deployed.config["AsyncInferenceConfig"].get("ClientConfig", {})
        num_at_once = client.get("MaxConcurrentInvocationsPerInstance", NUM_AT_ONCE)
        submitted_at = time.monotonic()

        def answer() -> None:
            try:
                if time.monotonic() - submitted_at > request.get("RequestTTLSeconds", TIME_TO_LIVE_S):
                    raise RequestRefused("ModelError", "The request expired in the queue.")
                body = payload(request, open_folder)
                url, content = goes_to.output, ask(body, request.get("InvocationTimeoutSeconds", INVOCATION_TIMEOUT_S))
            except (RequestRefused, StorageError, OSError) as error:
                url, content = goes_to.failure, str(error).encode()
            if url is not None:
                folder, name = split_url(url)
                open_folder(folder).write(name, content)

        with self._lock:
            if endpoint not in self._pools:
                num_workers = num_at_once * endpoint.deployed.fleet.num_instances
                self._pools[endpoint] = ThreadPoolExecutor(num_workers, endpoint.name)
            self._pools[endpoint].submit(answer)

    def forget(self, name: str) -> None:
        """Drops what still waits for an endpoint that is deleted."""
        with self._lock:
            for endpoint in [endpoint for endpoint in self._pools if endpoint.name == name]:
                self._pools.pop(endpoint).shutdown(wait=False, cancel_futures=True)

    def close(self) -> None:
        """Drops what still waits, and returns when what is with an instance has been answered."""
        with self._lock:
            for pool in self._pools.values():
                pool.shutdown(cancel_futures=True)
