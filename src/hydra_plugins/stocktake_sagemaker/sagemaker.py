"""Jobs on AWS's SageMaker, in an account of the user's: `hydra/launcher=sagemaker`."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from hydra_plugins.stocktake_sagemaker.backend import Batch, JobSettings
from hydra_plugins.stocktake_sagemaker.launcher import JobLauncher
from hydra_plugins.stocktake_sagemaker.options import SageMakerOptions
from hydra_plugins.stocktake_sagemaker.override_checks import override_problems
from hydra_plugins.stocktake_sagemaker.plan import resolved_compute
from hydra_plugins.stocktake_sagemaker.problems import (
    Problem,
    request_problems,
    secret_problems,
    storage_problems,
    summary,
    unset_problems,
)
from hydra_plugins.stocktake_sagemaker.results import LaunchError
from hydra_plugins.stocktake_sagemaker.s3_checks import stored_problems

if TYPE_CHECKING:
    from stocktake.cloud.client import Jobs
    from stocktake.cloud.monitor import FollowedJob


class SageMakerLauncher(JobLauncher):
    """`hydra/launcher=sagemaker`."""

    def __init__(self, **options: Any):
        """
        Args:
            options: The fields of `SageMakerOptions`.
        """
        read = SageMakerOptions(**options)
        super().__init__(SageMakerBackend(read.profile, read.region, read.send_wandb_key, read.yes), read)


class SageMakerBackend:
    """The training jobs of an AWS account; they go on, and are billed, when this program ends."""

    outlives_program = True

    def __init__(self, profile: str | None, region: str | None, send_wandb_key: bool, yes: bool = False):
        """
        Args:
            profile: In the AWS configuration; `None` as boto3 finds it.
            region: `None` takes the profile's.
            send_wandb_key: Put this machine's W&B key into the job's environment.
            yes: Send without a question.
        """
        self.profile, self.set_region, self.send_wandb_key, self.yes = profile, region, send_wandb_key, yes

    @property
    def region(self) -> str:
        from stocktake.cloud.preflight import DEFAULT_REGION

        return self._known_region or DEFAULT_REGION

    @cached_property
    def _known_region(self) -> str | None:
        from stocktake.cloud.preflight import find_region

        return find_region(self.profile, self.set_region)

    def hourly_usd(self, instance_type: str) -> float | None:
        from stocktake.cloud.preflight import session
        from stocktake.cloud.price_list import hourly_usd

        return hourly_usd(session(self.profile, self.set_region), instance_type)

    def settings(self, cfg: DictConfig) -> JobSettings:
        from stocktake.diagnostics.credentials import wandb_key

        compute, key = resolved_compute(cfg), wandb_key()
        environment, notices = {}, []
        if self.send_wandb_key:
            if not key:
                raise ValueError("hydra.launcher.send_wandb_key=true, but no W&B key is here: type wandb login")
            environment["WANDB_API_KEY"] = key
        elif key and not compute.get("wandb_secret"):
            notices.append(
                "W&B will be offline in the job. To send the key: compute.wandb_secret=<name in Secrets Manager>, or "
                "hydra.launcher.send_wandb_key=true (who may look at the job can then read it)."
            )
        if compute.get("spot") and not cfg.get("resume"):
            notices.append(
                "After a spot interruption a job ends with an error: it would overwrite its own best.ckpt. "
                "To go on instead: callbacks=spot resume=true"
            )
        return JobSettings(compute, environment=environment, notices=notices)

    def problems(self, batch: Batch) -> Iterator[Problem]:
        from stocktake.cloud.preflight import no_region

        if self._known_region is None:
            yield Problem(no_region(), is_missing=True)
        for plan in batch.plans:
            yield from unset_problems(plan.cfg)
            yield from storage_problems(plan.cfg, batch.code.files)
            yield from secret_problems(plan.cfg.compute.get("environment"))
            yield from request_problems(plan, self.region)
        yield from override_problems(batch.plans, batch.code, batch.config)

    @contextmanager
    def connect(self, batch: Batch, problems: Sequence[Problem]) -> Iterator[Jobs]:
        from stocktake.cloud.preflight import account_jobs, account_problems, session

        aws, problems = session(self.profile, self.set_region), list(problems)
        if not any(problem.is_missing for problem in problems):  # bucket and role are known
            first_requests = [plan.requests[0] for plan in batch.plans]
            problems += [Problem(text) for text in account_problems(aws, first_requests)]
        if problems:
            raise LaunchError(summary(problems))
        jobs = account_jobs(aws, self.profile)
        new = [plan for plan in batch.plans if not (batch.may_exist and jobs.exists(plan.name))]
        if problems := stored_problems(new, batch.code, batch.config, jobs.open_folder, self.profile):
            raise LaunchError(summary(problems))
        yield jobs

    def is_agreed(self, plan: str) -> bool:
        from stocktake.console import is_agreed

        print(f"To be sent:\n{plan}", flush=True)
        return is_agreed("Send it?", self.yes or not (sys.stdin.isatty() and sys.stdout.isatty()))

    def interrupted(self, jobs: Jobs, batch: Batch, followed: Sequence[FollowedJob]) -> None:
        running = [job for job in followed if not job.ended]
        choice = ""
        if running and sys.stdin.isatty() and sys.stdout.isatty():
            with suppress(KeyboardInterrupt, EOFError):
                choice = input(f"\n{len(running)} job(s) running. Leave them running, or stop them? [leave/stop] ")
        if choice.strip().lower().startswith("s"):
            running = [job for job in running if not _stopped(jobs, job.name)]
        if running:
            print(f"Left running, and billed: {', '.join(job.name for job in running)}.")
            print("\n".join(self._how_to_go_on(jobs, batch, running)))
        elif not followed:
            print("Nothing was sent.")

    def left_running(self, jobs: Jobs, batch: Batch, followed: Sequence[FollowedJob]) -> None:
        if running := [job for job in followed if not job.ended]:
            names = ", ".join(job.name for job in running)
            print(f"{len(running)} of {len(batch.plans)} job(s) run on, and are billed: {names}.")
            print("\n".join(self._how_to_go_on(jobs, batch, running)), flush=True)

    def _how_to_go_on(self, jobs: Jobs, batch: Batch, running: Sequence[FollowedJob]) -> list[str]:
        """Returns what the jobs cost while they run, and what to type to stop them or to see them again."""
        counts = [job.instances.split(" × ") for job in running]  # as `wanted_instances` writes them
        prices_usd = [jobs.hourly_usd(instance_type) for _, instance_type in counts]
        known_usd = [price_usd for price_usd in prices_usd if price_usd]
        lines = []
        if len(known_usd) == len(running):
            total_usd = sum(int(count) * price_usd for (count, _), price_usd in zip(counts, known_usd, strict=True))
            lines.append(f"They cost {total_usd:.2f} USD an hour on demand; spot instances cost less.")
        else:
            lines.append("What they cost an hour: https://aws.amazon.com/sagemaker/ai/pricing")
        lines.append("To stop them, type:")
        stop = "aws sagemaker stop-training-job --training-job-name"
        lines += [f"  {stop} {job.name} --region {self.region}" for job in running]
        lines.append(f"To see them again, type the same overrides and hydra.launcher.job_name={batch.name}")
        return lines


def _stopped(jobs: Jobs, name: str) -> bool:
    try:
        jobs.stop(name)
    except Exception as error:  # whatever it is, the other jobs are to be stopped, too
        print(f"{name} could not be stopped: {error}")
        return False
    print(f"Stopping: {name}. What it saved stays.")
    return True
