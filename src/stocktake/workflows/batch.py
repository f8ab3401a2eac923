"""scripts/deploy.py target=batch: images in S3 counted once, by a job that ends, and put into predictions.parquet."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from stocktake.cloud.batch_jobs import BatchJob, BatchJobs, ListedJob
from stocktake.cloud.deployment_checks import (
    CONFIG_KEYS,
    NEEDED,
    PLACEHOLDERS,
    CannotDeploy,
    account_problems,
    clients,
    instance_price,
    open_account,
    refuse,
    request_problems,
    require_name,
    show,
)
from stocktake.cloud.inference_image import AWS_IMAGE, MAX_PAYLOAD_MB, with_image
from stocktake.cloud.model_archive import ARCHIVE_NAME, ModelArchive
from stocktake.cloud.price_list import hourly_usd
from stocktake.config import as_plain
from stocktake.console import is_agreed
from stocktake.data.batch_input import BatchInput
from stocktake.inference.batch_answers import BatchAnswers
from stocktake.inference.batch_transform import Transform
from stocktake.serving.model_folder import read_exported
from stocktake.shell import override
from stocktake.storage import Folder, StorageOptions, join_url

PREDICTIONS_NAME, MISSING_NAME = "predictions.parquet", "missing.jsonl"  # what is left of it
NUM_NAMED = 5  # images without an answer, in the terminal
# Keys of conf/deploy/deploy.yaml that a BatchJob has as they stand.
JOB_KEYS = (
    *("role_arn", "image_uri", "instance_type", "num_instances", "kms_key", "network_isolation", "environment"),
    *("tags", "subnets", "security_groups"),
)


class BatchFailed(ValueError):
    """Too many images have no answer; the message says why, and what to do."""


def batch(cfg: DictConfig) -> int:
    """Does what conf/deploy/deploy.yaml describes with target=batch; returns the exit code.

    Raises:
        CannotDeploy: Something is missing or wrong.
        CallRefused: AWS refuses.
        BatchFailed: Too many answers are missing.
    """
    actions = {"deploy": _count, "status": _status, "stop": _stop}
    if cfg.action not in actions:
        raise CannotDeploy(
            f"action={cfg.action} is for endpoints: a batch job ends by itself, and leaves nothing to delete. Type "
            "action=status or action=stop"
        )
    return actions[cfg.action](cfg)


def _count(cfg: DictConfig) -> int:
    name = require_name(cfg.name)
    if cfg.input is None:
        raise CannotDeploy("input is not set: it is what the job counts. Type input=s3://<bucket>/<folder of images>")
    files, model = read_exported(cfg.model, StorageOptions(profile=cfg.profile, region=cfg.region))
    values, files, found = with_image(as_plain(cfg), files)
    if cfg.image_uri == AWS_IMAGE and cfg.batch.payload_mb > MAX_PAYLOAD_MB:
        found.append(
            f"{override('batch.payload_mb', cfg.batch.payload_mb)}: with image_uri={AWS_IMAGE} no image above "
            f"{MAX_PAYLOAD_MB} MB is taken. Type batch.payload_mb={MAX_PAYLOAD_MB}, or the image_uri of your own"
        )
    transform = _transform(values, name, ModelArchive.of(files))
    print(
        f"{cfg.model}: version {model['version']}, {len(transform.archive.content) / 2**20:.1f} MiB as {ARCHIVE_NAME}"
    )
    unread = BatchInput.unread(cfg.input, cfg.split)
    calls = transform.calls(f"{transform.stem(unread)}-1", unread)
    found += request_problems(values, calls, CONFIG_KEYS, NEEDED)
    if cfg.dry_run:
        taken = "a dataset root, because split is typed" if unread.is_manifest else "a folder of images"
        print(f"{unread.url} was not looked at; it is taken for {taken}. The digest in the names will be another.")
        show(calls, found)
        return 0
    refuse(found)
    aws = open_account(cfg.profile, cfg.region)
    refuse(list(account_problems(aws, cfg.role_arn, cfg.bucket)))
    jobs = BatchJobs(clients(aws))
    source = BatchInput.read(cfg.input, cfg.split, model["counts"], transform.open_folder)
    if transform.folder_url.startswith(source.url):  # what is uploaded for the job would be among what it counts
        source = replace(source, is_manifest=True)
    stem = transform.stem(source)
    earlier = [job for job in jobs.named(name) if job.stem == stem]
    if earlier and (outcome := _taken(cfg, jobs, transform, source, model, earlier[0])) is not None:
        return outcome
    usd_an_hour = hourly_usd(aws, cfg.instance_type, "Batch Transform")
    print(instance_price(cfg.num_instances, cfg.instance_type, usd_an_hour, "until the job ends"))
    if not is_agreed(f"Count {len(source.keys):,} images of {source.url}?", cfg.yes):
        return 0
    job = f"{stem}-{1 + max([job.number for job in earlier], default=0)}"
    transform.begin(jobs, job, source)
    if not cfg.wait:
        return _is_running(job, "InProgress")
    described = jobs.wait(job, print, cfg.poll_s)
    return _finish(cfg, jobs, described, transform.answers(described, source, model))


def _taken(
    cfg: DictConfig,
    jobs: BatchJobs,
    transform: Transform,
    source: BatchInput,
    model: Mapping[str, Any],
    job: ListedJob,
) -> int | None:
    """Takes what an earlier job of the same model and images gave or will give; `None` where that is too little."""
    print(f"{job.name} was begun before, for the same images and the same model: {job.status}.")
    if job.runs and not cfg.wait:
        return _is_running(job.name, job.status)
    described = jobs.wait(job.name, print, cfg.poll_s)
    answers = transform.answers(described, source, model)
    if not _is_enough(cfg, answers):
        reason = described.get("FailureReason", described["TransformJobStatus"])
        print(f"{len(answers.missing):,} of {len(source.keys):,} answers are missing from it ({reason}): one more job.")
        return None
    return _finish(cfg, jobs, described, answers)


def _is_enough(cfg: DictConfig, answers: BatchAnswers) -> bool:
    num_missing, num_images = len(answers.missing), len(answers.probabilities)
    return num_missing <= cfg.batch.max_bad_fraction * num_images and num_missing < num_images


def _is_running(job: str, status: str) -> int:
    print("Type the same again for its answers.")
    print(json.dumps({"job": job, "status": status}))
    return 0


def _finish(cfg: DictConfig, jobs: BatchJobs, described: Mapping[str, Any], answers: BatchAnswers) -> int:
    """Writes what is there, and says what is not."""
    job, status = described["TransformJobName"], described["TransformJobStatus"]
    if status != "Completed":
        print(jobs.explained(job, described.get("FailureReason", f"AWS names no reason for {status}")))
    output_url = cfg.output or str(Path("runs/batch", cfg.name))
    output = Folder(output_url, StorageOptions(profile=cfg.profile, region=cfg.region))
    missing, num_images = answers.missing, len(answers.probabilities)
    lines = [json.dumps(one) for one in missing]
    for line in [*lines[:NUM_NAMED], *["..."][: len(lines) > NUM_NAMED]]:
        print(line)
    named = "".join(f"{line}\n" for line in lines).encode()
    if not _is_enough(cfg, answers):
        unanswered = f"{job}-{MISSING_NAME}"  # what an earlier job left is not this one's
        output.write_together({unanswered: named})
        raise BatchFailed(
            f"{job} is {status}, and {len(missing):,} of {num_images:,} images have no answer, more than "
            f"batch.max_bad_fraction={cfg.batch.max_bad_fraction:g} allows; {join_url(output_url, unanswered)} names "
            "them. Type the same again for another job, or a larger batch.max_bad_fraction to take what is there."
        )
    output.write_together({MISSING_NAME: named, PREDICTIONS_NAME: answers.predictions()})
    outcome = {"job": job, "status": status, "num_images": num_images, "missing": len(missing)}
    print(json.dumps(outcome | {"predictions": join_url(output_url, PREDICTIONS_NAME)}))
    return 0


def _transform(values: dict[str, Any], name: str, archive: ModelArchive) -> Transform:
    """Returns what is to be done, with placeholders for what is not set."""
    values = values | {key: placeholder for key, placeholder in PLACEHOLDERS.items() if values[key] is None}
    sizes = {key: values["batch"][key] for key in ("num_at_once", "payload_mb")}
    storage = StorageOptions(profile=values["profile"], region=values["region"])
    return Transform(
        BatchJob(name=name, **sizes, **{key: values[key] for key in JOB_KEYS}),
        archive,
        join_url(f"s3://{values['bucket']}", values["prefix"].strip("/"), name),
        lambda url: Folder(url, storage),
    )


def _status(cfg: DictConfig) -> int:
    found = _jobs(cfg).named(require_name(cfg.name))
    for job in found:
        print(f"{job.name}: {job.status}" + (f", {job.failure_reason}" if job.failure_reason else ""))
    print(json.dumps({"running": [job.name for job in found if job.runs]}))
    return 0


def _stop(cfg: DictConfig) -> int:
    jobs = _jobs(cfg)
    stopped = [job.name for job in jobs.named(require_name(cfg.name)) if job.runs]
    for job in stopped:
        jobs.stop(job)
        jobs.wait(job, print, cfg.poll_s)
    print(json.dumps({"stopped": stopped}))
    return 0


def _jobs(cfg: DictConfig) -> BatchJobs:
    return BatchJobs(clients(open_account(cfg.profile, cfg.region)))
