"""From the overrides of one Hydra job to the requests that run it on SageMaker."""

import inspect
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from stocktake.cloud.request_types import TrainingJobRequest

MAX_NAME_CHARACTERS = 63
MAX_OVERRIDE_BYTES = 128 * 1024 - 1  # Linux: MAX_ARG_STRLEN, with the closing zero
# Keys of `compute` that `training_job` does not take as they are.
OWN_KEYS = {"bucket", "requirements", "wandb_secret"}
# What a request shows where the user has not set it yet; nothing is sent with it.
PLACEHOLDERS = {"bucket": "<bucket: set STOCKTAKE_BUCKET>", "role_arn": "<role: set STOCKTAKE_ROLE>"}


@dataclass(frozen=True)
class Plan:
    """One Hydra job.

    Attributes:
        number: Hydra's, over all batches of a sweep.
        overrides: What the user typed for it, as Hydra hands it on; sent byte for byte.
        added_overrides: What the launcher puts behind them.
        cfg: Composed from `overrides`, with Hydra's part.
        folder: Where its results come to.
        requests: CreateTrainingJob bodies; those after the first are for when its instances are missing.
    """

    number: int
    name: str
    overrides: Sequence[str]
    added_overrides: Sequence[str]
    cfg: DictConfig
    folder: Path
    config_url: str
    requests: Sequence[TrainingJobRequest]

    def config_file(self, script: str) -> bytes:
        # Only ASCII, escapes for the rest: what argv held that is no UTF-8 survives, too.
        overrides = [*self.overrides, *self.added_overrides]
        return json.dumps({"script": script, "overrides": overrides}, indent=1).encode("ascii")


def job_name(*parts: str, max_characters: int = MAX_NAME_CHARACTERS) -> str:
    """Returns a name that SageMaker takes: letters, digits and single hyphens, cut from the left part."""
    cleaned = [re.sub(r"[^a-zA-Z0-9]+", "-", part).strip("-") for part in parts]
    first, rest = cleaned[0], "-".join(cleaned[1:])
    room = max_characters - len(rest) - 1
    return "-".join(filter(None, [first[: max(room, 0)].strip("-"), rest]))


def refuse_overrides(overrides: Sequence[str]) -> None:
    """Refuses what could not reach a process's arguments unchanged.

    Raises:
        ValueError: Naming the override.
    """
    for override in overrides:
        if "\0" in override:
            raise ValueError(f"{override[:80]!r} holds a zero character, which no process can be given: leave it out.")
        if (size := len(override.encode(errors="surrogateescape"))) > MAX_OVERRIDE_BYTES:
            raise ValueError(f"{override[:80]!r}... has {size} bytes; at most {MAX_OVERRIDE_BYTES} reach a process.")


def training_requests(
    compute: Mapping[str, Any],
    name: str,
    number: int,
    code_url: str,
    config_url: str,
    region: str,
    environment: Mapping[str, str],
    tags: Mapping[str, str],
) -> list[TrainingJobRequest]:
    """Returns the CreateTrainingJob bodies for one job, one for each spot instance type to fall back to.

    Args:
        compute: The configuration group, resolved.
        environment: Further variables of the container.

    Raises:
        ValueError: A key of `compute` is unknown.
    """
    from stocktake.cloud.requests import training_job
    from stocktake.cloud.training_images import image_in

    known = set(inspect.signature(training_job).parameters)
    unknown = sorted(set(compute) - known - OWN_KEYS)
    if unknown:
        raise ValueError(f"compute.{unknown[0]} is unknown; known are {', '.join(sorted(known | OWN_KEYS))}.")
    values = {key: value for key, value in compute.items() if key not in OWN_KEYS}
    types = values.pop("instance_types")
    types = [types] if isinstance(types, str) else list(types)
    if compute.get("requirements"):
        environment = {"STOCKTAKE_REQUIREMENTS": compute["requirements"], **environment}
    if compute.get("wandb_secret"):
        environment = {"WANDB_SECRET_ID": compute["wandb_secret"], **environment}
    # Whatever the instance type, one W&B run. SageMaker sets AWS_REGION, and boto3 reads the other.
    values["environment"] = {
        "WANDB_RUN_ID": name,
        "AWS_DEFAULT_REGION": region,
        **environment,
        **(values.get("environment") or {}),
    }
    values["tags"] = {**tags, **(values.get("tags") or {})}
    values["image_uri"] = image_in(str(values["image_uri"]), region, types)
    if values.get("checkpoint_url"):
        values["checkpoint_url"] = f"{values['checkpoint_url'].rstrip('/')}/{number}"
    # On demand AWS itself tries one type after the other; for spot it takes one request for each.
    tries = [[instance_type] for instance_type in types] if values.get("spot") else [types]
    return [
        training_job(
            name if index == 0 else job_name(name, f"try{index + 1}"),
            code_url=code_url,
            config_url=config_url,
            instance_types=tried,
            **values,
        )
        for index, tried in enumerate(tries)
    ]


def resolved_compute(cfg: DictConfig, **fixed: Any) -> dict[str, Any]:
    """Returns the group `compute` as plain values, with `fixed` instead of what the user typed.

    Where bucket or role are missing, `PLACEHOLDERS` stand for them.

    Raises:
        ValueError: There is no such group.
    """
    if "compute" not in cfg:
        raise ValueError("The configuration has no group compute, which says what a job runs on: add compute=spot.")
    for key, placeholder in PLACEHOLDERS.items():
        if not cfg.compute.get(key):
            OmegaConf.update(cfg, f"compute.{key}", placeholder)
    for key, value in fixed.items():
        OmegaConf.update(cfg, f"compute.{key}", value)
    compute = OmegaConf.to_container(cfg.compute, resolve=True)
    if not isinstance(compute, dict):
        raise ValueError(f"compute={compute} is no group of keys: choose compute=spot or compute=on_demand.")
    return {str(key): value for key, value in compute.items()}
