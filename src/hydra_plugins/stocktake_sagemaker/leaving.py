"""What becomes of jobs when this program ends before they do; they run on, and are billed."""

import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

INTERRUPTED = 130  # what a shell gives for Ctrl-C


def ask_and_leave(jobs: Any, followed: Sequence[Any], launch_name: str, region: str) -> None:
    """Asks after a Ctrl-C what shall become of the jobs, and ends this program."""
    running = [job for job in followed if not job.ended]
    answer = ""
    if running and sys.stdin.isatty() and sys.stdout.isatty():
        with suppress(KeyboardInterrupt, EOFError):
            answer = input(f"\n{len(running)} job(s) running. Leave them running, or stop them? [leave/stop] ")
    if answer.strip().lower().startswith("s"):
        running = [job for job in running if not _stopped(jobs, job.name)]
    if running:
        print(f"Left running, and billed: {', '.join(job.name for job in running)}.")
        print("\n".join(how_to_go_on(jobs, running, launch_name, region)))
    elif not followed:
        print("Nothing was sent.")
    sys.exit(INTERRUPTED)


def _stopped(jobs: Any, name: str) -> bool:
    try:
        jobs.stop(name)
    except Exception as error:  # whatever it is, the other jobs are to be stopped, too
        print(f"{name} could not be stopped: {error}")
        return False
    print(f"Stopping: {name}. What it saved stays.")
    return True


def how_to_go_on(jobs: Any, running: Sequence[Any], launch_name: str, region: str) -> list[str]:
    """Returns what the jobs cost while they run, and what to type to stop them or to see them again."""
    counts = [job.instances.split(" × ") for job in running]  # as `wanted_instances` writes them
    prices = {instance_type: jobs.hourly_usd(instance_type) for _, instance_type in counts}
    lines = []
    if all(prices.values()):
        total_usd = sum(int(count) * prices[instance_type] for count, instance_type in counts)
        lines.append(f"They cost {total_usd:.2f} USD an hour on demand; spot instances cost less.")
    else:
        lines.append("What they cost an hour: https://aws.amazon.com/sagemaker/ai/pricing")
    lines.append("To stop them, type:")
    lines += [f"  aws sagemaker stop-training-job --training-job-name {job.name} --region {region}" for job in running]
    lines.append(f"To see them again, type the same words and hydra.launcher.job_name={launch_name}")
    return lines
