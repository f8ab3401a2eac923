"""What proposes the next trial: a function of the seed, the trial's number and the trials before it, and no state.

So a search that was interrupted goes on as if it had not been.
"""

import itertools
import math
from collections.abc import Iterator, Sequence

import numpy
from optuna.samplers import BaseSampler, RandomSampler, TPESampler

from stocktake.tuning.cma_sampler import CmaSampler
from stocktake.tuning.search_space import Parameter, SearchSpace, Value

SAMPLERS = ("tpe", "cmaes", "random", "grid")
NUM_RANDOM = 5  # trials before the first that TPE learns from


def sampler_for(name: str, seed: int, number: int) -> BaseSampler:
    """Returns what proposes trial `number`; of a grid, whose points are known, what would fill a gap."""
    of_trial = int(numpy.random.SeedSequence([seed, number]).generate_state(1)[0]) % 2**31
    if name == "tpe":
        return TPESampler(n_startup_trials=NUM_RANDOM, seed=of_trial)
    return CmaSampler(of_trial) if name == "cmaes" else RandomSampler(seed=of_trial)


def refuse_unsuited(space: SearchSpace, sampler: str) -> None:
    """Refuses what a sampler cannot search.

    Raises:
        ValueError: Naming the parameter, and what the sampler can do.
    """
    if sampler not in SAMPLERS:
        raise ValueError(f"sampler={sampler!r} is none of {', '.join(SAMPLERS)}: type hydra.sweeper.sampler=tpe")
    for parameter in space.parameters:
        if sampler == "cmaes" and (parameter.choices or parameter.when):
            what = "a choice" if parameter.choices else "a condition"
            raise ValueError(
                f"{parameter.key} has {what}, and cmaes searches ranges that all trials have: type "
                "hydra.sweeper.sampler=tpe"
            )
        if sampler == "grid" and not parameter.choices and not (parameter.step or parameter.is_whole):
            raise ValueError(
                f"{parameter.key} is {parameter}, which has no end of values for a grid: type some, such as "
                f"{parameter.key}={parameter.low},{parameter.high}, or hydra.sweeper.sampler=random"
            )


def grid(space: SearchSpace) -> Iterator[dict[str, Value]]:
    """Yields every point of a space once, the last parameter changing fastest."""
    seen = set()
    for values in itertools.product(*(_values(parameter) for parameter in space.parameters)):
        point: dict[str, Value] = {}
        for parameter, value in zip(space.parameters, values, strict=True):
            if space.active(parameter, point):
                point[parameter.key] = value
        if (as_text := repr(point)) not in seen:  # two may differ in what the condition takes away
            seen.add(as_text)
            yield point


def _values(parameter: Parameter) -> Sequence[Value]:
    if parameter.choices:
        return parameter.choices
    assert parameter.low is not None and parameter.high is not None, "what has no choices has a range"
    step = parameter.step or 1
    num_steps = math.floor((parameter.high - parameter.low) / step + 1e-9)
    return [min(parameter.low + index * step, parameter.high) for index in range(num_steps + 1)]
