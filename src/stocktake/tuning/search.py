"""What is searched, a trial to run, and how one ended: words that a search and its launcher share."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from stocktake.tuning.search_space import Parameter, SearchSpace, Value
from stocktake.tuning.trials import State


@dataclass(frozen=True)
class Search:
    """What is searched, and how.

    Attributes:
        name: The sweep's.
        metric: A logged key, such as `valid/accuracy`.
        fixed: The overrides that all trials share.
        start: Points to try first; what they leave out is proposed.
        seed: Of the proposals.
    """

    name: str
    metric: str
    space: SearchSpace
    fixed: Sequence[str] = ()
    start: Sequence[Mapping[str, Value]] = ()
    sampler: str = "tpe"
    pruner: str = "none"
    seed: int = 0
    num_trials: int = 20

    def identity(self) -> dict[str, Any]:
        """Returns what may not change while trials are added; plain, as JSON gives it back."""
        space = {parameter.key: str(parameter) + _condition(parameter) for parameter in self.space.parameters}
        fixed = {key: value for key, _, value in sorted(override.partition("=") for override in self.fixed)}
        return {"optimized_metric": self.metric, "space": space, "fixed": fixed}


@dataclass(frozen=True)
class Proposal:
    """A trial to run: its number, and its values by key."""

    number: int
    values: dict[str, Value] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """How a trial ended.

    Attributes:
        score: Of one that is complete.
        reason: Of another.
        cost_usd: What it was billed, where that is known.
    """

    state: State
    folder: str
    score: float | None = None
    reason: str = ""
    cost_usd: float | None = None


def _condition(parameter: Parameter) -> str:
    return "".join(f", when {other} is {' or '.join(map(str, values))}" for other, values in parameter.when.items())
