"""How fast a run was, by what its CSV logger wrote of its throughput monitor."""

import csv
from dataclasses import dataclass
from pathlib import Path
from statistics import quantiles

WINDOW = "train/device/samples_per_sec"


@dataclass(frozen=True)
class Throughput:
    """How fast a run was, on each of its ranks, by what its throughput monitor logged over all interruptions.

    Attributes:
        images_per_s: In training, with the pauses for checkpoints.
        low: Of a window of steps, the tenth part of windows was slower.
        high: The tenth part of windows was faster.
        training_s: In all.
        validated_per_s: In validation; `None` where it was not logged.
        validation_s: In all.
    """

    images_per_s: float
    low: float
    high: float
    training_s: float
    validated_per_s: float | None
    validation_s: float


def read_throughput(run_dir: Path) -> Throughput | None:
    """Returns how fast a run was; `None` where no CSV log says it, as of a run of a few steps."""
    images = training_s = validated = validation_s = 0.0
    windows: list[float] = []
    for path in sorted(run_dir.glob("csv/version_*/metrics.csv")):
        with path.open(newline="") as lines:
            rows = [{name: float(value) for name, value in row.items() if value} for row in csv.DictReader(lines)]
        trained = [row for row in rows if "train/time" in row]
        if trained:
            images, training_s = images + trained[-1]["train/samples"], training_s + trained[-1]["train/time"]
        windows += [row[WINDOW] for row in rows if WINDOW in row]
        checks = [row for row in rows if "validate/time" in row]
        validated += sum(row["validate/samples"] for row in checks)
        validation_s += sum(row["validate/time"] for row in checks)
    if not training_s:
        return None
    mean = images / training_s
    ends = quantiles(windows, n=10) if len(windows) > 1 else [mean]
    validated_per_s = validated / validation_s if validation_s else None
    return Throughput(mean, min(mean, ends[0]), max(mean, ends[-1]), training_s, validated_per_s, validation_s)
