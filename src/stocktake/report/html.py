"""One self-contained page for an evaluation: it opens from disk, fetches nothing and runs no script.

A page is a headline and a list of Sections, each filled by a macro in sections.html.j2. What a page for
something else needs is another such list.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from stocktake.report.bins import BinPrediction, Records, describe_bin, rank_predictions, tempered
from stocktake.report.calibration import describe_certainty
from stocktake.report.plots import draw_bars, draw_learning_curves
from stocktake.report.slices import describe_slices
from stocktake.report.text import (
    ACCURACY,
    DRAWN_LABELS,
    LABELS,
    MEASURES,
    RMSE,
    WITHIN_ONE,
    Estimate,
    describe_result,
    describe_what_was_seen,
    is_leaked,
)

TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).parent),
    autoescape=True,  # ids, paths and configs come from data
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
NUM_BINS_SHOWN = 12
SCORES = {"precision": "Precision", "recall": "Recall", "f1": "F1"}


@dataclass(frozen=True)
class Section:
    """A part of a page: its id, its heading, and the HTML below the heading."""

    name: str
    title: str
    body: Markup


def render_evaluation(
    metrics: Mapping[str, Any],
    predictions: Sequence[BinPrediction],
    pictures: Callable[[str], bytes],
    history: Sequence[Mapping[str, float | None]],
    run: Mapping[str, Any],
    records: Records | None = None,
) -> str:
    """The page for one evaluation, with everything it needs inside.

    Args:
        metrics: The content of metrics.json; a number in it may be None. Without `calibration` the page has no
            section on how sure the model is, without `slices` none on where it errs.
        predictions: One for each evaluated bin, probabilities in the order of `metrics["counts"]`.
        pictures: Gives the JPEG bytes of an image id; called only for the bins that are shown.
        history: Rows of learning curves, see draw_learning_curves; may be empty.
        run: Any of `name`, `config` (YAML text), `versions` (by package), `hardware` and `command`.
        records: What the warehouse's records list of the bins; None if that is not known of any.

    Raises:
        ValueError: metrics lack a key or do not fit the predictions, or a picture cannot be read.
    """
    _check(metrics, predictions)
    counts = metrics["counts"]
    calibration = metrics.get("calibration")
    if calibration is not None:
        predictions = tempered(predictions, calibration["temperature"])
    mistakes, hits = (
        [describe_bin(prediction, counts, pictures, records) for prediction in ranked[:NUM_BINS_SHOWN]]
        for ranked in rank_predictions(predictions, counts)
    )
    title = _title(metrics, run)
    sections = [
        Section("measures", "Measures", _measures(metrics)),
        Section("confusion", "Which counts are mixed up", _confusion(counts, metrics["confusion_matrix"])),
        Section("per-count", "Each count", _per_count(counts, metrics["per_count"])),
        *_certainty(calibration, len(counts)),
        *_slices(metrics),
        Section("learning", "Learning curves", _fill("learning", plots=draw_learning_curves(history))),
        _mistakes(mistakes, bool(metrics.get("synthetic")), calibration is not None),
        Section("hits", "Surest hits", _fill("hits", bins=hits)),
        Section("reproduce", "How this was made", _fill("reproduce", metrics=metrics, run=run)),
    ]
    return render_page(title, _headline(title, metrics), sections)


def render_page(title: str, headline: Markup, sections: Sequence[Section]) -> str:
    """A whole page: the headline, links to the sections, and the sections in their order."""
    return TEMPLATES.get_template("page.html.j2").render(title=title, headline=headline, sections=sections)


def _check(metrics: Mapping[str, Any], predictions: Sequence[BinPrediction]) -> None:
    needed = (
        "split",
        "num_images",
        "counts",
        "per_count",
        "confusion_matrix",
        "majority_baseline",
        *MEASURES,
    )
    if missing := [key for key in needed if key not in metrics]:
        raise ValueError(f"metrics lack {missing}. Write metrics.json again with scripts/evaluate.py.")
    counts = metrics["counts"]
    lengths = [len(row) for row in metrics["confusion_matrix"]]
    if lengths != [len(counts)] * len(counts):
        raise ValueError(
            f"confusion_matrix has rows of {lengths} numbers; counts {counts} need {len(counts)} rows of "
            f"{len(counts)}. Write metrics.json again with scripts/evaluate.py."
        )
    if missing := [count for count in counts if str(count) not in metrics["per_count"]]:
        raise ValueError(f"per_count lacks the counts {missing}. Write metrics.json again with scripts/evaluate.py.")
    for prediction in predictions:
        if prediction.predicted not in counts or len(prediction.probabilities) != len(counts):
            raise ValueError(
                f"Bin {prediction.image_id!r} has predicted={prediction.predicted} and "
                f"{len(prediction.probabilities)} probabilities, but the metrics are about {counts}. "
                "Take metrics and predictions from one evaluation."
            )


def _fill(macro: str, **values: Any) -> Markup:
    return getattr(TEMPLATES.get_template("sections.html.j2").module, macro)(**values)


def _title(metrics: Mapping[str, Any], run: Mapping[str, Any]) -> str:
    name = run.get("name") or str(metrics.get("checkpoint") or "The model").rpartition("/")[2]
    bins = f"{metrics['num_images']:,} {'' if metrics['split'] == 'all' else metrics['split'] + ' '}bins"
    accuracy = Estimate.read(metrics[ACCURACY])
    if is_leaked(metrics):
        return f"{name} was trained on {metrics['leakage']:,} of {bins}"
    return f"{name} on {bins}" if accuracy.value is None else f"{name} counts {accuracy} of {bins} exactly"


def _headline(title: str, metrics: Mapping[str, Any]) -> Markup:
    majority, notes = metrics["majority_baseline"], describe_what_was_seen(metrics)
    answers = []
    for key in (ACCURACY, WITHIN_ONE, RMSE):
        measure = MEASURES[key]
        estimates = {
            "baseline": Estimate.read(majority.get(key, {}), measure.is_share),
            "model": Estimate.read(metrics[key], measure.is_share),
        }
        ends = [end for estimate in estimates.values() for end in (estimate.value, estimate.high) if end is not None]
        scale_end = 1.0 if measure.is_share else 1.1 * max(ends, default=1.0)
        answers.append({"title": measure.title, "better": measure.better, "scale_end": scale_end, **estimates})
    return _fill(
        "headline",
        title=title,
        metrics=metrics,
        answers=answers,
        sentences=describe_result(metrics),
        labels=DRAWN_LABELS if metrics.get("synthetic") else LABELS,
        alarm=notes.pop(0) if is_leaked(metrics) else None,
        notes=notes,
    )


def _measures(metrics: Mapping[str, Any]) -> Markup:
    majority = metrics["majority_baseline"]
    columns = {"Model": metrics, f"Always {majority['count']}": majority}
    if metrics.get("linear_baseline"):
        columns["Linear model"] = metrics["linear_baseline"]
    rows = {
        measure: [
            Estimate.read(column[key], measure.is_share) if key in column else None for column in columns.values()
        ]
        for key, measure in MEASURES.items()
    }
    return _fill("measures", columns=list(columns), rows=rows)


def _confusion(counts: Sequence[int], matrix: Sequence[Sequence[int]]) -> Markup:
    shares = [[num_bins / max(sum(row), 1) for num_bins in row] for row in matrix]
    darkest = max(map(max, shares)) or 1.0
    return _fill("confusion", counts=counts, matrix=matrix, shares=shares, darkest=darkest)


def _per_count(counts: Sequence[int], per_count: Mapping[str, Mapping[str, Any]]) -> Markup:
    estimates = {
        title: {str(count): Estimate.read(per_count[str(count)][score]) for count in counts}
        for score, title in SCORES.items()
    }
    plots = {title: draw_bars(by_count, title) for title, by_count in estimates.items()}
    num_bins = {str(count): per_count[str(count)]["num_images"] for count in counts}
    return _fill("per_count", plots=plots, estimates=estimates, num_bins=num_bins)


def _certainty(calibration: Mapping[str, Any] | None, num_counts: int) -> list[Section]:
    if calibration is None:
        return []
    return [Section("certainty", "How sure it is", _fill("certainty", **describe_certainty(calibration, num_counts)))]


def _mistakes(bins: Sequence[Mapping[str, Any]], are_drawn: bool, is_calibrated: bool) -> Section:
    title = "Surest mistakes" if are_drawn else "Likely record errors, or mistakes"
    return Section("mistakes", title, _fill("mistakes", bins=bins, are_drawn=are_drawn, is_calibrated=is_calibrated))


def _slices(metrics: Mapping[str, Any]) -> list[Section]:
    if "slices" not in metrics:
        return []
    found = describe_slices(metrics["slices"], metrics[ACCURACY], metrics["num_images"])
    return [Section("slices", "Where it errs", _fill("slices", **found))]
