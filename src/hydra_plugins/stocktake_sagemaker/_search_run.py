"""The trials of a search, batch by batch: proposed, run by the launcher, told, until there are enough, or a limit.

Its name begins with _, so that Hydra does not import it, and Optuna with it, at each start.
"""

import json
import shutil
import sys
import time
from collections.abc import Mapping, Sequence

from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from hydra.plugins.launcher import Launcher
from omegaconf import DictConfig, OmegaConf

from hydra_plugins.stocktake_sagemaker._trial_outcome import (
    finished_score,
    measure_test_figure,
    outcome_of,
    returned_outcome,
)
from hydra_plugins.stocktake_sagemaker.launcher import JobLauncher
from hydra_plugins.stocktake_sagemaker.override_checks import folder_of_code
from hydra_plugins.stocktake_sagemaker.search_options import SearchOptions
from hydra_plugins.stocktake_sagemaker.typed_sweep import TypedSweep
from stocktake.cli.error_handling import EXIT_CTRL_C
from stocktake.cloud.monitor import FollowedJob
from stocktake.report.search_files import finish_search
from stocktake.search_journal import JOURNAL_NAME
from stocktake.shell import command, hydra_value, typed_again
from stocktake.tuning.search import Outcome, Proposal
from stocktake.tuning.search_space import Value
from stocktake.tuning.study import SearchStudy
from stocktake.tuning.trials import SearchResult

LEAST_TOLD = 4  # trials before the share of failed ones can end a search
EVALUATE = command("scripts/evaluate.py", {"checkpoint": "<its best.ckpt>"})
REPORTER = "stocktake.callbacks.report_trial.ReportTrial"


