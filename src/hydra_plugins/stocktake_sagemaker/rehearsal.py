"""Plays Hydra's jobs through on this machine as SageMaker would: `hydra/launcher=rehearsal`."""

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from hydra_plugins.stocktake_sagemaker.launcher import INTERRUPTED, SageMakerLauncher
from hydra_plugins.stocktake_sagemaker.plan import Plan, resolved_compute

# Stand-ins for what an account would have.
ACCOUNT = {
    "bucket": "rehearsal",
    "role_arn": "arn:aws:iam::123456789012:role/Rehearsal",
    "requirements": None,  # the instances run in this Python's environment
    "wandb_secret": None,
}


class RehearsalLauncher(SageMakerLauncher):
    """As `SageMakerLauncher`, without AWS; the options are the fields of `RehearsalOptions`."""

    def _settings(self, cfg: DictConfig) -> tuple[dict[str, Any], list[str], dict[str, str], str]:
        compute = resolved_compute(cfg, **ACCOUNT)
        # What is no number is told later, with its key.
        num_hosts = compute["num_instances"] if isinstance(compute["num_instances"], int) else 1
        # Nothing of a rehearsal shall appear among the real runs.
        environment = {
            "WANDB_MODE": "offline",
            "OMP_NUM_THREADS": str(max(1, len(os.sched_getaffinity(0)) // max(1, num_hosts))),
        }
        if num_hosts > 1:
            # Several hosts cannot share this machine's GPUs as they would have their own.
            environment |= {"CUDA_VISIBLE_DEVICES": "", "NPROC_PER_NODE": "1"}
        # An instance has no such folder; this machine has.
        added = [f"{key}={os.path.abspath(path)}" for key, path in _local_paths(cfg)]
        return compute, added, environment, "us-east-1"

    def _check_files(self, plan: Plan, code: Any) -> None:
        """Here the instances see this machine's files; on SageMaker they would not."""
        for word in plan.added:
            print(f"{plan.name}: {word} for this rehearsal; on SageMaker it has to be in S3, or drawn there.")

    @contextmanager
    def _service(self, plans: Sequence[Plan]) -> Iterator[Any]:
        from stocktake.cloud.jobs import Jobs
        from stocktake.rehearsal.runner import LocalRunner
        from stocktake.rehearsal.server import RehearsalServer
        from stocktake.rehearsal.summary import write_summaries
        from stocktake.rehearsal.transfer import opener

        options, folder = self.options, Path(self.options.folder, plans[0].name)
        if folder.exists():
            raise ValueError(f"{folder} is there already: type another hydra.launcher.job_name, or rm -r {folder}")
        with (
            LocalRunner(
                folder,
                options.faults,
                s3_folder=folder / "s3",
                grace_s=options.grace_s,
                upload_interval_s=options.upload_interval_s,
            ) as runner,
            RehearsalServer(runner, faults=runner.faults) as server,
        ):
            yield Jobs(server.client("sagemaker"), server.client("logs"), opener(folder / "s3"))
            write_summaries(folder, server.jobs.all())

    def _interrupted(self, jobs: Any, followed: Sequence[Any]) -> None:
        print("The rehearsal ends with this program, and all that it started.")
        sys.exit(INTERRUPTED)


def _local_paths(cfg: DictConfig) -> list[tuple[str, str]]:
    paths = []
    if (root := cfg.data.root) and "://" not in root:
        paths.append(("data.root", root))
    weights = cfg.model.get("weights")
    if weights and os.path.isfile(weights):
        paths.append(("model.weights", weights))
    return paths
