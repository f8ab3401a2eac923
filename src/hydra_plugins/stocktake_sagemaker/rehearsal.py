"""Jobs played through on this machine as SageMaker would: `hydra/launcher=rehearsal`."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from hydra_plugins.stocktake_sagemaker.backend import Batch, JobSettings
from hydra_plugins.stocktake_sagemaker.launcher import JobLauncher
from hydra_plugins.stocktake_sagemaker.options import RehearsalOptions
from hydra_plugins.stocktake_sagemaker.plan import resolved_compute
from hydra_plugins.stocktake_sagemaker.problems import Problem, request_problems, secret_problems, summary
from hydra_plugins.stocktake_sagemaker.results import LaunchError

if TYPE_CHECKING:
    from stocktake.cloud.client import Jobs
    from stocktake.cloud.monitor import FollowedJob

LOCK = Path("requirements.container.lock")
# Stand-ins for what an account would have.
ACCOUNT = {
    "bucket": "rehearsal",
    "role_arn": "arn:aws:iam::123456789012:role/Rehearsal",
    "requirements": None,  # nothing is installed when an instance starts; see hydra.launcher.clean
    "wandb_secret": None,
}


class RehearsalLauncher(JobLauncher):
    """`hydra/launcher=rehearsal`."""

    def __init__(self, **options: Any):
        """
        Args:
            options: The fields of `RehearsalOptions`.
        """
        read = RehearsalOptions(**options)
        super().__init__(RehearsalBackend(read), read)


class RehearsalBackend:
    """A SageMaker of this machine's; its jobs end with this program."""

    region = "us-east-1"
    outlives_program = False

    def __init__(self, options: RehearsalOptions):
        self.options = options

    def hourly_usd(self, instance_type: str) -> float | None:
        return None

    def settings(self, cfg: DictConfig) -> JobSettings:
        from stocktake.hardware import num_cores

        compute = resolved_compute(cfg, **ACCOUNT)
        # What is no number is refused later, with its key.
        num_hosts = compute["num_instances"] if isinstance(compute["num_instances"], int) else 1
        # Nothing of a rehearsal shall appear among the real runs.
        environment = {
            "WANDB_MODE": "offline",
            "OMP_NUM_THREADS": str(max(1, num_cores() // max(1, num_hosts))),
        }
        if num_hosts > 1:
            # Several hosts cannot share this machine's GPUs as they would have their own.
            environment |= {"CUDA_VISIBLE_DEVICES": "", "NPROC_PER_NODE": "1"}
        # An instance has no such folder; this machine has.
        overrides = [f"{key}={os.path.abspath(path)}" for key, path in _local_paths(cfg)]
        notices = [
            f"{override} for this rehearsal; on SageMaker it has to be in S3, or drawn there." for override in overrides
        ]
        return JobSettings(compute, overrides, environment, notices)

    def problems(self, batch: Batch) -> Iterator[Problem]:
        """Here the instances see this machine's files, and what does not start says so without a bill."""
        for plan in batch.plans:
            yield from secret_problems(plan.cfg.compute.get("environment"))
            yield from request_problems(plan, self.region)

    @contextmanager
    def connect(self, batch: Batch, problems: Sequence[Problem]) -> Iterator[Jobs]:
        if problems:
            raise LaunchError(summary(problems))

        from stocktake.cloud.client import Jobs
        from stocktake.rehearsal.api_server import RehearsalServer
        from stocktake.rehearsal.clean_python import clean_python
        from stocktake.rehearsal.local_runner import LocalRunner
        from stocktake.rehearsal.s3_sync import opener
        from stocktake.rehearsal.summary import write_summaries
        from stocktake.rehearsal.termination import unwinding

        options, folder = self.options, Path(self.options.folder, batch.plans[0].name)
        if folder.exists():
            raise ValueError(f"{folder} is there already: type another hydra.launcher.job_name, or rm -r {folder}")
        image_uri = batch.plans[0].requests[0]["AlgorithmSpecification"]["TrainingImage"]
        with (
            unwinding(),
            LocalRunner(
                folder,
                options.faults,
                s3_folder=folder / "s3",
                grace_s=options.grace_s,
                upload_interval_s=options.upload_interval_s,
                python=clean_python(batch.code.root / LOCK, image_uri) if options.clean else None,
            ) as runner,
            RehearsalServer(runner, faults=runner.faults) as server,
        ):
            yield Jobs(server.client("sagemaker"), server.client("logs"), opener(folder / "s3"))
            write_summaries(folder, server.jobs.all(), server.faults.unplayed)

    def is_agreed(self, plan: str) -> bool:
        return True

    def interrupted(self, jobs: Jobs, batch: Batch, followed: Sequence[FollowedJob]) -> None:
        self.left_running(jobs, batch, followed)

    def left_running(self, jobs: Jobs, batch: Batch, followed: Sequence[FollowedJob]) -> None:
        print("The rehearsal ends with this program, and all that it started.", flush=True)


def _local_paths(cfg: DictConfig) -> list[tuple[str, str]]:
    paths = []
    if (root := cfg.data.root) and "://" not in root:
        paths.append(("data.root", root))
    weights = cfg.model.get("weights")
    if weights and os.path.isfile(weights):
        paths.append(("model.weights", weights))
    return paths
