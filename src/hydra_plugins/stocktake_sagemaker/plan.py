"""From the words of one Hydra job to the requests that run it on SageMaker."""

import inspect
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

MAX_NAME_CHARACTERS = 63
MAX_WORD_BYTES = 128 * 1024 - 1  # Linux: MAX_ARG_STRLEN, with the closing zero
DRAWS = "SyntheticBinDataModule"  # makes its data wherever it runs
# Keys of `compute` that `training_job` does not take as they are.
OWN_KEYS = {"bucket", "requirements", "wandb_secret"}


@dataclass
class Plan:
    """One Hydra job.

    Attributes:
        number: Hydra's, over all batches of a sweep.
        words: What the user typed for it, as Hydra hands it on; sent byte for byte.
        added: Words that the launcher puts behind them.
        cfg: Composed from `words`, with Hydra's part.
        folder: Where its results come to.
        requests: CreateTrainingJob bodies; those after the first are for when its instances are missing.
    """

    number: int
    name: str
    words: list[str]
    added: list[str]
    cfg: DictConfig
    folder: Path
    config_url: str
    requests: list[dict[str, Any]]

    def config_file(self, script: str) -> bytes:
        # Only ASCII, escapes for the rest: what argv held that is no UTF-8 survives, too.
        return json.dumps({"script": script, "overrides": [*self.words, *self.added]}, indent=1).encode("ascii")


def job_name(*parts: str) -> str:
    """Returns a name that SageMaker takes: letters, digits and single hyphens, cut from the left part."""
    cleaned = [re.sub(r"[^a-zA-Z0-9]+", "-", part).strip("-") for part in parts]
    first, rest = cleaned[0], "-".join(cleaned[1:])
    room = MAX_NAME_CHARACTERS - len(rest) - 1
    return "-".join(filter(None, [first[: max(room, 0)].strip("-"), rest]))


def refuse_words(words: Sequence[str]) -> None:
    """Refuses what could not reach a process's arguments unchanged.

    Raises:
        ValueError: Naming the word.
    """
    for word in words:
        if "\0" in word:
            raise ValueError(f"{word[:80]!r} holds a zero character, which no process can be given: leave it out.")
        if (size := len(word.encode(errors="surrogateescape"))) > MAX_WORD_BYTES:
            raise ValueError(f"{word[:80]!r}... has {size} bytes; at most {MAX_WORD_BYTES} reach a process.")


def refuse_keys(compute: Mapping[str, Any]) -> None:
    """Refuses a W&B key among the words: they are kept in configurations, checkpoints and logs.

    Raises:
        ValueError: Naming the key, not its value.
    """
    if "WANDB_API_KEY" in (compute.get("environment") or {}):
        raise ValueError(
            "compute.environment.WANDB_API_KEY would be kept with the run's configuration, for everybody to read. Use "
            "compute.wandb_secret=<name in Secrets Manager>, or set WANDB_API_KEY here and type "
            "hydra.launcher.send_wandb_key=true."
        )


def refuse_local_files(cfg: DictConfig, packed: Sequence[str]) -> None:
    """Refuses data and weights that lie on this machine only.

    Raises:
        ValueError: Naming the key and what to do.
    """
    root, weights = cfg.data.get("root"), cfg.model.get("weights")
    if root and not _reaches_instances(root) and not str(cfg.data.get("_target_", "")).endswith(DRAWS):
        raise ValueError(
            f"data.root={root} is a folder of this machine. Upload it (aws s3 sync {root} s3://<bucket>/<folder>) and "
            "type data.root=s3://<bucket>/<folder>."
        )
    if weights not in (None, "none", "imagenet") and not _reaches_instances(weights) and weights not in packed:
        raise ValueError(
            f"model.weights={weights} is a file of this machine. Upload it (aws s3 cp {weights} s3://<bucket>/) and "
            "type model.weights=s3://<bucket>/<name>."
        )


def _reaches_instances(place: str) -> bool:
    return place.startswith(("s3://", "/opt/ml/input/data/"))


def training_requests(
    compute: Mapping[str, Any],
    name: str,
    number: int,
    code_url: str,
    config_url: str,
    region: str,
    environment: Mapping[str, str],
    tags: Mapping[str, str],
) -> list[dict[str, Any]]:
    """Returns the CreateTrainingJob bodies for one job, one for each spot instance type to fall back to.

    Args:
        compute: The configuration group, resolved.
        environment: Further variables of the container.

    Raises:
        ValueError: A key of `compute` is unknown.
    """
    from stocktake.cloud.requests import training_job

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
    # Whatever the instance type, one W&B run.
    values["environment"] = {"WANDB_RUN_ID": name, **environment, **(values.get("environment") or {})}
    values["tags"] = {**tags, **(values.get("tags") or {})}
    values["image_uri"] = str(values["image_uri"]).replace("{region}", region)
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
    """Returns the group `compute` as plain values, with `fixed` in the place of what the user typed.

    Raises:
        ValueError: There is no such group, or no bucket in it.
    """
    if "compute" not in cfg:
        raise ValueError("The configuration has no group compute, which says what a job runs on: add compute=spot.")
    for key, value in fixed.items():
        OmegaConf.update(cfg, f"compute.{key}", value)
    if not cfg.compute.bucket:
        raise ValueError(
            "compute.bucket is not set: the S3 bucket for code, checkpoints and results. Type compute.bucket=<name>, "
            "or set STOCKTAKE_BUCKET."
        )
    return OmegaConf.to_container(cfg.compute, resolve=True)
