"""Plots of a search: its history, what mattered, all parameters at once, and the score along each."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator, NullLocator

from stocktake.metrics.definitions import Metric
from stocktake.report.plots import ROLES, SIZE_PX, empty_figure, styled, to_svg
from stocktake.report.search_text import position, show_score, show_value
from stocktake.tuning.search_space import Parameter
from stocktake.tuning.trials import SearchResult, Trial

NUM_LETTERS = 46  # of a key above its line, at SIZE_PX
LETTER_PX = 7.0  # as wide as one of font size 11 may be
MAX_BEST, BEST_SHARE = 5, 0.1  # of the trials, drawn in color
SMALL: dict[str, Any] = {"va": "top", "fontsize": 9, "color": ROLES["muted"], "parse_math": False}
FAR = 3.0  # a score so many times as far from the best as nine tenths of them are is drawn at the edge


def score_limits(result: SearchResult) -> tuple[float, float]:
    """Returns the ends of a score's axis, lower first: a diverged trial must not press all others into one line."""
    scores = _scores(result)
    best = max(scores) if result.definition.better == "higher" else min(scores)
    far = sorted(abs(score - best) for score in scores)
    most = far[math.ceil(0.9 * (len(far) - 1))]
    reach = far[-1] if most == 0 or far[-1] <= FAR * most else 1.3 * most
    reach = reach or abs(best) * 0.05 or 0.05
    ends = (best - reach, best) if result.definition.better == "higher" else (best, best + reach)
    margin = 0.08 * reach
    return ends[0] - margin, ends[1] + margin


def num_beyond(result: SearchResult) -> int:
    """Returns how many scores lie beyond that axis and are drawn at its edge."""
    low, high = score_limits(result)
    return sum(not low <= score <= high for score in _scores(result))


def _scores(result: SearchResult) -> list[float]:
    scored = [trial.score for trial in [*result.ranked, *result.of_state("pruned")] if trial.score is not None]
    return [score for score in scored if math.isfinite(score)]


def num_colored(result: SearchResult) -> int:
    """Returns how many of the best trials are drawn in color among all."""
    return min(MAX_BEST, max(1, round(BEST_SHARE * len(result.ranked))))


def draw_history(result: SearchResult) -> str:
    """Scores in the order of the trials and the best so far, as an `<svg>` element."""
    low, high = score_limits(result)
    metric, worst = result.definition, low if result.definition.better == "higher" else high
    with styled():
        figure, axes = empty_figure()
        numbers, so_far = _best_so_far(result)
        axes.step(numbers, so_far, where="post", color=ROLES["model"], linewidth=2.0)
        marks = {"marker": "o", "markersize": 4.5, "linestyle": "none", "color": ROLES["muted"], "clip_on": False}
        complete, pruned = result.of_state("complete"), result.of_state("pruned")
        for trials, fill in ((complete, ROLES["muted"]), (pruned, "none")):
            points = [(one.number, one.score) for one in trials if one.score is not None]
            heights = [min(max(score, low), high) if math.isfinite(score) else worst for _, score in points]
            axes.plot([number for number, _ in points], heights, markerfacecolor=fill, **marks)
        failed = [one.number for one in result.of_state("failed")]
        failing = {"marker": "x", "markersize": 6, "linestyle": "none", "color": ROLES["record"], "clip_on": False}
        axes.plot(failed, [worst] * len(failed), **failing)
        best = result.ranked[0]
        axes.plot(best.number, best.score or 0.0, marker="o", markersize=8, color=ROLES["ink"])
        axes.set_ylim(low, high)
        axes.set_xlim(-0.7, max(1, *(trial.number for trial in result.trials)) + 0.7)
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.set_xlabel("trial")
        _label_scores(axes.yaxis, metric)
    found = f"The best is {show_score(best.score, metric)} in trial {best.number}."
    return to_svg(figure, f"{metric.title} of {len(result.trials)} trials in their order. {found}")


