"""Makes a server serve as it serves a streaming loader: one signed GET for every image that is asked for.

A bound that reads from memory leaves the server idle, which no candidate that streams can do. With this beside it,
both pay for the server. So the server must see the same: one process for each worker of the loader, with as many
connections, asked for a batch at a time (how many are busy at once changes what a GET costs the server). The
client's own work, which is the candidate's to do well, is kept small: signed beforehand, and bodies dropped in the
kernel (recv with MSG_TRUNC, see tcp(7)).
"""

import itertools
import json
import os
import selectors
import socket
import subprocess
import sys
from collections.abc import Sequence
from urllib.parse import urlsplit

NUM_CONNECTIONS = 32  # as ObjectImages has in each worker


class BackgroundTraffic:
    """A generator for each worker, as processes of their own, and the pipes to them."""

    def __init__(self, url: str, bucket: str, keys: Sequence[str], num_workers: int):
        self.processes = [
            subprocess.Popen([sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE)  # noqa: S603
            for _ in range(num_workers)
        ]
        for number, process in enumerate(self.processes):
            setting = {"url": url, "bucket": bucket, "keys": list(keys[number::num_workers])}
            process.stdin.write(json.dumps(setting).encode() + b"\n")
            process.stdin.flush()
            process.stdout.readline()  # it has connected
        self.turns = itertools.cycle(self.processes)

    def request(self, num_images: int) -> None:
        """Has the next generator send as many GETs as a batch has images."""
        process = next(self.turns)
        process.stdin.write(b"x" * num_images)
        process.stdin.flush()

    def close(self) -> int:
        """Ends the traffic; returns how many bodies had come whole."""
        num_served = 0
        for process in self.processes:
            process.stdin.close()
            num_served += int(process.stdout.readline())
            process.wait()
        return num_served


def signed_requests(url: str, bucket: str, keys: Sequence[str]) -> list[bytes]:
    from botocore.auth import S3SigV4Auth
    from botocore.awsrequest import AWSRequest
    from botocore.session import Session

    auth = S3SigV4Auth(Session().get_credentials(), "s3", os.environ["AWS_DEFAULT_REGION"])
    requests = []
    for key in keys:
        request = AWSRequest("GET", f"{url}/{bucket}/{key}")
        auth.add_auth(request)
        headers = "".join(f"{name}: {value}\r\n" for name, value in request.headers.items())
        requests.append(f"GET /{bucket}/{key} HTTP/1.1\r\nHost: {urlsplit(url).netloc}\r\n{headers}\r\n".encode())
    return requests


class Connection:
    """One connection, with at most one request under way."""

    buffer = memoryview(bytearray(2**20))

    def __init__(self, address: tuple[str, int]):
        self.socket = socket.create_connection(address)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.bytes_left: int | None = None

    def send(self, request: bytes) -> None:
        self.socket.sendall(request)
        self.bytes_left = None

    def receive(self) -> bool:
        """Takes what has come; returns whether the response is complete."""
        if self.bytes_left is None:
            num_bytes = self.socket.recv_into(self.buffer)
            head, found, _ = bytes(self.buffer[: min(num_bytes, 4096)]).partition(b"\r\n\r\n")
            if not (found and head.startswith(b"HTTP/1.1 200")):
                raise SystemExit(f"the background traffic met {head[:200]!r}")
            length = head.lower().split(b"content-length:")[1].split(b"\r\n")[0]
            self.bytes_left = int(length) - (num_bytes - len(head) - 4)
        else:
            self.bytes_left -= self.socket.recv_into(
                self.buffer, min(self.bytes_left, len(self.buffer)), socket.MSG_TRUNC
            )
        return self.bytes_left == 0


def main() -> None:
    setting = json.loads(read_line(0))
    requests = itertools.cycle(signed_requests(**setting))
    parts = urlsplit(setting["url"])
    idle = [Connection((parts.hostname, parts.port)) for _ in range(NUM_CONNECTIONS)]
    selector = selectors.DefaultSelector()
    for connection in idle:
        selector.register(connection.socket, selectors.EVENT_READ, connection)
    selector.register(0, selectors.EVENT_READ)
    print("ready", flush=True)
    num_asked = num_served = 0
    while True:
        while num_asked and idle:
            idle_connection = idle.pop()
            idle_connection.send(next(requests))
            num_asked -= 1
        for event, _ in selector.select():
            if event.data is None:
                asked = os.read(0, 65536)
                if not asked:
                    print(num_served, flush=True)
                    return
                num_asked += len(asked)
            elif event.data.receive():
                num_served += 1
                idle.append(event.data)


def read_line(descriptor: int) -> bytes:
    """Reads one line without taking a byte of what follows."""
    line = bytearray()
    while not line.endswith(b"\n"):
        line += os.read(descriptor, 1)
    return bytes(line)


if __name__ == "__main__":
    main()
