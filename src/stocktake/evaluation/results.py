"""What scripts/evaluate.py left, read back: metrics.json and predictions.parquet of several evaluations."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy
from numpy import ndarray

from stocktake.data.manifest import Manifest
from stocktake.evaluation.evaluation_result import EvaluationResult
from stocktake.evaluation.file_formats import GROUP, probabilities, read_metrics, read_predictions
from stocktake.evaluation.subject import Subject
from stocktake.run_folder import BEST_KEY, METRICS_NAME
from stocktake.s3 import StorageError
from stocktake.shell import command
from stocktake.storage import Folder, StorageOptions, join_url

PREDICTIONS_KEY = "predictions.parquet"
NUM_NAMED = 3  # bins that an error names


class EvaluationError(ValueError):
    """A folder that holds no evaluation, a broken one, or one that cannot be compared with another."""


@dataclass(frozen=True)
class Evaluation:
    """What one model said of N images with K counts, in the order of their ids.

    Attributes:
        url: The folder.
        result: The content of metrics.json.
        image_ids: Of the N images.
        groups: The block of neighboring bins that each is in.
        labels_N: The record's count, as its position among the K counts.
        probabilities_NK: P(count), as the model gave it.
    """

    url: str
    result: EvaluationResult
    image_ids: list[str]
    groups: list[str]
    labels_N: ndarray
    probabilities_NK: ndarray

    @classmethod
    def read(cls, location: str, storage: StorageOptions) -> "Evaluation":
        """Reads an evaluation's folder, or a run's folder with one evaluation in it.

        Raises:
            EvaluationError: There is none, there are several, or its two files do not fit each other.
            StorageError: It could not be read.
        """
        folder = _find(Folder(location, storage))
        again = f"Evaluate again: {command('scripts/evaluate.py', {'checkpoint': '...'})}"
        key = METRICS_NAME
        try:
            result = read_metrics(folder.read(key))
            subject = result.subject
            again = f"Evaluate again: {command('scripts/evaluate.py', {'checkpoint': subject.checkpoint})}"
            key = PREDICTIONS_KEY
            table = read_predictions(folder.read(key), result)
        except FileNotFoundError:
            raise EvaluationError(f"There is no {key} in {folder.url}, so it is no whole evaluation. {again}") from None
        except StorageError:
            raise
        except ValueError as error:
            raise EvaluationError(f"{key} in {folder.url} {error}. {again}") from None
        image_ids = table["image_id"].to_pylist()
        known = GROUP in table.column_names
        counts_K, counts_N = numpy.array(result.counts), table["count"].to_numpy()
        evaluation = cls(
            folder.url,
            result,
            image_ids,
            table[GROUP].to_pylist() if known else _groups_of_root(folder.url, subject, image_ids, storage, again),
            numpy.searchsorted(counts_K, counts_N),
            probabilities(table),
        )
        exact = float((counts_K[evaluation.probabilities_NK.argmax(1)] == counts_N).mean())
        accuracy = result.metrics["accuracy"].value or 0.0
        if len(image_ids) != subject.num_images or abs(exact - accuracy) > 1e-9:
            raise EvaluationError(
                f"{METRICS_NAME} in {folder.url} is about {subject.num_images} bins with an accuracy of "
                f"{accuracy:.4f}, {PREDICTIONS_KEY} about {len(image_ids)} with {exact:.4f}: "
                f"they are not of one evaluation. {again}"
            )
        return evaluation

    @property
    def hits_N(self) -> ndarray:
        """Whether the most likely count is the record's, bool."""
        return self.probabilities_NK.argmax(1) == self.labels_N

    def require_same_bins(self, other: "Evaluation") -> None:
        """
        Raises:
            EvaluationError: The other is of other bins, or of the same in other blocks.
        """
        own, others = self.result.subject, other.result.subject
        for key, mine, theirs, hint in (
            ("counts", self.result.counts, other.result.counts, "Compare models that tell the same counts apart"),
            ("split", own.split, others.split, f"Evaluate again with split={own.split}"),
            ("manifest_sha256", own.manifest_sha256, others.manifest_sha256, f"Evaluate again with root={own.root}"),
        ):
            if mine != theirs:
                raise EvaluationError(f"{key} is {mine} in {self.url} and {theirs} in {other.url}. {hint}.")
        lacking, added = set(self.image_ids) - set(other.image_ids), set(other.image_ids) - set(self.image_ids)
        if lacking or added:
            raise EvaluationError(
                f"{other.url} is of other bins than {self.url}: {_name(lacking)} are missing, {_name(added)} are more. "
                "Evaluate both again with one root, split and limit."
            )
        for what, mine, theirs in (
            ("other records", self.labels_N.tolist(), other.labels_N.tolist()),
            ("other blocks", self.groups, other.groups),
        ):
            differing = [name for name, a, b in zip(self.image_ids, mine, theirs, strict=True) if a != b]
            if differing:
                raise EvaluationError(
                    f"{other.url} has {what} than {self.url} for {_name(differing)}. Evaluate both again."
                )