def draw_importance(shares: Mapping[str, float], method: str) -> str:
    """A bar for each parameter, its key above it, as an `<svg>` element."""
    with styled(grid_axis="x"):
        figure, axes = empty_figure(height_px=12 + 40 * len(shares))
        for row, (key, share) in enumerate(shares.items()):
            axes.barh(-row, share, height=0.42, color=ROLES["heat"], edgecolor=ROLES["model"])
            axes.text(share + 0.015, -row, f"{100 * share:.0f}\u202f%", va="center")
            _write_key(axes, key, -row + 0.27)
        axes.set_xlim(0, 1.16)
        axes.set_ylim(0.5 - len(shares), 0.75)
        axes.set_xticks([])
        axes.set_yticks([])
        axes.spines.bottom.set_visible(False)
    parts = ", ".join(f"{key}: {100 * share:.0f} %" for key, share in shares.items())
    return to_svg(figure, f"Importance by {method}. {parts}.")


def draw_parallel(result: SearchResult) -> str:
    """A line for each complete trial through its values and its score, as an `<svg>` element.

    One line across for each parameter, under another: so any number of them, and long keys, have room on a phone.
    """
    parameters, metric = result.space.parameters, result.definition
    low, high = score_limits(result)
    ranked, num_best = result.ranked, num_colored(result)
    rows = len(parameters) + 1
    with styled():
        figure, axes = empty_figure(height_px=20 + 58 * rows)
        for index, trial in reversed([*enumerate(ranked)]):
            across = [
                position(one, trial.values[one.key]) if one.key in trial.values else math.nan for one in parameters
            ]
            across.append((_within(trial, low, high) - low) / (high - low))
            style = {"color": ROLES["line"], "linewidth": 0.9}
            if index < num_best:
                style = {"color": ROLES["model"], "linewidth": 1.6}
            if index == 0:
                style = {"color": ROLES["ink"], "linewidth": 2.2}
            axes.plot(across, range(0, -rows, -1), **style)
        for row, parameter in enumerate(parameters):
            _draw_scale(axes, -row, parameter.key, _ends(parameter))
        ends = [(0.0, show_score(low, metric)), (1.0, show_score(high, metric))]
        _draw_scale(axes, 1 - rows, metric.title, ends)
        axes.set_xlim(-0.03, 1.03)
        axes.set_ylim(0.55 - rows, 0.55)
        axes.set_axis_off()
    return to_svg(figure, f"Values and scores of {len(ranked)} complete trials, the best {num_best} marked.")


def draw_slice(result: SearchResult, parameter: Parameter) -> str:
    """The score of each complete trial along one parameter, as an `<svg>` element."""
    trials = [trial for trial in result.ranked if parameter.key in trial.values]
    if parameter.choices:
        return _draw_choices(result, parameter, trials)
    low, high = score_limits(result)
    with styled():
        figure, axes = empty_figure()
        _draw_dots(axes, [(trial.values[parameter.key], _within(trial, low, high)) for trial in trials])
        if parameter.log:
            axes.set_xscale("log")
        ends = [float(end) for end in (parameter.low, parameter.high) if end is not None]
        margin = 0.04 * (ends[1] - ends[0])
        axes.set_xlim(*(ends[0] / 1.15, ends[1] * 1.15) if parameter.log else (ends[0] - margin, ends[1] + margin))
        axes.xaxis.set_minor_locator(NullLocator())
        ticks = _log_ticks(*ends) if parameter.log else MaxNLocator(4, integer=parameter.is_whole).tick_values(*ends)
        ticks = [tick for tick in ticks if ends[0] <= tick <= ends[1]]
        axes.set_xticks(ticks, [f"{tick:,.10g}" if abs(tick) >= 0.001 else f"{tick:g}" for tick in ticks])
        axes.set_ylim(low, high)
        _label_scores(axes.yaxis, result.definition)
    return to_svg(figure, f"{result.definition.title} along {parameter.key}, {parameter}, of {len(trials)} trials.")


def _draw_choices(result: SearchResult, parameter: Parameter, trials: Sequence[Trial]) -> str:
    low, high = score_limits(result)
    with styled(grid_axis="x"):
        figure, axes = empty_figure(height_px=36 + 44 * len(parameter.choices))
        for row, choice in enumerate(parameter.choices):
            axes.axhline(-row, color=ROLES["line"], linewidth=0.8)
            _write_key(axes, show_value(choice), -row + 0.22)
        names = [*map(repr, parameter.choices)]
        rows = [-names.index(repr(trial.values[parameter.key])) for trial in trials]
        _draw_dots(axes, [(_within(trial, low, high), row) for trial, row in zip(trials, rows, strict=True)])
        axes.set_xlim(low, high)
        axes.set_ylim(0.55 - len(parameter.choices), 0.8)
        axes.set_yticks([])
        _label_scores(axes.xaxis, result.definition)
    return to_svg(figure, f"{result.definition.title} by {parameter.key}, {parameter}, of {len(trials)} trials.")


