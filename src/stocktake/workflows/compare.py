"""scripts/compare.py: whether one model is better than another, from evaluations of the same bins."""

import json
import sys
from collections.abc import Sequence
from typing import Any

from omegaconf import DictConfig
from rich.console import Console
from rich.markup import escape
from rich.progress import track
from rich.table import Table

from stocktake.config import build
from stocktake.evaluation.comparison import Comparison, measure_comparison
from stocktake.evaluation.paired_bootstrap import PairedBootstrap
from stocktake.evaluation.results import read_evaluations, short_names
from stocktake.metrics.definitions import METRICS
from stocktake.metrics.estimate import Estimate
from stocktake.report.comparison import describe_comparison, render_comparison
from stocktake.report.text import describe_leaks
from stocktake.storage import Folder, join_url

PAGE_KEY, FIGURES_KEY = "comparison.html", "comparison.json"


def compare(cfg: DictConfig) -> dict[str, Any]:
    """Writes comparison.html and comparison.json; returns (and prints, as one line of JSON) a summary.

    Raises:
        ValueError: The evaluations are not of the same bins, or the names do not fit them.
    """
    storage = build(cfg.storage)
    locations = [cfg.evaluations] if isinstance(cfg.evaluations, str) else [*map(str, cfg.evaluations)]
    wanted = _wanted_names(cfg.names, len(locations))
    evaluations = read_evaluations(locations, storage)
    names = wanted or short_names([evaluation.url for evaluation in evaluations])
    bar = Console(stderr=True)
    measured = [
        PairedBootstrap.of(evaluation)
        for evaluation in track(evaluations, "Resampling", console=bar, disable=not bar.is_terminal, transient=True)
    ]
    comparison = measure_comparison(evaluations, measured, names)
    output = Folder(cfg.output_dir, storage)
    page = render_comparison(comparison, " ".join(["python", *sys.argv])).encode()
    output.write_together({PAGE_KEY: page, FIGURES_KEY: (json.dumps(comparison.to_json(), indent=2) + "\n").encode()})
    for notes in describe_leaks(comparison.split, comparison.num_images, comparison.leakage):
        print(*notes, sep="\n", end="\n" * bool(notes))
    Console().print(_table(comparison))

    summary = {
        "leakage": comparison.leakage,
        "baseline": comparison.baseline,
        "num_images": comparison.num_images,
        "comparisons": [
            {
                "name": contrast.name,
                "accuracy": contrast.differences["accuracy"].to_json(),
                "p_value_holm": contrast.p_value_holm,
            }
            for contrast in comparison.contrasts
        ],
        "report": join_url(output.url, PAGE_KEY),
    }
    print(f"Open {summary['report']}")
    print(json.dumps(summary))
    return summary


def _wanted_names(names: Sequence[Any] | None, num_evaluations: int) -> list[str] | None:
    if names is None:
        return None
    wanted = [str(name) for name in names]
    if len(wanted) != num_evaluations or len(set(wanted)) < 2:
        raise ValueError(
            f"names={wanted}, but one for each of the {num_evaluations} evaluations is needed, and two or more that "
            "differ: 'names=[baseline,baseline,best,best]' for two runs of each"
        )
    return wanted


def _table(comparison: Comparison) -> Table:
    recipes = comparison.recipes
    bins = f"{comparison.num_images:,} {comparison.split} bins in {comparison.num_blocks:,} blocks"
    table = Table(title=f"The same {bins}", title_justify="left", caption_justify="left", show_lines=True)
    table.add_column("", overflow="fold")
    for recipe in recipes:
        num_runs = len(recipe.evaluations)
        mean = f"\nmean of {num_runs} runs" if num_runs > 1 else ""
        table.add_column(escape(recipe.name) + mean, justify="right", overflow="fold")
    for name in recipes[0].measures:
        cells = [_cell(recipe.measures[name]) for recipe in recipes]
        for position, contrast in enumerate(comparison.contrasts, start=1):
            cells[position] += f"\n{_cell(contrast.differences[name])}"
        table.add_row(f"{METRICS[name].title}\n[dim]{METRICS[name].better} is better[/dim]", *cells)
    table.caption = escape("\n".join(describe_comparison(comparison)))
    return table


def _cell(estimate: Estimate) -> str:
    number, interval = (text.replace(" ", "\N{NO-BREAK SPACE}") for text in (str(estimate), estimate.interval))
    return f"{number} [dim]{interval}[/dim]"
