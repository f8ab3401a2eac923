"""The learning curves of a run: what its CSV logger wrote, over all its interruptions."""

import csv
from pathlib import Path


def read_history(run_dir: Path) -> list[dict[str, float]]:
    """Returns what a run logged, one row a step, in their order; a row holds only what was logged at its step.

    A resumed run writes another version_N. From its first step on it replaces what the ones before it wrote, because
    steps after the last checkpoint were lost and taken again.
    """
    history: dict[float, dict[str, float]] = {}
    for path in sorted(run_dir.glob("csv/version_*/metrics.csv"), key=_version):
        with path.open(newline="") as lines:
            rows = [{name: float(value) for name, value in row.items() if value} for row in csv.DictReader(lines)]
        if rows:
            history = {step: row for step, row in history.items() if step < rows[0]["step"]}
        for row in rows:
            history[row["step"]] = history.get(row["step"], {}) | row
    return [row for _, row in sorted(history.items())]


def _version(path: Path) -> int:
    return int(path.parent.name.removeprefix("version_"))
