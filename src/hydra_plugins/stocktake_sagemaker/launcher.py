"""Sends Hydra's jobs to a backend and brings their metrics back."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn, configure_log, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict, read_write

from hydra_plugins.stocktake_sagemaker.backend import Batch, JobBackend
from hydra_plugins.stocktake_sagemaker.options import LauncherOptions
from hydra_plugins.stocktake_sagemaker.plan import Plan, job_name, refuse_overrides, training_requests
from hydra_plugins.stocktake_sagemaker.problems import Problem, summary
from hydra_plugins.stocktake_sagemaker.results import LaunchError, job_returns
from stocktake.cli.error_handling import EXIT_CTRL_C

if TYPE_CHECKING:
    from stocktake.cloud.client import Jobs
    from stocktake.cloud.monitor import FollowedJob, Screen, Watch
    from stocktake.cloud.request_types import TrainingJobRequest
    from stocktake.cloud.source_archive import Code


class JobLauncher(Launcher):
    """One training job for each Hydra job, all at once.

    `hydra/launcher=sagemaker` and `=rehearsal` are this launcher with a backend each, built in the backend's module.
    """

    def __init__(self, backend: JobBackend, options: LauncherOptions):
        self.backend, self.options = backend, options
        self.watch: Watch | None = None  # a search's, which may stop a job; counts the jobs of a batch from 0 on
        self._printed: set[str] = set()
        self._is_agreed = False  # a search sends batch after batch, and asks once
        self._sent_usd = 0.0  # that earlier batches of the same sweep can cost

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.hydra_context, self.config = hydra_context, config
        self.started_at = datetime.now(UTC).strftime("%m%d-%H%M%S")

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        # Not at the top: Hydra imports this module at every start.
        from stocktake.cloud.client import JobError

        setup_globals()
        configure_log(self.config.hydra.hydra_logging, self.config.hydra.verbose)
        logging.getLogger("botocore").setLevel(logging.WARNING)  # it says where it found each thing
        try:
            return self._launch(job_overrides, initial_job_idx)
        except (ValueError, JobError, OSError) as error:
            raise LaunchError(str(error)) from error

    def _launch(self, job_overrides: Sequence[Sequence[str]], first_number: int) -> Sequence[JobReturn]:
        from hydra_plugins.stocktake_sagemaker._launch_costs import (
            cost_problems,
            launch_bound,
            launch_prices,
            plan_text,
            record_costs,
        )
        from hydra_plugins.stocktake_sagemaker.override_checks import folder_of_code
        from stocktake.cloud.monitor import follow
        from stocktake.cloud.progress import board
        from stocktake.cloud.source_archive import tracked_code

        batch = self._batch(job_overrides, first_number, tracked_code(folder_of_code(self.config)))
        prices = launch_prices(self.options, self.backend.region)
        problems = [*self.backend.problems(batch), *cost_problems(batch.plans, self.options, prices, self._sent_usd)]
        if self.options.dry_run:
            show_dry_run(batch, problems, self.options)
            sys.exit(any(not problem.is_missing for problem in problems))
        followed: list[FollowedJob] = []
        with self.backend.connect(batch, problems) as jobs:
            self._is_agreed = self._is_agreed or self.backend.is_agreed(plan_text(batch.plans, prices))
            if not self._is_agreed:
                sys.exit(0)
            if self.options.max_usd is not None:
                self._sent_usd += launch_bound(batch.plans, prices).usd
            try:
                with board() as screen:
                    jobs.patience.say = screen.say
                    screen.say(f"Code: {batch.code.describe()}.")
                    self._submit(jobs, batch, screen, followed)
                    follow(jobs, followed, screen, self.options.poll_s, self.options.capacity_wait_s, self.watch)
            except KeyboardInterrupt:
                self.backend.interrupted(jobs, batch, followed)
                sys.exit(EXIT_CTRL_C)
            except (ValueError, RuntimeError, OSError):
                self.backend.left_running(jobs, batch, followed)
                raise
            record_costs(batch.plans, followed, prices)
            return job_returns(jobs, batch.plans, followed, with_costs=self.watch is not None)

    def most_usd(self, overrides: Sequence[str]) -> float | None:
        """Returns what a job can cost at most, on demand; None where its price is not known, or there is none."""
        compute = self.backend.settings(self.composed(overrides, 0)).compute
        types = compute["instance_types"]
        prices_usd = [self.backend.hourly_usd(one) for one in ([types] if isinstance(types, str) else types)]
        known_usd = [price_usd for price_usd in prices_usd if price_usd is not None]
        if len(known_usd) < len(prices_usd):
            return None
        return max(known_usd) * compute["num_instances"] * compute["max_runtime_s"] / 3600

    def _batch(self, job_overrides: Sequence[Sequence[str]], first_number: int, code: Code) -> Batch:
        is_single = len(job_overrides) == 1 and first_number == 0
        plans, name = [], ""
        for number, overrides in enumerate(job_overrides, first_number):
            cfg = self.composed(overrides, number)
            name = self.options.job_name or job_name(str(cfg.get("name", "job")), self.started_at)
            plans.append(self.plan(cfg, self.as_typed(overrides), number, name, is_single, code))
        return Batch(name, plans, code, self.config, may_exist=self.options.job_name is not None)

    def composed(self, overrides: Sequence[str], number: int) -> DictConfig:
        cfg = self.hydra_context.config_loader.load_sweep_config(self.config, list(overrides))
        with open_dict(cfg):
            cfg.hydra.job.id = cfg.hydra.job.num = number
        HydraConfig.instance().set_config(cfg)
        return cfg

    def plan(
        self, cfg: DictConfig, overrides: list[str], number: int, launch_name: str, is_single: bool, code: Code
    ) -> Plan:
        """Returns the requests and the folder of one job.

        Args:
            overrides: As they were typed.
            is_single: Whether the launch's name is the job's.
        """
        name = launch_name if is_single else f"{launch_name}-{number}"
        folder = Path(cfg.hydra.sweep.dir) / str(cfg.hydra.sweep.subdir) / name
        with read_write(cfg.hydra.runtime), open_dict(cfg.hydra.runtime):
            cfg.hydra.runtime.output_dir = str(folder.absolute())
        refuse_overrides(overrides)
        settings = self.backend.settings(cfg)
        for notice in settings.notices:
            self.print_once(notice)
        output_url = settings.compute["output_url"].rstrip("/")
        config_url = f"{output_url}/{name}/config"
        tags = {"commit": code.commit, "dirty": str(code.dirty).lower()}
        requests = training_requests(
            settings.compute,
            name,
            number,
            f"{output_url}/code/{self.started_at}",
            config_url,
            self.backend.region,
            {**settings.environment, "STOCKTAKE_COMMIT": tags["commit"], "STOCKTAKE_DIRTY": tags["dirty"]},
            tags,
        )
        return Plan(number, name, overrides, settings.overrides, cfg, folder, config_url, requests)

    def as_typed(self, overrides: Sequence[str]) -> list[str]:
        """Returns `overrides` as the user wrote them; a sweeper writes `1e-4` anew, as 0.0001."""
        typed = list(self.config.hydra.overrides.task)
        parsed = OverridesParser.create().parse_overrides(typed)
        fixed = {
            override.get_key_element(): text
            for override, text in zip(parsed, typed, strict=True)
            if not override.is_sweep_override()
        }
        return [fixed.get(override.partition("=")[0], override) for override in overrides]

    def print_once(self, text: str) -> None:
        if text not in self._printed:
            self._printed.add(text)
            print(text)

    def _submit(self, jobs: Jobs, batch: Batch, screen: Screen, followed: list[FollowedJob]) -> None:
        """Uploads and sends what does not run yet, and adds each job to `followed`."""
        from stocktake.cloud.monitor import FollowedJob, wanted_instances

        code_url = None
        common = set.intersection(*(set(plan.overrides) for plan in batch.plans))
        for plan in batch.plans:
            label = " ".join(override for override in plan.overrides if override not in common)
            request = plan.requests[0]
            job = FollowedJob(plan.name, plan.requests[1:], label, wanted_instances(request["ResourceConfig"]))
            if batch.may_exist and jobs.exists(plan.name):
                screen.say(f"{plan.name}: is there already; attached to it.")
                followed.append(job)
                continue
            if code_url is None:
                code_url = upload_code(jobs, request, batch.code)
            jobs.open_folder(plan.config_url).write("overrides.json", plan.config_file(self.options.script))
            followed.append(job)  # before: who presses Ctrl-C now shall hear of it
            try:
                jobs.submit(request)
            except Exception:
                followed.remove(job)
                raise
            screen.show(followed)
            screen.say(f"{plan.name}: sent; {' '.join(plan.overrides)}")


def upload_code(jobs: Jobs, request: TrainingJobRequest, code: Code) -> str:
    """Uploads what the channel `code` of a request brings; returns its URL."""
    from stocktake.cloud import container

    code_url = request["InputDataConfig"][0]["DataSource"]["S3DataSource"]["S3Uri"]
    folder = jobs.open_folder(code_url)
    folder.write("code.tar.gz", code.archive())
    for path in container.SOURCES:
        folder.write(path.name, path.read_bytes())
    return code_url


def show_dry_run(batch: Batch, problems: Sequence[Problem], options: LauncherOptions) -> None:
    """Prints everything that would be sent, secrets covered, and all that is missing or wrong."""
    from stocktake.cloud.secrets import masked, masked_override

    for plan in batch.plans:
        for request in plan.requests:
            shown = {**request, "Environment": masked(request["Environment"])}
            print(f"CreateTrainingJob {plan.name}:\n{json.dumps(shown, indent=2)}")
        overrides = [masked_override(override) for override in (*plan.overrides, *plan.added_overrides)]
        print(f"{plan.config_url}/overrides.json: {json.dumps({'script': options.script, 'overrides': overrides})}\n")
    if options.list_files:
        print("\n".join(batch.code.files))
    hint = "" if options.list_files else " hydra.launcher.list_files=true names them."
    print(f"Code: {batch.code.describe()}.{hint}")
    print("Nothing was sent (hydra.launcher.dry_run=true).")
    if problems:
        print(summary(problems))
    else:
        print("Checked against AWS's service model, the rules across its fields and the job's overrides: all right.")
