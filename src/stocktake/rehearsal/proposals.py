"""Which values the next trial of a rehearsed tuning job has: by Optuna, or the next of a grid."""

import itertools
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from stocktake.rehearsal.job_state import RequestRefused

NUM_RANDOM_FIRST = 3  # before TPE, of what AWS does before it models it says nothing
NO_OPTUNA = "A rehearsed tuning job proposes its trials by Optuna, which is not installed here: pip install optuna"


class Proposals:
    """Gives the points of one tuning job, as the text in which SageMaker hands them on.

    Args:
        ranges: ParameterRanges of the request.
        strategy: AWS's name; Hyperband's points are random ones.
    """

    def __init__(self, ranges: Mapping[str, Any], strategy: str, maximize: bool, seed: int | None):
        self.strategy, self.names = strategy, [one["Name"] for kind in ranges.values() for one in kind]
        categorical = ranges.get("CategoricalParameterRanges", ())
        self._grid = itertools.product(*(one["Values"] for one in categorical)) if strategy == "Grid" else None
        self._asked: dict[str, Any] = {}
        if self._grid is None:
            self._study, self._distributions = _study(strategy, maximize, seed), _distributions(ranges)

    def ask(self, job_name: str) -> dict[str, str] | None:
        """Returns a trial's hyperparameters; `None` where the grid is through."""
        if self._grid is not None:
            values = next(self._grid, None)
            return None if values is None else dict(zip(self.names, values, strict=True))
        trial = self._asked[job_name] = self._study.ask(self._distributions)
        return {name: value if isinstance(value, str) else repr(value) for name, value in trial.params.items()}

    def tell(self, job_name: str, value: float | None) -> None:
        """Learns how a trial ended; `None` without a value."""
        if self._grid is None:
            from optuna.trial import TrialState

            failed = {"state": TrialState.FAIL} if value is None else {"values": value}
            self._study.tell(self._asked.pop(job_name), **failed)

    def learn(self, earlier: Sequence[tuple[Mapping[str, str], float]]) -> None:
        """Takes the trials of earlier tuning jobs along, as far as this one's ranges hold them."""
        if self._grid is not None:
            return
        from optuna.trial import create_trial

        for texts, value in earlier:
            values = {name: _read(texts[name], self._distributions[name]) for name in self.names if name in texts}
            with suppress(ValueError):  # outside the ranges of now
                self._study.add_trial(create_trial(params=values, distributions=self._distributions, value=value))


def _study(strategy: str, maximize: bool, seed: int | None) -> Any:
    try:
        import optuna
    except ImportError as error:
        raise RequestRefused("ValidationException", NO_OPTUNA) from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)  # each point stands in the table
    sampler = optuna.samplers.RandomSampler(seed)
    if strategy == "Bayesian":
        sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=NUM_RANDOM_FIRST, constant_liar=True)
    return optuna.create_study(direction="maximize" if maximize else "minimize", sampler=sampler)


def _distributions(ranges: Mapping[str, Any]) -> dict[str, Any]:
    from optuna import distributions

    found: dict[str, Any] = {}
    numbers: list[tuple[str, Any, Any]] = [
        ("IntegerParameterRanges", int, distributions.IntDistribution),
        ("ContinuousParameterRanges", float, distributions.FloatDistribution),
    ]
    for kind, number, distribution in numbers:
        for one in ranges.get(kind, ()):
            scale = one.get("ScalingType", "Auto")
            if scale == "ReverseLogarithmic":
                raise RequestRefused("ValidationException", f"{one['Name']}: {scale} is not rehearsed.")
            low, high = number(one["MinValue"]), number(one["MaxValue"])
            found[one["Name"]] = distribution(low, high, log=scale == "Logarithmic")
    for one in ranges.get("CategoricalParameterRanges", ()):
        found[one["Name"]] = distributions.CategoricalDistribution(one["Values"])
    return found


def _read(text: str, distribution: Any) -> Any:
    kind = type(distribution).__name__
    return text if kind.startswith("Categorical") else int(text) if kind.startswith("Int") else float(text)
