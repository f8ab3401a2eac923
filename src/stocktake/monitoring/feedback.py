"""True counts that persons have found, a CSV of `request_id,count` or `image_id,count`, beside what was answered.

Axes: F answers with a true count, K counts that the model tells apart.
"""

import csv
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy
from numpy import ndarray

from stocktake.metrics.bootstrap import share_interval
from stocktake.metrics.calibration import Calibration, expected_calibration_error
from stocktake.metrics.drift import expected_accuracy
from stocktake.metrics.estimate import Estimate
from stocktake.monitoring.monitored_model import MonitoredModel
from stocktake.monitoring.monitoring_result import FeedbackResult
from stocktake.monitoring.window import Window
from stocktake.seeding import generator

IDS = ("request_id", "image_id")
LEAST_FITTED = 100  # answers that a recalibration is fitted on; what fewer say is mostly chance
NUM_DRAWS = 200


@dataclass(frozen=True)
class Feedback:
    """The rows of a CSV: by which column they name answers, and the true count by that id."""

    id_column: str
    true_counts: Mapping[str, int]


@dataclass(frozen=True)
class MatchedAnswers:
    """The answers of a window whose true count is known.

    Attributes:
        probabilities_FK: P(count), as answered.
        true_counts_F: What a person found, which may be a count that the model does not know.
    """

    counts: list[int]
    probabilities_FK: ndarray
    true_counts_F: ndarray

    @property
    def hits_F(self) -> ndarray:
        return numpy.array(self.counts)[self.probabilities_FK.argmax(1)] == self.true_counts_F


def read_feedback(content: bytes, location: str) -> Feedback:
    """
    Raises:
        ValueError: It is no such CSV; the message names the line.
    """
    try:
        table = csv.DictReader(io.StringIO(content.decode("utf-8-sig")))
        columns, rows = table.fieldnames or [], list(table)
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"feedback={location} is no CSV ({error}). Write one with request_id,count.") from None
    id_column = next((name for name in IDS if name in columns), None)
    if id_column is None or "count" not in columns:
        raise ValueError(
            f"feedback={location} has the columns {columns}, and count and one of {' or '.join(IDS)} are needed. "
            "The request_id is what the server answers in X-Request-Id, the image_id what predict.py sends along."
        )
    true_counts: dict[str, int] = {}
    for number, row in enumerate(rows, start=2):
        name, count = (row[id_column] or "").strip(), (row["count"] or "").strip()
        if not name or not (count.isascii() and count.isdigit()):
            raise ValueError(
                f"feedback={location}, line {number}: {id_column}={name!r} and count={count!r} are no row."
            )
        if true_counts.setdefault(name, int(count)) != int(count):
            raise ValueError(
                f"feedback={location}, line {number}: {name} has {true_counts[name]} above and {count} here."
            )
    return Feedback(id_column, true_counts)


def match(feedback: Feedback, window: Window) -> MatchedAnswers:
    """Returns the answers that the feedback is of.

    Raises:
        ValueError: There are none.
    """
    ids = [getattr(answer, feedback.id_column) for answer in window.answers]
    # The last answer of each: an image that was sent again and again is one image.
    matched = sorted({name: position for position, name in enumerate(ids) if name in feedback.true_counts}.values())
    if not matched:
        raise ValueError(
            f"None of the {len(feedback.true_counts):,} rows of the feedback has the {feedback.id_column} of an answer "
            "in this window. Type a larger last_days, or the log that the answers are in."
        )
    true_counts_F = numpy.array([feedback.true_counts[ids[position]] for position in matched])
    return MatchedAnswers(list(window.counts), window.probabilities_NK[matched], true_counts_F)


def measure_feedback(
    matched: MatchedAnswers, num_rows: int, model: MonitoredModel, recalibration: str | None = None
) -> FeedbackResult:
    """Returns how right the answers were, and how right the model's own word had them.

    Args:
        num_rows: Of the CSV.
        recalibration: Where a calibration fitted to them is written.
    """
    hits_F, baseline = matched.hits_F, model.baseline
    share = float(hits_F.mean())
    return FeedbackResult(
        num_rows=num_rows,
        num_matched=len(hits_F),
        accuracy=Estimate.of(share, *share_interval(share, len(hits_F))),
        expected_accuracy=expected_accuracy(
            matched.probabilities_FK.max(1), baseline.probabilities_MK.max(1), baseline.hits_M, baseline.groups_M
        ),
        calibration_error=_calibration_error(matched.probabilities_FK, hits_F),
        calibration_error_by_chance=_error_by_chance(matched.probabilities_FK),
        recalibration=recalibration,
    )


def recalibrate(matched: MatchedAnswers, model: MonitoredModel) -> Calibration:
    """Returns a calibration fitted to true counts, in the place of the model's own.

    The answers are tempered already, so the temperature found on top of theirs is multiplied with it:
    (P^(1/T))^(1/t) = P^(1/(T t)).

    Raises:
        ValueError: There are too few true counts that the model knows.
    """
    is_known_F = numpy.isin(matched.true_counts_F, matched.counts)
    if (num_known := int(is_known_F.sum())) < LEAST_FITTED:
        raise ValueError(
            f"A recalibration needs {LEAST_FITTED} answers whose true count the model knows, and the feedback has "
            f"{num_known} in this window. Type recalibration=null, or come back with more."
        )
    classes_F = numpy.searchsorted(matched.counts, matched.true_counts_F[is_known_F])
    probabilities_FK = matched.probabilities_FK[is_known_F]
    probabilities_FK = probabilities_FK / probabilities_FK.sum(1, keepdims=True)  # the log has five decimals
    own = model.calibration
    fitted = Calibration.fit(probabilities_FK, classes_F, matched.counts, own.coverage)
    return Calibration(**{**fitted.to_dict(), "temperature": own.temperature * fitted.temperature})


def recalibration_file(calibration: Calibration, model: MonitoredModel) -> bytes:
    """Returns what scripts/export.py takes as `calibration`."""
    plain: dict[str, Any] = {
        "model_version": model.version,
        "checkpoint_sha256": model.checkpoint_sha256,
        "calibration": calibration.to_dict(),
    }
    return (json.dumps(plain, indent=2) + "\n").encode()


def _calibration_error(probabilities_FK: ndarray, hits_F: ndarray) -> float:
    most_likely_F = probabilities_FK.argmax(1)  # where it is wrong, any other count has the same error
    classes_F = numpy.where(hits_F, most_likely_F, (most_likely_F + 1) % probabilities_FK.shape[1])
    return expected_calibration_error(probabilities_FK / probabilities_FK.sum(1, keepdims=True), classes_F)


def _error_by_chance(probabilities_FK: ndarray) -> float:
    confidence_F = probabilities_FK.max(1)
    draws = generator("feedback", len(confidence_F)).random((NUM_DRAWS, len(confidence_F))) < confidence_F
    return float(numpy.mean([_calibration_error(probabilities_FK, hits_F) for hits_F in draws]))