def _draw_dots(axes: Axes, points: Sequence[tuple[Any, float]]) -> None:
    """Draws points, the best trial's first, which is the large one."""
    for some, color, size in ((points[1:], ROLES["model"], 5), (points[:1], ROLES["ink"], 8)):
        along, up = [point[0] for point in some], [point[1] for point in some]
        axes.plot(along, up, marker="o", linestyle="none", markersize=size, color=color, clip_on=False)


def _within(trial: Trial, low: float, high: float) -> float:
    return min(max(trial.score or 0.0, low), high)


def _best_so_far(result: SearchResult) -> tuple[list[int], list[float]]:
    pick = max if result.definition.better == "higher" else min
    numbers: list[int] = []
    best: list[float] = []
    for trial in sorted(result.ranked, key=lambda trial: trial.number):
        score = trial.score or 0.0
        numbers.append(trial.number)
        best.append(pick(score, best[-1]) if best else score)
    if numbers and result.trials[-1].number > numbers[-1]:
        numbers.append(result.trials[-1].number)
        best.append(best[-1])
    return numbers, best


def _label_scores(axis, metric: Metric) -> None:
    axis.set_major_locator(MaxNLocator(4))
    axis.set_major_formatter(
        lambda score, _: f"{100 * score:.3g}\u202f%" if metric.is_share else f"{score:.4g}".replace("-", "\u2212")
    )


def _draw_scale(axes: Axes, row: float, title: str, labels: Sequence[tuple[float, str]]) -> None:
    axes.plot([0, 1], [row, row], color=ROLES["muted"], linewidth=0.9, zorder=1.9)
    _write_key(axes, title, row + 0.12, is_on_lines=True)
    for at, label in labels:
        axes.plot([at, at], [row - 0.07, row], color=ROLES["muted"], linewidth=0.9)
        side = "left" if at == 0 else "right" if at == 1 else "center"
        axes.text(at, row - 0.12, label, ha=side, **SMALL, bbox=_halo())


def _ends(parameter: Parameter) -> list[tuple[float, str]]:
    """Returns the labels below a parameter's line: its ends, or as many of the choices as have room."""
    if not parameter.choices:
        return [(0.0, show_value(parameter.low)), (1.0, show_value(parameter.high))]
    last = len(parameter.choices) - 1
    shown = [show_value(choice) for choice in parameter.choices]
    room = SIZE_PX[0] / max(last, 1) / LETTER_PX - 1.5
    if max(map(len, shown)) > room:  # only the two at the ends, which stand left and right
        room = SIZE_PX[0] / 2 / LETTER_PX - 1.5
        shown = [shown[0], *[""] * (last - 1), *shown[1:][-1:]]
    return [(index / max(last, 1), _cut(text, int(room))) for index, text in enumerate(shown)]


def _write_key(axes: Axes, key: str, above: float, is_on_lines: bool = False) -> None:
    axes.text(
        0,
        above,
        key if len(key) <= NUM_LETTERS else f"…{key[1 - NUM_LETTERS :]}",
        transform=axes.get_yaxis_transform(),
        va="bottom",
        parse_math=False,  # a choice may hold what matplotlib would take for a formula
        bbox=_halo() if is_on_lines else None,
    )


def _halo() -> dict[str, object]:
    return {"facecolor": ROLES["paper"], "edgecolor": "none", "pad": 1.0, "alpha": 0.85}


def _cut(text: str, num_letters: int) -> str:
    return text if len(text) <= num_letters else f"{text[: max(1, num_letters - 1)]}…"


def _log_ticks(low: float, high: float) -> list[float]:
    decades = [10.0**power for power in range(math.ceil(math.log10(low)), math.floor(math.log10(high)) + 1)]
    if len(decades) < 2:
        return [low, math.sqrt(low * high), high]
    return decades[:: math.ceil(len(decades) / 5)]
