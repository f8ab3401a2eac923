"""scripts/cost.py: what a training would take and cost on SageMaker, on several instances, before it is begun."""

import json
from collections.abc import Mapping
from datetime import date
from typing import Any

from omegaconf import DictConfig
from rich.box import SIMPLE
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from stocktake.cloud.cost_estimate import CostEstimate, cheapest, compared, oldest_day
from stocktake.cloud.prices import Prices, region_prices
from stocktake.cloud.training_rates import VALIDATED, Range, Rate, rates_of
from stocktake.config import as_plain
from stocktake.training.cost_workload import TYPED_SPREAD, MeasuredRun, measured_run, workload_of


def cost(cfg: DictConfig) -> dict[str, Any]:
    """Prints a table of instance types and numbers, what is assumed in it, and as one line of JSON what it comes to.

    Raises:
        ValueError: How fast an instance is, or what it costs, is known from nobody.
    """
    plain = as_plain(cfg)
    compute, discounts = plain["compute"], plain["spot_discounts"]
    own_type, own_num = compute["instance_types"][0], compute["num_instances"]
    asked_types = [own_type, *(plain["instance_types"] or [])] if plain["ask_aws"] else []
    prices = region_prices(plain["prices"], plain["profile"], plain["region"], asked_types)
    run = measured_run(plain["run"]) if plain["run"] else None
    notes: list[str] = []
    workload = workload_of(plain, notes, run)
    rates, unknown = _rates(plain, own_type, prices, run)
    if not rates:
        raise ValueError(
            f"How many images a second {own_type} trains of model.backbone={workload.backbone} is on record nowhere. "
            "Type images_per_s=<of one instance>, or run=<folder of a run of this experiment>"
        )
    nums = sorted({*plain["nums_instances"], own_num})
    measured = {int(num): share for num, share in (plain["efficiency"] or {}).items()}
    as_run = run.num_instances if run else 1
    estimates = compared(workload, rates, nums, measured, prices, discounts, as_run)
    own = next(
        (one for one in estimates if (one.instance_type, one.num_instances) == (own_type, own_num)), estimates[0]
    )
    best = cheapest(estimates, plain["deadline_h"], compute["spot"])
    Console().print(_table(plain["name"], estimates, own, best))
    notes += [f"No rate is on record for {one}; it is left out." for one in unknown]
    notes += _notes(plain, estimates, own, best, prices)
    print(*notes, sep="\n")
    summary = _summary(plain["name"], own) | {
        "prices_date": str(oldest_day(estimates)),
        "cheapest": None if best is None else _summary(plain["name"], best),
    }
    print(json.dumps(summary))
    return summary


def _rates(
    plain: Mapping[str, Any], own_type: str, prices: Prices, run: MeasuredRun | None
) -> tuple[dict[str, Rate], list[str]]:
    known = run.rate if run else None
    if plain["images_per_s"] is not None:
        typed = Range.around(plain["images_per_s"], TYPED_SPREAD)
        known = Rate(typed, typed * VALIDATED, True, "measured, as typed")
    types = plain["instance_types"] or [own_type, *sorted(prices.instances)]
    data, backbone = plain["data"], plain["model"]["backbone"]
    rates, unknown = rates_of(list(dict.fromkeys(types)), backbone, data["image_size_px"], known)
    return rates, unknown if plain["instance_types"] else [one for one in unknown if one == own_type]


def _table(name: str, estimates: list[CostEstimate], own: CostEstimate, best: CostEstimate | None) -> Table:
    table = Table("instances", title=f"{escape(name)} on SageMaker", box=SIMPLE, title_justify="left")
    for column in ("images/s\nof one", "times\none", "hours", "USD\non demand", "USD\nspot"):
        table.add_column(column, justify="right", no_wrap=True)
    for one in estimates:
        assumed = "" if one.rate.is_measured else "~"
        times = one.efficiency.share.value * one.num_instances
        table.add_row(
            f"{one.num_instances} × {one.instance_type}{' *' * (one is own)}{' <' * (one is best)}",
            f"{assumed}{one.rate.images_per_s.value:,.3g}",
            f"{'' if one.efficiency.is_measured else '~'}{times:.2f}",
            *map(_shown, (one.hours, one.on_demand_usd, one.spot_usd)),
        )
    table.caption = "* the experiment's own   < the cheapest   ~ assumed, not measured"
    table.caption_justify = "left"
    return table


def _shown(found: Range) -> str:
    return f"{found.value:.2f}\n[dim]{found.low:.2f}–{found.high:.2f}[/dim]"


def _notes(
    plain: Mapping[str, Any],
    estimates: list[CostEstimate],
    own: CostEstimate,
    best: CostEstimate | None,
    prices: Prices,
) -> list[str]:
    deadline_h, notes = plain["deadline_h"], []
    sources = {f"{one.instance_type}: {one.rate.source}." for one in estimates}
    notes += [f"Images a second, {source}" for source in sorted(sources)]
    if any(not one.efficiency.is_measured for one in estimates):
        notes.append(
            "Several instances: assumed from the bytes of a step's gradients over 2.5 to 10 Gbit/s, at the same global "
            f"batch of {plain['data']['batch_size']}; efficiency= says it better."
        )
    if own.is_slower_than_one:
        notes.append(
            f"{own.num_instances} × {own.instance_type} are probably slower than one, at {own.num_instances} times the "
            "price an hour: the gradients take longer than the computing. Type compute.num_instances=1, or a larger "
            "data.batch_size"
        )
    low, high = plain["spot_discounts"]
    notes.append(f"Spot: {low:.0%} to {high:.0%} less for instances, which AWS promises nobody; no waiting counted.")
    today = date.today()
    notes += [
        note for one in {one.price.instance_type: one.price for one in estimates}.values() for note in one.notes(today)
    ]
    notes.append(
        f"In USD, {', '.join(f'{name} {usd:.2f}' for name, usd in own.parts_usd.items())}; {prices.other.source}."
    )
    if deadline_h is not None and best is None:
        notes.append(f"None of them is surely done within deadline_h={deadline_h:g}: the slowest case counts.")
    elif best is not None:
        within = "" if deadline_h is None else f" that is surely done within {deadline_h:g} hours"
        notes.append(f"The cheapest{within}: {best.num_instances} × {best.instance_type}")
    return notes


def _summary(name: str, one: CostEstimate) -> dict[str, Any]:
    ranges = {"on_demand_usd": one.on_demand_usd, "spot_usd": one.spot_usd, "hours": one.hours}
    summary: dict[str, Any] = {key: round(found.value, 3) for key, found in ranges.items()}
    summary |= {f"{key}_range": [round(found.low, 3), round(found.high, 3)] for key, found in ranges.items()}
    chosen = {"instance_type": one.instance_type, "num_instances": one.num_instances}
    return summary | {"experiment": name, **chosen, "is_measured": one.rate.is_measured}
