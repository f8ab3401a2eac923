"""The training jobs of a rehearsal, in memory, with the states and words that SageMaker uses for them."""

import copy
import math
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

ACCOUNT, REGION = "123456789012", "us-east-1"
ENDED = ("Completed", "Failed", "Stopped")
# Which status a secondary status belongs to (DescribeTrainingJob); all others are InProgress.
STATUS_OF = {
    "Completed": "Completed",
    "Failed": "Failed",
    "Stopping": "Stopping",
    "Stopped": "Stopped",
    "MaxRuntimeExceeded": "Stopped",
    "MaxWaitTimeExceeded": "Stopped",
}
MESSAGES = {
    "Starting": "Launching requested ML instances",
    "Pending": "Waiting for compute capacity",
    "Downloading": "Downloading input data",
    "Training": "Training image download completed. Training in progress.",
    "Interrupted": "The spot instances were taken away",
    "Uploading": "Uploading generated training model",
    "Stopping": "Stopping the training job",
    "Completed": "Training job completed",
    "Failed": "Training job failed",
    "Stopped": "Training job stopped",
    "MaxRuntimeExceeded": "Training job runtime exceeded MaxRuntimeInSeconds",
    "MaxWaitTimeExceeded": "Training job exceeded MaxWaitTimeInSeconds",
}
MAX_FAILURE_REASON_CHARACTERS = 1024
# DescribeTrainingJob gives these back as they came.
ECHOED = (
    "HyperParameters",
    "AlgorithmSpecification",
    "RoleArn",
    "InputDataConfig",
    "OutputDataConfig",
    "ResourceConfig",
    "VpcConfig",
    "StoppingCondition",
    "EnableNetworkIsolation",
    "EnableManagedSpotTraining",
    "EnableInterContainerTrafficEncryption",
    "CheckpointConfig",
    "Environment",
    "RetryStrategy",
    "TuningJobArn",
)


class RequestRefused(Exception):
    """A request that AWS answers with an error.

    Attributes:
        code: The error's name on the wire.
        status: Of HTTP.
        fields: What else stands in the error's body.
    """

    def __init__(self, code: str, message: str, status: int = 400, **fields: Any):
        super().__init__(message)
        self.code, self.status, self.fields = code, status, fields


@dataclass
class Attempt:
    """One time that all instances of a job ran, from their start to their end.

    Attributes:
        outcome: `completed`, `failed`, `stopped` or `interrupted`.
        fault: What was done to it, in the words of the fault plan.
        first_step: The first step in its log (metric `step`); `None` if there is none.
        on_instances_s: From the download of its data to its end, uploads included.
    """

    number: int
    started_at: float
    outcome: str = "running"
    fault: str | None = None
    first_step: int | None = None
    last_step: int | None = None
    on_instances_s: float = 0.0
    exit_codes: list[int | None] = field(default_factory=list)


