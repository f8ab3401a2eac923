"""The page of a search for a learning rate or a batch size."""

import math
from collections.abc import Mapping, Sequence
from functools import partial

from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from stocktake.report.html import Section, fill, render_page
from stocktake.report.plots import ROLES, empty_figure, styled, to_svg
from stocktake.tuning.finding import LEARNING_RATE, Finding


def draw_finding(finding: Finding) -> dict[str, str]:
    """An `<svg>` element by its title."""
    rows = finding.measured
    if finding.key == LEARNING_RATE:
        rates, losses, smoothed = ([row[name] for row in rows] for name in ("lr", "loss", "smoothed"))
        return {"Loss by learning rate": draw_losses(rates, losses, smoothed, finding.value)}
    return {} if finding.value is None else {"Images a second, by batch size": draw_batch_rates(rows, finding.value)}


def draw_losses(
    rates: Sequence[float], losses: Sequence[float], smoothed: Sequence[float], suggested: float | None
) -> str:
    """The loss along a rising learning rate, on a logarithmic axis, as an `<svg>` element.

    Args:
        rates: Rising learning rates.
        losses: The loss of the step at each.
        smoothed: The same, averaged over neighboring steps.
        suggested: Learning rate to mark, if any.
    """
    low, first = min(smoothed), smoothed[0]
    with styled():
        figure, axes = empty_figure()
        axes.plot(rates, losses, color=ROLES["muted"], linestyle="none", marker=".", markersize=3)
        axes.plot(rates, smoothed, color=ROLES["model"], linewidth=2.0)
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(numticks=5))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_locator(MaxNLocator(4))
        span = max(first - low, 0.05 * abs(first))
        axes.set_ylim(low - 2 * span, first + 4 * span)  # where it diverges it leaves the plot
        if suggested is not None:
            nearest = min(zip(rates, smoothed, strict=True), key=lambda point: abs(math.log(point[0] / suggested)))
            _mark(axes, nearest, f"{suggested:g}")
        axes.set_xlabel("learning rate")
        axes.set_ylabel("loss")
    value = "none" if suggested is None else f"{suggested:g}"
    return to_svg(
        figure,
        f"Loss by learning rate: from {first:.3g} at {rates[0]:.2g} down to {low:.3g}; {value} is suggested.",
    )


def draw_batch_rates(rows: Sequence[Mapping[str, float]], suggested: float) -> str:
    """Images per second by batch size, as an `<svg>` element.

    Args:
        rows: Each with `batch_size` and `images_per_s`, in rising order.
        suggested: Batch size to mark.
    """
    points = [(row["batch_size"], row["images_per_s"]) for row in rows]
    with styled():
        figure, axes = empty_figure()
        axes.plot(*zip(*points, strict=True), color=ROLES["model"], linewidth=2.0, marker=".")
        axes.set_xscale("log", base=2)
        every = -(-len(points) // 6)
        axes.set_xticks([size for size, _ in points][::every], [f"{size}" for size, _ in points][::every])
        axes.xaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_locator(MaxNLocator(4))
        axes.set_ylim(0, 1.25 * max(rate for _, rate in points))
        _mark(axes, next(point for point in points if point[0] == suggested), f"{suggested}")
        axes.set_xlabel("batch size")
        axes.set_ylabel("images a second")
    description = ", ".join(f"{rate:.4g} at {size}" for size, rate in points)
    return to_svg(figure, f"Images a second by batch size: {description}; {suggested} is suggested.")


def _mark(axes: Axes, point: tuple[float, float], label: str) -> None:
    axes.axvline(point[0], color=ROLES["ink"], linewidth=1.1, linestyle=(0, (4, 3)))
    axes.plot(*point, marker="o", markersize=6, color=ROLES["ink"])
    above = {"xy": (point[0], 1), "xycoords": ("data", "axes fraction"), "textcoords": "offset points"}
    axes.annotate(label, xytext=(6, 0), ha="left", va="top", **above)


def render_tuning(name: str, finding: Finding, commands: Sequence[str]) -> str:
    """The page for one search, with everything it needs inside.

    Args:
        name: The experiment.
        finding: What was found.
        commands: What to type next.
    """
    macro = partial(fill, "sections.html.j2")
    found = f"No {finding.key}" if finding.value is None else f"{finding.key}={finding.value:g}"
    title = f"{found} for {name}"
    sections = [
        Section("measured", "What was measured", macro("measured", draw_finding(finding), finding.measured)),
    ]
    if commands:
        sections.append(Section("next", "What to type next", macro("commands", commands)))
    return render_page(title, macro("found", title, finding.sentences), sections)
