"""Sends Hydra's jobs to SageMaker and brings their metrics back: `hydra/launcher=sagemaker`."""

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn, JobStatus, configure_log, setup_globals
from hydra.errors import CompactHydraException
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict, read_write

from hydra_plugins.stocktake_sagemaker.dry_run import show
from hydra_plugins.stocktake_sagemaker.plan import (
    Plan,
    job_name,
    refuse_keys,
    refuse_local_files,
    refuse_words,
    resolved_compute,
    training_requests,
)

INTERRUPTED = 130  # what a shell gives for Ctrl-C


class LaunchError(CompactHydraException):
    """Jobs could not be sent, or ended without a result; Hydra prints its message without a traceback."""


class SageMakerLauncher(Launcher):
    """One training job for each Hydra job, all at once."""

    def __init__(self, **options: Any):
        """
        Args:
            options: The fields of `SageMakerOptions`.
        """
        self.options = SimpleNamespace(**options)

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.hydra_context, self.config = hydra_context, config
        self.started_at = datetime.now(UTC).strftime("%m%d-%H%M%S")

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        # Not at the top: Hydra imports this module at every start.
        from stocktake.cloud.jobs import JobError
        from stocktake.storage import StorageError

        setup_globals()
        configure_log(self.config.hydra.hydra_logging, self.config.hydra.verbose)
        try:
            return self._launch(job_overrides, initial_job_idx)
        except (ValueError, JobError, StorageError) as error:
            raise LaunchError(str(error)) from error

    def _launch(self, job_overrides: Sequence[Sequence[str]], first_number: int) -> list[JobReturn]:
        from stocktake.cloud.board import board
        from stocktake.cloud.following import follow
        from stocktake.cloud.packing import tracked_code

        code = tracked_code()
        tags = {"commit": code.commit, "dirty": str(code.dirty).lower()}
        is_single = len(job_overrides) == 1 and first_number == 0
        plans = [
            self._plan(list(words), first_number + index, is_single, tags) for index, words in enumerate(job_overrides)
        ]
        self._check(plans, code)
        if self.options.dry_run:
            show(plans, code, self.options.script)
            sys.exit(0)
        followed: list[Any] = []
        with self._service(plans) as jobs:
            try:
                with board() as screen:
                    screen.say(f"Code: {code.describe()}.")
                    self._submit(jobs, plans, code, screen, followed)
                    follow(jobs, followed, screen, self.options.poll_s, self.options.capacity_wait_s)
            except KeyboardInterrupt:
                self._interrupted(jobs, followed)
            return self._returns(jobs, plans, followed)

    def _plan(self, words: list[str], number: int, is_single: bool, tags: dict[str, str]) -> Plan:
        cfg = self.hydra_context.config_loader.load_sweep_config(self.config, words)
        words = self._as_typed(words)
        with open_dict(cfg):
            cfg.hydra.job.id = cfg.hydra.job.num = number
        HydraConfig.instance().set_config(cfg)
        self.launch_name = self.options.job_name or job_name(str(cfg.get("name", "job")), self.started_at)
        name = self.launch_name if is_single else f"{self.launch_name}-{number}"
        folder = Path(cfg.hydra.sweep.dir) / str(cfg.hydra.sweep.subdir) / name
        with read_write(cfg.hydra.runtime), open_dict(cfg.hydra.runtime):
            cfg.hydra.runtime.output_dir = str(folder.absolute())
        refuse_words(words)
        compute, added, environment, region = self._settings(cfg)
        output_url = compute["output_url"].rstrip("/")
        config_url = f"{output_url}/{name}/config"
        requests = training_requests(
            compute,
            name,
            number,
            self._code_url(output_url),
            config_url,
            region,
            environment | {"STOCKTAKE_COMMIT": tags["commit"], "STOCKTAKE_DIRTY": tags["dirty"]},
            tags,
        )
        return Plan(number, name, words, added, cfg, folder, config_url, requests)

    def _as_typed(self, words: Sequence[str]) -> list[str]:
        """Returns `words` as the user wrote them; a sweeper writes `1e-4` anew, as 0.0001."""
        typed = list(self.config.hydra.overrides.task)
        overrides = OverridesParser.create().parse_overrides(typed)
        fixed = {
            override.get_key_element(): word
            for override, word in zip(overrides, typed, strict=True)
            if not override.is_sweep_override()
        }
        return [fixed.get(word.partition("=")[0], word) for word in words]

    def _code_url(self, output_url: str) -> str:
        return f"{output_url}/code/{self.started_at}"

    def _settings(self, cfg: DictConfig) -> tuple[dict[str, Any], list[str], dict[str, str], str]:
        """Returns the resolved group `compute`, words to add, variables of the container, and the region."""
        from stocktake.cloud.preflight import find_region

        compute = resolved_compute(cfg)
        refuse_keys(compute)
        environment = {}
        if self.options.send_wandb_key:
            if not os.environ.get("WANDB_API_KEY"):
                raise ValueError("hydra.launcher.send_wandb_key=true, but WANDB_API_KEY is not set here.")
            environment["WANDB_API_KEY"] = os.environ["WANDB_API_KEY"]
        elif os.environ.get("WANDB_API_KEY") and not compute.get("wandb_secret"):
            print(
                "W&B will be offline in the job. To send the key: compute.wandb_secret=<name in Secrets Manager>, or "
                "hydra.launcher.send_wandb_key=true (who may look at the job can then read it)."
            )
        return compute, [], environment, find_region(self.options.profile, self.options.region)

    def _check(self, plans: Sequence[Plan], code: Any) -> None:
        from stocktake.cloud.checks import check_request
        from stocktake.cloud.requests import training_job_keys

        for plan in plans:
            for request in plan.requests:
                check_request("CreateTrainingJob", request, training_job_keys())
            self._check_files(plan, code)
            if plan.requests[0]["EnableManagedSpotTraining"] and not plan.cfg.get("resume"):
                print(f"{plan.name}: after a spot interruption it starts anew. To go on: callbacks=spot resume=true")

    def _check_files(self, plan: Plan, code: Any) -> None:
        refuse_local_files(plan.cfg, code.files)

    @contextmanager
    def _service(self, plans: Sequence[Plan]) -> Iterator[Any]:
        """Yields the jobs of the account, once it is clear that these can be sent."""
        from stocktake.cloud.preflight import account_jobs

        yield account_jobs(
            self.options.profile, self.options.region, [request for plan in plans for request in plan.requests[:1]]
        )

    def _submit(self, jobs: Any, plans: Sequence[Plan], code: Any, screen: Any, followed: list[Any]) -> None:
        """Uploads and sends what does not run yet, and adds each job to `followed`."""
        from stocktake.cloud import container
        from stocktake.cloud.following import FollowedJob

        code_url = None
        common = set.intersection(*(set(plan.words) for plan in plans))
        for plan in plans:
            label = " ".join(word for word in plan.words if word not in common)
            job = FollowedJob(plan.name, plan.requests[1:], label)
            if self.options.job_name and jobs.exists(plan.name):
                screen.say(f"{plan.name}: is there already; attached to it.")
                followed.append(job)
                continue
            request = plan.requests[0]
            if code_url is None:
                code_url = request["InputDataConfig"][0]["DataSource"]["S3DataSource"]["S3Uri"]
                folder = jobs.open_folder(code_url)
                folder.write("code.tar.gz", code.archive())
                for path in container.SOURCES:
                    folder.write(path.name, path.read_bytes())
            jobs.open_folder(plan.config_url).write("overrides.json", plan.config_file(self.options.script))
            jobs.submit(request)
            followed.append(job)
            screen.say(f"{plan.name}: sent; {' '.join(plan.words)}")

    def _interrupted(self, jobs: Any, followed: Sequence[Any]) -> None:
        """Asks what shall become of the jobs, and ends this program."""
        running = [job.name for job in followed if not job.ended]
        answer = ""
        if sys.stdin.isatty() and sys.stdout.isatty():
            with suppress(KeyboardInterrupt, EOFError):
                answer = input(f"\n{len(running)} job(s) running. Leave them running, or stop them? [leave/stop] ")
        if answer.strip().lower().startswith("s"):
            for name in running:
                jobs.stop(name)
            print(f"Stopping: {', '.join(running)}. What they saved stays.")
        else:
            print(f"Left running, and billed: {', '.join(running)}.")
            print(f"To see them again, type the same words and hydra.launcher.job_name={self.launch_name}")
        sys.exit(INTERRUPTED)

    def _returns(self, jobs: Any, plans: Sequence[Plan], followed: Sequence[Any]) -> list[JobReturn]:
        from stocktake.cloud.jobs import JobError

        returns = []
        for plan, job in zip(plans, followed, strict=True):
            cfg = plan.cfg.copy()
            result = JobReturn(
                overrides=plan.words,
                hydra_cfg=plan.cfg,
                working_dir=str(plan.folder),
                task_name=plan.cfg.hydra.job.name,
                status=JobStatus.COMPLETED,
            )
            with open_dict(cfg):
                del cfg["hydra"]
            result.cfg = cfg
            try:
                if job.status != "Completed":
                    raise JobError(
                        f"{job.name} {job.status.lower()} ({job.secondary_status}): {job.reason or job.message}"
                    )
                metrics = jobs.results(job.name, plan.folder)
                result.return_value = metrics[plan.cfg.optimized_metric]
            except JobError as error:
                result.status, result.return_value = JobStatus.FAILED, LaunchError(str(error))
            returns.append(result)
        for result, plan, job in zip(returns, plans, followed, strict=True):
            if result.status is JobStatus.COMPLETED:
                print(f"{job.name}: {plan.cfg.optimized_metric} {result.return_value:.4f}")
                print(f"  results in {plan.folder}, model in {job.description['ModelArtifacts']['S3ModelArtifacts']}")
        return returns
