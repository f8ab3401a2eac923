"""The life of one rehearsed tuning job: propose trials, run some at a time, stop those that lag, end."""

import secrets
import threading
import time
from collections.abc import Mapping
from contextlib import suppress

from stocktake.rehearsal.job_state import ENDED, Job, RequestRefused
from stocktake.rehearsal.job_store import JobStore
from stocktake.rehearsal.proposals import Proposals
from stocktake.rehearsal.training_api import Runner
from stocktake.rehearsal.trial_stopping import lags
from stocktake.rehearsal.tuning_state import TuningJob

POLL_S = 0.1
IMPROVES_BY = 0.01  # less than a hundredth does not count as better (BestObjectiveNotImproving)


class TuningRun:
    """Plays one tuning job in the thread that calls `run`.

    Args:
        closing: Set when everything shall end at once; what still runs is then the runner's to end.
    """

    def __init__(
        self, tuning: TuningJob, proposals: Proposals, runner: Runner, jobs: JobStore, closing: threading.Event
    ):
        self.tuning, self.proposals, self.runner, self.jobs, self.closing = tuning, proposals, runner, jobs, closing
        limits = tuning.config["ResourceLimits"]
        self.num_parallel, self.num_trials = limits["MaxParallelTrainingJobs"], limits.get("MaxNumberOfTrainingJobs")
        self.max_runtime_s = limits.get("MaxRuntimeInSeconds", float("inf"))
        self.best: float | None = None
        self._told: set[str] = set()

    def run(self) -> None:
        try:
            self._play()
        except Exception as error:
            self.tuning.enter("Failed", f"InternalServerError: the rehearsal itself failed: {error!r}")
            raise

    def _play(self) -> None:
        while not self.closing.is_set():
            self._learn()
            running = [trial for trial in self.tuning.trials if trial.status not in ENDED]
            if self._is_over():
                for trial in running:
                    _stop(trial)
                if not running:
                    break
            else:
                for trial in running:
                    self._stop_if_behind(trial)
                if not self._fill(self.num_parallel - len(running)) and not running:
                    break  # the grid is through, or all trials are
            time.sleep(POLL_S)
        self._end()

    def _is_over(self) -> bool:
        if self.tuning.stop_asked.is_set():
            return True
        criteria = self.tuning.config.get("TuningJobCompletionCriteria", {})
        target = criteria.get("TargetObjectiveMetricValue")
        patience = criteria.get("BestObjectiveNotImproving", {}).get("MaxNumberOfTrainingJobsNotImproving")
        return (
            time.time() - self.tuning.created_at > self.max_runtime_s
            or (target is not None and self.best is not None and not self._is_better(target, self.best))
            or (patience is not None and self.tuning.num_not_improving >= patience)
        )

    def _is_better(self, value: float, than: float, by: float = 0.0) -> bool:
        room = abs(than) * by
        return value > than + room if self.tuning.maximize else value < than - room

    def _learn(self) -> None:
        """Tells the proposals how trials ended, and counts those that were no better."""
        for trial in self.tuning.trials:
            if trial.status not in ENDED or trial.name in self._told:
                continue
            self._told.add(trial.name)
            value = self.tuning.final(trial)
            self.proposals.tell(trial.name, value)
            if value is None:
                continue
            if self.best is None or self._is_better(value, self.best, by=IMPROVES_BY):
                self.tuning.num_not_improving = 0
            else:
                self.tuning.num_not_improving += 1
            if self.best is None or self._is_better(value, self.best):
                self.best = value

    def _fill(self, room: int) -> bool:
        """Starts trials while there is room; returns whether any may come yet."""
        for _ in range(room):
            number = len(self.tuning.trials)
            if self.num_trials is not None and number >= self.num_trials:
                return False
            name = f"{self.tuning.name}-{number + 1:03d}-{secrets.token_hex(4)}"  # as SageMaker calls them
            tuned = self.proposals.ask(name)
            if tuned is None:
                return False
            self._start(name, tuned, number)
        return True

    def _start(self, name: str, tuned: Mapping[str, str], number: int) -> None:
        trial = self.jobs.create(self.tuning.trial_request(name, tuned), trial=number)
        self.tuning.add(trial, tuned)
        self.runner.start(trial)

    def _stop_if_behind(self, trial: Job) -> None:
        others = [self.tuning.values(other) for other in self.tuning.trials if self.tuning.final(other) is not None]
        if lags(self.tuning.values(trial), others, self.tuning.config, self.tuning.maximize):
            _stop(trial)

    def _end(self) -> None:
        trials = self.tuning.trials
        if self.tuning.stop_asked.is_set() or self.closing.is_set():
            self.tuning.enter("Stopped")
        elif trials and all(trial.status == "Failed" for trial in trials):
            reason = f"All training jobs failed. Please take a look at the training jobs failures: {trials[-1].name}"
            self.tuning.enter("Failed", reason)
        else:
            self.tuning.enter("Completed")


def _stop(trial: Job) -> None:
    with suppress(RequestRefused):  # it has ended meanwhile, or is being stopped
        trial.stop()
