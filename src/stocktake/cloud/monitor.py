"""Follows running jobs together until they end: states, log lines, steps, metrics, other instance types."""

import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from stocktake.cloud.client import ENDED, JobError, Jobs, LogPosition
from stocktake.cloud.request_types import TrainingJobRequest
from stocktake.cloud.validation import check_request

STEP = re.compile(r"\bstep=(\d+)(?:/(\d+))?")
METRIC = re.compile(r"(?<!\S)([a-z_]+/[a-z_0-9]+)=([-+.0-9e]+|nan|[-+]?inf)(?!\S)")
# What AWS says while a spot job waits (StatusMessage), and of a job that it gave up (FailureReason).
NO_CAPACITY = re.compile(r"insufficient capacity|CapacityError|capacity", re.IGNORECASE)


@dataclass
class FollowedJob:
    """A job and what is known of it.

    Attributes:
        name: Of the job that runs now; another instance type makes another job.
        others: Requests to send in turn when instances are missing; they go on from the same checkpoints.
        label: What distinguishes it from the others of a sweep.
        metrics: The last value of each metric in the log.
        validations: By step what a validation got; one that is repeated after an interruption is the same one.
        stop_reason: Why this program stopped the job; an empty string where it did not.
        reason: Of a failure.
        waits_since: When the waiting for instances was first seen, on the monotonic clock.
        shown: State and message that were last shown.
        has_log: Whether its log may be read.
    """

    name: str
    others: Sequence[TrainingJobRequest] = ()
    label: str = ""
    instances: str = ""
    status: str = "InProgress"
    secondary_status: str = "Starting"
    message: str = ""
    step: int | None = None
    num_steps: int | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    validations: dict[int, dict[str, float]] = field(default_factory=dict)
    stop_reason: str = ""
    reason: str = ""
    description: dict[str, Any] = field(default_factory=dict)
    position: LogPosition = field(default_factory=LogPosition)
    waits_since: float | None = None
    shown: tuple[str, str] = ("Starting", "")
    has_log: bool = True

    @property
    def ended(self) -> bool:
        return self.status in ENDED

    def see(self, described: dict[str, Any]) -> None:
        self.description = described
        self.status, self.secondary_status = described["TrainingJobStatus"], described["SecondaryStatus"]
        self.message = next(
            (change["StatusMessage"] for change in described.get("SecondaryStatusTransitions", [])[-1:]), ""
        )
        self.reason = described.get("FailureReason", "")
        self.instances = wanted_instances(described["ResourceConfig"])

    def read(self, line: str) -> bool:
        """Takes step and metrics from a log line; returns whether there is nothing else in it."""
        found = STEP.search(line)
        if found:
            self.step = int(found[1])
            self.num_steps = int(found[2]) if found[2] else self.num_steps
        found_metrics = {name: float(value) for name, value in METRIC.findall(line) if _is_number(value)}
        self.metrics |= found_metrics
        if found and any(name.startswith("valid/") for name in found_metrics):
            self.validations[int(found[1])] = found_metrics
        return bool(found) or not line.strip()


def wanted_instances(resources: Mapping[str, Any]) -> str:
    """Returns number and type of the instances that a request asks for; of several types the first."""
    chosen = resources if "InstanceType" in resources else resources["InstancePreferences"][0]
    return f"{chosen['InstanceCount']} × {chosen['InstanceType']}"


class Screen(Protocol):
    """Where a person sees it, see `stocktake.cloud.progress`."""

    def log(self, job: FollowedJob, host: str, line: str) -> None: ...

    def say(self, text: str) -> None: ...

    def show(self, jobs: Sequence[FollowedJob]) -> None: ...


# Given a job's place among those that are followed, and the job after a validation: why to stop it, or an empty string.
Watch = Callable[[int, FollowedJob], str]


def follow(
    jobs: Jobs,
    followed: Sequence[FollowedJob],
    screen: Screen,
    poll_s: float,
    capacity_wait_s: float,
    watch: Watch | None = None,
) -> None:
    """Returns when all jobs have ended; who is interrupted by Ctrl-C leaves them running.

    Args:
        poll_s: Between two looks.
        capacity_wait_s: A job that waits so long for instances is stopped where another type may be tried.
        watch: Is told of each validation that a log shows, and may have the job stopped.

    Raises:
        JobError: A job may not be looked at.
        Unavailable: AWS did not answer for a long time.
    """
    while True:
        for index, job in enumerate(followed):
            if not job.ended or not job.description:
                num_validations = len(job.validations)
                look(jobs, job, screen, capacity_wait_s)
                if watch is not None and len(job.validations) > num_validations and not job.stop_reason:
                    job.stop_reason = watch(index, job)
                    _stop_for(jobs, job, screen)
        screen.show(followed)
        if all(job.ended for job in followed):
            return
        time.sleep(poll_s)


def look(jobs: Jobs, job: FollowedJob, screen: Screen, capacity_wait_s: float) -> None:
    """Takes what is new of a job: its state, its log."""
    job.see(jobs.describe(job.name))
    if job.has_log:
        _read_log(jobs, job, screen)
    if (state := (job.secondary_status, job.message)) != job.shown:
        job.shown = state
        screen.say(f"{job.name}: {job.secondary_status}: {job.message}")
    if job.others and _lacks_instances(job, capacity_wait_s):
        _try_another_type(jobs, job, screen)


def _stop_for(jobs: Jobs, job: FollowedJob, screen: Screen) -> None:
    """Stops a job for the reason that it has, if it has one and has not ended by now."""
    if job.ended:
        job.stop_reason = ""
    elif job.stop_reason:
        screen.say(f"{job.name}: stopped: {job.stop_reason}")
        jobs.stop(job.name)


def _read_log(jobs: Jobs, job: FollowedJob, screen: Screen) -> None:
    try:
        for host, line in jobs.new_log_lines(job.name, job.position):
            if not job.read(line):
                screen.log(job, host, line)
    except JobError as error:  # its state and its results come all the same
        job.has_log = False
        screen.say(f"{error} {job.name} is followed without its log.")


def _lacks_instances(job: FollowedJob, capacity_wait_s: float) -> bool:
    if job.ended:
        return job.status == "Failed" and bool(NO_CAPACITY.search(job.reason))
    lacks = job.secondary_status == "Starting" and bool(NO_CAPACITY.search(job.message))
    if not lacks and job.secondary_status != "Pending":  # which is AWS's state of waiting for capacity
        job.waits_since = None
        return False
    if job.waits_since is None:
        job.waits_since = time.monotonic()
    return time.monotonic() - job.waits_since >= capacity_wait_s


def _try_another_type(jobs: Jobs, job: FollowedJob, screen: Screen) -> None:
    """Ends a job that gets no instances and sends the next one, whose checkpoints are the same."""
    if not job.ended:
        jobs.stop(job.name)
        while not job.ended:  # two jobs must not write the same checkpoints
            time.sleep(1)
            job.see(jobs.describe(job.name))
    request = job.others[0]
    check_request("CreateTrainingJob", request)
    jobs.submit(request)
    instance_type = wanted_instances(request["ResourceConfig"]).split()[-1]
    screen.say(
        f"{job.name}: no {job.instances.split()[-1]} to be had; {request['TrainingJobName']} tries {instance_type}."
    )
    job.name, job.others = request["TrainingJobName"], job.others[1:]
    job.status, job.secondary_status, job.description = "InProgress", "Starting", {}
    job.position, job.waits_since = LogPosition(), None


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