def read_evaluations(locations: Sequence[str], storage: StorageOptions) -> list[Evaluation]:
    """Reads evaluations of the same bins.

    Raises:
        EvaluationError: There are fewer than two, one stands twice, or they are not of the same bins.
    """
    if len(locations) < 2:
        raise EvaluationError(
            f"evaluations={list(locations)}, but two or more are needed: "
            "'evaluations=[runA/evaluation-test,runB/evaluation-test]'"
        )
    evaluations = [Evaluation.read(location, storage) for location in locations]
    urls = [evaluation.url for evaluation in evaluations]
    if twice := sorted({url for url in urls if urls.count(url) > 1}):
        raise EvaluationError(f"evaluations has {', '.join(twice)} twice. Type each once.")
    for other in evaluations[1:]:
        evaluations[0].require_same_bins(other)
    return evaluations


def short_names(urls: Sequence[str]) -> list[str]:
    """Returns what tells folders apart: their paths without the parts that all begin or end with."""
    parts = [list(PurePosixPath(url).parts) for url in urls]
    for end in (0, -1):
        while all(len(path) > 1 for path in parts) and len({path[end] for path in parts}) == 1:
            for path in parts:
                del path[end]
    names = ["/".join(path) for path in parts]
    return [f"run {name}" if name.isdecimal() else name for name in names]  # a sweep numbers its runs


def _find(folder: Folder) -> Folder:
    """Returns the folder itself, or the one in it that holds an evaluation."""
    if folder.exists(PREDICTIONS_KEY):
        return folder
    found = sorted(key.rpartition("/")[0] for key, _ in folder.sizes() if key.endswith(f"/{PREDICTIONS_KEY}"))
    if len(found) > 1:
        names = ", ".join(join_url(folder.url, name) for name in found)
        raise EvaluationError(f"{folder.url} holds {len(found)} evaluations. Type one of them: {names}")
    if not found:
        raise EvaluationError(f"There is no {PREDICTIONS_KEY} in {folder.url}. {_advice(folder)}")
    return Folder(join_url(folder.url, found[0]), folder.options)


def _advice(folder: Folder) -> str:
    """Returns what to type where a folder holds no evaluation: only of a checkpoint that is there."""
    parent, _, name = folder.url.rpartition("/")
    run = Folder(parent if name.startswith("evaluation") else folder.url, folder.options)
    if not run.exists(BEST_KEY):
        return "Type a folder that scripts/evaluate.py wrote, such as runs/demo/latest/evaluation-test."
    checkpoint = join_url(run.url, BEST_KEY)
    return f"Evaluate first: {command('scripts/evaluate.py', {'checkpoint': checkpoint})}"


def _groups_of_root(
    url: str, subject: Subject, image_ids: Sequence[str], storage: StorageOptions, again: str
) -> list[str]:
    """Returns the blocks of an evaluation written before predictions.parquet held them, from its dataset root."""
    needed = f"{PREDICTIONS_KEY} in {url} has no column `group`, and its dataset root {subject.root}"
    try:
        manifest = Manifest.read(Folder(subject.root, storage))
    except (ValueError, OSError) as error:
        raise EvaluationError(f"{needed} cannot be asked: {error} {again}") from error
    if manifest.sha256 != subject.manifest_sha256:
        raise EvaluationError(f"{needed} has changed since. {again}")
    rows = manifest.table.select(["image_id", "group"]).to_pylist()
    group_of = {row["image_id"]: row["group"] for row in rows}
    return [group_of[image_id] for image_id in image_ids]


def _name(image_ids: Sequence[str] | set[str]) -> str:
    named = sorted(image_ids)[:NUM_NAMED]
    return f"{len(image_ids)} bins" + (
        f" ({', '.join(named)}{', ...' if len(image_ids) > NUM_NAMED else ''})" if named else ""
    )
