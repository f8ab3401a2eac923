"""The page that says what more training bins bring: result, curves, what each form predicts, and how it was made."""

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter

from stocktake.evaluation.learning_curve_result import FAR, LearningCurve, MetricCurve
from stocktake.evaluation.subject import CAUTIONS
from stocktake.metrics.definitions import METRICS, Metric
from stocktake.metrics.estimate import Estimate
from stocktake.metrics.scaling_law import Curve
from stocktake.report.html import Section, fill, render_page
from stocktake.report.plots import ROLES, SHARE_TICKS, empty_figure, styled, to_svg

FORMS = {
    "power_law": "power law, down to no error",
    "power_law_above_floor": "power law, down to a floor",
    "log_linear": "as much for each doubling, without end",
}


def render_learning_curve(
    curve: LearningCurve,
    command: str | None = None,
    published_as: str | None = None,
    published: Sequence[Mapping[str, float]] = (),
) -> str:
    """The whole page, with everything it needs inside.

    Args:
        command: How it was made.
        published_as: What others' points are of.
        published: Others' points, each with `num_train_bins` and metrics.
    """
    measures = {name: METRICS[name] for name in curve.metrics}
    published_as = published_as if published else None
    plots = _plots(curve, measures, published)
    sections = [
        Section("curve", "The curve", _fill("curves", plots=plots, published_as=published_as)),
        Section("forms", "What each form predicts", _fill("forms", tables=_forms(curve, measures))),
        Section("points", "What was measured", _fill("points", measures=measures, rows=_points(curve))),
        Section("reading", "How to read it", _fill("reading", far=FAR, curve=curve)),
        Section("reproduce", "How this was made", _fill("reproduce", curve=curve, command=command)),
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
    measured: MetricCurve, measure: Metric, published: Sequence[tuple[float, float]], top: float
) -> str:
    """A metric by the number of training bins, on a logarithmic axis, as an `<svg>` element.

    Args:
        measured: Its first form is drawn with its intervals.
        measure: What the metric is called and whether it is a share.
        published: Others' points: the number of training bins, and the value.
        top: Upper end of the axis; the lower one is 0.
    """
    first, *others = measured.forms
    along = [point.num_train_bins for point in first.drawn]
    largest = max(point.num_train_bins for point in measured.points)
    with styled():
        figure, axes = empty_figure()
        runs = [point.interval for point in first.drawn]
        curves = [point.curve_interval for point in first.drawn if point.curve_interval]
        for intervals, alpha in ((runs, 0.3), (curves, 0.55)):
            lows, highs = zip(*intervals, strict=True)
            axes.fill_between(along, lows, highs, color=ROLES["heat"], alpha=alpha, linewidth=0)
        for form in others:
            axes.plot(along, [point.value for point in form.drawn], color=ROLES["muted"], linewidth=0.9)
        for is_beyond, dashes in ((False, "-"), (True, (0, (4, 2)))):
            part = [point for point in first.drawn if (point.num_train_bins > largest) == is_beyond]
            numbers, values = [point.num_train_bins for point in part], [point.value for point in part]
            axes.plot(numbers, values, color=ROLES["model"], linewidth=2, linestyle=dashes)
        for point in measured.points:
            axes.vlines(point.num_train_bins, *point.interval, color=ROLES["ink"], linewidth=1.1)
            axes.plot(point.num_train_bins, point.value, marker="o", markersize=5, color=ROLES["model"])
        for number, value in published:
            axes.plot(
                number, value, marker="D", markersize=5, markerfacecolor="none", color=ROLES["ink"], linestyle="none"
            )
        _label(axes, measure, along, top)
    description = [f"{point.num_train_bins:,}: {point.estimate} measured" for point in measured.points]
    description += [f"{point.num_train_bins:,}: {point.estimate} predicted" for point in first.predicted]
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


