"""scripts/cost.py runs=: what jobs that have ended did cost, for each job, each sweep and each experiment."""

import json
import os
import shlex
import sys
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from rich.box import SIMPLE
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from stocktake.cloud.costs import COST_NAME, CostTotal, JobCost
from stocktake.cloud.prices import Prices, region_prices
from stocktake.config import as_plain
from stocktake.report.costs import render_costs, usd_text
from stocktake.storage import Folder, join_url

PAGE_KEY, FIGURES_KEY = "costs.html", "costs.json"


def finished_costs(cfg: DictConfig) -> dict[str, Any]:
    """Writes costs.html and costs.json; returns (and prints, as one line of JSON) a summary.

    Raises:
        ValueError: No job's record is there, or one is damaged.
    """
    plain = as_plain(cfg)
    paths = _records(plain["runs"])
    costs = [JobCost.read(path) for path in paths]
    asked = {cost.instance_type for cost in costs} if plain["ask_aws"] else ()
    prices = region_prices(plain["prices"], plain["profile"], plain["region"], asked)
    typed = bool(plain["prices"]) or plain["ask_aws"]
    costs = [_priced(cost, prices, typed) for cost in costs]
    sweeps: dict[str, list[JobCost]] = defaultdict(list)
    experiments: dict[str, list[JobCost]] = defaultdict(list)
    for path, cost in zip(paths, costs, strict=True):
        sweeps[os.path.relpath(path.parents[2])].append(cost)  # <sweep>/<number>/<job>/cost.json
        experiments[cost.experiment].append(cost)
    totals = {
        "Experiments": [CostTotal.of(name, found) for name, found in experiments.items()],
        "Sweeps": [CostTotal.of(name, found) for name, found in sweeps.items() if len(found) > 1],
    }
    whole = CostTotal.of("all", costs)
    output = Folder(plain["output_dir"] or plain["runs"][0])
    page = render_costs(costs, totals, whole, shlex.join(["python", *sys.argv])).encode()
    groups = {title: [asdict(total) for total in found] for title, found in totals.items()}
    figures = {"jobs": [cost.to_json() for cost in costs], **groups, "all": asdict(whole)}
    output.write_together({PAGE_KEY: page, FIGURES_KEY: (json.dumps(figures, indent=2) + "\n").encode()})
    Console().print(_table(costs, [*totals["Experiments"], *totals["Sweeps"]]))
    if whole.num_unpriced:
        print(f"{whole.num_unpriced} job(s) are of instances whose price is not known: type prices=, or ask_aws=true")
    summary = {
        "num_jobs": whole.num_jobs,
        "billed_s": whole.billed_s,
        "training_s": whole.training_s,
        "usd": _rounded(whole.usd),
        "on_demand_usd": _rounded(whole.on_demand_usd),
        "saved_share": _rounded(whole.saved_share),
        "num_unpriced": whole.num_unpriced,
        "report": join_url(output.url, PAGE_KEY),
    }
    print(f"Open {summary['report']}")
    print(json.dumps(summary))
    return summary


def _records(runs: Iterable[str]) -> list[Path]:
    found = []
    for run in runs:
        below = sorted(Path(run).rglob(COST_NAME))
        if not below:
            raise ValueError(
                f"runs: there is no {COST_NAME} in {run} or below it. A job of hydra/launcher=sagemaker or =rehearsal "
                "leaves one in the folder of its results when it has ended; type that folder, or one above it"
            )
        found += below
    return list(dict.fromkeys(path.absolute() for path in found))


def _priced(cost: JobCost, prices: Prices, anew: bool) -> JobCost:
    """Returns a cost by the prices of today where there was none, or where the user says so."""
    price = prices.instances.get(cost.instance_type)
    if price is None or (cost.usd_per_hour is not None and not anew):
        return cost
    return cost.priced(price)


def _table(costs: Iterable[JobCost], totals: Iterable[CostTotal]) -> Table:
    table = Table(box=SIMPLE)
    table.add_column("job", overflow="fold")
    for column in ("instances", "trained s", "billed s", "saved", "USD"):
        table.add_column(column, justify="right")
    for cost in costs:
        instances = f"{cost.num_instances} × {cost.instance_type}"
        seconds = (f"{cost.training_s:,}", f"{cost.billable_s + cost.retained_s:,}")
        table.add_row(escape(cost.job), instances, *seconds, _share(cost.saved_share), usd_text(cost.usd))
    table.add_section()
    for total in totals:
        seconds = (f"{total.training_s:,}", f"{total.billed_s:,}")
        name, jobs = escape(total.name), f"{total.num_jobs} job(s), all"
        table.add_row(name, jobs, *seconds, _share(total.saved_share), usd_text(total.usd))
    return table


def _share(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.1f} %"


def _rounded(figure: float | None) -> float | None:
    return None if figure is None else round(figure, 4)
