"""A search by Optuna, asked for trials and told of them; all that it knows lies in its journal."""

from collections.abc import Mapping
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import InMemoryStorage
from optuna.trial import FrozenTrial, TrialState

from stocktake.metrics.definitions import metric_of
from stocktake.search_journal import PRUNED, STUDY_NAME, is_pruned, journal_storage, mend, pruner_of, report
from stocktake.tuning.samplers import grid, refuse_unsuited, sampler_for
from stocktake.tuning.search import Outcome, Proposal, Search
from stocktake.tuning.search_space import Parameter, Value
from stocktake.tuning.trials import SearchResult, State, Trial

IDENTITY, JOB_NAME = "searched", "job_name"  # attributes of the study
FOLDER, REASON, COST_USD, BEGUN_AT = "folder", "reason", "cost_usd", "begun_at"  # attributes of a trial
STATES: dict[TrialState, State] = {
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "running",
    TrialState.WAITING: "running",
}


class OtherSearch(ValueError):
    """A folder holds the trials of another search."""


class SearchStudy:
    """The trials of one search."""

    def __init__(self, search: Search, folder: Path, journal: Path | None):
        """
        Args:
            folder: The search's; each trial has one in it, by its number.
            journal: None keeps nothing, for a dry run.

        Raises:
            OtherSearch: The journal holds trials of another search.
            ValueError: The sampler cannot search this space, a start is not in it, or the journal is damaged.
        """
        refuse_unsuited(search.space, search.sampler)
        for point in search.start:
            search.space.check(point)
        self.search, self.folder = search, folder
        self._points = self._known_points()
        direction = "maximize" if metric_of(search.metric).better == "higher" else "minimize"
        pruner = pruner_of(search.pruner)
        if journal is not None:
            mend(journal)
        try:
            storage = InMemoryStorage() if journal is None else journal_storage(journal)
            self._study = optuna.create_study(
                study_name=STUDY_NAME, storage=storage, direction=direction, pruner=pruner, load_if_exists=True
            )
        except (ValueError, KeyError, AssertionError, TypeError) as error:  # which Optuna raises for a broken line
            raise ValueError(f"{journal} is damaged: {error!r}. Type hydra.sweeper.name=<new> for another") from error
        self._refuse_another(search.identity())

    def _known_points(self) -> list[Mapping[str, Value]]:
        """Returns the points that nobody has to propose, the first trial's first."""
        points = list(self.search.start)
        if self.search.sampler == "grid":
            points += [
                point for point in islice(grid(self.search.space), self.search.num_trials) if point not in points
            ]
        return points

    def _refuse_another(self, identity: Mapping[str, Any]) -> None:
        before = self._study.user_attrs.get(IDENTITY)
        if before is None or not self._study.trials:  # with no trial there is nothing to go on with
            self._study.set_user_attr(IDENTITY, identity)
            return
        for part, now in identity.items():
            if (was := before.get(part)) == now:
                continue
            if isinstance(now, dict) and isinstance(was, dict):
                part = next(key for key in [*was, *now] if was.get(key) != now.get(key))
                was, now = was.get(part, "not there"), now.get(part, "not there")
            raise OtherSearch(
                f"{self.folder} holds the trials of another search: {part} was {was}, is {now}. Type the same as then "
                "to go on with it, or hydra.sweeper.name=<new> to begin another beside it"
            )

    def job_name(self) -> str:
        """Returns a name for this search's jobs, the same whenever it is asked for."""
        if JOB_NAME not in self._study.user_attrs:
            self._study.set_user_attr(JOB_NAME, f"{self.search.name}-{datetime.now(UTC):%m%d-%H%M%S}".replace("_", "-"))
        return str(self._study.user_attrs[JOB_NAME])

    @property
    def num_wanted(self) -> int:
        """How many trials there will be; a grid has an end."""
        limit = len(self._points) if self.search.sampler == "grid" else self.search.num_trials
        return min(self.search.num_trials, limit)

    @property
    def num_begun(self) -> int:
        return sum(trial.state != TrialState.WAITING for trial in self._study.trials)

    def begun_before(self) -> list[Proposal]:
        """Returns the trials that were not told to an end, such as those that ran when the search was killed."""
        return [self._filled(trial.number) for trial in self._study.trials if trial.state == TrialState.RUNNING]

    def ask(self) -> Proposal:
        """Begins the next trial."""
        number = self.num_begun
        is_waiting = any(trial.state == TrialState.WAITING for trial in self._study.trials)
        if number < len(self._points) and not is_waiting:
            self._study.enqueue_trial(dict(self._points[number]))
        self._study.sampler = sampler_for(self.search.sampler, self.search.seed, number)
        return self._filled(self._study.ask().number)

    def _filled(self, number: int) -> Proposal:
        """Returns the trial with all of its values; those that the journal has are its, the others are proposed."""
        self._study.sampler = sampler_for(self.search.sampler, self.search.seed, number)
        frozen = self._study.trials[number]
        self.search.space.check(frozen.params)  # the journal is a file
        trial = optuna.trial.Trial(self._study, frozen._trial_id)
        values: dict[str, Value] = {}
        for parameter in self.search.space.parameters:
            if self.search.space.active(parameter, values):
                values[parameter.key] = _suggested(trial, parameter)
        return Proposal(number, values)

    def begins(self, number: int) -> None:
        self._set(number, BEGUN_AT, datetime.now(UTC).isoformat())

    def tell(self, number: int, outcome: Outcome) -> None:
        """Ends a trial."""
        attributes = {FOLDER: outcome.folder, REASON: outcome.reason, COST_USD: outcome.cost_usd}
        for name, value in attributes.items():
            if value not in (None, ""):
                self._set(number, name, value)
        if outcome.state == "complete":
            self._study.tell(number, outcome.score)
        else:
            self._study.tell(number, state=TrialState.PRUNED if outcome.state == "pruned" else TrialState.FAIL)

    def is_pruned(self, number: int) -> bool:
        """Whether the trial was stopped by its own process."""
        return PRUNED in self._study.trials[number].user_attrs

    def num_validations(self, number: int) -> int:
        """Returns how many validations of a trial are reported."""
        return self._study.trials[number].last_step or 0

    def report(self, number: int, validation: int, value: float) -> bool:
        """Takes what a job's log says of a validation, from 1 on; returns whether to stop the job."""
        report(self._study, number, validation, value)
        return is_pruned(self._study, number, validation)

    def _set(self, number: int, name: str, value: Any) -> None:
        optuna.trial.Trial(self._study, self._study.trials[number]._trial_id).set_user_attr(name, value)

    def result(self) -> SearchResult:
        """Returns all trials so far."""
        return SearchResult(
            name=self.search.name,
            engine=self.search.sampler,
            metric=self.search.metric,
            space=self.search.space,
            trials=[self._told(trial) for trial in self._study.trials if trial.state != TrialState.WAITING],
            fixed=self.search.fixed,
            num_trials=self.num_wanted,
        )

    def _told(self, trial: FrozenTrial) -> Trial:
        attributes = trial.user_attrs
        begun, ended = trial.datetime_start, trial.datetime_complete
        if BEGUN_AT in attributes:  # the last time, of a trial that was cut off
            begun = datetime.fromisoformat(str(attributes[BEGUN_AT])).astimezone().replace(tzinfo=None)
        return Trial(
            number=trial.number,
            state=STATES[trial.state],
            values=dict(trial.params),
            score=trial.value if trial.state in (TrialState.COMPLETE, TrialState.PRUNED) else None,
            steps=dict(sorted(trial.intermediate_values.items())),
            started_at=begun.astimezone(UTC).isoformat(timespec="seconds") if begun else "",
            duration_s=(ended - begun).total_seconds() if begun and ended else None,
            folder=str(attributes.get(FOLDER, self.folder / str(trial.number))),
            reason=str(attributes.get(REASON, "")),
            cost_usd=attributes.get(COST_USD),
        )


def _suggested(trial: optuna.trial.Trial, parameter: Parameter) -> Value:
    if parameter.choices:
        return trial.suggest_categorical(parameter.key, parameter.choices)
    low, high, step = parameter.low, parameter.high, parameter.step
    assert low is not None and high is not None, "what has no choices has a range"
    if parameter.is_whole:
        return trial.suggest_int(parameter.key, int(low), int(high), step=int(step or 1), log=parameter.log)
    return trial.suggest_float(parameter.key, low, high, step=step, log=parameter.log)
