"""Follows a tuning job until it ends: its trials' states, log lines and metrics, and how many of them failed."""

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from stocktake.cloud.client import ENDED
from stocktake.cloud.monitor import FollowedJob, Screen, look
from stocktake.cloud.tuning_client import TuningJobs

NUMBER = re.compile(r"-(\d{3,})-[0-9a-f]{8}$")  # how SageMaker ends the names of trials: -001-0123abcd
LEAST_ENDED = 4  # trials before the share of failed ones can end a search


@dataclass
class FollowedTrial(FollowedJob):
    """A training job of a tuning job.

    Attributes:
        number: In the order of their creation, from 0 on.
        tuned: Its hyperparameters, as SageMaker tells them.
        objective: The last that SageMaker saw; `None` until it has ended, or where it saw none.
    """

    number: int = 0
    tuned: Mapping[str, str] = field(default_factory=dict)
    objective: float | None = None


@dataclass
class FollowedSearch:
    """A tuning job and what is known of it.

    Attributes:
        stop_reason: Why this program stopped it; an empty string where it did not.
    """

    name: str
    trials: dict[str, FollowedTrial] = field(default_factory=dict)
    description: dict[str, Any] = field(default_factory=dict)
    stop_reason: str = ""

    @property
    def status(self) -> str:
        return self.description.get("HyperParameterTuningJobStatus", "InProgress")

    @property
    def has_ended(self) -> bool:
        return self.status in ENDED and all(trial.ended and trial.description for trial in self.in_order)

    @property
    def in_order(self) -> list[FollowedTrial]:
        return sorted(self.trials.values(), key=lambda trial: trial.number)

    def see(self, description: dict[str, Any], summaries: list[dict[str, Any]]) -> None:
        self.description = description
        for index, summary in enumerate(summaries):
            name, tuned = summary["TrainingJobName"], summary["TunedHyperParameters"]
            if name not in self.trials:
                found = NUMBER.search(name)
                number = int(found[1]) - 1 if found else index
                label = " ".join(f"{key}={value[:12]}" for key, value in tuned.items())
                self.trials[name] = FollowedTrial(name, label=label, number=number, tuned=tuned)
            final = summary.get("FinalHyperParameterTuningJobObjectiveMetric")
            self.trials[name].objective = final and final["Value"]

    def fails_too_often(self, max_failed_share: float) -> bool:
        ended = [trial for trial in self.trials.values() if trial.ended]
        num_failed = sum(trial.status == "Failed" for trial in ended)
        return len(ended) >= LEAST_ENDED and num_failed > max_failed_share * len(ended)


def follow_search(
    tuning: TuningJobs, search: FollowedSearch, screen: Screen, poll_s: float, max_failed_share: float
) -> None:
    """Returns when the tuning job and all its trials have ended; who is interrupted by Ctrl-C leaves them running.

    Args:
        max_failed_share: Where more trials failed, the tuning job is stopped: SageMaker itself goes on to the last.

    Raises:
        JobError: It may not be looked at.
        Unavailable: AWS did not answer for a long time.
    """
    shown = ""
    while True:
        search.see(tuning.describe(search.name), tuning.trials(search.name))
        for trial in search.in_order:
            if not trial.ended or not trial.description:
                look(tuning.jobs, trial, screen, float("inf"))
        screen.show(search.in_order)
        if (now := progress(search)) != shown:
            shown = now
            screen.say(f"{search.name}: {shown}")
        if search.has_ended:
            return
        if search.status == "InProgress" and not search.stop_reason and search.fails_too_often(max_failed_share):
            search.stop_reason = f"more trials failed than hydra.sweeper.max_failed_share={max_failed_share}"
            screen.say(f"{search.name}: {search.stop_reason}: stopping it.")
            tuning.stop(search.name)
        time.sleep(poll_s)


def progress(search: FollowedSearch) -> str:
    """Returns how far the tuning job is, in one line."""
    counters = search.description["TrainingJobStatusCounters"]
    failed = counters.get("RetryableError", 0) + counters.get("NonRetryableError", 0)
    counts = {
        "completed": counters.get("Completed", 0),
        "running": counters.get("InProgress", 0),
        "stopped": counters.get("Stopped", 0),
        "failed": failed,
    }
    asked = search.description["HyperParameterTuningJobConfig"]["ResourceLimits"].get("MaxNumberOfTrainingJobs")
    of = f" of {asked} trials" if asked else " trials"
    shown = ", ".join(f"{count} {name}" for name, count in counts.items() if count) or "none yet"
    best = search.description.get("BestTrainingJob", {})
    final = best.get("FinalHyperParameterTuningJobObjectiveMetric")
    line = f"{search.status}:{of} {shown}"
    return f"{line}; best {final['Value']:.6g} ({best['TrainingJobName']})" if final else line
