"""Brings the jobs' metrics back to Hydra."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hydra.core.utils import JobReturn, JobStatus
from hydra.errors import CompactHydraException
from omegaconf import open_dict

from hydra_plugins.stocktake_sagemaker.plan import Plan

if TYPE_CHECKING:
    from stocktake.cloud.client import Jobs
    from stocktake.cloud.monitor import FollowedJob


class LaunchError(CompactHydraException):
    """Jobs could not be sent, or ended without a result; Hydra prints its message without a traceback."""


class StoppedByWatch(LaunchError):
    """A job was stopped by who watched its metrics."""


@dataclass
class FinishedJob(JobReturn):
    """What Hydra is told of a job, and what the job was billed in USD, where that is known."""

    cost_usd: float | None = None


def job_returns(
    jobs: "Jobs", plans: Sequence[Plan], followed: Sequence["FollowedJob"], with_costs: bool = False
) -> list[FinishedJob]:
    """Fetches what each job left; one without a result has its own error, and the others come all the same."""
    from stocktake.cloud.client import JobError

    returns = []
    for plan, job in zip(plans, followed, strict=True):
        cfg = plan.cfg.copy()
        result = FinishedJob(
            overrides=plan.overrides,
            hydra_cfg=plan.cfg,
            working_dir=str(plan.folder),
            task_name=plan.cfg.hydra.job.name,
            status=JobStatus.COMPLETED,
        )
        with open_dict(cfg):
            del cfg["hydra"]
        result.cfg = cfg
        try:
            result.cost_usd = _cost_usd(jobs, job) if with_costs else None
            if job.status != "Completed":
                raise JobError(f"{job.name} {job.status.lower()} ({job.secondary_status}): {job.reason or job.message}")
            metrics = jobs.results(job.name, plan.folder)
            if plan.cfg.optimized_metric not in metrics:
                raise JobError(f"{job.name}: its metrics.json has no {plan.cfg.optimized_metric}.")
            result.return_value = metrics[plan.cfg.optimized_metric]
        except (JobError, OSError) as error:
            is_stopped = bool(job.stop_reason) and job.status == "Stopped"
            reason = StoppedByWatch(f"{job.name}: {job.stop_reason}") if is_stopped else LaunchError(str(error))
            result.status, result.return_value = JobStatus.FAILED, reason
        returns.append(result)
    for result, plan, job in zip(returns, plans, followed, strict=True):
        if result.status is JobStatus.COMPLETED:
            print(f"{job.name}: {plan.cfg.optimized_metric} {result.return_value:.4f}")
            print(f"  results in {plan.folder}, model in {job.description['ModelArtifacts']['S3ModelArtifacts']}")
        elif len(returns) > 1:  # of several that failed, Hydra tells the first
            print(f"No result: {result._return_value}")
    return returns


def _cost_usd(jobs: "Jobs", job: "FollowedJob") -> float | None:
    """Returns what a job was billed, where its seconds and its instances' price are known."""
    from stocktake.cloud.costs import billed_s

    seconds, price_usd = billed_s(job.description), jobs.hourly_usd(job.instances.split(" × ")[-1])
    return None if seconds is None or price_usd is None else seconds / 3600 * price_usd
