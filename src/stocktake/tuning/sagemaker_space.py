"""A search space in the words of a SageMaker tuning job, and its trials' hyperparameters read back."""

import json
import math
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from stocktake.cloud.request_types import CategoricalRange, ContinuousRange, ParameterRanges
from stocktake.shell import hydra_value, override
from stocktake.tuning.search_space import Parameter, SearchSpace, Value

MAX_CHOICES = 30  # of a categorical parameter, in AWS's service model
MAX_CHARACTERS = 256  # of a value there
ELSEWHERE = "Or let hydra/sweeper=search run it, through the same launcher"


def space_problems(space: SearchSpace, strategy: str) -> Iterator[str]:
    """Yields what a tuning job cannot express, with what it can and what to type.

    Args:
        strategy: `bayesian`, `random`, `grid` or `hyperband`.
    """
    for parameter in space.parameters:
        key = parameter.key
        if parameter.when:
            others = ", ".join(parameter.when)
            yield (
                f"{key} is there only with some values of {others}, and SageMaker gives every trial every parameter. "
                f"Take the condition or the key out of the space: hydra.sweeper.space.{key}=null. {ELSEWHERE}"
            )
        if parameter.step is not None:
            values = _stepped(parameter)
            near = f"{{choice: [{', '.join(map(hydra_value, values))}]}}" if values else "a range without a step"
            yield (
                f"{key} has a step of {parameter.step}, and a tuning job's ranges have none; it takes all numbers of a "
                f"range, or up to {MAX_CHOICES} choices. Write {near} in the space. {ELSEWHERE}"
            )
        if strategy == "grid" and not parameter.choices:
            yield f"{key} is a range, and a grid is of choices alone. Write {{choice: [a, b]}}, or another strategy"
        if len(parameter.choices) > MAX_CHOICES:
            yield f"{key} has {len(parameter.choices)} choices; SageMaker takes at most {MAX_CHOICES}. {ELSEWHERE}"
        for value in parameter.choices:
            if "\0" in str(value) or len(sent(value)) > MAX_CHARACTERS:
                yield f"{override(key, value)[:120]}: a choice has at most {MAX_CHARACTERS} characters, and no zero one"


def _stepped(parameter: Parameter) -> list[int | float]:
    """Returns the values of a range in steps, where they are few enough to be choices."""
    if parameter.low is None or parameter.high is None or parameter.step is None:
        return []
    count = math.floor((parameter.high - parameter.low) / parameter.step + 1e-9) + 1
    values = [parameter.low + index * parameter.step for index in range(count)] if count <= MAX_CHOICES else []
    return [value if isinstance(value, int) else float(f"{value:.12g}") for value in values]


def parameter_ranges(space: SearchSpace) -> ParameterRanges:
    """Returns the ranges of a space that has no `space_problems`."""
    whole: list[ContinuousRange] = []
    real: list[ContinuousRange] = []
    categorical: list[CategoricalRange] = []
    for parameter in space.parameters:
        if parameter.choices:
            categorical.append({"Name": parameter.key, "Values": [sent(value) for value in parameter.choices]})
            continue
        (whole if parameter.is_whole else real).append(
            {
                "Name": parameter.key,
                "MinValue": repr(parameter.low),
                "MaxValue": repr(parameter.high),
                "ScalingType": "Logarithmic" if parameter.log else "Linear",
            }
        )
    return {
        "IntegerParameterRanges": whole,
        "ContinuousParameterRanges": real,
        "CategoricalParameterRanges": categorical,
    }


def searched(space: SearchSpace, added: Collection[str] = ()) -> dict[str, Any]:
    """Returns what the container is told of each key, see `stocktake.cloud.container_trial`.

    Args:
        added: Keys that the configuration does not have, which take a `+`.
    """
    found: dict[str, Any] = {}
    for parameter in space.parameters:
        key = f"+{parameter.key}" if parameter.key in added else parameter.key
        choices = {sent(value): hydra_value(value) for value in parameter.choices}
        found[key] = choices or ("whole" if parameter.is_whole else "number")
    return found


def sent(value: Value) -> str:
    """Returns a choice as it travels: JSON in ASCII, so that "32" and 32 differ, and nothing breaks a line."""
    return json.dumps(value)


def read_values(space: SearchSpace, tuned: Mapping[str, str]) -> dict[str, Value]:
    """Returns a trial's values from TunedHyperParameters.

    Raises:
        ValueError: A value is none of the space's, as of a tuning job that searched another one.
    """
    values = {key: _read(space[key], tuned[key]) for key in space.keys if key in tuned}
    space.check(values)
    return values


def _read(parameter: Parameter, text: str) -> Value:
    try:
        value = json.loads(text)
    except ValueError:
        return text  # which no choice is, since each travels as JSON
    if isinstance(value, str) and not (parameter.choices and parameter.admits(value)):  # quoted once more
        return _read(parameter, value) if value != text else value
    if parameter.is_whole and not parameter.choices and isinstance(value, float) and value.is_integer():
        return int(value)  # SageMaker writes some whole numbers as 5.0
    return value
