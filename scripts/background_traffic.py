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
from collections.abc import Sequence
from queue import SimpleQueue

NUM_CONNECTIONS = 32  # as ObjectImages has in each worker


class BackgroundTraffic:
    """A generator for each worker, as processes of their own, and the pipes to them."""

    def __init__(self, bucket: str, keys: Sequence[str], num_workers: int):
        self.processes = [
            subprocess.Popen([sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE)  # noqa: S603
            for _ in range(num_workers)
        ]
        for number, process in enumerate(self.processes):
            setting = {"bucket": bucket, "keys": list(keys[number::num_workers])}
            process.stdin.write(json.dumps(setting).encode() + b"\n")
            process.stdin.flush()
        for process in self.processes:
            process.stdout.readline()  # it is ready
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


def main() -> None:
    os.environ["TOKIO_WORKER_THREADS"] = "1"  # as in the loader's workers
    from stocktake.storage import Folder

    setting = json.loads(read_line(0))
    folder, keys = Folder(f"s3://{setting['bucket']}"), itertools.cycle(setting["keys"])
    wanted: SimpleQueue[str] = SimpleQueue()
    sizes: list[int] = []

    def fetch() -> None:
        while True:
            sizes.append(len(folder.read(wanted.get())))

    for _ in range(NUM_CONNECTIONS):
        threading.Thread(target=fetch, daemon=True).start()
    os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))  # as the loader's workers
    print("ready", flush=True)
    while asked := os.read(0, 65536):
        for _ in asked:
            wanted.put(next(keys))
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
