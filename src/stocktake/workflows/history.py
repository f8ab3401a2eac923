"""The learning curves of a run: what its CSV logger wrote, over all its interruptions."""

import csv
from pathlib import Path


def read_history(run_dir: Path) -> list[dict[str, float]]:
    """Returns the logged rows of a run in the order of their steps; a row holds only what was logged in it.

    A resumed run writes another version_N. From its first step on it replaces what the ones before it wrote, because
    steps after the last checkpoint were lost and taken again.
    """
    history: list[dict[str, float]] = []
    for path in sorted(run_dir.glob("csv/version_*/metrics.csv"), key=_version):
        with path.open(newline="") as lines:
            rows = [{name: float(value) for name, value in row.items() if value} for row in csv.DictReader(lines)]
        if rows:
            history = [row for row in history if row["step"] < rows[0]["step"]] + rows
    return history


def _version(path: Path) -> int:
    return int(path.parent.name.removeprefix("version_"))
