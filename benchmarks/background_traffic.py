"""Makes a server serve as it serves a streaming loader: one GET for every image that is asked for.

A bound that reads from memory leaves the server and the network idle, which no candidate that streams can do. With
this beside it, both pay for the traffic, at both of its ends: one process for each worker of the loader, with the same
client library and as many connections, asked for a batch at a time. What is measured is what a loader adds to that.
"""

import itertools
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from queue import SimpleQueue
from typing import IO


class BackgroundTraffic:
    """A generator for each worker, as processes of their own, and the pipes to them."""

    def __init__(
        self, bucket: str, keys: Sequence[str], num_workers: int, num_connections: int = 32, finish: bool = False
    ):
        """
        Args:
            num_connections: Of each generator; the default is what `ObjectImages` has in each worker.
            finish: `end` waits for all that was asked for, instead of ending what is under way.
        """
        self.processes = [
            subprocess.Popen([sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE)  # noqa: S603
            for _ in range(num_workers)
        ]
        self.pipes = [pipes(process) for process in self.processes]
        for number, (to_process, _) in enumerate(self.pipes):
            setting = {"bucket": bucket, "keys": list(keys[number::num_workers])}
            setting |= {"num_connections": num_connections, "finish": finish}
            to_process.write(json.dumps(setting).encode() + b"\n")
            to_process.flush()
        for _, from_process in self.pipes:
            from_process.readline()  # it is ready
        self.turns = itertools.cycle(to_process for to_process, _ in self.pipes)

    def request(self, num_objects: int) -> None:
        """Has the next generator send so many GETs, such as a batch has images."""
        to_process = next(self.turns)
        to_process.write(b"x" * num_objects)
        to_process.flush()

    def end(self) -> int:
        """Ends the traffic; returns how many bodies had come whole."""
        for to_process, _ in self.pipes:
            to_process.close()
        # They are not waited for: the system would count their CPU as this process's own.
        return sum(int(from_process.readline()) for _, from_process in self.pipes)


def pipes(process: subprocess.Popen[bytes]) -> tuple[IO[bytes], IO[bytes]]:
    """Returns what a process reads and what it writes; it was started with a pipe for either."""
    assert process.stdin and process.stdout
    return process.stdin, process.stdout


def main() -> None:
    os.environ["TOKIO_WORKER_THREADS"] = "1"  # as in the loader's workers
    from stocktake.data.loading.workers import use_batch_scheduling
    from stocktake.storage import Folder

    setting = json.loads(read_line(0))
    folder, keys = Folder(f"s3://{setting['bucket']}"), itertools.cycle(setting["keys"])
    wanted: SimpleQueue[str] = SimpleQueue()
    sizes: list[int] = []

    def fetch() -> None:
        while True:
            try:
                sizes.append(len(folder.read(wanted.get())))
            except OSError as error:  # the bound would wait for it for ever
                print(error, file=sys.stderr, flush=True)
                os._exit(1)

    use_batch_scheduling()  # as the loader's workers; threads take it over from the one that starts them
    for _ in range(setting["num_connections"]):
        threading.Thread(target=fetch, daemon=True).start()
    print("ready", flush=True)
    num_asked = 0
    while asked := os.read(0, 65536):
        num_asked += len(asked)
        for _ in asked:
            wanted.put(next(keys))
    while setting["finish"] and len(sizes) < num_asked:
        time.sleep(0.001)
    print(len(sizes), flush=True)
    os._exit(0)  # without what is still under way


def read_line(descriptor: int) -> bytes:
    """Reads one line without taking a byte of what follows."""
    line = bytearray()
    while not line.endswith(b"\n"):
        line += os.read(descriptor, 1)
    return bytes(line)


if __name__ == "__main__":
    main()
