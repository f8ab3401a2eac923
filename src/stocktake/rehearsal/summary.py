"""What a rehearsal showed: the timeline, what was lost, what was billed; for people and as JSON."""

import json
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from stocktake.cloud.client import billed_s
from stocktake.rehearsal.instance import chosen_instances
from stocktake.rehearsal.job_state import Job

SUMMARY_NAME = "summary.json"


def summary(job: Job) -> dict[str, Any]:
    """Returns what happened to an ended job as plain values.

    `steps_lost` has an entry for each attempt that was interrupted: steps that the next one had to take again,
    `None` where a log told no step. `billed_s` is BillableTimeInSeconds times the number of instances.
    """
    described = job.describe()
    lost = []
    for attempt, following in zip(job.attempts, job.attempts[1:], strict=False):
        known = attempt.last_step is not None and following.first_step is not None
        lost.append(attempt.last_step - following.first_step + 1 if known else None)
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
    told = summary(job)
    lines = [f"{job.name}: {told['status']} after {told['attempts']} attempt(s)"]
    for change in job.describe()["SecondaryStatusTransitions"]:
        at = datetime.fromtimestamp(change["StartTime"]).strftime("%H:%M:%S")
        lines.append(f"  {at}  {change['Status']:<12} {change['StatusMessage']}")
    for attempt, lost in zip(job.attempts, [*told["steps_lost"], None], strict=False):
        steps = f"steps {attempt.first_step} to {attempt.last_step}" if attempt.last_step is not None else "no step"
        fault = f"; {attempt.fault}" if attempt.fault else ""
        again = "" if lost is None else f"; {lost} step(s) lost"
        lines.append(
            f"  attempt {attempt.number}: {steps}, {attempt.on_instances_s:.0f} s, {attempt.outcome}{fault}{again}"
        )
    lines += [f"  not played, the job ended before: {fault}" for fault in told["unplayed_faults"]]
    lines += [f"  on AWS it may go otherwise: {warning}" for warning in told["warnings"]]
    seconds = told["billed_s"] // told["world_size"]
    lines.append(f"  billed: {told['billed_s']} s ({seconds} s on {told['world_size']} instance(s))")
    return "\n".join(lines)


def write_summaries(folder: Path, jobs: Sequence[Job], unplayed_faults: Sequence[str] = ()) -> None:
    """Prints the story of each job and writes all of them to summary.json in `folder`.

    Args:
        unplayed_faults: Those that would have met who asks; each job tells them.
    """
    for job in jobs:
        job.unplayed_faults += unplayed_faults
        print(readable(job))
    (folder / SUMMARY_NAME).write_text(json.dumps([summary(job) for job in jobs], indent=2) + "\n")
    print(f"Logs, checkpoints and results are in {folder}")
