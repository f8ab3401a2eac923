"""The page of a monitored window: what has moved, what the model still makes of it, errors, latency and true counts."""

from collections.abc import Mapping
from typing import Any

from markupsafe import Markup
from matplotlib.ticker import MaxNLocator

from stocktake.metrics.estimate import Estimate
from stocktake.monitoring.monitoring_result import Histogram, MonitoredFigure, MonitoringResult, title_of
from stocktake.report.html import Section, fill, render_page
from stocktake.report.plots import ROLES, empty_figure, styled, to_svg

QUIET = "Nothing has moved further than chance moves it."
STILL_LIKE = "It holds for images like the baseline's: of others the model's own word may be worth nothing."


def render_monitoring(result: MonitoringResult, command: str | None = None) -> str:
    """The whole page, with everything it needs inside.

    Args:
        command: How it was made.
    """
    title = f"{'Drift' if result.drifted else 'Alarm' if result.alarms else 'Quiet'}: {result.model_version}"
    ordered = dict(sorted(result.figures.items(), key=lambda item: -item[1].shift.times_limit))
    plots = {title_of(name): draw_histogram(figure.histogram, title_of(name)) for name, figure in ordered.items()}
    sections = [
        Section("moved", "What has moved", _fill("moved", rows=_rows(ordered), false_alarms=result.false_alarms)),
        Section("histograms", "Baseline and window", _fill("histograms", plots=plots)),
        Section("requests", "Errors and latency", _fill("requests", result=result)),
    ]
    if result.feedback is not None:
        sections.append(Section("feedback", "True counts", _fill("feedback", feedback=result.feedback)))
    sections += [
        Section("reading", "How to read it", _fill("reading", result=result)),
        Section("reproduce", "How this was made", _fill("reproduce", result=result, command=command)),
    ]
    headline = _fill(
        "headline",
        title=title,
        result=result,
        tiles=_tiles(result),
        sentences=result.alarms or [QUIET],
        cautions=_cautions(result),
    )
    return render_page(title, headline, sections)


def draw_histogram(histogram: Histogram, title: str) -> str:
    """The baseline's shares as bars and the window's as a line of steps over them, as an `<svg>` element."""
    edges = histogram.edges
    with styled():
        figure, axes = empty_figure()
        axes.stairs(histogram.baseline, edges, fill=True, color=ROLES["heat"])
        axes.stairs(histogram.window, edges, color=ROLES["ink"], linewidth=1.6)
        if all((edge + 0.5).is_integer() for edge in edges) and len(edges) <= 12:  # values that stand for themselves
            axes.set_xticks([edge + 0.5 for edge in edges[:-1]])
        else:
            axes.xaxis.set_major_locator(MaxNLocator(4))
            axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.10g}")
        axes.set_ylim(0, 1.1 * max(*histogram.baseline, *histogram.window))
        axes.yaxis.set_major_formatter(lambda share, _: f"{100 * share:.0f}\u202f%")
        axes.locator_params(axis="y", nbins=4)
    parts = ", ".join(
        f"from {low:.4g}: {100 * before:.0f} % before, {100 * now:.0f} % now"
        for low, before, now in zip(edges, histogram.baseline, histogram.window, strict=False)
    )
    return to_svg(figure, f"{title}, baseline and window: {parts}.")


def _rows(figures: Mapping[str, MonitoredFigure]) -> list[dict[str, Any]]:
    return [{"title": title_of(name), "figure": figure, "shift": figure.shift} for name, figure in figures.items()]


def _tiles(result: MonitoringResult) -> list[dict[str, Any]]:
    slow = result.latency_s["p99"]
    tiles = [
        {
            "title": "Expected accuracy",
            "estimate": result.expected_accuracy,
            "beside": f"by the model's own word; on the baseline it was right on {result.baseline_accuracy}",
        },
        {
            "title": "Requests without a count",
            "estimate": result.error_share,
            "beside": f"of {result.num_requests:,} requests",
        },
        {
            "title": "Latency",
            "estimate": "not logged" if slow is None else f"{1000 * slow:.0f} ms",
            "beside": "which 99 of 100 answers keep",
        },
    ]
    if result.feedback is not None:
        beside = f"{result.feedback.num_matched:,} answers with a true count"
        tiles.insert(0, {"title": "Live accuracy", "estimate": result.feedback.accuracy, "beside": beside})
    return [tile | {"interval": _interval(tile["estimate"])} for tile in tiles]


def _interval(estimate: Estimate | str) -> str:
    return estimate.interval if isinstance(estimate, Estimate) else ""


def _cautions(result: MonitoringResult) -> list[str]:
    cautions = [f"Expected accuracy has no true count behind it. {STILL_LIKE}"] if result.drifted else []
    if result.num_damaged:
        cautions.append(
            f"Damaged lines of the log that are left out: {result.num_damaged:,}, such as {result.damaged[0]}."
        )
    if result.num_dropped:
        cautions.append(f"{result.num_dropped:,} answers are missing: the server was too busy to log them.")
    if others := result.other_models:
        named = ", ".join(f"{number:,} of {version or 'no model'}" for version, number in others.items())
        cautions.append(f"Answers of other models are left out: {named}.")
    return cautions


def _fill(macro: str, **values: Any) -> Markup:
    return fill("monitoring.html.j2", macro, **values)
