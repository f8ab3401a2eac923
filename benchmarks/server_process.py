"""A server in a process of its own: how long it takes to answer, and what its processes take meanwhile."""

import contextlib
import http.client
import json
import shlex
import socket
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import psutil
from load_generator import http_request

START_TIMEOUT_S = 300


@dataclass(frozen=True)
class Server:
    """A server that has answered once.

    Attributes:
        cold_start_s: From the start of its process to that answer.
    """

    port: int
    process: psutil.Process
    cold_start_s: float

    def ask(self, image: bytes) -> dict | None:
        """Returns the answer to one image, None where it is refused."""
        return ask(self.port, image)

    def cpu_s(self) -> float:
        """Returns the user and system seconds of its processes."""
        return sum(sum(member.cpu_times()[:2]) for member in family(self.process))

    def memory_mib(self) -> float:
        """Returns the resident memory of its processes; pages that they share count once (PSS)."""
        return sum(member.memory_full_info().pss for member in family(self.process)) / 2**20


def family(process: psutil.Process) -> list[psutil.Process]:
    return [process, *process.children(recursive=True)]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return free.getsockname()[1]


@contextlib.contextmanager
def running(command: Sequence[str], port: int, image: bytes) -> Iterator[Server]:
    """Runs a server that answers on `port`; in the end it is ended.

    Raises:
        SystemExit: It does not start; its own words are in the message.
    """
    with tempfile.TemporaryFile() as log:
        start_s = time.perf_counter()
        process = psutil.Popen(command, stdout=log, stderr=log)
        try:
            while ask(port, image) is None:
                if process.poll() is not None or time.perf_counter() - start_s > START_TIMEOUT_S:
                    log.seek(0)
                    raise SystemExit(
                        f"{shlex.join(command)} does not answer:\n{log.read().decode(errors='replace')[-3000:]}"
                    )
                time.sleep(0.02)
            yield Server(port, process, time.perf_counter() - start_s)
        finally:
            end(process)


def ask(port: int, image: bytes) -> dict | None:
    """Returns the answer to one image, None where the server does not answer, or not with a count."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=START_TIMEOUT_S) as connection:
            connection.sendall(http_request(image))
            response = http.client.HTTPResponse(connection)
            response.begin()
            body = response.read()
    except (OSError, http.client.HTTPException):
        return None
    return json.loads(body) if response.status == 200 else None


def end(process: psutil.Process) -> None:
    """Ends a server and the processes that it started."""
    with contextlib.suppress(psutil.NoSuchProcess):
        members = family(process)
        for member in members:
            member.terminate()
        for member in psutil.wait_procs(members, timeout=10)[1]:
            member.kill()
        process.wait()
