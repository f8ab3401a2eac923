"""What would keep a job from being sent, or let it fail once it is paid for: all at once.

Hydra imports this module at each start, so nothing heavy is imported at its top.
"""

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from omegaconf import DictConfig, OmegaConf

from hydra_plugins.stocktake_sagemaker.plan import PLACEHOLDERS, Plan

DRAWS = "SyntheticBinDataModule"  # makes its data wherever it runs
CHANNEL = re.compile(r"/opt/ml/input/data/([^/]+)")
STAND_IN_ROLE = "arn:aws:iam::123456789012:role/Stocktake"  # the rest of a request is checked without a role, too
# https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html
BUCKET = re.compile(r"(?!\d+\.\d+\.\d+\.\d+$)(?!.*\.\.)[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
STORAGE_KEYS = {  # keys that say where something lies: what it is, and how it comes to S3
    "data.root": ("folder", "aws s3 sync {url} s3://<bucket>/<folder>", "s3://<bucket>/<folder>"),
    "model.weights": ("file", "aws s3 cp {url} s3://<bucket>/", "s3://<bucket>/<name>"),
    "checkpoint": ("file", "aws s3 cp {url} s3://<bucket>/", "s3://<bucket>/<name>"),
}
NOT_STORED = ("none", "imagenet")  # of model.weights


@dataclass(frozen=True)
class Problem:
    """One line.

    Attributes:
        text: The key, what is wrong and what to type.
        is_missing: The user has yet to say it; nothing that was said is wrong.
    """

    text: str
    is_missing: bool = False


def summary(problems: Sequence[Problem]) -> str:
    """Returns the list as a person reads it: what is missing, then what is wrong."""
    lines = []
    for is_missing, title in ((True, "Missing before it can be sent"), (False, "Wrong")):
        texts = list(dict.fromkeys(problem.text for problem in problems if problem.is_missing is is_missing))
        if texts:
            lines += [f"{title}, {len(texts)}:", *(f"  {text}" for text in texts)]
    return "\n".join(lines)


def request_problems(plan: Plan, region: str) -> Iterator[Problem]:
    """Yields what AWS would refuse in the requests, or take and then not be able to run."""
    from stocktake.cloud.requests import training_job_keys
    from stocktake.cloud.training_images import image_problems
    from stocktake.cloud.validation import problem_lines

    for request in plan.requests:
        if request["RoleArn"] == PLACEHOLDERS["role_arn"]:
            request = {**request, "RoleArn": STAND_IN_ROLE}
        for line in problem_lines("CreateTrainingJob", request, training_job_keys()):
            yield Problem(line)
        for key, message in image_problems(request, region):
            yield Problem(f"{key}: {message}")


def unset_problems(cfg: DictConfig) -> Iterator[Problem]:
    """Yields which of bucket and role the user has yet to set."""
    if cfg.compute.bucket == PLACEHOLDERS["bucket"]:
        yield Problem(
            "compute.bucket is not set: the S3 bucket for code, checkpoints and results. Type compute.bucket=<name>, "
            "or: export STOCKTAKE_BUCKET=<name>",
            is_missing=True,
        )
    if cfg.compute.role_arn == PLACEHOLDERS["role_arn"]:
        yield Problem(
            "compute.role_arn is not set: what the job may do. Type compute.role_arn=<arn>, or: export "
            "STOCKTAKE_ROLE=arn:aws:iam::<account>:role/<name>",
            is_missing=True,
        )


def secret_problems(environment: Mapping[str, Any] | None) -> Iterator[Problem]:
    """Yields the secrets among the variables: they would be kept with configuration, request and logs."""
    from stocktake.cloud.secrets import looks_secret

    for name, value in (environment or {}).items():
        if name == "WANDB_API_KEY":
            yield Problem(
                "compute.environment.WANDB_API_KEY would be kept with the run's configuration, for everybody to read. "
                "Use compute.wandb_secret=<name in Secrets Manager>, or type wandb login here and "
                "type hydra.launcher.send_wandb_key=true."
            )
        elif looks_secret(name, str(value)):
            yield Problem(
                f"compute.environment.{name} looks like a secret, and everybody who may look at the job could read it. "
                "The job has its role instead of AWS keys; the W&B key goes by compute.wandb_secret=<name in Secrets "
                "Manager>, and another secret is read from Secrets Manager by the code that needs it."
            )


def storage_problems(cfg: DictConfig, packed: Sequence[str]) -> Iterator[Problem]:
    """Yields data, weights and checkpoints that the instances could not reach, and buckets of impossible names.

    Args:
        packed: Files that travel with the code.
    """
    stored = dict(storage_urls(cfg))
    channels = cfg.compute.get("channels") or {}
    requirements = cfg.compute.get("requirements")
    if requirements and requirements not in packed:
        yield Problem(
            f"compute.requirements={requirements} is no file of the repository that git tracks, so the job would lack "
            "it. Type git add, or compute.requirements=null where the image has all packages."
        )
    for key, url in stored.items():
        kind, upload, typed = STORAGE_KEYS[key]
        channel = CHANNEL.match(url)
        if channel and channel[1] not in channels:
            yield Problem(
                f"{key}={url} is of a channel that there is not. Type "
                f"+compute.channels.{channel[1]}=s3://<bucket>/<folder>"
            )
        elif not channel and ("://" not in url or url.startswith("file://")) and not _travels(url, packed):
            yield Problem(
                f"{key}={url} is a {kind} of this machine, which a job cannot read. Upload it "
                f"({upload.format(url=shlex.quote(url))}) and type {key}={typed}",
                is_missing=True,
            )
    if cfg.compute.get("network_isolation"):
        yield from _isolation_problems(stored, cfg)
    urls = {"compute.output_url": cfg.compute.output_url, "compute.checkpoint_url": cfg.compute.get("checkpoint_url")}
    urls |= {f"compute.channels.{name}": url for name, url in channels.items()} | stored
    buckets = {"compute.bucket": cfg.compute.bucket}
    for key, url in urls.items():
        bucket = str(url or "").removeprefix("s3://").partition("/")[0]
        if str(url or "").startswith("s3://") and bucket not in buckets.values():
            buckets[key] = bucket
    for key, bucket in buckets.items():
        if bucket != PLACEHOLDERS["bucket"] and not BUCKET.fullmatch(str(bucket)):
            yield Problem(
                f"{key}: {bucket!r} is no name of a bucket: 3 to 63 small letters, digits, hyphens and dots, a letter "
                f"or a digit at both ends. Did you mean {_bucket_like(str(bucket))}?"
            )


def _travels(url: str, packed: Sequence[str]) -> bool:
    url = url.removeprefix("./").rstrip("/")
    return any(file == url or file.startswith(f"{url}/") for file in packed)


def storage_urls(cfg: DictConfig) -> Iterator[tuple[str, str]]:
    for key in STORAGE_KEYS:
        url = OmegaConf.select(cfg, key, throw_on_missing=False)
        draws = key == "data.root" and str(OmegaConf.select(cfg, "data._target_")).endswith(DRAWS)
        if url and url not in NOT_STORED and not draws:
            yield key, str(url)


def _isolation_problems(stored: Mapping[str, str], cfg: DictConfig) -> Iterator[Problem]:
    for key, url in stored.items():
        if url.startswith("s3://"):
            folder, _, name = (url, "", "") if key == "data.root" else url.rpartition("/")
            channel = key.rpartition(".")[2]
            inside = f"/opt/ml/input/data/{channel}" + (f"/{name}" if name else "")
            yield Problem(
                f"{key}={url} cannot be read with compute.network_isolation=true. Let SageMaker bring it: type "
                f"+compute.channels.{channel}={folder} {key}={inside}"
            )
        elif "://" in url and not url.startswith("file://"):
            yield Problem(
                f"{key}={url} cannot be read with compute.network_isolation=true, and SageMaker brings only what lies "
                f"in S3. Copy it there and type {key}=s3://<bucket>/<folder>"
            )
    if OmegaConf.select(cfg, "model.weights", throw_on_missing=False) == "imagenet":
        yield Problem(
            "model.weights=imagenet cannot be fetched with compute.network_isolation=true. Upload the file and type "
            "+compute.channels.weights=s3://<bucket>/<folder> model.weights=/opt/ml/input/data/weights/<name>"
        )
    if str(cfg.get("checkpoint_dir") or "").startswith("s3://"):
        yield Problem(
            f"checkpoint_dir={cfg.checkpoint_dir} cannot be written with compute.network_isolation=true. Leave it out: "
            "compute.checkpoint_url keeps the checkpoints."
        )


def _bucket_like(name: str) -> str:
    near = re.sub(r"[^a-z0-9.-]+", "-", name.lower()).strip(".-")[:63].strip(".-")
    return near if BUCKET.fullmatch(near) else "my-bucket"
