"""One call of a search by a tuning job: planned, checked, sent or attached to, followed, its results written.

Its name begins with _, so that Hydra does not import it at each start.
"""

import json
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from omegaconf import DictConfig

from hydra_plugins.stocktake_sagemaker._launch_costs import cost_problems, launch_bound, launch_prices
from hydra_plugins.stocktake_sagemaker._tuning_plan import TuningPlan, plan_search, show_dry_run, tuning_problems
from hydra_plugins.stocktake_sagemaker._tuning_result import search_result
from hydra_plugins.stocktake_sagemaker.backend import Batch
from hydra_plugins.stocktake_sagemaker.launcher import JobLauncher, upload_code
from hydra_plugins.stocktake_sagemaker.override_checks import folder_of_code
from hydra_plugins.stocktake_sagemaker.plan import Plan
from hydra_plugins.stocktake_sagemaker.tuning_options import TuningOptions
from hydra_plugins.stocktake_sagemaker.typed_sweep import typed_sweep
from stocktake.cli.error_handling import EXIT_CTRL_C
from stocktake.cloud.client import Jobs
from stocktake.cloud.monitor import Screen
from stocktake.cloud.progress import board
from stocktake.cloud.source_archive import tracked_code
from stocktake.cloud.tuning_client import TuningJobs
from stocktake.cloud.tuning_monitor import FollowedSearch, follow_search
from stocktake.tuning.trials import Trial

OF_THE_SPACE = ("ParameterRanges", "HyperParameterTuningJobObjective")


