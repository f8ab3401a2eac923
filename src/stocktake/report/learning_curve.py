"""The page that says what more training bins bring: result, curves, what each form predicts, and how it was made."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter

from stocktake.evaluation.subject import CAUTIONS
from stocktake.metrics.definitions import METRICS, Metric
from stocktake.metrics.estimate import Estimate
from stocktake.report.html import Section, fill, render_page
from stocktake.report.plots import ROLES, SHARE_TICKS, empty_figure, styled, to_svg

FAR = 10  # times the largest measured number of bins; from there on the form of the curve decides
FORMS = {
    "power_law": "power law, down to no error",
    "power_law_above_floor": "power law, down to a floor",
    "log_linear": "as much for each doubling, without end",
}


def render_learning_curve(curve: Mapping[str, Any]) -> str:
    """The whole page, with everything it needs inside.

    Args:
        curve: The content of learning_curve.json.
    """
    measures = {name: METRICS[name] for name in curve["metrics"]}
    published_as = curve["published_as"] if curve["published"] else None
    sections = [
        Section("curve", "The curve", _fill("curves", plots=_plots(curve, measures), published_as=published_as)),
        Section("forms", "What each form predicts", _fill("forms", tables=_forms(curve, measures))),
        Section("points", "What was measured", _fill("points", measures=measures, rows=_points(curve, measures))),
        Section("reading", "How to read it", _fill("reading", far=FAR, curve=curve)),
        Section("reproduce", "How this was made", _fill("reproduce", curve=curve)),
    ]
    title = _title(curve)
    headline = _fill(
        "headline",
        title=title,
        curve=curve,
        sentences=_sentences(curve, measures),
        cautions=_cautions(curve, measures),
    )
    return render_page(title, headline, sections)


def draw_error_curve(
    measured: Mapping[str, Any], measure: Metric, published: Sequence[Mapping[str, float]], top: float
) -> str:
    """A metric by the number of training bins, on a logarithmic axis, as an `<svg>` element.

    Args:
        measured: `points` and `forms` as learning_curve.json holds them; the first form is drawn with its intervals.
        measure: What the metric is called and whether it is a share.
        published: Others' points, each with `num_train_bins` and `value`.
        top: Upper end of the axis; the lower one is 0.
    """
    first, *others = measured["forms"]
    along, far = [row["num_train_bins"] for row in first["drawn"]], first["predicted"]
    largest = max(point["num_train_bins"] for point in measured["points"])
    with styled():
        figure, axes = empty_figure()
        for low, high, alpha in (("low", "high", 0.3), ("curve_low", "curve_high", 0.55)):
            bottom, upper = ([row[end] for row in first["drawn"]] for end in (low, high))
            axes.fill_between(along, bottom, upper, color=ROLES["heat"], alpha=alpha, linewidth=0)
        for form in others:
            axes.plot(along, [row["value"] for row in form["drawn"]], color=ROLES["muted"], linewidth=0.9)
        for is_beyond, dashes in ((False, "-"), (True, (0, (4, 2)))):
            part = [row for row in first["drawn"] if (row["num_train_bins"] > largest) == is_beyond]
            points = ([row[name] for row in part] for name in ("num_train_bins", "value"))
            axes.plot(*points, color=ROLES["model"], linewidth=2, linestyle=dashes)
        for row in measured["points"]:
            axes.vlines(row["num_train_bins"], row["low"], row["high"], color=ROLES["ink"], linewidth=1.1)
            axes.plot(row["num_train_bins"], row["value"], marker="o", markersize=5, color=ROLES["model"])
        for row in published:
            point = (row["num_train_bins"], row["value"])
            axes.plot(*point, marker="D", markersize=5, markerfacecolor="none", color=ROLES["ink"], linestyle="none")
        _label(axes, measure, along, top)
    description = [f"{row['num_train_bins']:,}: {_number(row, measure)} measured" for row in measured["points"]]
    description += [f"{row['num_train_bins']:,}: {_number(row, measure)} predicted" for row in far]
    return to_svg(figure, f"{measure.title} by number of training bins. {', '.join(description)}.")


def _label(axes: Axes, measure: Metric, along: Sequence[float], top: float) -> None:
    axes.set_xscale("log")
    axes.set_xlim(along[0] / 1.25, along[-1] * 1.25)
    axes.xaxis.set_major_locator(LogLocator(10))
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("training bins")
    axes.set_ylim(0, top)
    if measure.is_share:
        axes.set_yticks(*SHARE_TICKS)


def _plots(curve: Mapping[str, Any], measures: Mapping[str, Metric]) -> dict[str, str]:
    plots = {}
    for metric, measure in measures.items():
        measured = curve["metrics"][metric]
        published = [{**point, "value": point[metric]} for point in curve["published"] if metric in point]
        shown = [row["high"] for row in measured["points"]] + [row["value"] for row in published]
        top = 1.02 if measure.is_share else 1.2 * max(shown)
        plots[measure.title] = draw_error_curve(measured, measure, published, top)
    return plots


def _forms(curve: Mapping[str, Any], measures: Mapping[str, Metric]) -> dict[str, list[dict[str, Any]]]:
    return {
        measure.title: [
            {
                "title": FORMS[form["form"]],
                "formula": form["formula"],
                "c": Estimate.from_json(form["c"], is_share=False),
                "predicted": {
                    row["num_train_bins"]: Estimate.from_json(row, measure.is_share) for row in form["predicted"]
                },
            }
            for form in curve["metrics"][metric]["forms"]
        ]
        for metric, measure in measures.items()
    }


def _points(curve: Mapping[str, Any], measures: Mapping[str, Metric]) -> list[dict[str, Any]]:
    return [
        evaluation
        | {
            "estimates": [
                Estimate.from_json(curve["metrics"][metric]["points"][index], measure.is_share)
                for metric, measure in measures.items()
            ]
        }
        for index, evaluation in enumerate(curve["evaluations"])
    ]


def _title(curve: Mapping[str, Any]) -> str:
    sizes = [point["num_train_bins"] for point in curve["evaluations"]]
    return f"What more training bins bring, from {min(sizes):,} to {max(sizes):,}"


def _sentences(curve: Mapping[str, Any], measures: Mapping[str, Metric]) -> list[str]:
    """What was found, a paragraph for each metric, for a person who reads nothing else."""
    sentences = []
    for metric, measure in measures.items():
        points, first = curve["metrics"][metric]["points"], curve["metrics"][metric]["forms"][0]
        few, many = points[0], points[-1]
        near = [row for row in first["predicted"] if not _is_far(curve, row["num_train_bins"])]
        parts = [
            f"{measure.title}: {_number(few, measure)} with {few['num_train_bins']:,} training bins, "
            f"{_number(many, measure)} with {many['num_train_bins']:,}.",
            _doubling(first["c"]),
            *(
                f"A run on {row['num_train_bins']:,} would come out at about {_number(row, measure)} "
                f"(95\u202f% interval {Estimate.from_json(row, measure.is_share).interval})."
                for row in near
            ),
        ]
        sentences.append(" ".join(parts))
    return sentences


def _doubling(c: Mapping[str, float]) -> str:
    """What twice as many bins do to an error b n^-c."""
    gain, low, high = (100 * (1 - 2 ** -c[key]) for key in ("value", "low", "high"))
    change, least, most = (f"{-percent:+.1f}".replace("-", "\u2212") for percent in (gain, low, high))
    found = f"Each doubling changes the error by {change}\u202f% ({least} to {most})"
    if low <= 0 <= high:
        return f"{found}; the interval holds no change at all, so these evaluations do not show that more bins help."
    return f"{found}."


def _cautions(curve: Mapping[str, Any], measures: Mapping[str, Metric]) -> list[str]:
    sizes = [point["num_train_bins"] for point in curve["evaluations"]]
    cautions = [CAUTIONS[curve["split"]]] if curve["split"] in CAUTIONS else []
    for asked, factor in curve["extrapolation"].items():
        if _is_far(curve, asked):
            predictions = [
                f"{measure.title} {_all(_at(form, asked), measure)}"
                for metric, measure in measures.items()
                for form in [curve["metrics"][metric]["forms"]]
            ]
            cautions.append(
                f"{int(asked):,} bins are {factor:.0f} times as many as the largest measured number, and the measured "
                f"ones span a factor of {max(sizes) / min(sizes):.1f}. So far out it is the form of the curve that "
                f"decides, and these evaluations cannot tell the forms apart: {'; '.join(predictions)} "
                f"({', '.join(FORMS.values())}). An interval holds only if its form does."
            )
    return cautions


def _at(forms: Iterable[Mapping[str, Any]], asked: str) -> list[Mapping[str, float]]:
    return [row for form in forms for row in form["predicted"] if row["num_train_bins"] == int(asked)]


def _all(rows: Sequence[Mapping[str, float]], measure: Metric) -> str:
    *numbers, last = (_number(row, measure) for row in rows)
    return f"{', '.join(numbers)} or {last}"


def _number(row: Mapping[str, float], measure: Metric) -> str:
    return str(Estimate.from_json(row, measure.is_share))


def _is_far(curve: Mapping[str, Any], asked: int | str) -> bool:
    return curve["extrapolation"][str(asked)] >= FAR


def _fill(macro: str, **values: Any) -> Markup:
    return fill("training_size.html.j2", macro, **values)
