"""Rules of the keys below `hydra.sweeper`, and whether what a search varies is what its command takes."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from omegaconf import DictConfig, OmegaConf

from stocktake.cli.check import nearest, wrong
from stocktake.cli.command_keys import Inputs
from stocktake.cli.override_errors import Groups, takes
from stocktake.cli.rules import above, anything, choice, list_of, map_of, number, switch, text, under, whole

SWEEPER = under(
    "hydra.sweeper",
    {
        "name": text("lr_dropout"),
        "space": map_of(anything(), {}),
        "start": list_of(map_of(anything(), {}), []),
        "num_trials": whole(1, example=20),
        "parallel": whole(1, example=2),
        "max_hours": above(0, literals=[None], example=8),
        "max_usd": above(0, literals=[None], example=20),
        "max_failed_share": number(0, 1, example=0.5),
        "seed": whole(0, 2**32 - 1),
        "evaluate": switch(example=True),
    },
)
SEARCH = under(
    "hydra.sweeper",
    {"sampler": choice("tpe", "cmaes", "random", "grid"), "pruner": choice("none", "median", "hyperband")},
)

TUNING = under(
    "hydra.sweeper",
    {
        "strategy": choice("bayesian", "random", "grid", "hyperband"),
        "early_stopping": switch(),
        "min_resource": whole(1, example=1),
        "max_resource": whole(1, 20_000, literals=[None], example=31),
        "target": number(None, literals=[None], example=0.9),
        "patience": whole(3, literals=[None], example=5),
        "converged": switch(),
        "warm_start": list_of(text("lr-dropout-1129-050000"), ["lr-dropout-1129-050000"], most=5),
        "other_data": switch(),
        "start_by": choice("auto", "toolkit", "image"),
        "job_name": text("lr-dropout-1129-050000", None),
        "dry_run": switch(None),
        "poll_s": above(0, literals=[None], example=10),
    },
)


def is_search(typed: Sequence[str]) -> bool:
    """Whether what was typed chooses a sweeper that proposes trials, which takes intervals, too."""
    chosen = [argument for argument in typed if argument.startswith(("sweep=", "hydra/sweeper="))]
    return bool(chosen) and chosen[-1].partition("=")[2] not in ("null", "basic")


def sweep_problems(config: DictConfig, inputs: Inputs, groups: Groups) -> Iterator[str]:
    """Yields what is wrong with a search's own keys, and with the ends and choices of what it varies."""
    sweeper = OmegaConf.to_container(config.hydra.sweeper, resolve=True)
    if not isinstance(sweeper, dict) or "space" not in sweeper:  # Hydra's own
        return
    for key, rule in (SWEEPER | SEARCH | TUNING).items():
        if (name := key.rpartition(".")[2]) in sweeper:
            yield from wrong(key, sweeper[name], rule)
    space = sweeper["space"]
    for key, plain in space.items() if isinstance(space, Mapping) else ():
        rule = takes(key, groups) if key in groups else inputs.rules.get(key)
        if rule is None:
            names = {group: takes(group, groups) for group in groups} | inputs.rules
            near = nearest(key, names)
            meant = f"Did you mean {near}?" if near else "Type --help, which lists what there is"
            yield f"hydra.sweeper.space: there is no key {key}. {meant}"
            continue
        for value in _tried(plain):
            yield from wrong(key, value, rule)


def _tried(plain: Any) -> Sequence[Any]:
    """Returns the ends of a range, or the choices; what is neither is reported by the search space."""
    tried = (plain.get("choice") or plain.get("range")) if isinstance(plain, Mapping) else None
    return tried if isinstance(tried, Sequence) and not isinstance(tried, str) else ()
