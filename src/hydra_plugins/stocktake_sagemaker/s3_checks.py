"""What lies in S3 before a job is sent: its data, its weights, and the run that it would go on with."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from omegaconf import DictConfig, OmegaConf

from hydra_plugins.stocktake_sagemaker.override_checks import override_problems
from hydra_plugins.stocktake_sagemaker.plan import Plan
from hydra_plugins.stocktake_sagemaker.problems import CHANNEL, Problem, storage_urls

if TYPE_CHECKING:
    from stocktake.cloud.source_archive import Code
    from stocktake.storage import Folder

RUN = "run"  # the run folder below a job's checkpoints, see `stocktake.cloud.container`
MANIFEST = "manifest.parquet"  # `stocktake.data.manifest` imports pyarrow, which a launch does without


def stored_problems(
    plans: Sequence[Plan], code: Code, config: DictConfig, open_folder: Callable[[str], Folder], profile: str | None
) -> list[Problem]:
    """Returns what is not in S3, or is in the way there.

    Args:
        plans: Of jobs that are not there yet.
        config: Of the launch, with Hydra's part.
        open_folder: The way to what the launcher itself writes.
        profile: Of these credentials; a job has its role's.
    """
    from stocktake.run_folder import CONFIG_NAME, METRICS_NAME

    problems, befores = [], {}
    for plan in plans:
        problems += _missing_objects(plan.cfg, profile)
        checkpoints = plan.requests[0].get("CheckpointConfig")
        if checkpoints is None:
            continue
        folder = open_folder(checkpoints["S3Uri"].rstrip("/"))
        if not folder.exists(f"{RUN}/{CONFIG_NAME}"):
            continue
        if not plan.cfg.get("resume"):
            problems.append(
                Problem(
                    f"{folder.url} holds a run already, over which a job without resume=true would write. Type "
                    "resume=true to go on with it, or run_name=<new> to start another run beside it."
                )
            )
            continue
        befores[plan.name] = folder.read(f"{RUN}/{CONFIG_NAME}").decode()
        if folder.exists(f"{RUN}/{METRICS_NAME}"):
            print(f"{plan.name}: the run in {folder.url} is finished; a job only brings its results.")
        else:
            print(f"{plan.name}: goes on with the run in {folder.url}.")
    return problems + (list(override_problems(plans, code, config, befores)) if befores else [])


def _missing_objects(cfg: DictConfig, profile: str | None) -> Iterator[Problem]:
    from stocktake.config import build
    from stocktake.storage import Folder, StorageError, StorageOptions, split_url

    options = StorageOptions()
    if OmegaConf.select(cfg, "storage._target_"):
        options = build(cfg.storage)
    options = replace(options, profile=profile or options.profile)
    channels = cfg.compute.get("channels") or {}
    for key, url in storage_urls(cfg):
        if channel := CHANNEL.match(url):
            url = str(channels.get(channel[1], "")).rstrip("/") + url[channel.end() :]
        if not url.startswith("s3://"):
            continue
        folder, name = (url, MANIFEST) if key == "data.root" else split_url(url)
        hint = f"Type: python scripts/prepare.py source=<bins> root={url}" if key == "data.root" else "Upload it."
        try:
            if not Folder(folder, options).exists(name):
                yield Problem(f"{key}: {folder}/{name} does not exist. {hint}")
        except StorageError as error:
            yield Problem(f"{key}: {error}")
