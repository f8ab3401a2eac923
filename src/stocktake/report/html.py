"""One self-contained page for an evaluation: it opens from disk, fetches nothing and runs no script.

A page is a headline and a list of Sections, each filled by a macro in sections.html.j2. What a page for
something else needs is another such list.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from stocktake.evaluation.calibration_result import CalibrationResult
from stocktake.evaluation.evaluation_result import CountScores, EvaluationResult
from stocktake.evaluation.subject import describe_what_was_seen
from stocktake.metrics.definitions import COUNT_METRICS, PER_COUNT_METRICS
from stocktake.metrics.estimate import Estimate
from stocktake.report.bins import BinPrediction, Records, describe_bin, rank_predictions, tempered
from stocktake.report.calibration import describe_calibration
from stocktake.report.plots import draw_bars, draw_learning_curves
from stocktake.report.slices import describe_slices
from stocktake.report.text import DRAWN_LABELS, LABELS, describe_result

TEMPLATES = Environment(
    loader=FileSystemLoader([Path(__file__).parent, Path(__file__).parents[1]]),
    autoescape=True,  # ids, paths and configs come from data
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
NUM_BINS_SHOWN = 12
HEADLINE_METRICS = ("accuracy", "within_one", "rmse")  # of the headline


@dataclass(frozen=True)
class Section:
    """A part of a page: its id, its heading, and the HTML below the heading."""

    name: str
    title: str
    body: Markup


@dataclass(frozen=True)
class Run:
    """How an evaluation was made; what is empty was not recorded.

    Attributes:
        config: Of the training, as YAML.
        versions: By package.
    """

    name: str = ""
    config: str = ""
    versions: Mapping[str, str | None] = field(default_factory=dict)
    hardware: str = ""
    command: str = ""


def render_evaluation(
    result: EvaluationResult,
    predictions: Sequence[BinPrediction],
    read_image: Callable[[str], bytes],
    history: Sequence[Mapping[str, float | None]],
    run: Run,
    records: Records | None = None,
) -> str:
    """The page for one evaluation, with everything it needs inside.

    Args:
        result: Without a calibration the page has no section on how sure the model is, without slices none on where
            it errs.
        predictions: One for each evaluated bin, probabilities in the order of the result's counts.
        read_image: Gives the JPEG bytes of an image id; called only for the bins that are shown.
        history: Rows of learning curves, see draw_learning_curves; may be empty.
        records: What the warehouse's records list of the bins; None if that is not known of any.

    Raises:
        ValueError: An image cannot be read.
    """
    counts, calibration = list(result.counts), result.calibration
    if calibration is not None:
        predictions = tempered(predictions, calibration.temperature)
    mistakes, hits = (
        [describe_bin(prediction, counts, read_image, records) for prediction in ranked[:NUM_BINS_SHOWN]]
        for ranked in rank_predictions(predictions, counts)
    )
    title = _title(result, run)
    sections = [
        Section("measures", "Measures", _measures(result)),
        Section("confusion", "Which counts are mixed up", _confusion(counts, result.confusion_matrix)),
        Section("per-count", "Each count", _per_count(result.per_count)),
        *_calibration_section(calibration, len(counts)),
        *_slices(result),
        Section("learning", "Learning curves", _fill("learning", plots=draw_learning_curves(history))),
        _mistakes(mistakes, result.subject.synthetic, calibration is not None),
        Section("hits", "Surest hits", _fill("hits", bins=hits)),
        Section("reproduce", "How this was made", _fill("reproduce", result=result, run=run)),
    ]
    return render_page(title, _headline(title, result), sections)


def render_page(title: str, headline: Markup, sections: Sequence[Section]) -> str:
    """A whole page: the headline, links to the sections, and the sections in their order."""
    return TEMPLATES.get_template("page.html.j2").render(title=title, headline=headline, sections=sections)


def fill(template: str, macro: str, *values: Any, **named: Any) -> Markup:
    """What a macro of a template makes of these values."""
    return getattr(TEMPLATES.get_template(template).module, macro)(*values, **named)


def _fill(macro: str, **values: Any) -> Markup:
    return fill("sections.html.j2", macro, **values)


def _title(result: EvaluationResult, run: Run) -> str:
    subject, accuracy = result.subject, result.metrics["accuracy"]
    name = run.name or (subject.checkpoint or "The model").rpartition("/")[2]
    bins = f"{subject.num_images:,} {'' if subject.split == 'all' else subject.split + ' '}bins"
    if subject.is_leaked:
        return f"{name} was trained on {subject.leakage:,} of {bins}"
    return f"{name} on {bins}" if accuracy.value is None else f"{name} counts {accuracy} of {bins} exactly"


def _headline(title: str, result: EvaluationResult) -> Markup:
    majority, notes = result.majority_baseline, describe_what_was_seen(result.subject)
    metrics = []
    for name in HEADLINE_METRICS:
        metric = COUNT_METRICS[name]
        estimates = {
            "baseline": majority.metrics.get(name, Estimate(None, is_share=metric.is_share)),
            "model": result.metrics[name],
        }
        ends = [end for estimate in estimates.values() for end in (estimate.value, estimate.high) if end is not None]
        scale_end = 1.0 if metric.is_share else 1.1 * max(ends, default=1.0)
        metrics.append({"title": metric.title, "better": metric.better, "scale_end": scale_end, **estimates})
    return _fill(
        "headline",
        title=title,
        result=result,
        metrics=metrics,
        sentences=describe_result(result),
        labels=DRAWN_LABELS if result.subject.synthetic else LABELS,
        alarm=notes.pop(0) if result.subject.is_leaked else None,
        notes=notes,
    )


def _measures(result: EvaluationResult) -> Markup:
    majority, linear = result.majority_baseline, result.linear_baseline
    columns = {"Model": result.metrics, f"Always {majority.count}": majority.metrics}
    if linear is not None:
        columns["Linear model"] = linear.metrics
    rows = {metric: [column.get(name) for column in columns.values()] for name, metric in COUNT_METRICS.items()}
    return _fill("measures", columns=list(columns), rows=rows)


def _confusion(counts: Sequence[int], matrix: Sequence[Sequence[int]]) -> Markup:
    shares = [[num_bins / max(sum(row), 1) for num_bins in row] for row in matrix]
    darkest = max(map(max, shares)) or 1.0
    return _fill("confusion", counts=counts, matrix=matrix, shares=shares, darkest=darkest)


def _per_count(per_count: Mapping[int, CountScores]) -> Markup:
    estimates = {
        metric.title: {str(count): of_count.scores[name] for count, of_count in per_count.items()}
        for name, metric in PER_COUNT_METRICS.items()
    }
    plots = {title: draw_bars(by_count, title) for title, by_count in estimates.items()}
    num_bins = {str(count): of_count.num_images for count, of_count in per_count.items()}
    return _fill("per_count", plots=plots, estimates=estimates, num_bins=num_bins)


def _calibration_section(calibration: CalibrationResult | None, num_counts: int) -> list[Section]:
    if calibration is None:
        return []
    return [Section("certainty", "How sure it is", _fill("certainty", **describe_calibration(calibration, num_counts)))]


def _mistakes(bins: Sequence[Mapping[str, Any]], are_drawn: bool, is_calibrated: bool) -> Section:
    title = "Surest mistakes" if are_drawn else "Likely record errors, or mistakes"
    return Section("mistakes", title, _fill("mistakes", bins=bins, are_drawn=are_drawn, is_calibrated=is_calibrated))


def _slices(result: EvaluationResult) -> list[Section]:
    if not result.slices:
        return []
    found = describe_slices(result.slices, result.metrics["accuracy"], result.subject.num_images)
    return [Section("slices", "Where it errs", _fill("slices", **found))]
