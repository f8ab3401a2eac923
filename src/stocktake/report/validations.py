"""What scripts/evaluate.py left in trials' folders: intervals of their scores, who would win again, the test figure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy

from stocktake.evaluation.paired_bootstrap import PairedBootstrap
from stocktake.evaluation.results import PREDICTIONS_KEY, Evaluation, EvaluationError
from stocktake.metrics.estimate import Estimate
from stocktake.report.search_text import show_score
from stocktake.s3 import StorageError
from stocktake.storage import Folder, StorageOptions, join_url
from stocktake.tuning.trials import SearchResult, Trial

SLACK = 0.02  # as a share of a score: precision differs between training and evaluation


@dataclass(frozen=True)
class Validations:
    """What evaluations of the best trials on the validation bins add.

    Attributes:
        intervals: The metric with its interval over blocks of bins, by the number of the trial.
        stability: In which share of other draws of these bins the best trial is the best of those evaluated.
        notes: On evaluations that could not be used.
    """

    intervals: Mapping[int, Estimate] = field(default_factory=dict)
    stability: float | None = None
    notes: Sequence[str] = ()


def read_validations(result: SearchResult, trials: Sequence[Trial]) -> Validations:
    """Reads the evaluations that lie in the folders of these trials; most have none."""
    name, first = result.metric.rpartition("/")[2], None
    measured: dict[int, PairedBootstrap] = {}
    notes: list[str] = []
    for trial in trials:
        try:
            if (evaluation := _evaluation(trial, "valid")) is None:
                continue
            (first or evaluation).require_same_bins(evaluation)
            found = PairedBootstrap.of(evaluation)
        except (EvaluationError, StorageError) as error:
            notes.append(f"The evaluation of trial {trial.number} is left out: {error}")
            continue
        first, value, score = first or evaluation, found.values.get(name), trial.score or 0.0
        if value is None or numpy.isnan(value):
            notes.append(f"Evaluations do not measure {name}, so there is no interval of it.")
            break
        if abs(value - score) > SLACK * abs(score):
            shown = [show_score(figure, result.definition) for figure in (value, score)]
            notes.append(
                f"The evaluation of trial {trial.number} says {shown[0]}, the trial {shown[1]}: it is of other weights "
                "or bins, and is left out."
            )
            continue
        measured[trial.number] = found
    intervals = {number: found.estimates()[name] for number, found in measured.items()}
    return Validations(intervals, _stability(result, name, measured), notes)


def read_test_figure(result: SearchResult) -> tuple[Estimate | None, list[str]]:
    """Returns the best trial's metric on the test bins, if it was evaluated there, and why it cannot be used if so."""
    best, name = result.best, result.metric.rpartition("/")[2]
    try:
        evaluation = None if best is None else _evaluation(best, "test")
        if evaluation is None:
            return None, []
        figure = PairedBootstrap.of(evaluation).estimates().get(name)
    except (EvaluationError, StorageError) as error:
        return None, [f"The test figure of the best trial is left out: {error}"]
    if figure is None or figure.value is None:
        return None, [f"Evaluations do not measure {name}, so it is not known on the test bins."]
    return figure, []


def _evaluation(trial: Trial, split: str) -> Evaluation | None:
    location = Folder(join_url(trial.folder, f"evaluation-{split}"), StorageOptions())
    if not trial.folder or not location.exists(PREDICTIONS_KEY):
        return None
    evaluation = Evaluation.read(location.url, location.options)
    if evaluation.result.subject.split != split:
        raise EvaluationError(f"it is of split={evaluation.result.subject.split}.")
    return evaluation


def _stability(result: SearchResult, name: str, measured: Mapping[int, PairedBootstrap]) -> float | None:
    if result.best is None or result.best.number not in measured or len(measured) < 2:
        return None
    sign = 1 if result.definition.better == "higher" else -1
    samples_TS = sign * numpy.stack([found.samples[name] for found in measured.values()])  # the same draws for all
    best_S = sign * measured[result.best.number].samples[name]
    share = float((best_S >= samples_TS.max(0)).mean())
    return None if numpy.isnan(samples_TS).any() else share
