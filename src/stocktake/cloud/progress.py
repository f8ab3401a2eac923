"""What a person sees of running jobs: a live table with the log above it; plain lines where there is no terminal."""

import re
import sys
import time
from collections.abc import Sequence
from typing import Self

from stocktake.cloud.costs import billed_s
from stocktake.cloud.monitor import FollowedJob

PLAIN_INTERVAL_S = 10.0  # between two lines with a job's step
PLAIN_WIDTH = 140  # characters of the table at the end
TORCHRUN_PREFIX = re.compile(r"^\[default0\]:")  # of a host's first process, mostly its only one
SHOWN = ("train/loss", "valid/loss", "valid/accuracy")


class PlainBoard:
    """Prints a line for everything that happens, and now and then where each job stands; a context manager."""

    def __init__(self):
        self._shown: dict[str, tuple[float, str]] = {}
        self._jobs: Sequence[FollowedJob] = ()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_) -> None:
        from rich.console import Console

        Console(width=PLAIN_WIDTH).print(table(self._jobs))

    def log(self, job: FollowedJob, host: str, line: str) -> None:
        self.say(log_line(job, host, line))

    def say(self, text: str) -> None:
        print(text, flush=True)

    def show(self, jobs: Sequence[FollowedJob]) -> None:
        self._jobs = jobs
        for job in jobs:
            shown_at, shown = self._shown.get(job.name, (float("-inf"), ""))
            text = progress(job)
            if text and text != shown and time.monotonic() - shown_at >= PLAIN_INTERVAL_S:
                self.say(f"{job.name}: {text}")
                self._shown[job.name] = time.monotonic(), text


class LiveBoard:
    """Keeps one table of all jobs at the bottom of the terminal; a context manager."""

    def __init__(self):
        from rich.live import Live

        self._live = Live(auto_refresh=False)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *_) -> None:
        self._live.stop()

    def log(self, job: FollowedJob, host: str, line: str) -> None:
        self._print(log_line(job, host, line))

    def say(self, text: str) -> None:
        self._print(text)

    def _print(self, text: str) -> None:
        # What a job prints is no markup.
        self._live.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def show(self, jobs: Sequence[FollowedJob]) -> None:
        self._live.update(table(jobs), refresh=True)


def board() -> PlainBoard | LiveBoard:
    return LiveBoard() if sys.stdout.isatty() else PlainBoard()


def table(jobs: Sequence[FollowedJob]):
    """Returns a rich table with a row for each job."""
    from rich.markup import escape
    from rich.table import Table

    drawn = Table("job", "overrides", "instances", "state", "progress", "billed")
    for job in jobs:
        seconds = billed_s(job.description)
        billed = "" if seconds is None else f"{seconds} s"
        drawn.add_row(job.name, escape(job.label), job.instances, job.secondary_status, progress(job), billed)
    return drawn


def log_line(job: FollowedJob, host: str, line: str) -> str:
    return f"[{job.name} {host}] {TORCHRUN_PREFIX.sub('', line).rstrip()}"


def progress(job: FollowedJob) -> str:
    parts = []
    if job.step is not None:
        parts.append(f"step {job.step}" + (f" of {job.num_steps}" if job.num_steps else ""))
    parts += [f"{name} {job.metrics[name]:.4g}" for name in SHOWN if name in job.metrics]
    return ", ".join(parts)
