"""A proxy in front of a local S3 server that adds latency and faults, and counts requests.

Bytes pass through as they are, the Host header too, so that signatures stay valid. One client's connection has one
connection to the server behind it.
"""

import asyncio
import dataclasses
import hashlib
import json
import signal
import socket
import struct
import sys
from collections import Counter
from collections.abc import Callable

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


NO_FAULTS = Faults()


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
            chunked = header_value(head, b"transfer-encoding") == b"chunked"
            self.body_left = -1 if chunked else int(header_value(head, b"content-length") or 0)
            self.connect(lambda: self.send(head))

    def send(self, head: bytes) -> None:
        self.server.fault = self.fault
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
            try:
                _, self.server = await loop.create_connection(lambda: Server(self), "127.0.0.1", self.proxy.port)
            except OSError:
                self.transport.abort()  # the client sees what it would see without the proxy
                return
            if self.transport.is_closing():
                self.server.transport.close()
            else:
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
        self.response = bytearray()  # that will be spoiled, as far as it has come

    def connection_made(self, transport: asyncio.Transport) -> None:
        self.transport = transport
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

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
        length = int(header_value(bytes(head) + HEAD_END, b"content-length") or 0)
        if len(body) < length:
            return
        head, half = bytes(head), bytes(body[: length // 2])
        fault, self.fault = self.fault, None
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


def header_value(head: bytes, name: bytes) -> bytes | None:
    """Returns the value of a header in lower case, None where it is not there."""
    _, found, rest = head.lower().partition(b"\r\n" + name + b":")
    return rest.partition(b"\r\n")[0].strip() if found else None


def replace_header(head: bytes, name: bytes, value: bytes) -> bytes:
    """Returns `head` with another value for one header."""
    lines = head.split(b"\r\n")
    return b"\r\n".join(name + b": " + value if line.lower().startswith(name + b":") else line for line in lines)


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
        is_object = "/" in path.strip("/") and "list-type" not in query
        kind = method if is_object or method != "GET" else "LIST"
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


async def serve(port: int, latency_ms: float, faults: Faults) -> None:
    """Runs the proxy, and answers the questions that come by stdin, one JSON object a line.

    Ends when stdin closes, which it does however the asking process ends, or at SIGTERM.
    """
    loop = asyncio.get_running_loop()
    proxy = Proxy(port, latency_ms, faults)
    server = await loop.create_server(lambda: Client(proxy), "127.0.0.1", 0, backlog=1024)
    questions = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(questions), sys.stdin)
    loop.add_signal_handler(signal.SIGTERM, questions.feed_eof)
    own_port = server.sockets[0].getsockname()[1]
    urls = {"url": f"http://127.0.0.1:{own_port}", "direct_url": f"http://127.0.0.1:{port}"}
    print(json.dumps(urls), flush=True)
    while line := await questions.readline():
        print(json.dumps(proxy.answer(json.loads(line))), flush=True)
    server.close()