class SearchRun:
    """One call of a search."""

    def __init__(
        self,
        study: SearchStudy,
        launcher: Launcher,
        options: SearchOptions,
        config: DictConfig,
        typed: TypedSweep,
        run_name: str,
    ):
        """
        Args:
            config: That trials are composed of.
            run_name: Of all trials: it is part of where jobs keep their checkpoints.
        """
        self.study, self.launcher, self.options, self.config = study, launcher, options, config
        self.typed, self.run_name, self.folder = typed, run_name, study.folder
        self._parallel, self._started_s = options.parallel, time.monotonic()
        self._batch: Sequence[Proposal] = ()
        if isinstance(launcher, BasicLauncher) and self._parallel > 1:
            print("hydra/launcher=basic runs one trial at a time: each is proposed when those before it are known.")
            self._parallel = 1
        if isinstance(launcher, JobLauncher):
            if options.evaluate:
                raise ValueError(
                    "hydra.sweeper.evaluate=true measures a checkpoint of this machine; jobs leave theirs elsewhere. "
                    f"Type hydra.sweeper.evaluate=false, and for the best one {EVALUATE}"
                )
            launcher.watch = self._watch
            if launcher.backend.outlives_program and launcher.options.job_name is None:
                launcher.options.job_name = study.job_name()
        self._most_usd = self._bound()

    def to_its_end(self) -> None:
        """Runs what is missing, writes what comes out and prints it, as JSON last.

        Raises:
            SystemExit: With 1 where too many trials failed or none has a result, 130 after Ctrl-C.
        """
        try:
            is_broken = self._run_trials()
        except KeyboardInterrupt:
            self._say_what_is_kept()
            sys.exit(EXIT_CTRL_C)
        except SystemExit as end:
            if end.code == EXIT_CTRL_C and isinstance(self.launcher, JobLauncher):
                self._say_what_is_kept()
            raise
        result, config_folder = self.study.result(), folder_of_code(self.config)
        if self.options.evaluate and result.best is not None:
            try:
                measure_test_figure(result.best, config_folder)
            except ValueError as error:  # what was searched is told all the same
                print(error, file=sys.stderr, flush=True)
                is_broken = True
        summary = finish_search(result, self.folder, config_folder)
        print(json.dumps(summary), flush=True)
        if is_broken or result.best is None:
            sys.exit(1)

    def _say_what_is_kept(self) -> None:
        ended = [trial for trial in self.study.result().trials if trial.state != "running"]
        print(
            f"\nStopped by Ctrl-C. {len(ended)} of {self.study.num_wanted} trials are kept in {self.folder}. To go on, "
            f"type: {typed_again()}",
            file=sys.stderr,
            flush=True,
        )

    def _run_trials(self) -> bool:
        """Returns whether so many trials failed that it was ended."""
        pending = self._begun_before()
        while pending or self.study.num_begun < self.study.num_wanted:
            result = self.study.result()
            if self._fails_too_often(result):
                return True
            if limit := self._limit(result):
                print(f"{limit}: no further trial is begun. To go on, type the same with a higher limit.", flush=True)
                return False
            self._launch(self._next_batch(pending))
        return self._fails_too_often(self.study.result())

    def _begun_before(self) -> list[Proposal]:
        """Tells of what ended when nobody looked, and returns what is to be begun again."""
        again = []
        for trial in self.study.begun_before():
            folder = self.folder / str(trial.number)
            is_local, metric = not isinstance(self.launcher, JobLauncher), self.study.search.metric
            if is_local and (score := finished_score(folder, metric)) is not None:
                self._told(trial, outcome_of(score, self.study.is_pruned(trial.number), str(folder), metric))
                continue
            again.append(trial)
            if is_local and not self.config.get("resume") and folder.exists():
                print(f"Trial {trial.number} was cut off; it is begun again. (With resume=true it would go on.)")
                shutil.rmtree(folder)
        return again

    def _next_batch(self, pending: list[Proposal]) -> list[Proposal]:
        """Takes trials whose numbers follow each other, as launchers count; those that were begun before come first."""
        batch: list[Proposal] = []
        while pending and len(batch) < self._parallel and (not batch or pending[0].number == batch[-1].number + 1):
            batch.append(pending.pop(0))
        while not pending and len(batch) < self._parallel and self.study.num_begun < self.study.num_wanted:
            if batch and batch[-1].number + 1 != self.study.num_begun:
                break
            batch.append(self.study.ask())
        return batch

    def _launch(self, batch: Sequence[Proposal]) -> None:
        self._batch = batch
        overrides = [self.overrides(trial.number, trial.values) for trial in batch]
        for trial in batch:
            self.study.begins(trial.number)
        returns = self.launcher.launch(overrides, initial_job_idx=batch[0].number)
        for trial, returned in zip(batch, returns, strict=True):
            is_pruned = self.study.is_pruned(trial.number)
            self._told(trial, returned_outcome(returned, is_pruned, self.study.search.metric))

    def overrides(self, number: int, values: Mapping[str, Value]) -> list[str]:
        """Returns what a trial is composed with: what was typed, its values, and what makes it known to the search."""
        own = [f"run_name={hydra_value(self.run_name)}"] if "run_name" in self.config else []
        if OmegaConf.select(self.config, "logger.wandb") and not self._is_typed("logger.wandb.group"):
            name = f"{self.config.name}-{self.run_name}-{number}"
            own += [f"logger.wandb.group={hydra_value(self.run_name)}", f"logger.wandb.name={hydra_value(name)}"]
        if not isinstance(self.launcher, JobLauncher) and self.config.get("callbacks") is not None:
            reporter = {
                "_target_": REPORTER,
                "journal": str((self.folder / JOURNAL_NAME).absolute()),
                "number": number,
                "metric": self.study.search.metric,
                "pruner": self.options.pruner,
            }
            own.append(f"+callbacks.report_trial={hydra_value(reporter)}")
        return [*self.typed.overrides(self.study.search.space.overrides(values)), *own]

    def _is_typed(self, key: str) -> bool:
        return any(text.lstrip("+").startswith(f"{key}=") for text in self.typed.fixed)

    def _watch(self, index: int, job: FollowedJob) -> str:
        """Takes from a job's log what it got in its validations; returns why it is to be stopped, if it is."""
        metric, number = self.study.search.metric, self._batch[index].number
        num_known = self.study.num_validations(number)
        for validation, step in enumerate(sorted(job.validations), 1):
            value = job.validations[step].get(metric)
            if validation > num_known and value is not None and self.study.report(number, validation, value):
                return f"worse than other trials were by then ({self.options.pruner})"
        return ""

    def _told(self, trial: Proposal, outcome: Outcome) -> None:
        self.study.tell(trial.number, outcome)
        result, metric = self.study.result(), self.study.search.metric
        notes = {"complete": f"{metric} {_digits(outcome.score)}", "pruned": outcome.reason, "failed": outcome.reason}
        best = "" if result.best is None else f" Best so far: trial {result.best.number}, {_digits(result.best.score)}."
        values = " ".join(self.study.search.space.overrides(trial.values))
        print(f"Trial {trial.number} {outcome.state}: {notes[outcome.state]} ({values}).{best}", flush=True)

    def _fails_too_often(self, result: SearchResult) -> bool:
        num_failed = len(result.of_state("failed"))
        num_told = sum(trial.state != "running" for trial in result.trials)
        if num_told < LEAST_TOLD or num_failed <= self.options.max_failed_share * num_told:
            return False
        print(
            f"{num_failed} of {num_told} trials failed, more than hydra.sweeper.max_failed_share="
            f"{self.options.max_failed_share}: no further trial is begun.",
            file=sys.stderr,
            flush=True,
        )
        return True

    def _limit(self, result: SearchResult) -> str:
        """Returns which limit the next batch would pass, or an empty string."""
        max_hours, max_usd = self.options.max_hours, self.options.max_usd
        if max_hours is not None and time.monotonic() - self._started_s >= max_hours * 3600:
            return f"hydra.sweeper.max_hours={max_hours} is over"
        if max_usd is not None:
            spent_usd = sum(trial.cost_usd or 0 for trial in result.trials)
            next_usd = self._most_usd * min(self._parallel, self.study.num_wanted)
            if spent_usd + next_usd > max_usd:
                return (
                    f"{spent_usd:.2f} USD are spent, and the next trials could cost {next_usd:.2f} (on demand, for all "
                    f"of compute.max_runtime_s), more than hydra.sweeper.max_usd={max_usd}"
                )
        return ""

    def _bound(self) -> float:
        """Returns what one trial can cost at most, in USD; asked for only where there is a limit.

        Raises:
            ValueError: Nothing is billed, or the price is not known.
        """
        if self.options.max_usd is None:
            return 0.0
        launcher = self.launcher
        most_usd = launcher.most_usd(self.typed.fixed) if isinstance(launcher, JobLauncher) else None
        if most_usd is None:
            raise ValueError(
                f"hydra.sweeper.max_usd={self.options.max_usd}: what these trials cost is not known, or nothing is "
                "billed for them, so it can bound nothing. Type hydra.sweeper.max_hours=<hours> in its place"
            )
        return most_usd


def _digits(score: float | None) -> str:
    return "none" if score is None else f"{score:.4f}"
