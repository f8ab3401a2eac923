"""One instance of an endpoint or a batch job: the server that the image starts, over the model that was unpacked.

The process sees what SageMaker gives a container, and nothing of this user's environment: the variables of the image
and of the request.
"""

import http.client
import io
import re
import shutil
import subprocess
import tarfile
import threading
import time
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from stocktake.rehearsal.job_state import REGION
from stocktake.rehearsal.s3_sync import OpenFolder
from stocktake.rehearsal.serving_image import ServingImage
from stocktake.shell import hydra_value
from stocktake.storage import StorageError, split_url

PING_TIMEOUT_S = 2.0
PING_INTERVAL_S = 0.1  # SageMaker does not say how often it asks
INVOCATION_TIMEOUT_S = 60.0
GRACE_S = 30.0  # from SIGTERM to SIGKILL
LISTENING = re.compile(rb'"url": "http://127\.0\.0\.1:(\d+)"')  # as scripts/serve.py prints it


class NotHealthy(Exception):
    """An instance does not answer /ping, or has no model that could be unpacked; in SageMaker's words."""


class NoAnswer(Exception):
    """A container gave no answer to a request: not in time, or the connection broke."""

    def __init__(self, message: str, timed_out: bool):
        super().__init__(message)
        self.timed_out = timed_out


@dataclass(frozen=True)
class ContainerAnswer:
    """What a container answered; `latency_s` is ModelLatency."""

    status: int
    content: bytes
    headers: Mapping[str, str]
    latency_s: float


def unpack_model(url: str, target: Path, open_folder: OpenFolder) -> None:
    """Unpacks a model.tar.gz from S3.

    Raises:
        NotHealthy: There is none, or it is damaged.
    """
    folder, name = split_url(url)
    target.mkdir(parents=True, exist_ok=True)
    try:
        with tarfile.open(fileobj=io.BytesIO(open_folder(folder).read(name))) as archive:
            archive.extractall(target, filter="data")
    except (OSError, EOFError, StorageError, tarfile.TarError, zlib.error) as error:
        raise NotHealthy(f"Failed to download model data from {url}: {error}") from error


class EndpointInstance:
    """A server process of its own.

    Args:
        name: SageMaker's id of the instance.
        base: Its /opt/ml, whose `model` holds the unpacked model.
        log: Where all that it prints is appended.
        image: What it starts.
        environment: What the request sets.

    Attributes:
        is_ready: The process that runs now has answered /ping.
    """

    def __init__(self, name: str, base: Path, log: Path, image: ServingImage, environment: Mapping[str, str]):
        self.name, self.base, self.log, self.image, self.environment = name, base, log, image, environment
        self._process: subprocess.Popen | None = None
        self._port: int | None = None
        self._log_begins_at, self.is_ready = 0, False

    def start(self) -> None:
        """Starts the server as the image's ENTRYPOINT with SageMaker's word `serve`, and returns at once."""
        self._port, self.is_ready = None, False
        model = hydra_value(str(self.base / "model"))
        # 8080 has one instance of this machine's alone.
        command = [*self.image.entrypoint, "serve", f"model={model}", "port=0", "host=127.0.0.1"]
        with self.log.open("ab") as log:
            self._log_begins_at = log.tell()
            self._process = subprocess.Popen(  # noqa: S603 - arguments, no shell
                command,
                cwd=self.image.folder or self.base,
                env={"LANG": "C.UTF-8", "AWS_REGION": REGION, **self.image.environment, **self.environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C in the caller's terminal is not for the instance
            )

    @property
    def runs(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def ping(self) -> bool:
        """Whether the container answers /ping with 200 in time."""
        try:
            self.is_ready = self._ask("GET", "/ping", b"", {}, PING_TIMEOUT_S).status == 200
        except NoAnswer:
            self.is_ready = False
        return self.is_ready

    def wait_until_healthy(self, timeout_s: float, given_up: threading.Event) -> bool:
        """Asks /ping until it is answered, the process ends, the time is over or `given_up` is set.

        Returns:
            Whether it was answered.
        """
        deadline = time.monotonic() + timeout_s
        while self.runs and time.monotonic() < deadline and not given_up.wait(PING_INTERVAL_S):
            if self.ping():
                return True
        return False

    def invoke(self, body: bytes, headers: Mapping[str, str], timeout_s: float) -> ContainerAnswer:
        """Posts to /invocations.

        Raises:
            NoAnswer: None came in time.
        """
        return self._ask("POST", "/invocations", body, headers, timeout_s)

    def _ask(self, method: str, path: str, body: bytes, headers: Mapping, timeout_s: float) -> ContainerAnswer:
        began = time.monotonic()
        self._port = self._port or self._listening_at()
        if self._port is None:
            raise NoAnswer(f"{self.name}: it does not listen yet", timed_out=False)
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=timeout_s)
        try:
            connection.request(method, path, body or None, dict(headers))
            response = connection.getresponse()
            content = response.read()
        except (OSError, http.client.HTTPException) as error:
            text = f"{self.name}: {type(error).__name__}: {error}"
            raise NoAnswer(text, isinstance(error, TimeoutError)) from error
        finally:
            connection.close()
        return ContainerAnswer(response.status, content, dict(response.getheaders()), time.monotonic() - began)

    def _listening_at(self) -> int | None:
        """Returns the port that the server says in its first line, None before it has said it."""
        with self.log.open("rb") as log:
            log.seek(self._log_begins_at)
            found = LISTENING.search(log.read())
        return int(found[1]) if found else None

    def terminate(self) -> None:
        """SIGTERM; `wait_until_ended` follows."""
        if self._process and self.runs:
            self._process.terminate()

    def wait_until_ended(self, grace_s: float = GRACE_S) -> None:
        """Waits until the process has ended, kills it after the grace time, and removes its folder."""
        if self._process:
            try:
                self._process.wait(grace_s)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        shutil.rmtree(self.base, ignore_errors=True)
