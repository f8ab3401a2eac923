"""Plots for the report, as SVG that takes its colors from the page and so follows light and dark.

Matplotlib knows no CSS variables: each role is drawn in a color that nothing else uses, and the finished
SVG has that color replaced by `var(--role)`. Text stays text, in the page's own font.
"""

import io
import math
import re
import zlib
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from html import escape

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator

from stocktake.metrics.definitions import METRICS
from stocktake.metrics.estimate import Estimate

ROLES = {  # CSS variable: stand-in
    role: f"#{index:06x}"
    for index, role in enumerate(("ink", "muted", "line", "model", "heat", "record", "paper"), start=1)
}
SIZE_PX = (340, 210)  # the width of a phone, so that text is never scaled down
STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "stocktake",  # the same numbers give the same bytes
    "font.size": 11,
    "axes.edgecolor": ROLES["line"],
    "axes.labelcolor": ROLES["muted"],
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.spines.left": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": ROLES["line"],
    "grid.linewidth": 0.8,
    "text.color": ROLES["ink"],
    "xtick.color": ROLES["line"],
    "xtick.labelcolor": ROLES["muted"],
    "ytick.color": ROLES["line"],
    "ytick.labelcolor": ROLES["muted"],
    "ytick.left": False,
}
NO_METADATA = dict.fromkeys(("Creator", "Date", "Format", "Type"))  # so the same numbers give the same page
MAX_LABELLED_BARS = 8  # more would touch each other at SIZE_PX
SHARE_TICKS = ([0, 0.5, 1], ["0", "50", "100\u202f%"])
DASHES = (0, (4, 3))
PANELS = {  # title: the keys of a history that belong into it
    **{METRICS[name].title: rf"(train|valid)/{name}" for name in ("loss", "accuracy", "rmse")},
    "Learning rate": r"lr(-.*)?",
}


def styled(grid_axis: str = "y") -> AbstractContextManager[None]:
    """Everything that is drawn within looks as all plots here do."""
    # Names of settings are a long list of literals to matplotlib's types.
    return matplotlib.rc_context(STYLE | {"axes.grid.axis": grid_axis})  # pyright: ignore[reportArgumentType]


def draw_bars(estimates: Mapping[str, Estimate], title: str, along: str = "count", overall: float | None = None) -> str:
    """Shares with their interval as whiskers, one bar per count or other part of the bins, as an `<svg>` element.

    Args:
        estimates: The share of each part, by its label.
        title: What the bars show, for readers who cannot see them.
        along: What the labels are.
        overall: The share of all bins, as a dashed line.
    """
    with styled():
        figure, axes = empty_figure()
        for position, estimate in enumerate(estimates.values()):
            top = estimate.value or 0.0
            axes.bar(position, top, width=0.62, color=ROLES["heat"], edgecolor=ROLES["model"])
            if estimate.low is not None and estimate.high is not None:
                axes.vlines(position, estimate.low, estimate.high, color=ROLES["ink"], linewidth=1.4)
                top = max(top, estimate.high)
            if len(estimates) <= MAX_LABELLED_BARS:
                axes.text(position, top + 0.03, _percent(estimate.value), ha="center", va="bottom")
        if overall is not None:
            axes.axhline(overall, color=ROLES["ink"], linewidth=1.1, linestyle=DASHES, zorder=0.9)
        axes.set_xticks(range(len(estimates)), list(estimates))
        axes.set_xlim(-0.6, len(estimates) - 0.4)
        axes.set_xlabel(along)
        axes.set_ylim(0, 1.16)
        axes.set_yticks(*SHARE_TICKS)
    parts = {label.replace("\n", ", "): _percent(estimate.value) for label, estimate in estimates.items()}
    description = ", ".join(f"{along} {label}: {share}" for label, share in parts.items())
    return to_svg(figure, f"{title}. {description}.")


def draw_reliability(
    confidence: Sequence[float | None], accuracy: Sequence[float | None], num_images: Sequence[int], title: str
) -> str:
    """How often the model is right, by how sure it says it is, beside the diagonal where both are equal.

    Args:
        confidence: Mean probability of the most likely count, for each of B equally wide parts of 0 to 1; None
            where a part is empty.
        accuracy: Share of images that are right, in the same order.
        num_images: How many images each part has: a bar is the wider, the more.
        title: What the bars show, for readers who cannot see them.
    """
    width = 1 / len(num_images) / max(*num_images, 1)
    parts = []
    with styled():
        figure, axes = empty_figure()
        for part, (sure, right, num) in enumerate(zip(confidence, accuracy, num_images, strict=True)):
            if sure is not None and right is not None:
                middle = (part + 0.5) / len(num_images)
                axes.bar(middle, right, width=width * num, color=ROLES["heat"], edgecolor=ROLES["model"], linewidth=0.7)
                parts.append(f"says {_percent(sure)}: right on {_percent(right)} of {num}")
        axes.plot([0, 1], [0, 1], color=ROLES["ink"], linewidth=1.1, linestyle=DASHES)
        _label_shares(axes, "how sure it says it is", "how often it is right")
    return to_svg(figure, f"{title}. {', '.join(parts) or 'No bins'}.")


