"""Evaluations of the same made-up bins, as scripts/evaluate.py leaves them, of models with a stated skill."""

import json
import pathlib

import numpy
import pyarrow
import pyarrow.parquet
from evaluation_results import make_calibration, make_result, make_subject

COUNTS = numpy.array([1, 2, 3])
NUM_BLOCKS, BLOCK = 40, 6
IDS = [f"{number:05}" for number in range(NUM_BLOCKS * BLOCK)]
GROUPS = [f"5-{number // BLOCK}" for number in range(len(IDS))]
SCORES = make_result().to_json()["per_count"]["1"]
RECORDED = numpy.random.default_rng(7).integers(3, size=len(IDS))


def said(skill: float, seed: int, recorded=RECORDED) -> numpy.ndarray:
    """P(count) of a model that is exact about as often as its skill says."""
    numbers = numpy.random.default_rng(seed)
    loud = numpy.where(numbers.random(len(recorded)) < skill, recorded, numbers.integers(3, size=len(recorded)))
    return 0.55 * numpy.eye(3)[loud] + 0.45 * numbers.dirichlet([4, 4, 4], len(recorded))


def as_sure(confidence: float, skill: float, seed: int) -> numpy.ndarray:
    """P(count) of a model that gives its counts one probability."""
    rest = (1 - confidence) / 2
    return rest + (confidence - rest) * numpy.eye(3)[said(skill, seed).argmax(1)]


def write(folder: pathlib.Path, probabilities_NK: numpy.ndarray, ids=IDS, drop=(), **facts) -> str:
    """Writes what scripts/evaluate.py would: predictions.parquet, and of metrics.json what is read."""
    folder.mkdir(parents=True)
    counts = numpy.array(facts.get("counts", COUNTS))
    recorded, predicted = counts[RECORDED[: len(ids)]], counts[probabilities_NK.argmax(1)][: len(ids)]
    columns = {
        "image_id": ids,
        "split": ["test"] * len(ids),
        "group": GROUPS[: len(ids)],
        "count": pyarrow.array(recorded, pyarrow.int32()),
        "predicted": pyarrow.array(predicted, pyarrow.int32()),
        "probabilities": probabilities_NK[: len(ids)].tolist(),
    }
    table = pyarrow.table({name: column for name, column in columns.items() if name not in drop})
    pyarrow.parquet.write_table(table, folder / "predictions.parquet")
    subject = make_subject(num_images=len(ids), root=str(folder.parent / "root"), manifest_sha256="9f2c", leakage=0)
    result = make_result(subject=subject, counts=counts.tolist(), calibration=make_calibration(temperature=1.2))
    of_counts = {str(count): SCORES for count in counts}
    accuracy = {"value": float((recorded == predicted).mean()), "low": None, "high": None}
    metrics = result.to_json() | {"accuracy": accuracy, "per_count": of_counts} | facts
    (folder / "metrics.json").write_text(json.dumps(metrics))
    return str(folder)