class TuningRun:
    """One call of `hydra/sweeper=sagemaker`."""

    def __init__(
        self,
        launcher: JobLauncher,
        options: TuningOptions,
        config: DictConfig,
        arguments: Sequence[str],
        config_loader: Any,
    ):
        """
        Args:
            config: Of the launch, with Hydra's part.
            arguments: What was typed, without Hydra's part.
            config_loader: Hydra's.
        """
        self.launcher, self.backend, self.options, self.config = launcher, launcher.backend, options, config
        typed = typed_sweep(launcher.as_typed(arguments), options.space, options.start, config_loader)
        if typed.start:
            print("hydra.sweeper.start is left out: a tuning job takes no points to begin with, but warm_start.")
        self.code = tracked_code(folder_of_code(config))
        self.plan: TuningPlan = plan_search(launcher, options, typed, config, self.code)
        self.is_sent, self.prices = False, launch_prices(launcher.options, launcher.backend.region)
        self.is_known = (options.job_name or launcher.options.job_name) is not None

    def to_its_end(self) -> None:
        """Sends the tuning job or attaches to it, follows it, writes what comes out and prints it, as JSON last.

        Raises:
            SystemExit: After a dry run; with 1 where too many trials failed or none has a result; 130 after Ctrl-C.
        """
        # Not at the top: a dry run draws nothing.
        from stocktake.report.search_files import finish_search

        batch = Batch(self.plan.name, self.plan.probes, self.code, self.config, may_exist=self.is_known)
        all_trials = [self.plan.probes[0]] * self.plan.num_trials
        problems = [
            *tuning_problems(self.plan, self.options),
            *self.backend.problems(batch),
            *cost_problems(all_trials, self.launcher.options, self.prices, 0.0),
        ]
        dry_run = self.launcher.options.dry_run if self.options.dry_run is None else self.options.dry_run
        if dry_run:
            show_dry_run(self.plan, self.code, problems, self.launcher.options)
            sys.exit(any(not problem.is_missing for problem in problems))
        # As many as run at a time, by which the quota is judged.
        probes = [self.plan.probes[0]] * min(self.options.parallel, self.plan.num_trials)
        at_once = Batch(self.plan.name, probes, self.code, self.config, may_exist=False)
        search = FollowedSearch(self.plan.name)
        with self.backend.connect(at_once, problems) as jobs:
            tuning = TuningJobs(jobs)
            is_there = self.is_known and tuning.exists(search.name)
            if not is_there:
                self._check_price(jobs)
                if not self.backend.is_agreed(self._plan_text(all_trials)):
                    sys.exit(0)
            try:
                with board() as screen:
                    jobs.patience.say = screen.say
                    self._attach(tuning, screen) if is_there else self._send(tuning, screen)
                    follow_search(tuning, search, screen, self._poll_s, self.options.max_failed_share)
            except KeyboardInterrupt:
                self._interrupted(tuning, search)
                sys.exit(EXIT_CTRL_C)
            except (ValueError, RuntimeError, OSError):
                self._left_running(jobs, search)
                raise
            result = search_result(self.plan, search, jobs, f"sagemaker {self.options.strategy}", self.prices)
        is_broken = bool(search.stop_reason) or result.best is None
        if self.options.evaluate and result.best is not None:
            is_broken |= not self._is_measured(result.best)
        summary = finish_search(result, self.plan.folder, folder_of_code(self.config))
        if search.status == "Failed":
            print(f"{search.name} failed: {search.description.get('FailureReason', '')}", file=sys.stderr)
        print(json.dumps(summary), flush=True)
        if is_broken:
            sys.exit(1)

    def _is_measured(self, best: Trial) -> bool:
        """Measures the best trial on the test side; what was searched is told even where that fails."""
        from hydra_plugins.stocktake_sagemaker._trial_outcome import measure_test_figure

        try:
            measure_test_figure(best, folder_of_code(self.config))
        except ValueError as error:
            print(error, file=sys.stderr, flush=True)
            return False
        return True

    @property
    def _poll_s(self) -> float:
        return self.launcher.options.poll_s if self.options.poll_s is None else self.options.poll_s

    def _attach(self, tuning: TuningJobs, screen: Screen) -> None:
        self._refuse_another(tuning.describe(self.plan.name))
        self.is_sent = True
        screen.say(f"{self.plan.name}: is there already; attached to it.")

    def _send(self, tuning: TuningJobs, screen: Screen) -> None:
        plan = self.plan
        screen.say(f"Code: {self.code.describe()}.")
        upload_code(tuning.jobs, plan.trial, self.code)
        config_url = plan.probes[0].config_url
        tuning.jobs.open_folder(config_url).write("overrides.json", plan.config_file(self.launcher.options.script))
        self.is_sent = True  # before: who presses Ctrl-C now shall hear of it
        try:
            tuning.submit(plan.request)
        except Exception:
            self.is_sent = False
            raise
        screen.say(f"{plan.name}: sent; {plan.describe()}.")

    def _refuse_another(self, described: dict[str, Any]) -> None:
        """Refuses to attach to a tuning job that searched something else.

        Raises:
            ValueError: Naming what differs.
        """
        there, here = described["HyperParameterTuningJobConfig"], self.plan.request["HyperParameterTuningJobConfig"]
        for name in OF_THE_SPACE:
            if _without_empty(there.get(name)) != _without_empty(here[name]):
                raise ValueError(
                    f"hydra.sweeper.job_name={self.plan.name} is of another search: its {name} is "
                    f"{json.dumps(there.get(name))}, here {json.dumps(here[name])}. Type its own overrides, or another "
                    "hydra.sweeper.job_name"
                )

    def _plan_text(self, all_trials: Sequence[Plan]) -> str:
        """Returns what is about to be sent and what it can cost, as a person is asked about it."""
        try:
            found = launch_bound(all_trials, self.prices)
            cost = f"All of it can cost {found.usd:.2f} USD at most, by prices of {found.price_day}."
        except ValueError as error:
            cost = f"What it can cost is not known: {error}"
        return f"  {self.plan.name}: {self.plan.describe()}\n{cost}"

    def _check_price(self, jobs: Jobs) -> None:
        """Refuses a search that could cost more than `max_usd`, at the on-demand price also for spot.

        Raises:
            ValueError: It could, or nobody knows what it costs.
        """
        max_usd = self.options.max_usd
        if max_usd is None:
            return
        if not self.backend.outlives_program:
            print("hydra.sweeper.max_usd bounds nothing here: a rehearsal is not billed.")
            return
        instance_type = self.plan.trial["ResourceConfig"].get("InstanceType", "")
        price_usd = jobs.hourly_usd(instance_type)
        if price_usd is None:
            raise ValueError(
                f"hydra.sweeper.max_usd={max_usd}: AWS does not tell what {instance_type} costs, so it can bound "
                "nothing (by pricing:GetProducts). Type hydra.sweeper.max_usd=null hydra.sweeper.max_hours=<hours>"
            )
        most_usd = self.plan.most_hours() * price_usd
        if most_usd > max_usd:
            raise ValueError(
                f"The search could cost {most_usd:.2f} USD ({self.plan.bound}, {price_usd:.2f} USD an hour on demand), "
                f"more than hydra.sweeper.max_usd={max_usd}. Type fewer hydra.sweeper.num_trials, a shorter "
                "compute.max_runtime_s, hydra.sweeper.max_hours=<hours>, or a higher limit. Nothing was sent."
            )

    def _interrupted(self, tuning: TuningJobs, search: FollowedSearch) -> None:
        """Says what becomes of the tuning job after a Ctrl-C, and asks whether to stop it."""
        if not self.backend.outlives_program:
            self.backend.interrupted(tuning.jobs, Batch(search.name, [], self.code, self.config, False), [])
            return
        if not self.is_sent:
            print("Nothing was sent.")
            return
        choice = ""
        if sys.stdin.isatty() and sys.stdout.isatty():
            with suppress(KeyboardInterrupt, EOFError):
                choice = input(f"\n{search.name} runs. Leave it running, or stop it with all its trials? [leave/stop] ")
        if choice.strip().lower().startswith("s"):
            tuning.stop(search.name)
            print(f"Stopping: {search.name}. The trials that ended keep their results.")
            print(f"To see them, type the same overrides and hydra.sweeper.job_name={search.name}")
        else:
            self._left_running(tuning.jobs, search)

    def _left_running(self, jobs: Jobs, search: FollowedSearch) -> None:
        if not self.backend.outlives_program or not self.is_sent or search.has_ended:
            return
        resources = self.plan.trial["ResourceConfig"]
        price_usd = jobs.hourly_usd(resources.get("InstanceType", ""))
        print(f"{search.name} runs on, and is billed: {self.plan.bound}.")
        if price_usd:
            hourly_usd = price_usd * resources.get("InstanceCount", 1) * self.options.parallel
            print(f"It costs up to {hourly_usd:.2f} USD an hour on demand; spot instances cost less.")
        print(
            f"To stop it, type:\n  aws sagemaker stop-hyper-parameter-tuning-job --hyper-parameter-tuning-job-name "
            f"{search.name} --region {self.backend.region}"
        )
        print(f"To see it again, type the same overrides and hydra.sweeper.job_name={search.name}", flush=True)


def _without_empty(plain: Any) -> Any:
    return {key: value for key, value in plain.items() if value} if isinstance(plain, dict) else plain