def draw_risk_coverage(coverage: Sequence[float], risk: Sequence[float], marked: Sequence[int], title: str) -> str:
    """The share of wrong counts among the bins that the model answers, if a person counts those it is least sure of.

    Args:
        coverage: Shares of all bins, rising.
        risk: Share of wrong counts among those.
        marked: Positions of the points to mark with their number.
        title: What the curve shows, for readers who cannot see it.
    """
    with styled():
        figure, axes = empty_figure()
        axes.plot(coverage, risk, color=ROLES["model"], linewidth=2.0, clip_on=False)
        for index in marked:
            x, y = coverage[index], risk[index]
            axes.plot(x, y, marker="o", markersize=6, color=ROLES["model"], clip_on=False)
            above = y < 0.85  # else the number would leave the plot
            axes.text(
                x,
                y + 0.06 if above else y - 0.06,
                _percent(y),
                ha="right" if x > 0.95 else "center",
                va="bottom" if above else "top",
            )
        _label_shares(axes, "share of bins it answers, surest first", "how often it is wrong")
    parts = ", ".join(f"answers {_percent(coverage[index])}: wrong on {_percent(risk[index])}" for index in marked)
    return to_svg(figure, f"{title}. {parts}.")


def _label_shares(axes: Axes, along: str, up: str) -> None:
    axes.set_xlim(0, 1)
    axes.set_xticks(*SHARE_TICKS)
    axes.set_xlabel(along)
    axes.set_ylim(0, 1.02)
    axes.set_yticks(*SHARE_TICKS)
    axes.set_ylabel(up)


def draw_learning_curves(history: Sequence[Mapping[str, float | None]]) -> dict[str, str]:
    """An `<svg>` element for each of PANELS that the history has numbers for, by title.

    Args:
        history: Rows as a logger writes them, each with `step` or `epoch` and any of the keys in PANELS. A
            key that is missing, None or NaN was not logged there.

    Raises:
        ValueError: A row has neither a `step` nor an `epoch`.
    """
    along = "step" if any(row.get("step") is not None for row in history) else "epoch"
    for index, row in enumerate(history):
        if row.get(along) is None:
            raise ValueError(
                f"history[{index}] has no {along!r} (its keys: {sorted(row)}). "
                "Give every row a 'step', or every row an 'epoch'."
            )
    plots = {}
    for title, pattern in PANELS.items():
        keys = sorted({key for row in history for key in row if re.fullmatch(pattern, key)})
        curves = {key: _curve(history, along, key) for key in keys}
        curves = {key: points for key, points in curves.items() if points}
        if curves:
            plots[title] = _draw_curves(title, along, curves)
    return plots


def _curve(history: Sequence[Mapping[str, float | None]], along: str, key: str) -> list[tuple[float, float]]:
    logged = ((row.get(along), row.get(key)) for row in history)
    return [(x, y) for x, y in logged if x is not None and y is not None and math.isfinite(y)]


def _draw_curves(title: str, along: str, curves: Mapping[str, Sequence[tuple[float, float]]]) -> str:
    with styled():
        figure, axes = empty_figure()
        for key, points in curves.items():
            emphasis = {"color": ROLES["muted"], "linewidth": 0.9}
            if key.startswith("valid/"):
                emphasis = {"color": ROLES["model"], "linewidth": 2.0}
            axes.plot(*zip(*points, strict=True), marker="o" if len(points) == 1 else None, **emphasis)
        axes.set_xlabel(along)
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.yaxis.set_major_locator(MaxNLocator(4))
        if title == "Learning rate":
            axes.yaxis.set_major_formatter(lambda rate, _: f"{rate:.2g}")
            axes.set_ylim(bottom=0)
        if title == METRICS["accuracy"].title:
            axes.yaxis.set_major_formatter(lambda share, _: _percent(share))
        if max(x for points in curves.values() for x, _ in points) >= 10_000:
            axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    description = "; ".join(
        f"{key} goes from {points[0][1]:.3g} to {points[-1][1]:.3g} by {along} {points[-1][0]:g}"
        for key, points in curves.items()
    )
    return to_svg(figure, f"{title}: {description}.")


def empty_figure(height_px: float = SIZE_PX[1]) -> tuple[Figure, Axes]:
    """A figure as wide as all others, and its one plot; for the inside of `styled()`."""
    figure = Figure(figsize=(SIZE_PX[0] / 72, height_px / 72), layout="constrained")
    return figure, figure.subplots()


def _percent(share: float | None) -> str:
    return "n/a" if share is None else f"{100 * share:.0f}\u202f%"


def to_svg(figure: Figure, description: str) -> str:
    """An `<svg>` element for the inside of a page: no fixed size, font or color, and ids of its own."""
    file = io.StringIO()
    with styled():
        figure.savefig(file, format="svg", transparent=True, metadata=NO_METADATA)
    drawing = file.getvalue()
    drawing = drawing[drawing.index("<svg") :].strip()
    drawing = re.sub(r"<style.*?</style>", "", drawing, flags=re.DOTALL)  # its rules would reach the whole page
    drawing = re.sub(r"font-family: [^;\"]*;?", "", drawing)
    for role, stand_in in ROLES.items():
        drawing = drawing.replace(stand_in, f"var(--{role})")
    name = f"plot{zlib.crc32(description.encode()):08x}-"
    referenced = set(re.findall(r"#([^)\"]+)[)\"]", drawing))
    drawing = re.sub(r' id="([^"]+)"', lambda match: match[0] if match[1] in referenced else "", drawing)
    drawing = re.sub(r'( id="|url\(#|href="#)', rf"\g<1>{name}", drawing)
    width_px, height_px = 72 * figure.get_size_inches()
    head = (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" role="img" '
        f'aria-label="{escape(description)}" viewBox="0 0 {width_px:g} {height_px:g}">'
    )
    return re.sub(r"<svg [^>]*>", lambda _: head, drawing, count=1)
