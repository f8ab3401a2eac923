"""What the benchmarks share: candidates in fresh processes, in turns; CPU of a process tree; tables."""

import argparse
import importlib.metadata
import importlib.util
import json
import os
import platform
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from stocktake.hardware import num_cores

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests" / "support"))  # the S3 server is the tests' own

MEMORY = Path("/dev/shm")  # noqa: S108 - Linux keeps what lies there in memory; the folders inside are private
INSTALL_PEERS = "uv pip install --require-hashes -r requirements.bench.lock"


def require(modules: Iterable[str]) -> None:
    """Ends the program with the command that installs what is missing.

    Raises:
        SystemExit: A module cannot be found.
    """
    missing = sorted(name for name in set(modules) if importlib.util.find_spec(name) is None)
    if missing:
        raise SystemExit(f"Not installed: {', '.join(missing)}. Type: {INSTALL_PEERS}\nor leave them out with --only")


def chosen(only: str | None, candidates: Sequence[str]) -> list[str]:
    """Returns the candidates that `--only a,b` names, all of them without it.

    Raises:
        SystemExit: There is no such candidate.
    """
    names = only.split(",") if only else list(candidates)
    unknown = sorted(set(names) - set(candidates))
    if unknown:
        raise SystemExit(
            f"--only {only}: no candidate is called {', '.join(unknown)}; choose of {','.join(candidates)}"
        )
    return [name for name in candidates if name in names]


def source_images(source: Path) -> list[Path]:
    """Returns the JPEGs under a folder, by name.

    Raises:
        SystemExit: There are none.
    """
    paths = sorted(source.rglob("*.jpg"))
    if not paths:
        raise SystemExit(f"--source {source} holds no *.jpg; name a folder of JPEG images")
    return paths


def distinct_copy(jpeg: bytes, text: str) -> bytes:
    """Returns a JPEG of the same pixels and other bytes: with a comment segment (ITU-T T.81, B.2.4.5) in front."""
    comment = text.encode()
    return jpeg[:2] + b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment + jpeg[2:]


def run_worker(setting: dict, environment: dict[str, str] | None = None) -> dict:
    """Runs the calling script with `--worker SETTING` in a fresh process and returns the object it prints last.

    Raises:
        SystemExit: The worker failed; its own words are in the message.
    """
    command = [sys.executable, sys.argv[0], "--worker", json.dumps(setting)]
    environment = {**os.environ, **(environment or {})}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)  # noqa: S603 - a list, no shell
    if done.returncode:
        raise SystemExit(f"{setting['name']} ended with code {done.returncode}:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def tree_cpu_s(leave_out: Sequence[int] = ()) -> float:
    """Returns the user and system seconds of this process and its descendants, those that ended included."""
    import psutil  # of the peers' group

    own = psutil.Process()
    left_out = {process.pid for pid in leave_out for process in _family(psutil.Process(pid))}
    return sum(sum(process.cpu_times()[:4]) for process in _family(own) if process.pid not in left_out)


def server_cpu_s(pid: int) -> float:
    """Returns the user and system seconds of another process and its living descendants."""
    import psutil  # of the peers' group

    return sum(sum(process.cpu_times()[:2]) for process in _family(psutil.Process(pid)))


def _family(process) -> list:
    return [process, *process.children(recursive=True)]


class Busy:
    """How busy all cores of the machine were since this was made: what others ran beside the benchmark shows here."""

    def __init__(self):
        self.start = self._jiffies()

    def share(self) -> float:
        busy, total = (now - then for now, then in zip(self._jiffies(), self.start, strict=True))
        return busy / max(1, total)

    @staticmethod
    def _jiffies() -> tuple[int, int]:
        fields = [int(field) for field in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
        return sum(fields) - fields[3] - fields[4], sum(fields)


def summary(results: Sequence[dict]) -> dict[str, float]:
    """Returns the median of every number over the repeats, and least and most of the rate."""
    medians = {key: statistics.median(result[key] for result in results) for key in results[0]}
    rates = [result["images_per_s"] for result in results]
    return medians | {"images_per_s_min": min(rates), "images_per_s_max": max(rates), "repeats": len(results)}


def ratio(figures: dict, name, other, key: str = "images_per_s") -> float | None:
    """Returns the ratio of two candidates' medians, None where one did not run."""
    return figures[name][key] / figures[other][key] if name in figures and other in figures else None


def least(ratios: Iterable[float | None]) -> float | None:
    """Returns the smallest of some ratios, None where one of them is."""
    known = []
    for each in ratios:
        if each is None:
            return None
        known.append(each)
    return min(known)


def fastest(figures: dict, names: Iterable[str]) -> str | None:
    """Returns whichever of `names` has the highest median rate, None where none of them ran."""
    return max(
        (name for name in names if name in figures), key=lambda name: figures[name]["images_per_s"], default=None
    )


def circumstances(packages: Sequence[str]) -> dict[str, str]:
    """Returns what a figure means nothing without: hardware, versions, date and the exact command."""
    cpu = next(
        (line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
        platform.processor(),
    )
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    installed = [name for name in packages if importlib.util.find_spec(name.replace("-", "_"))]
    return {
        "hardware": f"{cpu}, {num_cores()} cores, {memory_gib:.0f} GiB, {platform.system()}",
        "versions": f"Python {platform.python_version()}, "
        + ", ".join(f"{name} {importlib.metadata.version(name)}" for name in installed),
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "command": shlex.join(["python", *sys.argv]),
    }


def print_turn(turn: int, name: str, result: dict) -> None:
    figures = f"{result['images_per_s']:.0f} images/s, CPU {result['cpu_ms_per_image']:.2f} ms/image"
    print(f"turn {turn + 1} {name}: {figures}", flush=True)


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]], facts: dict[str, str]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left")
    for row in rows:
        table.add_row(*row)
    console = Console(width=None if sys.stdout.isatty() else 140)
    console.print(table)
    for name, fact in facts.items():
        console.print(f"{name}: {fact}", highlight=False, soft_wrap=True)


def add_common_flags(parser: argparse.ArgumentParser, repeats: int) -> None:
    parser.add_argument("--source", type=Path, help="a folder of JPEG images")
    parser.add_argument("--latency-ms", type=float, default=20.0, help="added to every request to the local S3 server")
    parser.add_argument("--repeats", type=int, default=repeats, help="turns of each candidate")
    parser.add_argument("--only", help="candidates, by commas")
    parser.add_argument(
        "--folder",
        type=Path,
        default=MEMORY if MEMORY.is_dir() else None,
        help="where the server and the caches keep their files",
    )
    parser.add_argument("--worker", type=json.loads, help=argparse.SUPPRESS)
