"""The words below `hydra.launcher`; what a job runs on stands in the configuration group `compute`.

Hydra imports every module of this package at each start, so nothing heavy is imported at their top.
"""

from dataclasses import dataclass, field
from typing import Any, Optional

from hydra.core.config_store import ConfigStore


@dataclass
class LauncherOptions:
    """Options of both launchers."""

    job_name: Optional[str] = None  # noqa: UP045 (OmegaConf reads it); null: name, run name and time. A known one attaches
    script: str = "train.py"  # what the instances run, from the repository's root
    dry_run: bool = False  # print requests, checks and files; needs no credentials and sends nothing
    capacity_wait_s: float = 900.0  # a spot job waits so long for instances before the next of compute.instance_types


@dataclass
class SageMakerOptions(LauncherOptions):
    """hydra/launcher=sagemaker."""

    _target_: str = "hydra_plugins.stocktake_sagemaker.launcher.SageMakerLauncher"
    profile: Optional[str] = None  # noqa: UP045 - in the AWS configuration; null: as boto3 finds it
    region: Optional[str] = None  # noqa: UP045 - null: the profile's
    poll_s: float = 10.0  # between two looks; AWS throttles those who look all the time
    send_wandb_key: bool = False  # put this machine's W&B key into the job's environment; see compute.wandb_secret


@dataclass
class RehearsalOptions(LauncherOptions):
    """hydra/launcher=rehearsal."""

    _target_: str = "hydra_plugins.stocktake_sagemaker.rehearsal.RehearsalLauncher"
    folder: str = "runs/rehearsal"  # holds a folder for each launch: instances, logs, and what stands in for S3
    faults: list[Any] = field(default_factory=list)  # what goes wrong: [notice, {kind: kill, host: algo-2, step: 11}]
    poll_s: float = 0.5  # between two looks
    grace_s: float = 120.0  # from SIGTERM to SIGKILL, as SageMaker gives
    upload_interval_s: float = 1.0  # between two uploads of checkpoints; SageMaker does not say how often it does


for _name, _options in (("sagemaker", SageMakerOptions), ("rehearsal", RehearsalOptions)):
    ConfigStore.instance().store(group="hydra/launcher", name=_name, node=_options, provider="stocktake")
