"""scripts/deploy.py: an exported model as an endpoint of SageMaker's; shown, updated, listed, deleted."""

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from omegaconf import DictConfig

from stocktake.cloud.deployment import Before, Endpoint, Update
from stocktake.cloud.deployment_checks import (
    PLACEHOLDERS,
    CannotDeploy,
    account_problems,
    clients,
    open_account,
    planned_end,
    price,
    problems,
    refuse,
    require_name,
    show,
)
from stocktake.cloud.deployment_outcome import Outcome, send_all, settled
from stocktake.cloud.endpoint_scaling import Scaling
from stocktake.cloud.endpoints import EndpointFailed, Endpoints
from stocktake.cloud.inference_image import with_image
from stocktake.cloud.model_archive import ARCHIVE_NAME, ModelArchive
from stocktake.cloud.price_list import hourly_usd
from stocktake.config import as_plain
from stocktake.console import is_agreed
from stocktake.serving.model_folder import read_exported
from stocktake.shell import command, override
from stocktake.storage import Folder, StorageOptions, join_url
from stocktake.workflows.batch import batch

SCRIPT = "scripts/deploy.py"
# Keys of conf/deploy/deploy.yaml that an Endpoint has as they stand.
ENDPOINT_KEYS = (
    *("target", "role_arn", "image_uri", "instance_type", "num_instances", "memory_mb", "max_concurrency"),
    *("capture_percent", "ttl_h", "scheduler_role_arn", "kms_key", "network_isolation", "environment", "tags"),
    *("subnets", "security_groups", "shadow_percent"),
)
BATCH_KEYS = ("input", "split", "output")  # which say nothing of an endpoint, and promote.py lacks


def deploy(cfg: DictConfig) -> int:
    """Does what conf/deploy/deploy.yaml describes; returns the exit code, 1 where the new model was rolled back.

    Raises:
        CannotDeploy: Something is missing or wrong.
        CallRefused: AWS refuses.
        EndpointFailed: The endpoint is not there, or failed.
        BatchFailed: Of a batch job, too many answers are missing.
    """
    if cfg.target == "batch":
        return batch(cfg)
    if typed := [override(key, cfg[key]) for key in BATCH_KEYS if cfg.get(key) is not None]:
        raise CannotDeploy(f"{typed[0]} is for a batch job, and target={cfg.target} is an endpoint. Type target=batch")
    actions: dict[str, Callable[[DictConfig], int]] = {
        "deploy": _deploy,
        "status": _status,
        "delete": _delete,
        "list": _list,
    }
    if cfg.action not in actions:
        raise CannotDeploy(f"action={cfg.action} is for a batch job. Type target=batch, or action=delete")
    return actions[cfg.action](cfg)


def kept(cfg: DictConfig) -> str:
    """Returns what Ctrl-C leaves, and how to go on."""
    if cfg.target == "batch":
        stop = command(SCRIPT, {"target": "batch", "action": "stop", "name": cfg.name})
        return f"A job that has begun goes on, and the same command waits for it again. To stop it: {stop}"
    return f"What AWS has begun goes on. To see it: {_typed(cfg, action='list')}"


def _deploy(cfg: DictConfig) -> int:
    name = require_name(cfg.name)
    files, model = read_exported(cfg.model, StorageOptions(profile=cfg.profile, region=cfg.region))
    version = model["version"]
    values, files, found = with_image(as_plain(cfg), files)
    archive, now = ModelArchive.of(files), datetime.now(UTC)
    endpoint, folder_url = _endpoint(values, name)
    archive_folder = join_url(folder_url, archive.sha256[:12])
    archive_url = join_url(archive_folder, ARCHIVE_NAME)
    print(f"{cfg.model}: version {version}, {len(archive.content) / 2**20:.1f} MiB as {ARCHIVE_NAME}")
    stages = endpoint.stages(archive_url, now, Before() if cfg.shadow_percent else None)
    found += problems(values, endpoint, [call for stage in stages for call in stage])
    if len(stages) > 1 and not cfg.wait:
        found.append("wait=false, but scaling.max_instances is taken once the endpoint is in service. Type wait=true")
    if cfg.dry_run:
        show([call for stage in stages for call in stage], found)
        return 0
    refuse(found)
    aws, endpoints = open_endpoints(cfg)
    refuse(list(account_problems(aws, cfg.role_arn, cfg.bucket)))
    before = endpoints.describe(name)
    if before is not None:
        endpoints.require_own(before)
        _refuse_another_kind(cfg, endpoint, endpoints.kind(before))
        _refuse_end_of_capture(cfg, before)
        component = endpoints.describe_component(name) if endpoint.hosts_component else None
        there = Before(endpoints.answering(before), component is not None)
        stages = endpoint.stages(archive_url, now, there)
        refuse(problems(values, endpoint, [call for stage in stages for call in stage]))
    elif cfg.shadow_percent:
        raise CannotDeploy(f"shadow_percent: there is no endpoint {name} whose requests can be copied. Type 0")
    usd_an_hour = None if cfg.target == "serverless" else hourly_usd(aws, cfg.instance_type, "Hosting")
    print(price(endpoint, usd_an_hour), planned_end(endpoint, now, _typed(cfg, action="list")), sep="\n")
    if not is_agreed(f"{'Update' if before else 'Make'} the endpoint {name}?", cfg.yes):
        return 0
    storage = StorageOptions(profile=cfg.profile, region=aws.region_name, anonymous=False)
    Folder(archive_folder, storage).write(ARCHIVE_NAME, archive.content)
    outcome, ran = Outcome("Updating" if before else "Creating"), None
    if before is not None:
        ran = component["Specification"]["ModelName"] if component else before["EndpointConfigName"]
        if not cfg.shadow_percent:
            endpoints.withdraw(before, [call for stage in stages for call in stage], endpoint.ends_at(now))
    for stage in stages:
        send_all(endpoints, stage)
        if cfg.wait:
            outcome = settled(endpoints, name, stage, print, cfg.poll_s, ran)
        if outcome.is_rolled_back:
            break
    _tell(cfg, endpoints, outcome)
    print(f"To delete it: {_typed(cfg, action='delete', name=name)}")
    reached = {"status": outcome.status, "rolled_back": outcome.is_rolled_back}
    print(json.dumps({"endpoint": name, "model_version": version, "usd_an_hour": usd_an_hour, **reached}))
    return int(outcome.is_rolled_back)


