"""Sends Hydra's jobs to SageMaker and brings their metrics back: `hydra/launcher=sagemaker`."""

import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn, configure_log, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict, read_write

from hydra_plugins.stocktake_sagemaker.dry_run import show
from hydra_plugins.stocktake_sagemaker.leaving import ask_and_leave, how_to_go_on
from hydra_plugins.stocktake_sagemaker.plan import (
    Plan,
    job_name,
    refuse_words,
    resolved_compute,
    training_requests,
)
from hydra_plugins.stocktake_sagemaker.problems import (
    Problem,
    account_words_problems,
    place_problems,
    request_problems,
    secret_problems,
    told,
)
from hydra_plugins.stocktake_sagemaker.results import LaunchError, job_returns
from hydra_plugins.stocktake_sagemaker.stored import stored_problems
from hydra_plugins.stocktake_sagemaker.words_check import words_problems


class SageMakerLauncher(Launcher):
    """One training job for each Hydra job, all at once."""

    def __init__(self, **options: Any):
        """
        Args:
            options: The fields of `SageMakerOptions`.
        """
        self.options = SimpleNamespace(**options)
        self._said: set[str] = set()

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

    def _launch(self, job_overrides: Sequence[Sequence[str]], first_number: int) -> list[JobReturn]:
        from stocktake.cloud.monitor import follow
        from stocktake.cloud.progress import board
        from stocktake.cloud.source_archive import tracked_code

        code = tracked_code()
        tags = {"commit": code.commit, "dirty": str(code.dirty).lower()}
        is_single = len(job_overrides) == 1 and first_number == 0
        plans = [
            self._plan(list(words), first_number + index, is_single, tags) for index, words in enumerate(job_overrides)
        ]
        problems = list(self._problems(plans, code))
        if self.options.dry_run:
            show(plans, code, self.options.script, problems, self.options.list_files)
            sys.exit(any(not problem.is_missing for problem in problems))
        followed: list[Any] = []
        with self._service(plans, code, problems) as jobs:
            try:
                with board() as screen:
                    jobs.patience.say = screen.say
                    screen.say(f"Code: {code.describe()}.")
                    self._submit(jobs, plans, code, screen, followed)
                    follow(jobs, followed, screen, self.options.poll_s, self.options.capacity_wait_s)
            except KeyboardInterrupt:
                self._interrupted(jobs, followed)
            except (ValueError, RuntimeError, OSError):
                self._left_running(jobs, plans, followed)
                raise
            return job_returns(jobs, plans, followed)

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
        compute, added, environment = self._settings(cfg)
        output_url = compute["output_url"].rstrip("/")
        config_url = f"{output_url}/{name}/config"
        requests = training_requests(
            compute,
            name,
            number,
            f"{output_url}/code/{self.started_at}",
            config_url,
            self.region,
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

    @cached_property
    def region(self) -> str:
        from stocktake.cloud.preflight import DEFAULT_REGION

        return self._known_region() or DEFAULT_REGION

    def _known_region(self) -> str | None:
        from stocktake.cloud.preflight import find_region

        return find_region(self.options.profile, self.options.region)

    def _settings(self, cfg: DictConfig) -> tuple[dict[str, Any], list[str], dict[str, str]]:
        """Returns the resolved group `compute`, words to add, and variables of the container."""
        from stocktake.diagnostics.credentials import wandb_key

        compute, key = resolved_compute(cfg), wandb_key()
        if self.options.send_wandb_key:
            if not key:
                raise ValueError("hydra.launcher.send_wandb_key=true, but no W&B key is here: type wandb login")
            return compute, [], {"WANDB_API_KEY": key}
        if key and not compute.get("wandb_secret"):
            self._say_once(
                "W&B will be offline in the job. To send the key: compute.wandb_secret=<name in Secrets Manager>, or "
                "hydra.launcher.send_wandb_key=true (who may look at the job can then read it)."
            )
        return compute, [], {}

    def _say_once(self, text: str) -> None:
        if text not in self._said:
            self._said.add(text)
            print(text)

    def _problems(self, plans: Sequence[Plan], code: Any) -> Iterator[Problem]:
        """Yields all that can be found out without an account."""
        from stocktake.cloud.preflight import no_region

        if self._known_region() is None:
            yield Problem(no_region(), is_missing=True)
        for plan in plans:
            yield from account_words_problems(plan.cfg)
            yield from place_problems(plan.cfg, code.files)
            yield from secret_problems(plan.cfg.compute.get("environment"))
            yield from request_problems(plan, self.region)
            if plan.requests[0]["EnableManagedSpotTraining"] and not plan.cfg.get("resume"):
                self._say_once(
                    "After a spot interruption a job ends with an error: it would overwrite its own best.ckpt. "
                    "To go on instead: callbacks=spot resume=true"
                )
        yield from words_problems(plans, code, self.config)

    @contextmanager
    def _service(self, plans: Sequence[Plan], code: Any, problems: list[Problem]) -> Iterator[Any]:
        """Yields the jobs of the account, once it is clear that these can be sent.

        Raises:
            LaunchError: With all that is missing or wrong.
        """
        from stocktake.cloud.preflight import account_jobs, account_problems, session

        aws = session(self.options.profile, self.options.region)
        if not any(problem.is_missing for problem in problems):  # bucket and role are known
            first_requests = [plan.requests[0] for plan in plans]
            problems += [Problem(text) for text in account_problems(aws, first_requests)]
        jobs = None
        if not problems:
            jobs = account_jobs(aws, self.options.profile)
            new = [plan for plan in plans if not (self.options.job_name and jobs.exists(plan.name))]
            problems += stored_problems(new, code, self.config, jobs.open_folder, self.options.profile)
        if problems:
            raise LaunchError(told(problems))
        yield jobs

    def _submit(self, jobs: Any, plans: Sequence[Plan], code: Any, screen: Any, followed: list[Any]) -> None:
        """Uploads and sends what does not run yet, and adds each job to `followed`."""
        from stocktake.cloud import container
        from stocktake.cloud.monitor import FollowedJob, wanted_instances

        code_url = None
        common = set.intersection(*(set(plan.words) for plan in plans))
        for plan in plans:
            label = " ".join(word for word in plan.words if word not in common)
            request = plan.requests[0]
            job = FollowedJob(plan.name, plan.requests[1:], label, wanted_instances(request["ResourceConfig"]))
            if self.options.job_name and jobs.exists(plan.name):
                screen.say(f"{plan.name}: is there already; attached to it.")
                followed.append(job)
                continue
            if code_url is None:
                code_url = request["InputDataConfig"][0]["DataSource"]["S3DataSource"]["S3Uri"]
                folder = jobs.open_folder(code_url)
                folder.write("code.tar.gz", code.archive())
                for path in container.SOURCES:
                    folder.write(path.name, path.read_bytes())
            jobs.open_folder(plan.config_url).write("overrides.json", plan.config_file(self.options.script))
            followed.append(job)  # before: who presses Ctrl-C now shall hear of it
            try:
                jobs.submit(request)
            except Exception:
                followed.remove(job)
                raise
            screen.show(followed)
            screen.say(f"{plan.name}: sent; {' '.join(plan.words)}")

    def _interrupted(self, jobs: Any, followed: Sequence[Any]) -> None:
        """Says what becomes of the jobs after a Ctrl-C, and ends this program."""
        ask_and_leave(jobs, followed, self.launch_name, self.region)

    def _left_running(self, jobs: Any, plans: Sequence[Plan], followed: Sequence[Any]) -> None:
        """Says, before an error ends this program, what was sent and runs on."""
        if running := [job for job in followed if not job.ended]:
            names = ", ".join(job.name for job in running)
            print(f"{len(running)} of {len(plans)} job(s) run on, and are billed: {names}.")
            print("\n".join(how_to_go_on(jobs, running, self.launch_name, self.region)), flush=True)
