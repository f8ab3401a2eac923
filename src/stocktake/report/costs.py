"""The page of what jobs did cost: what was paid, what spot saved, each job, and by sweep and experiment."""

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

from markupsafe import Markup
from matplotlib.ticker import MaxNLocator

from stocktake.cloud.costs import CostTotal, JobCost
from stocktake.cloud.prices import OLD_AFTER_DAYS
from stocktake.report.html import Section, fill, render_page
from stocktake.report.plots import ROLES, empty_figure, styled, to_svg

NUM_DRAWN = 12  # jobs in a plot; the table has all
NUM_LETTERS = 40  # of a name in a plot


def render_costs(
    costs: Sequence[JobCost],
    totals: Mapping[str, Sequence[CostTotal]],
    whole: CostTotal,
    command: str,
    today: date | None = None,
) -> str:
    """The whole page, with everything it needs inside.

    Args:
        totals: By what they are of; those without entries are left out.
        whole: Of all jobs.
        command: How it was made.
    """
    jobs = f"{whole.num_jobs} job{'s' * (whole.num_jobs > 1)}"
    title = f"{jobs} for {usd_text(whole.usd)} USD" if whole.usd is not None else f"{jobs}, price not known"
    headline = _fill("headline", title, whole, _tiles(whole), _sentences(whole), _cautions(costs, whole, today))
    dearest = sorted(costs, key=lambda cost: -cost.billed_s)[:NUM_DRAWN]
    sections = [Section("jobs", "Each job", _fill("jobs", costs))]
    sections += [
        Section(title.lower(), title, _fill("groups", title, found)) for title, found in totals.items() if found
    ]
    sections += [
        Section("seconds", "Used and billed", _fill("seconds", draw_seconds(dearest), len(dearest), len(costs))),
        Section("reading", "How to read it", _fill("reading")),
        Section("reproduce", "How this was made", _fill("reproduce", command, _sources(costs))),
    ]
    return render_page(title, headline, sections)


def draw_seconds(costs: Sequence[JobCost]) -> str:
    """Instance hours that each job used, and within them those that were billed, as an `<svg>` element."""
    with styled(grid_axis="x"):
        figure, axes = empty_figure(height_px=60 + 40 * len(costs))
        for row, cost in enumerate(costs):
            used_h, billed_h = cost.training_s * cost.num_instances / 3600, cost.billed_s / 3600
            axes.barh(-row, used_h, height=0.34, color="none", edgecolor=ROLES["muted"])
            axes.barh(-row, billed_h, height=0.34, color=ROLES["heat"], edgecolor=ROLES["model"])
            shown = cost.job if len(cost.job) <= NUM_LETTERS else f"…{cost.job[1 - NUM_LETTERS :]}"
            axes.text(0, 0.22 - row, shown, transform=axes.get_yaxis_transform(), va="bottom", parse_math=False)
        axes.set_ylim(0.45 - len(costs), 0.75)
        axes.set_yticks([])
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.set_xlabel("instance hours")
    parts = ", ".join(
        f"{cost.job}: {cost.training_s * cost.num_instances:,} s used, {cost.billed_s:,} s billed" for cost in costs
    )
    return to_svg(figure, f"Used and billed seconds over all instances. {parts}.")


def usd_text(usd: float | None) -> str:
    return "n/a" if usd is None else f"{usd:,.2f}"


def _fill(macro: str, *values: Any) -> Markup:
    return fill("costs.html.j2", macro, *values)


def _tiles(whole: CostTotal) -> list[dict[str, str]]:
    saved = None if whole.usd is None or whole.on_demand_usd is None else whole.on_demand_usd - whole.usd
    share = "n/a" if whole.saved_share is None else f"{100 * whole.saved_share:.1f}\u202f%"
    full = usd_text(whole.on_demand_usd)
    return [
        {"title": "Paid for instances, USD", "figure": usd_text(whole.usd), "beside": "at the prices below"},
        {
            "title": "Saved by spot",
            "figure": share,
            "beside": f"{usd_text(saved)} USD, of {full}",
        },
        {
            "title": "Instance hours billed",
            "figure": f"{whole.billed_s / 3600:,.2f}",
            "beside": f"{whole.training_s / 3600:,.2f} used",
        },
    ]


def _sentences(whole: CostTotal) -> list[str]:
    sentences = [
        f"The instances worked for {whole.training_s:,} seconds, and {whole.billable_s:,} of them were billed."
    ]
    if whole.retained_s:
        sentences.append(f"For {whole.retained_s:,} more they were kept warm for a next job, and billed.")
    return sentences


def _cautions(costs: Sequence[JobCost], whole: CostTotal, today: date | None) -> list[str]:
    cautions = []
    if whole.num_unpriced:
        cautions.append(f"{whole.num_unpriced} of {whole.num_jobs} jobs have no known price and are in no sum of USD.")
    days = {cost.price_day for cost in costs if cost.price_day}
    old = min(days, default=None)
    if old and (age_days := ((today or date.today()) - date.fromisoformat(old)).days) > OLD_AFTER_DAYS:
        cautions.append(f"The oldest price is of {old}, {age_days:,} days ago: what AWS billed may differ.")
    return cautions


def _sources(costs: Sequence[JobCost]) -> list[str]:
    found = {
        f"{cost.instance_type}: {cost.usd_per_hour:g} USD an hour, {cost.price_source}, {cost.price_day}"
        for cost in costs
        if cost.usd_per_hour is not None
    }
    return sorted(found)