def _plots(
    curve: LearningCurve, measures: Mapping[str, Metric], published: Sequence[Mapping[str, float]]
) -> dict[str, str]:
    plots = {}
    for name, measure in measures.items():
        others = [(point["num_train_bins"], point[name]) for point in published if name in point]
        shown = [point.interval[1] for point in curve.metrics[name].points] + [value for _, value in others]
        top = 1.02 if measure.is_share else 1.2 * max(shown)
        plots[measure.title] = draw_error_curve(curve.metrics[name], measure, others, top)
    return plots


def _forms(curve: LearningCurve, measures: Mapping[str, Metric]) -> dict[str, list[dict[str, Any]]]:
    return {
        measure.title: [
            {
                "title": FORMS[form.fit.form.name],
                "formula": form.fit.form.formula,
                "c": form.c,
                "predicted": {point.num_train_bins: point.estimate for point in form.predicted},
            }
            for form in curve.metrics[name].forms
        ]
        for name, measure in measures.items()
    }


def _points(curve: LearningCurve) -> list[tuple[int, list[Estimate]]]:
    return [
        (evaluation.num_train_bins, [metric.points[index].estimate for metric in curve.metrics.values()])
        for index, evaluation in enumerate(curve.evaluations)
    ]


def _title(curve: LearningCurve) -> str:
    sizes = [evaluation.num_train_bins for evaluation in curve.evaluations]
    return f"What more training bins bring, from {min(sizes):,} to {max(sizes):,}"


def _sentences(curve: LearningCurve, measures: Mapping[str, Metric]) -> list[str]:
    """What was found, a paragraph for each metric, for a person who reads nothing else."""
    sentences = []
    for name, measure in measures.items():
        points, first = curve.metrics[name].points, curve.metrics[name].forms[0]
        few, many = points[0], points[-1]
        parts = [
            f"{measure.title}: {few.estimate} with {few.num_train_bins:,} training bins, "
            f"{many.estimate} with {many.num_train_bins:,}.",
            _doubling(first.fit),
            *(
                f"A run on {point.num_train_bins:,} would come out at about {point.estimate} "
                f"(95\u202f% interval {point.estimate.interval})."
                for point in first.predicted
                if not curve.is_far(point.num_train_bins)
            ),
        ]
        sentences.append(" ".join(parts))
    return sentences


def _doubling(fit: Curve) -> str:
    """What twice as many bins do to an error b n^-c."""
    gain, low, high = (100 * (1 - 2**-slope) for slope in (fit.c, *fit.c_interval))
    change, least, most = (f"{-percent:+.1f}".replace("-", "\u2212") for percent in (gain, low, high))
    found = f"Each doubling changes the error by {change}\u202f% ({least} to {most})"
    if low <= 0 <= high:
        return f"{found}; the interval holds no change at all, so these evaluations do not show that more bins help."
    return f"{found}."


def _cautions(curve: LearningCurve, measures: Mapping[str, Metric]) -> list[str]:
    sizes = [evaluation.num_train_bins for evaluation in curve.evaluations]
    cautions = [CAUTIONS[curve.split]] if curve.split in CAUTIONS else []
    for asked, factor in curve.extrapolation.items():
        if curve.is_far(asked):
            predictions = [
                f"{measure.title} {_by_each_form(curve.metrics[name], asked)}" for name, measure in measures.items()
            ]
            cautions.append(
                f"{asked:,} bins are {factor:.0f} times as many as the largest measured number, and the measured "
                f"ones span a factor of {max(sizes) / min(sizes):.1f}. So far out it is the form of the curve that "
                f"decides, and these evaluations cannot tell the forms apart: {'; '.join(predictions)} "
                f"({', '.join(FORMS.values())}). An interval holds only if its form does."
            )
    return cautions


def _by_each_form(metric: MetricCurve, asked: int) -> str:
    points = [point for form in metric.forms for point in form.predicted if point.num_train_bins == asked]
    *numbers, last = (str(point.estimate) for point in points)
    return f"{', '.join(numbers)} or {last}"


def _fill(macro: str, **values: Any) -> Markup:
    return fill("learning_curve.html.j2", macro, **values)