def _refuse_end_of_capture(cfg: DictConfig, before: Mapping[str, Any]) -> None:
    """Refuses a shadow whose new config would end what is captured of the endpoint."""
    captured = before.get("DataCaptureConfig", {}).get("CurrentSamplingPercentage")
    if cfg.shadow_percent and captured and not cfg.capture_percent:
        raise CannotDeploy(f"capture_percent=0 would end the capture of {cfg.name}. Type capture_percent={captured}")


def _refuse_another_kind(cfg: DictConfig, endpoint: Endpoint, kind: str) -> None:
    """Refuses what AWS does not make of an endpoint that is there."""
    wanted = "component" if endpoint.hosts_component else endpoint.target.replace("realtime", "instances")
    if kind == wanted or (kind, wanted) == ("serverless", "instances"):
        return
    descriptions = {
        "serverless": "is serverless",
        "async": "answers in S3",
        "component": "may stand at no instance",
        "instances": "answers at once, on instances",
    }
    raise CannotDeploy(
        f"name={endpoint.name} {descriptions[kind]}, and AWS makes no such endpoint one that {descriptions[wanted]}. "
        f"Type another name, or delete it first: {_typed(cfg, action='delete', name=endpoint.name)}"
    )


def _tell(cfg: DictConfig, endpoints: Endpoints, outcome: Outcome) -> None:
    if outcome.is_rolled_back:
        print(endpoints.explained(cfg.name, outcome.reason))
        print("The model of before answers.")
    elif cfg.shadow_percent:
        print("The model of before answers, and the new one is given copies.")
    elif cfg.wait:
        images = {"images": ["bin.jpg"], "endpoint": f"sagemaker:{cfg.name}"}
        print(f"To ask it: {command('scripts/predict.py', images)}")


def _status(cfg: DictConfig) -> int:
    name = require_name(cfg.name)
    _, endpoints = open_endpoints(cfg)
    described = endpoints.describe(name)
    if described is None:
        raise EndpointFailed(f"name={name}: there is no such endpoint. Type: {_typed(cfg, action='list')}")
    print(f"{name}: {described['EndpointStatus']}, runs {described['EndpointConfigName']}")
    if reason := described.get("FailureReason"):
        print(endpoints.explained(name, reason))
    print(json.dumps({"endpoint": name, "status": described["EndpointStatus"]}))
    return 0


def _delete(cfg: DictConfig) -> int:
    name = require_name(cfg.name)
    _, endpoints = open_endpoints(cfg)
    if not is_agreed(f"Delete the endpoint {name}, its models, configs, alarms and schedule?", cfg.yes):
        return 0
    deleted = endpoints.delete(name, print, cfg.poll_s)
    if not deleted:
        print(f"name={name}: nothing of it is there. Type {_typed(cfg, action='list')} for what there is.")
    print(json.dumps({"endpoint": name, "deleted": deleted}))
    return 0


def _list(cfg: DictConfig) -> int:
    _, endpoints = open_endpoints(cfg)
    now, overdue = datetime.now(UTC), []
    for found in endpoints.all():
        ends = "no planned end" if found.ends_at is None else f"ends {found.ends_at:%Y-%m-%d %H:%M} UTC"
        print(f"{found.name}: {found.status}, made {found.created:%Y-%m-%d %H:%M} UTC, {ends}")
        if found.is_overdue(now):
            overdue.append(found.name)
            print(f"  It is over its time. Type: {_typed(cfg, action='delete', name=found.name)}")
    print(json.dumps({"overdue": overdue}))
    return 0


def _typed(cfg: DictConfig, **values: str) -> str:
    """Returns a command for the same account and region."""
    where = {key: cfg[key] for key in ("region", "profile") if cfg[key] is not None}
    return command(SCRIPT, values | where)


def _endpoint(values: dict[str, Any], name: str) -> tuple[Endpoint, str]:
    """Returns what is to be made, with placeholders for what is not set, and its folder in the bucket."""
    values = values | {key: placeholder for key, placeholder in PLACEHOLDERS.items() if values[key] is None}
    folder_url = join_url(f"s3://{values['bucket']}", values["prefix"].strip("/"), name)
    endpoint = Endpoint(
        name=name,
        capture_url=join_url(folder_url, "captured") if values["capture_percent"] else None,
        async_output_url=join_url(folder_url, "answers") if values["target"] == "async" else None,
        scaling=Scaling(**values["scaling"]),
        update=Update(**values["update"]),
        **{key: values[key] for key in ENDPOINT_KEYS},
    )
    return endpoint, folder_url


def open_endpoints(cfg: DictConfig) -> tuple[Any, Endpoints]:
    aws = open_account(cfg.profile, cfg.region)
    return aws, Endpoints(clients(aws))
