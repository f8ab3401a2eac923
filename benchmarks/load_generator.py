"""Asks an HTTP server for counts over persistent connections, in a process of its own that costs next to no CPU.

    python benchmarks/load_generator.py '{"port": 8080, "images": ["a.jpg"], "concurrency": 8, "seconds": 5}'

Each connection sends its next request when its last one was answered. `seconds` are counted once every connection has
had an answer. With `"seconds": null` it sends one request for each byte on stdin instead, until stdin ends.
Prints one JSON object: responses per second, percentiles of their latency, and the CPU that the generator itself took.
"""

import asyncio
import itertools
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

BOUNDARY = "image"


def http_request(image: bytes) -> bytes:
    """Returns POST /invocations as a browser's form sends a file, which every one of the servers reads."""
    part = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="bin.jpg"\r\n'
    body = f"{part}Content-Type: image/jpeg\r\n\r\n".encode() + image + f"\r\n--{BOUNDARY}--\r\n".encode()
    head = (
        "POST /invocations HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        f"Content-Type: multipart/form-data; boundary={BOUNDARY}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def read_response(reader: asyncio.StreamReader) -> bytes:
    """Returns the body of a response.

    Raises:
        RuntimeError: Its status is not 200.
    """
    head = await reader.readuntil(b"\r\n\r\n")
    length = head.lower().split(b"content-length:")[1].split(b"\r\n")[0]
    body = await reader.readexactly(int(length))
    if not head.startswith(b"HTTP/1.1 200"):
        raise RuntimeError(f"{head.splitlines()[0]!r} {body[:300]!r}")
    return body


class Generator:
    """Connections to one server, each with at most one request under way."""

    def __init__(self, port: int, images: Sequence[bytes], paced: bool):
        self.port, self.requests = port, itertools.cycle([http_request(image) for image in images])
        self.permits = asyncio.Semaphore(0) if paced else None
        self.responses: list[tuple[float, float]] = []  # when, and after how many seconds
        self.is_over = False

    async def ask_on_one_connection(self, has_begun: asyncio.Event) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        if self.permits:
            has_begun.set()
        while not self.is_over:
            if self.permits:
                await self.permits.acquire()
            start_s = time.perf_counter()
            writer.write(next(self.requests))
            await read_response(reader)
            end_s = time.perf_counter()
            self.responses.append((end_s, end_s - start_s))
            has_begun.set()

    async def until_response(self, start_s: float, seconds: float) -> None:
        """Waits so long, and longer where no answer has come by then."""
        await asyncio.sleep(seconds)
        while self.responses[-1][0] < start_s:
            await asyncio.sleep(0.05)

    async def until_stdin_ends(self) -> None:
        has_ended, permits = asyncio.Event(), self.permits
        assert permits  # it is paced

        def take() -> None:
            asked = os.read(0, 65536)
            if not asked:
                has_ended.set()
            for _ in asked:
                permits.release()

        asyncio.get_running_loop().add_reader(0, take)
        print("ready", flush=True)
        await has_ended.wait()


async def generate(port: int, images: Sequence[str], concurrency: int, seconds: float | None) -> dict[str, float]:
    generator = Generator(port, [Path(path).read_bytes() for path in images], paced=seconds is None)
    async with asyncio.TaskGroup() as group:
        have_begun = [asyncio.Event() for _ in range(concurrency)]
        connections = [group.create_task(generator.ask_on_one_connection(event)) for event in have_begun]
        for event in have_begun:
            await event.wait()
        start_s, start_cpu_s = time.perf_counter(), time.process_time()
        await (generator.until_stdin_ends() if seconds is None else generator.until_response(start_s, seconds))
        end_s, cpu_s = time.perf_counter(), time.process_time() - start_cpu_s
        generator.is_over = True  # each connection still waits for its answer, which leaves the server idle
        for connection in connections if generator.permits else []:
            connection.cancel()
    latencies_ms = sorted(1000 * latency_s for when_s, latency_s in generator.responses if start_s <= when_s <= end_s)
    return {
        "images_per_s": len(latencies_ms) / (end_s - start_s),  # one image a request
        **{f"p{share}_ms": percentile(latencies_ms, share) for share in (50, 95, 99)},
        "num_answers": len(latencies_ms),
        "num_all_responses": len(generator.responses),  # with those before
        "generator_cores": cpu_s / (end_s - start_s),
    }


def percentile(rising: Sequence[float], share: int) -> float:
    """Returns the smallest value that at least `share` percent of all do not exceed (nearest rank)."""
    return rising[-(-len(rising) * share // 100) - 1]


if __name__ == "__main__":
    print(json.dumps(asyncio.run(generate(**json.loads(sys.argv[1])))))
