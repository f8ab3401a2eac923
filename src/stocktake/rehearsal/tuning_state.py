"""The tuning jobs of a rehearsal, in memory, with the states and words that SageMaker uses for them."""

import copy
import math
import threading
import time
from collections.abc import Mapping
from typing import Any

from stocktake.rehearsal.job_state import ACCOUNT, ENDED, REGION, Job, RequestRefused

INTERNAL = "InternalServerError"  # begins the reason of what SageMaker would try again
OF_A_TUNING_JOB = ("StaticHyperParameters", "DefinitionName", "TuningObjective", "HyperParameterRanges")
STATUSES: tuple[str, ...] = ("Completed", "InProgress", "RetryableError", "NonRetryableError", "Stopped")
OBJECTIVE_STATUSES: tuple[str, ...] = ("Succeeded", "Pending", "Failed")
STATIC = "StaticHyperParameters"


class TuningJob:
    """A tuning job: its request, its trials and where it stands. Any thread may call its methods.

    Attributes:
        trials: In the order in which they were created.
        tuned: The hyperparameters of each by its name.
        stop_asked: Set by `stop`; whoever plays it ends it.
        num_not_improving: Trials that ended since the best was bettered by a hundredth.
    """

    def __init__(self, request: Mapping[str, Any]):
        self.request = copy.deepcopy(dict(request))
        self.name = self.request["HyperParameterTuningJobName"]
        self.arn = f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:hyper-parameter-tuning-job/{self.name.lower()}"
        self.config: dict[str, Any] = self.request["HyperParameterTuningJobConfig"]
        self.definition: dict[str, Any] = self.request["TrainingJobDefinition"]
        objective = self.config["HyperParameterTuningJobObjective"]
        self.metric, self.maximize = objective["MetricName"], objective["Type"] == "Maximize"
        self.status, self.failure_reason, self.num_not_improving = "InProgress", "", 0
        self.created_at = self.changed_at = time.time()
        self.trials: list[Job] = []
        self.tuned: dict[str, dict[str, str]] = {}
        self.stop_asked = threading.Event()
        self._lock = threading.RLock()

    def trial_request(self, name: str, tuned: Mapping[str, str]) -> dict[str, Any]:
        """Returns a trial's CreateTrainingJob, as SageMaker makes it of the definition."""
        kept = {key: value for key, value in self.definition.items() if key not in OF_A_TUNING_JOB}
        static = {**self.definition.get(STATIC, {}), "_tuning_objective_metric": self.metric}
        return {
            "TrainingJobName": name,
            **kept,
            "HyperParameters": {**static, **tuned},
            "Tags": self.request.get("Tags", []),
            "TuningJobArn": self.arn,
        }

    def add(self, trial: Job, tuned: Mapping[str, str]) -> None:
        with self._lock:
            self.trials.append(trial)
            self.tuned[trial.name] = dict(tuned)

    def enter(self, status: str, reason: str = "") -> None:
        with self._lock:
            if self.status not in ENDED:
                self.status, self.failure_reason, self.changed_at = status, reason, time.time()

    def stop(self) -> None:
        """Asks whoever plays it to end it and its trials.

        Raises:
            RequestRefused: It does not run.
        """
        with self._lock:
            if self.status != "InProgress":
                text = f"The request was rejected because the hyperparameter tuning job is in status {self.status}."
                raise RequestRefused("ValidationException", text)
            self.stop_asked.set()
            self.enter("Stopping")

    def values(self, trial: Job) -> list[float]:
        """Returns a trial's objective as its log tells it, one value for each validation."""
        return trial.values.get(self.metric, [])

    def final(self, trial: Job) -> float | None:
        """Returns the objective of a trial that has ended and did not fail: the last that was seen."""
        seen = self.values(trial)
        return seen[-1] if seen and trial.status in ("Completed", "Stopped") else None

    @property
    def best(self) -> Job | None:
        scored = [(value, trial) for trial in self.trials if (value := self.final(trial)) is not None]
        pick = max if self.maximize else min
        return pick(scored, key=lambda pair: pair[0])[1] if scored else None

    def counters(self) -> tuple[dict[str, int], dict[str, int]]:
        """Returns TrainingJobStatusCounters and ObjectiveStatusCounters."""
        statuses: dict[str, int] = dict.fromkeys(STATUSES, 0)
        objectives: dict[str, int] = dict.fromkeys(OBJECTIVE_STATUSES, 0)
        for trial in self.trials:
            if trial.status == "Failed":
                again = (trial.failure_reason or "").startswith(INTERNAL)
                statuses["RetryableError" if again else "NonRetryableError"] += 1
            else:
                statuses[trial.status if trial.status in statuses else "InProgress"] += 1
            objectives[self._objective_status(trial)] += 1
        return statuses, objectives

    def _objective_status(self, trial: Job) -> str:
        if trial.status not in ENDED:
            return "Pending"
        return "Failed" if self.final(trial) is None else "Succeeded"

    def trial_summary(self, trial: Job) -> dict[str, Any]:
        """Returns a trial as in the answer of ListTrainingJobsForHyperParameterTuningJob."""
        described = trial.describe()
        names = ("TrainingJobName", "TrainingJobArn", "CreationTime", "TrainingStartTime", "TrainingEndTime")
        names += ("TrainingJobStatus", "FailureReason")
        seen = {name: described[name] for name in names if name in described}
        seen |= {"TunedHyperParameters": self.tuned[trial.name], "ObjectiveStatus": self._objective_status(trial)}
        if (value := self.final(trial)) is not None and math.isfinite(value):
            objective = self.config["HyperParameterTuningJobObjective"]
            seen["FinalHyperParameterTuningJobObjectiveMetric"] = {**objective, "Value": value}
        return seen

    def summary(self) -> dict[str, Any]:
        """Returns it as in the answer of ListHyperParameterTuningJobs."""
        status = self.status  # before its trials are counted: once it has ended, they have
        statuses, objectives = self.counters()
        seen = {
            "HyperParameterTuningJobName": self.name,
            "HyperParameterTuningJobArn": self.arn,
            "HyperParameterTuningJobStatus": status,
            "Strategy": self.config["Strategy"],
            "CreationTime": self.created_at,
            "LastModifiedTime": self.changed_at,
            "TrainingJobStatusCounters": statuses,
            "ObjectiveStatusCounters": objectives,
            "ResourceLimits": self.config["ResourceLimits"],
        }
        return seen | ({"HyperParameterTuningEndTime": self.changed_at} if status in ENDED else {})

    def describe(self) -> dict[str, Any]:
        """Returns it as in the answer of DescribeHyperParameterTuningJob."""
        with self._lock:
            seen = self.summary()
            del seen["Strategy"], seen["ResourceLimits"]
            trial = copy.deepcopy(self.definition)
            trial.setdefault(STATIC, {})["_tuning_objective_metric"] = self.metric
            seen |= {"HyperParameterTuningJobConfig": self.config, "TrainingJobDefinition": trial}
            if best := self.best:
                seen["BestTrainingJob"] = self.trial_summary(best)
            if "WarmStartConfig" in self.request:
                seen["WarmStartConfig"] = self.request["WarmStartConfig"]
            if self.failure_reason:
                seen["FailureReason"] = self.failure_reason
            seen["ConsumedResources"] = {"RuntimeInSeconds": math.ceil(time.time() - self.created_at)}
            seen["TuningJobCompletionDetails"] = {"NumberOfTrainingJobsObjectiveNotImproving": self.num_not_improving}
            return copy.deepcopy(seen)
