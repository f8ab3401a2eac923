"""A search as one tuning job of SageMaker's: `hydra/sweeper=sagemaker`.

Hydra imports this module at each start, so nothing heavy is imported at its top.
"""

from __future__ import annotations

import logging
from typing import Any

from hydra.core.utils import configure_log, setup_globals

from hydra_plugins.stocktake_sagemaker.launcher import JobLauncher
from hydra_plugins.stocktake_sagemaker.results import LaunchError
from hydra_plugins.stocktake_sagemaker.trial_config import TrialSweeper, plain_options
from hydra_plugins.stocktake_sagemaker.tuning_options import TuningOptions
from stocktake.shell import typed_again

LAUNCHERS = ("sagemaker", "rehearsal")


class TuningSweeper(TrialSweeper):
    """`hydra/sweeper=sagemaker`: has SageMaker, or a rehearsal of it, propose the trials and run them."""

    def __init__(self, **options: Any):
        """
        Args:
            options: The fields of `TuningOptions`.
        """
        self.options: TuningOptions = TuningOptions(**plain_options(options))

    def sweep(self, arguments: list[str]) -> None:
        # Not at the top: Hydra imports this module at every start.
        from hydra_plugins.stocktake_sagemaker._tuning_run import TuningRun
        from stocktake.cloud.client import JobError

        setup_globals()
        configure_log(self.of_trials.hydra.hydra_logging, self.of_trials.hydra.verbose)
        logging.getLogger("botocore").setLevel(logging.WARNING)  # it says where it found each thing
        if not isinstance(self.launcher, JobLauncher):
            lines = "\n".join(f"  {typed_again(f'hydra/launcher={name}')}" for name in LAUNCHERS)
            raise LaunchError(
                f"hydra/sweeper=sagemaker makes a tuning job of the search, which runs in an AWS account or in a "
                f"rehearsal of one. Type one of\n{lines}\nOr have the trials run here: hydra/sweeper=search"
            )
        try:
            TuningRun(self.launcher, self.options, self.of_trials, arguments, self.config_loader).to_its_end()
        except (ValueError, JobError, OSError) as error:
            raise LaunchError(str(error)) from error
