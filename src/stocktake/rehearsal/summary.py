"""What a rehearsal showed: the timeline, what was lost, what was billed; for people and as JSON."""

import json
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TypedDict

from stocktake.cloud.costs import billed_s
from stocktake.rehearsal.instance import chosen_instances
from stocktake.rehearsal.job_state import Job

SUMMARY_NAME = "summary.json"


class JobSummary(TypedDict):
    """What happened to an ended job; an entry of summary.json.

    `steps_lost` has an entry for each attempt that was interrupted: steps that the next one had to take again,
    `None` where a log shows no step. `billed_s` is BillableTimeInSeconds times the number of instances.
    """

    job: str
    status: str
    attempts: int
    world_size: int
    steps_lost: list[int | None]
    billed_s: int
    faults: list[str]
    unplayed_faults: list[str]
    warnings: list[str]
    failure_reason: str | None
    model_url: str
    checkpoint_url: str | None


def summary(job: Job) -> JobSummary:
    described = job.describe()
    lost: list[int | None] = []
    for attempt, following in zip(job.attempts, job.attempts[1:], strict=False):
        last, first = attempt.last_step, following.first_step
        lost.append(None if last is None or first is None else last - first + 1)
    return {
        "job": job.name,
        "status": job.status,
        "attempts": len(job.attempts),
        "world_size": chosen_instances(job.request)[1],
        "steps_lost": lost,
        "billed_s": billed_s(described) or 0,
        "faults": [attempt.fault for attempt in job.attempts if attempt.fault],
        "unplayed_faults": job.unplayed_faults,
        "warnings": list(dict.fromkeys(job.warnings)),
        "failure_reason": job.failure_reason,
        "model_url": described["ModelArtifacts"]["S3ModelArtifacts"],
        "checkpoint_url": job.request.get("CheckpointConfig", {}).get("S3Uri"),
    }


def readable(job: Job) -> str:
    """Returns the job's story in a few lines."""
    seen = summary(job)
    lines = [f"{job.name}: {seen['status']} after {seen['attempts']} attempt(s)"]
    for change in job.describe()["SecondaryStatusTransitions"]:
        at = datetime.fromtimestamp(change["StartTime"]).strftime("%H:%M:%S")
        lines.append(f"  {at}  {change['Status']:<12} {change['StatusMessage']}")
    for attempt, lost in zip(job.attempts, [*seen["steps_lost"], None], strict=False):
        steps = f"steps {attempt.first_step} to {attempt.last_step}" if attempt.last_step is not None else "no step"
        fault = f"; {attempt.fault}" if attempt.fault else ""
        again = "" if lost is None else f"; {lost} step(s) lost"
        lines.append(
            f"  attempt {attempt.number}: {steps}, {attempt.on_instances_s:.0f} s, {attempt.outcome}{fault}{again}"
        )
    lines += [f"  not played, the job ended before: {fault}" for fault in seen["unplayed_faults"]]
    lines += [f"  on AWS it may go otherwise: {warning}" for warning in seen["warnings"]]
    seconds = seen["billed_s"] // seen["world_size"]
    lines.append(f"  billed: {seen['billed_s']} s ({seconds} s on {seen['world_size']} instance(s))")
    return "\n".join(lines)


def write_summaries(folder: Path, jobs: Sequence[Job], unplayed_faults: Sequence[str] = ()) -> None:
    """Prints the story of each job and writes all of them to summary.json in `folder`.

    Args:
        unplayed_faults: Those that would have met who asks; they are in each job's summary.
    """
    for job in jobs:
        job.unplayed_faults += unplayed_faults
        print(readable(job))
    (folder / SUMMARY_NAME).write_text(json.dumps([summary(job) for job in jobs], indent=2) + "\n")
    print(f"Logs, checkpoints and results are in {folder}")
