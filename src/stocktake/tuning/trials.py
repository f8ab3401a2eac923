"""The trials of a search, as every engine tells of them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from stocktake.metrics.definitions import Metric, metric_of
from stocktake.metrics.estimate import Estimate
from stocktake.tuning.search_space import SearchSpace, Value

State = Literal["complete", "pruned", "failed", "running"]


@dataclass(frozen=True)
class Trial:
    """One training of a search.

    Attributes:
        number: From 0 on; also the name of its folder.
        state: `running` also of one that was cut and has not been begun again.
        values: By key of the space; those whose condition does not hold are not there.
        score: The metric's best validation; of a pruned trial the last that was seen; None of a failed one.
        steps: The metric by number of validations, as far as it was reported.
        started_at: ISO 8601, UTC.
        folder: Its run folder: metrics.json, checkpoints, config.yaml.
        reason: Why it failed or was pruned; else an empty string.
        cost_usd: What its instances were billed, where that is known.
    """

    number: int
    state: State
    values: Mapping[str, Value]
    score: float | None = None
    steps: Mapping[int, float] = field(default_factory=dict)
    started_at: str = ""
    duration_s: float | None = None
    folder: str = ""
    reason: str = ""
    cost_usd: float | None = None


@dataclass(frozen=True)
class SearchResult:
    """A search as far as it got.

    Attributes:
        name: The sweep's, such as `lr_dropout`.
        engine: What proposed the trials: `tpe`, `cmaes`, `random`, `grid`, or `sagemaker bayesian` and the like.
        metric: The logged key, such as `valid/accuracy`; its direction stands in METRICS.
        trials: By number.
        fixed: The overrides that all trials share, as they were typed; no `sweep=` and nothing of Hydra's own.
        num_trials: How many were asked for.
        test: The metric of the best trial on the test side, where it was measured.
    """

    name: str
    engine: str
    metric: str
    space: SearchSpace
    trials: Sequence[Trial]
    fixed: Sequence[str] = ()
    num_trials: int = 0
    test: Estimate | None = None

    @property
    def definition(self) -> Metric:
        """What the metric is called, and which way is better."""
        return metric_of(self.metric)

    def of_state(self, state: State) -> list[Trial]:
        return [trial for trial in self.trials if trial.state == state]

    @property
    def ranked(self) -> list[Trial]:
        """Complete trials with a finite score, the best first; of equal ones the earlier."""
        complete = self.of_state("complete")
        scored = [(trial.score, trial) for trial in complete if trial.score is not None and math.isfinite(trial.score)]
        sign = -1 if self.definition.better == "higher" else 1
        return [trial for _, trial in sorted(scored, key=lambda pair: (sign * pair[0], pair[1].number))]

    @property
    def best(self) -> Trial | None:
        return self.ranked[0] if self.ranked else None
