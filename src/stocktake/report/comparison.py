"""The page of a comparison: several models on the same bins, each against the first."""

from collections.abc import Mapping
from functools import partial

from matplotlib.ticker import MaxNLocator

from stocktake.evaluation.comparison import Comparison, Contrast, Recipe
from stocktake.evaluation.promotion import Decision
from stocktake.metrics.definitions import METRICS, Metric
from stocktake.metrics.estimate import Difference, Estimate
from stocktake.report.html import Section, fill, render_page
from stocktake.report.plots import ROLES, empty_figure, styled, to_svg
from stocktake.report.text import LABELS, describe_leaks

SIGNIFICANCE = 0.05
NUM_LETTERS = 40  # of a name in a plot


def render_comparison(comparison: Comparison, command: str, decision: Decision | None = None) -> str:
    """The page for one comparison, with everything it needs inside.

    Args:
        command: How it was made.
        decision: That rests on it; the page then begins with it.
    """
    macro = partial(fill, "comparison.html.j2")
    baseline, recipes, contrasts = comparison.baseline, comparison.recipes, comparison.contrasts
    others = [contrast.name for contrast in contrasts]
    num_runs = {recipe.name: len(recipe.evaluations) for recipe in recipes}
    compared = {name: METRICS[name] for name in recipes[0].measures}
    differences = {
        metric: {contrast.name: contrast.differences[name] for contrast in contrasts}
        for name, metric in compared.items()
    }
    accuracies = [
        {"name": contrast.name, "accuracy": contrast.differences["accuracy"], "p_value": describe_p_value(contrast)}
        for contrast in contrasts
    ]
    measured = {
        metric: [(recipe.measures[name], _spread(recipe, name)) for recipe in recipes]
        for name, metric in compared.items()
    }
    plots = {
        metric.title: draw_differences(by_name, baseline, metric)
        for metric, by_name in differences.items()
        if any(difference.interval for difference in by_name.values())
    }
    title = f"{' and '.join([', '.join(others[:-1]), others[-1]] if others[1:] else others)} against {baseline}"
    if decision is not None:
        title = describe_decision(decision)
    alarms, cautions = describe_leaks(comparison.split, comparison.num_images, comparison.leakage)
    cautions += filter(None, [_caution(num_runs)])
    found = describe_comparison(comparison)
    headline = macro("headline", title, comparison, accuracies, found, alarms, cautions, LABELS, decision)
    sections = [
        Section("recipes", "Each by itself", macro("recipes", list(num_runs), measured)),
        Section("differences", "Differences", macro("differences", baseline, others, differences, plots)),
        Section("bins", "Bins that changed sides", macro("bins", baseline, contrasts, max(num_runs.values()) > 1)),
        Section("reproduce", "How this was made", macro("reproduce", comparison, command)),
    ]
    return render_page(title, headline, sections)


def describe_comparison(comparison: Comparison) -> list[str]:
    """What a comparison found, in sentences for a person who reads nothing else."""
    sentences = []
    for contrast in comparison.contrasts:
        accuracy, rmse = contrast.differences["accuracy"], contrast.differences["rmse"]
        ahead = accuracy.value or 0.0
        direction = "more" if ahead >= 0 else "fewer"
        found = f"{contrast.name} counts {abs(100 * ahead):.1f} of 100 bins {direction} exactly than "
        found += comparison.baseline
        if accuracy.interval:
            found += f" (95\u202f% interval {accuracy.interval} points)"
        verdict = "this may be chance"
        if contrast.p_value_holm < SIGNIFICANCE:
            verdict = f"it is clearly {'better' if ahead > 0 else 'worse'}"
        sentences.append(f"{found}: {verdict} ({describe_p_value(contrast)}).")
        if rmse.value is not None and rmse.is_clear:
            sentences.append(f"Its RMSE is clearly {'lower' if rmse.value < 0 else 'higher'} ({rmse.interval} items).")
    return sentences


def describe_decision(decision: Decision) -> str:
    """What was decided, as a heading."""
    if decision.champion is None:
        return "Promoted: there is no champion, and the challenger has seen none of the test bins"
    if decision.is_promoted:
        return "Promoted: the challenger takes the champion's place"
    return "Not promoted: the champion keeps its place"


def describe_p_value(contrast: Contrast) -> str:
    p_value = contrast.p_value_holm
    return "p < 0.001" if p_value < 0.001 else f"p = {p_value:.3f}" if p_value < 0.1 else f"p = {p_value:.2f}"


def draw_differences(differences: Mapping[str, Difference], baseline: str, metric: Metric) -> str:
    """Differences from the baseline as points with their interval, one line for each name, as an `<svg>` element."""
    with styled(grid_axis="x"):
        figure, axes = empty_figure(height_px=60 + 44 * len(differences))
        for row, (name, difference) in enumerate(differences.items()):
            if difference.value is None:
                continue
            axes.vlines(
                0, -0.3 - row, 0.22 - row, color=ROLES["ink"], linewidth=1.1
            )  # short, so as not to cross a name
            scale = 100 if metric.is_share else 1
            if difference.low is not None and difference.high is not None:
                axes.hlines(-row, scale * difference.low, scale * difference.high, color=ROLES["model"], linewidth=2.0)
            axes.plot(scale * difference.value, -row, marker="o", markersize=7, color=ROLES["model"])
            shown = name if len(name) <= NUM_LETTERS else f"…{name[1 - NUM_LETTERS :]}"
            # A name may hold what matplotlib would take for a formula.
            axes.text(0, 0.25 - row, shown, transform=axes.get_yaxis_transform(), va="bottom", parse_math=False)
        axes.set_ylim(0.35 - len(differences), 0.75)
        axes.set_yticks([])
        axes.margins(x=0.08)
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.set_xlabel(f"{metric.difference_unit}, {metric.better} is better")
    description = ", ".join(f"{name} {difference} ({difference.interval})" for name, difference in differences.items())
    return to_svg(figure, f"{metric.title}, difference from {baseline}: {description}.")


def _spread(recipe: Recipe, name: str) -> str:
    """The least and the most of several runs, or an empty string."""
    runs = [value for value in recipe.runs[name] if value is not None]
    if len(runs) < 2 or len(runs) < len(recipe.runs[name]):
        return ""
    return f"{len(runs)} runs: " + Estimate(None, min(runs), max(runs), METRICS[name].is_share).interval


def _caution(num_runs: Mapping[str, int]) -> str:
    single = [name for name, number in num_runs.items() if number == 1]
    if not single:
        return ""
    return (
        f"One run each of {', '.join(single)}: the intervals say what other bins would change, and not what another "
        "seed would, which may be as much."
    )
