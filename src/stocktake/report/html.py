"""One self-contained page for an evaluation: opens from disk, fetches nothing, runs no script.

A page is a headline and a list of Sections; each is filled by the macro of its name in sections.html.j2.
"""

import base64
import io
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image, ImageOps, UnidentifiedImageError

from stocktake.report.plots import draw_bars, draw_learning_curves

TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).parent),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
PICTURE_WIDTH_PX = 240
NUM_BINS_SHOWN = 12
ACCURACY, WITHIN_ONE, RMSE = "test/accuracy", "test/within_one", "test/rmse"
MEASURES = {  # key in metrics.json: (title, whether it is a share, which is better)
    ACCURACY: ("Exact count (accuracy)", True, "higher"),
    WITHIN_ONE: ("At most one off", True, "higher"),
    "test/mae": ("Mean absolute error, in items", False, "lower"),
    RMSE: ("RMSE of the most likely count", False, "lower"),
    "test/rmse_mean": ("RMSE of the expected count", False, "lower"),
    "test/macro_precision": ("Precision, mean over counts", True, "higher"),
    "test/macro_recall": ("Recall, mean over counts", True, "higher"),
    "test/macro_f1": ("F1, mean over counts", True, "higher"),
}
SCORES = {"precision": "Precision", "recall": "Recall", "f1": "F1"}
CAUTIONS = {
    "train": "The model was trained on these bins: on new ones it will do worse.",
    "valid": "The checkpoint was chosen on these bins: on new ones it may do a little worse.",
    "all": "Some of these bins were trained on: on new ones the model will do worse.",
}
SAME_RECORD = (
    "Exact means: equal to the record that came with the photo. No person has counted these bins, so where the two "
    "differ, it may be the record that is wrong."
)


@dataclass(frozen=True)
class Section:
    """A part of a page: its id, its heading, and the HTML below the heading."""

    name: str
    title: str
    body: Markup


@dataclass(frozen=True)
class Estimate:
    """A number and its 95 % interval, None where they could not be computed; written as a page shows them."""

    value: float | None
    low: float | None
    high: float | None
    is_share: bool

    @classmethod
    def read(cls, metric: Mapping[str, float | None], is_share: bool) -> "Estimate":
        known = (metric.get(key) for key in ("value", "low", "high"))
        return cls(*(None if number is None or math.isnan(number) else number for number in known), is_share)

    def __str__(self) -> str:
        if self.value is None:
            return "n/a"
        return f"{100 * self.value:.1f} %" if self.is_share else f"{self.value:.2f}"

    @property
    def interval(self) -> str:
        """Empty where there is none."""
        if self.low is None or self.high is None:
            return ""
        if self.is_share:
            return f"{100 * self.low:.1f} – {100 * self.high:.1f} %"
        return f"{self.low:.2f} – {self.high:.2f}"


def render_evaluation(
    metrics: Mapping[str, Any],
    predictions: Sequence[BinPrediction],
    pictures: Callable[[str], bytes],
    history: Sequence[Mapping[str, float | None]],
    run: Mapping[str, Any],
) -> str:
    """The page for one evaluation, with everything it needs inside.

    Args:
        metrics: The content of metrics.json.
        predictions: One for each evaluated bin; probabilities in the order of `metrics["counts"]`.
        pictures: Gives the JPEG bytes of an image id; called for the bins that are shown.
        history: Rows of learning curves, see draw_learning_curves; may be empty.
        run: Any of `name`, `config` (YAML text), `versions`, `hardware` and `command`.

    Raises:
        ValueError: metrics lack a key, do not fit the predictions, or a picture cannot be read.
    """
    _check(metrics, predictions)
    counts = metrics["counts"]
    mistakes, hits = (
        [_describe_bin(prediction, counts, pictures) for prediction in ranked[:NUM_BINS_SHOWN]]
        for ranked in rank_predictions(predictions, counts)
    )
    title, headline = _headline(metrics, run)
    sections = [
        Section("metrics", "Measures", _metrics(metrics)),
        Section("confusion", "Which counts are mixed up", _confusion(counts, metrics["confusion_matrix"])),
        Section("per-count", "Each count", _per_count(counts, metrics["per_count"])),
        Section("learning", "Learning curves", _fill("learning", plots=draw_learning_curves(history))),
        Section("mistakes", "Surest mistakes", _fill("mistakes", bins=mistakes)),
        Section("hits", "Surest hits", _fill("hits", bins=hits)),
        Section("reproduce", "Make this again", _reproduce(metrics, run)),
    ]
    return render_page(title, headline, sections)


