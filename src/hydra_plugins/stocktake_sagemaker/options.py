"""The keys below `hydra.launcher`; what a job runs on stands in the configuration group `compute`.

Hydra imports every module of this package at each start, so nothing heavy is imported at their top.
"""

import shlex
import sys
from dataclasses import dataclass, field
from typing import Any, Optional

from hydra.core.config_store import ConfigStore
from hydra.experimental.callback import Callback
from omegaconf import DictConfig

NEEDS_MULTIRUN = "needs_multirun"
REFUSAL = "sends jobs only with -m; without it the training would run here"


class NeedsMultirun(Callback):
    """Refuses a single run: Hydra asks launchers and sweepers only with `-m`, and without it trains on this machine.

    Choosing one of this package's brings it along, whatever the command.
    """

    def __init__(self, group: str, refusal: str):
        """
        Args:
            group: That was chosen from, `hydra/launcher` or `hydra/sweeper`.
            refusal: Goes on from the choice.
        """
        self.group, self.refusal = group, refusal

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        # Not an exception: Hydra makes a warning of what a callback raises.
        sys.exit(
            f"{self.group}={config.hydra.runtime.choices[self.group]} {self.refusal}. "
            f"Type: python {shlex.join([sys.argv[0], '-m', *sys.argv[1:]])}"
        )


def needs_multirun(group: str, refusal: str) -> dict[str, str]:
    """Returns the callback as a configuration has it."""
    return {"_target_": f"{__name__}.NeedsMultirun", "group": group, "refusal": refusal}


@dataclass
class LauncherOptions:
    """Options of both launchers."""

    defaults: list[Any] = field(default_factory=lambda: [{"/hydra/callbacks@_global_": NEEDS_MULTIRUN}, "_self_"])
    job_name: Optional[str] = None  # noqa: UP045 (OmegaConf reads it); null: name, run name and time. A known one attaches
    script: str = "train.py"  # what the instances run, from the repository's root
    dry_run: bool = False  # print requests and all that is missing or wrong; needs no account and sends nothing
    list_files: bool = False  # a dry run also names the files of the code that would be sent
    poll_s: float = 10.0  # between two looks; AWS throttles those who look all the time
    max_usd: Optional[float] = None  # noqa: UP045 - refuses a launch that can cost more, with all its jobs and tries
    prices: Optional[Any] = None  # noqa: UP045 - USD an hour by type, {ml.g5.xlarge: 1.41}; null: as known here
    capacity_wait_s: float = 900.0  # a spot job waits so long for instances before the next of compute.instance_types


@dataclass
class SageMakerOptions(LauncherOptions):
    """hydra/launcher=sagemaker."""

    _target_: str = "hydra_plugins.stocktake_sagemaker.sagemaker.SageMakerLauncher"
    profile: Optional[str] = None  # noqa: UP045 - in the AWS configuration; null: as boto3 finds it
    region: Optional[str] = None  # noqa: UP045 - null: the profile's
    yes: bool = False  # on a terminal, send without a question
    send_wandb_key: bool = False  # put this machine's W&B key into the job's environment; see compute.wandb_secret


@dataclass
class RehearsalOptions(LauncherOptions):
    """hydra/launcher=rehearsal."""

    _target_: str = "hydra_plugins.stocktake_sagemaker.rehearsal.RehearsalLauncher"
    folder: str = "runs/rehearsal"  # holds a folder for each launch: instances, logs, and what stands in for S3
    faults: list[Any] = field(default_factory=list)  # what goes wrong: [notice, {kind: kill, host: algo-2, step: 11}]
    clean: bool = False  # in an environment like the image's, from requirements.container.lock, instead of this one
    poll_s: float = 0.5  # between two looks
    grace_s: float = 120.0  # from SIGTERM to SIGKILL, as SageMaker gives
    upload_interval_s: float = 1.0  # between two uploads of checkpoints; SageMaker does not say how often it does


ConfigStore.instance().store(
    group="hydra/callbacks",
    name=NEEDS_MULTIRUN,
    node={"hydra": {"callbacks": {NEEDS_MULTIRUN: needs_multirun("hydra/launcher", REFUSAL)}}},
    package="_global_",
    provider="stocktake",
)
for _name, _options in (("sagemaker", SageMakerOptions), ("rehearsal", RehearsalOptions)):
    ConfigStore.instance().store(group="hydra/launcher", name=_name, node=_options, provider="stocktake")
