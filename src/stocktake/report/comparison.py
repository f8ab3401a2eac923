"""The page of a comparison: several models on the same bins, each against the first."""

from collections.abc import Mapping
from typing import Any

import matplotlib

from stocktake.report.html import TEMPLATES, Section, render_page
from stocktake.report.plots import ROLES, STYLE, empty_figure, to_svg
from stocktake.report.text import LABELS, MEASURES, Difference, Estimate, Measure, describe_leaks

COMPARED = {
    **{name: MEASURES[f"test/{name}"] for name in ("accuracy", "within_one", "mae", "rmse", "rmse_mean")},
    "calibration_error": Measure("Calibration error (ECE)", True, "lower"),
}
SIGNIFICANCE = 0.05
NUM_LETTERS = 40  # of a name in a plot


def render_comparison(comparison: Mapping[str, Any], command: str) -> str:
    """The page for one comparison, with everything it needs inside.

    Args:
        comparison: The content of comparison.json; a number in it may be None.
        command: How it was made.
    """
    macros = TEMPLATES.get_template("comparison.html.j2").module
    baseline, recipes, comparisons = (comparison[key] for key in ("baseline", "recipes", "comparisons"))
    others = [other["name"] for other in comparisons]
    num_runs = {recipe["name"]: len(recipe["evaluations"]) for recipe in recipes}
    differences = {
        measure: {other["name"]: read_difference(other, name) for other in comparisons}
        for name, measure in COMPARED.items()
    }
    answers = [
        {"name": other["name"], "accuracy": read_difference(other, "accuracy"), "p_value": describe_p_value(other)}
        for other in comparisons
    ]
    measured = {
        measure: [(read_estimate(recipe, name), _spread(recipe, name)) for recipe in recipes]
        for name, measure in COMPARED.items()
    }
    plots = {
        measure.title: draw_differences(by_name, baseline, measure)
        for measure, by_name in differences.items()
        if any(difference.interval for difference in by_name.values())
    }
    title = f"{' and '.join([', '.join(others[:-1]), others[-1]] if others[1:] else others)} against {baseline}"
    leakage = {recipe["name"]: recipe.get("leakage", [None]) for recipe in recipes}
    alarms, cautions = describe_leaks(comparison["split"], comparison["num_images"], leakage)
    cautions += filter(None, [_caution(num_runs)])
    headline = macros.headline(title, comparison, answers, describe_comparison(comparison), alarms, cautions, LABELS)
    sections = [
        Section("recipes", "Each by itself", macros.recipes(list(num_runs), measured)),
        Section("differences", "Differences", macros.differences(baseline, others, differences, plots)),
        Section("bins", "Bins that changed sides", macros.bins(baseline, comparisons, max(num_runs.values()) > 1)),
        Section("reproduce", "How this was made", macros.reproduce(comparison, command)),
    ]
    return render_page(title, headline, sections)


def read_estimate(recipe: Mapping[str, Any], name: str) -> Estimate:
    return Estimate.read(recipe["measures"][name], COMPARED[name].is_share)


def read_difference(other: Mapping[str, Any], name: str) -> Difference:
    return Difference.read(other["differences"][name], COMPARED[name].is_share)


def describe_comparison(comparison: Mapping[str, Any]) -> list[str]:
    """What a comparison found, in sentences for a person who reads nothing else."""
    sentences = []
    for other in comparison["comparisons"]:
        accuracy, rmse = read_difference(other, "accuracy"), read_difference(other, "rmse")
        direction = "more" if accuracy.value >= 0 else "fewer"
        found = f"{other['name']} counts {abs(100 * accuracy.value):.1f} of 100 bins {direction} exactly than "
        found += comparison["baseline"]
        if accuracy.interval:
            found += f" (95\u202f% interval {accuracy.interval} points)"
        verdict = "this may be chance"
        if other["p_value_holm"] < SIGNIFICANCE:
            verdict = f"it is clearly {'better' if accuracy.value > 0 else 'worse'}"
        sentences.append(f"{found}: {verdict} ({describe_p_value(other)}).")
        if rmse.is_clear:
            sentences.append(f"Its RMSE is clearly {'lower' if rmse.value < 0 else 'higher'} ({rmse.interval} items).")
    return sentences


def describe_p_value(other: Mapping[str, Any]) -> str:
    p_value = other["p_value_holm"]
    return "p < 0.001" if p_value < 0.001 else f"p = {p_value:.3f}" if p_value < 0.1 else f"p = {p_value:.2f}"


def draw_differences(differences: Mapping[str, Difference], baseline: str, measure: Measure) -> str:
    """Differences from the baseline as points with their interval, one line for each name, as an `<svg>` element."""
    with matplotlib.rc_context(STYLE | {"axes.grid.axis": "x"}):
        figure, axes = empty_figure(height_px=60 + 44 * len(differences))
        for row, (name, difference) in enumerate(differences.items()):
            if difference.value is None:
                continue
            axes.vlines(
                0, -0.3 - row, 0.22 - row, color=ROLES["ink"], linewidth=1.1
            )  # short, so as not to cross a name
            scale = 100 if measure.is_share else 1
            if difference.interval:
                axes.hlines(-row, scale * difference.low, scale * difference.high, color=ROLES["model"], linewidth=2.0)
            axes.plot(scale * difference.value, -row, marker="o", markersize=7, color=ROLES["model"])
            shown = name if len(name) <= NUM_LETTERS else f"…{name[1 - NUM_LETTERS :]}"
            # A name may hold what matplotlib would take for a formula.
            axes.text(0, 0.25 - row, shown, transform=axes.get_yaxis_transform(), va="bottom", parse_math=False)
        axes.set_ylim(0.35 - len(differences), 0.75)
        axes.set_yticks([])
        axes.margins(x=0.08)
        axes.set_xlabel(f"{'points' if measure.is_share else 'items'}, {measure.better} is better")
    words = ", ".join(f"{name} {difference} ({difference.interval})" for name, difference in differences.items())
    return to_svg(figure, f"{measure.title}, difference from {baseline}: {words}.")


def _spread(recipe: Mapping[str, Any], name: str) -> str:
    """The least and the most of several runs, or an empty string."""
    runs = recipe["measures"][name]["runs"]
    if len(runs) < 2 or None in runs:
        return ""
    return f"{len(runs)} runs: " + Estimate(None, min(runs), max(runs), COMPARED[name].is_share).interval


def _caution(num_runs: Mapping[str, int]) -> str:
    single = [name for name, number in num_runs.items() if number == 1]
    if not single:
        return ""
    return (
        f"One run each of {', '.join(single)}: the intervals say what other bins would change, and not what another "
        "seed would, which may be as much."
    )