def render_page(title: str, headline: Markup, sections: Sequence[Section]) -> str:
    """A whole page: a headline, links to the sections, and the sections in their order."""
    return TEMPLATES.get_template("page.html.j2").render(title=title, headline=headline, sections=sections)


def rank_predictions(
    predictions: Sequence[BinPrediction], counts: Sequence[int]
) -> tuple[list[BinPrediction], list[BinPrediction]]:
    """The mistakes and the hits, each with the most probable prediction first, then by image id."""

    def surest_first(prediction: BinPrediction) -> tuple[float, str]:
        return -prediction.probabilities[counts.index(prediction.predicted)], prediction.image_id

    ranked = sorted(predictions, key=surest_first)
    return [bin for bin in ranked if bin.predicted != bin.count], [bin for bin in ranked if bin.predicted == bin.count]


def make_thumbnail(image_id: str, jpeg: bytes) -> str:
    """A picture as a `data:` URI, at most THUMBNAIL_PX on each side, re-encoded without its metadata.

    Raises:
        ValueError: The bytes are not a picture.
    """
    try:
        with Image.open(io.BytesIO(jpeg)) as picture:
            small = ImageOps.exif_transpose(picture).convert("RGB")
    except (UnidentifiedImageError, OSError) as error:
        raise ValueError(
            f"the picture of bin {image_id!r} cannot be read ({error}). "
            "Fetch it again with scripts/prepare.py, or leave the bin out of the manifest."
        ) from error
    small.thumbnail((THUMBNAIL_PX, THUMBNAIL_PX))
    file = io.BytesIO()
    small.save(file, "JPEG", quality=82, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()


def _check(metrics: Mapping[str, Any], predictions: Sequence[BinPrediction]) -> None:
    needed = ("split", "num_images", "counts", "per_count", "confusion_matrix", "majority_baseline", *MEASURES)
    if missing := [key for key in needed if key not in metrics]:
        raise ValueError(f"metrics lack {missing}. Write metrics.json again with scripts/evaluate.py.")
    counts = metrics["counts"]
    lengths = [len(row) for row in metrics["confusion_matrix"]]
    if lengths != [len(counts)] * len(counts):
        raise ValueError(
            f"confusion_matrix has rows of {lengths} numbers, but counts {counts} need {len(counts)} rows of "
            f"{len(counts)}. Write metrics.json again with scripts/evaluate.py."
        )
    for prediction in predictions:
        if prediction.predicted not in counts or len(prediction.probabilities) != len(counts):
            raise ValueError(
                f"bin {prediction.image_id!r} is predicted {prediction.predicted} with "
                f"{len(prediction.probabilities)} probabilities, but the metrics are about the counts {counts}. "
                "Take metrics and predictions from one evaluation."
            )


def _fill(macro: str, **values: Any) -> Markup:
    return getattr(TEMPLATES.get_template("sections.html.j2").module, macro)(**values)


def _headline(metrics: Mapping[str, Any], run: Mapping[str, Any]) -> tuple[str, Markup]:
    checkpoint = str(metrics.get("checkpoint") or "")
    name = run.get("name") or checkpoint.rpartition("/")[2] or "The model"
    split = metrics["split"]
    bins = f"{metrics['num_images']:,} {'' if split == 'all' else split + ' '}bins"
    accuracy = Estimate.read(metrics[ACCURACY], is_share=True)
    title = f"{name} on {bins}" if accuracy.value is None else f"{name} counts {accuracy} of {bins} exactly"
    answers = []
    majority = metrics["majority_baseline"]
    for key in (ACCURACY, WITHIN_ONE, RMSE):
        words, is_share, better = MEASURES[key]
        model = Estimate.read(metrics[key], is_share)
        baseline = Estimate.read(majority.get(key, {}), is_share)
        ends = [end for end in (model.value, model.high, baseline.value, baseline.high) if end is not None]
        answers.append(
            {
                "title": words,
                "better": better,
                "model": model,
                "baseline": baseline,
                "end": 1 if is_share else max([1, *ends]) * 1.1,
            }
        )
    verdict = _verdict(metrics)
    caution = CAUTIONS.get(split)
    headline = _fill(
        "headline",
        title=title,
        about={"checkpoint": checkpoint, "root": metrics.get("root"), "created": metrics.get("created")},
        answers=answers,
        baseline_name=f"always answering {majority['count']}",
        verdict=verdict,
        caution=caution,
    )
    return title, headline


def _verdict(metrics: Mapping[str, Any]) -> str:
    """The headline's numbers as a person would say them."""
    accuracy = Estimate.read(metrics[ACCURACY], is_share=True)
    within_one = Estimate.read(metrics[WITHIN_ONE], is_share=True)
    majority = metrics["majority_baseline"]
    baseline = Estimate.read(majority.get(ACCURACY, {}), is_share=True)
    if accuracy.value is None:
        return f"How often the count is exact could not be computed. {LABELS}"
    sentences = [f"On {100 * accuracy.value:.0f} of 100 bins the count is exact"]
    if within_one.value is not None:
        sentences[0] += f", and on {100 * within_one.value:.0f} it is at most one off"
    sentences[0] += "."
    if accuracy.interval:
        spread = f"on other bins like these, expect between {100 * accuracy.low:.0f} and {100 * accuracy.high:.0f}"
        blocks = metrics.get("num_blocks")
        source = f"95 % interval over {blocks:,} blocks of neighbouring bins" if blocks else "95 % interval"
        sentences.append(f"That is measured on {metrics['num_images']:,} bins: {spread} ({source}).")
    if baseline.value is not None:
        always = f"Always answering {majority['count']} would be exact on {100 * baseline.value:.0f}"
        sentences.append(f"{always}: {_compare(accuracy, baseline)}.")
    return " ".join([*sentences, LABELS])


def _compare(model: Estimate, baseline: Estimate) -> str:
    if not (model.interval and baseline.interval):
        return "without intervals, whether the difference is chance cannot be said"
    if model.low > baseline.high:
        return "the model is clearly better"
    if model.high < baseline.low:
        return "the model is clearly worse"
    return "the intervals overlap, so the difference may be chance"


def _metrics(metrics: Mapping[str, Any]) -> Markup:
    majority = metrics["majority_baseline"]
    columns = {"Model": metrics, f"Always {majority['count']}": majority}
    if metrics.get("linear_baseline"):
        columns["Linear"] = metrics["linear_baseline"]
    rows = [
        {
            "title": title,
            "better": better,
            "estimates": [Estimate.read(source[key], is_share) if key in source else None for source in columns.values()],
        }
        for key, (title, is_share, better) in MEASURES.items()
    ]
    return _fill("metrics", columns=list(columns), rows=rows)


def _confusion(counts: Sequence[int], matrix: Sequence[Sequence[int]]) -> Markup:
    shares = [[num_images / max(sum(row), 1) for num_images in row] for row in matrix]
    darkest = max(max(row) for row in shares) or 1
    rows = [
        {
            "count": count,
            "num_images": sum(matrix[i]),
            "cells": [
                {"num_images": num_images, "share": share, "shade": round(share / darkest, 3), "is_exact": i == j}
                for j, (num_images, share) in enumerate(zip(matrix[i], shares[i], strict=True))
            ],
        }
        for i, count in enumerate(counts)
    ]
    return _fill("confusion", counts=counts, rows=rows)


def _per_count(counts: Sequence[int], per_count: Mapping[str, Mapping[str, Any]]) -> Markup:
    plots = {}
    for score, title in SCORES.items():
        estimates = {str(count): Estimate.read(per_count[str(count)][score], is_share=True) for count in counts}
        plots[title] = draw_bars(...)