class Job:
    """A training job: its request, where it stands and how it came there. Any thread may call its methods.

    Attributes:
        stop_asked: Set by `stop`; whoever plays the job ends it.
        ended: Set when the job has come to its last state.
        unplayed_faults: What the fault plan still held when the job ended.
        warnings: What went well here and may go otherwise with AWS.
        metrics: The last value that each metric definition's regex saw in the log, and when.
        values: All of them but the steps.
        trial: Its number in a tuning job, from 0 on; `None` of one that was sent by itself.
    """

    def __init__(self, request: Mapping, trial: int | None = None):
        self.request = copy.deepcopy(dict(request))
        self.name = self.request["TrainingJobName"]
        self.arn = f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:training-job/{self.name.lower()}"
        self.created_at = time.time()
        self.attempts: list[Attempt] = []
        self.unplayed_faults: list[str] = []
        self.warnings: list[str] = []
        self.metrics: dict[str, tuple[float, float]] = {}
        self.values: dict[str, list[float]] = {}
        self.trial = trial
        self.stop_asked, self.ended = threading.Event(), threading.Event()
        self.failure_reason = None
        self.training_started_at = None
        self._lock = threading.RLock()
        self._transitions: list[dict] = []
        self.enter("Starting", "Starting the training job")

    @property
    def spot(self) -> bool:
        return bool(self.request.get("EnableManagedSpotTraining"))

    @property
    def secondary_status(self) -> str:
        return self._transitions[-1]["Status"]

    @property
    def status(self) -> str:
        return STATUS_OF.get(self.secondary_status, "InProgress")

    @property
    def on_instances_s(self) -> float:
        return sum(attempt.on_instances_s for attempt in self.attempts)

    def enter(self, secondary_status: str, message: str | None = None) -> None:
        """Moves the job to a secondary status; the one that it is in only gets a new message.

        A job that is being stopped only moves to its end, and one that has ended stays as it is.
        """
        message = message or MESSAGES[secondary_status]
        with self._lock:
            if self._transitions and self.status in ENDED:
                return
            if self.stop_asked.is_set() and secondary_status not in STATUS_OF:
                return
            now = time.time()
            if self._transitions and self.secondary_status == secondary_status:
                self._transitions[-1]["StatusMessage"] = message
            else:
                if self._transitions:
                    self._transitions[-1]["EndTime"] = now
                self._transitions.append({"Status": secondary_status, "StartTime": now, "StatusMessage": message})
            if secondary_status == "Downloading" and self.training_started_at is None:
                self.training_started_at = now
            if self.status in ENDED:
                self._transitions[-1]["EndTime"] = now
        if self.status in ENDED:
            self.ended.set()

    def stop(self) -> None:
        """Asks whoever plays the job to end it.

        Raises:
            RequestRefused: It does not run.
        """
        with self._lock:
            if self.status != "InProgress":
                raise RequestRefused(
                    "ValidationException",
                    f"The request was rejected because the training job is in status {self.status}.",
                )
            self.stop_asked.set()
            self.enter("Stopping")

    def fail(self, reason: str) -> None:
        self.failure_reason = reason[:MAX_FAILURE_REASON_CHARACTERS]
        self.enter("Failed")

    def see_metric(self, name: str, value: float) -> None:
        with self._lock:
            self.metrics[name] = (value, time.time())
            if name != "step":
                self.values.setdefault(name, []).append(value)
            elif self.attempts:
                attempt = self.attempts[-1]
                attempt.first_step = int(value) if attempt.first_step is None else attempt.first_step
                attempt.last_step = int(value)

    def summary(self) -> dict:
        """Returns the job as in the answer of ListTrainingJobs; times are seconds since 1970."""
        with self._lock:
            seen = {
                "TrainingJobName": self.name,
                "TrainingJobArn": self.arn,
                "CreationTime": self.created_at,
                "LastModifiedTime": self._transitions[-1]["StartTime"],
                "TrainingJobStatus": self.status,
                "SecondaryStatus": self.secondary_status,
            }
            if self.status in ENDED:
                seen["TrainingEndTime"] = self._transitions[-1]["StartTime"]
            return seen

    def describe(self) -> dict:
        """Returns the job as in the answer of DescribeTrainingJob.

        On spot AWS bills less time than was used, by the spot price of the day; a rehearsal knows no price and
        bills all the time that the instances ran.
        """
        with self._lock:
            seen = self.summary() | {name: self.request[name] for name in ECHOED if name in self.request}
            seen["SecondaryStatusTransitions"] = copy.deepcopy(self._transitions)
            output = f"{self.request['OutputDataConfig']['S3OutputPath'].rstrip('/')}/{self.name}/output"
            seen["ModelArtifacts"] = {"S3ModelArtifacts": f"{output}/model.tar.gz"}
            if self.training_started_at:
                seen["TrainingStartTime"] = self.training_started_at
                seen["TrainingTimeInSeconds"] = seen["BillableTimeInSeconds"] = math.ceil(self.on_instances_s)
            if self.failure_reason:
                seen["FailureReason"] = self.failure_reason
            if self.metrics:
                seen["FinalMetricDataList"] = [
                    {"MetricName": name, "Value": value, "Timestamp": seen_at}
                    for name, (value, seen_at) in self.metrics.items()
                ]
            return copy.deepcopy(seen)
