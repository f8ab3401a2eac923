"""scripts/deploy.py: an exported model as an endpoint of SageMaker's; shown, updated, listed, deleted."""

import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from stocktake.cloud.costs import hourly_usd
from stocktake.cloud.deployment import MAX_NAME_CHARACTERS, Call, Endpoint, Update
from stocktake.cloud.deployment_checks import PLACEHOLDERS, account_problems, planned_end, price, problems
from stocktake.cloud.deployment_outcome import Outcome, send_all, settled
from stocktake.cloud.endpoint_scaling import Scaling
from stocktake.cloud.endpoints import EndpointFailed, Endpoints
from stocktake.cloud.inference_image import AWS_IMAGE, aws_image_problems, code_files, with_aws_image
from stocktake.cloud.model_archive import ARCHIVE_NAME, ModelArchive
from stocktake.cloud.preflight import DEFAULT_REGION, check_identity, find_region, no_region, session
from stocktake.config import as_plain
from stocktake.serving.model_folder import MODEL_NAME, read_graph, read_model
from stocktake.shell import command
from stocktake.storage import Folder, StorageOptions, join_url

SCRIPT = "scripts/deploy.py"
MODEL_FOLDER = "model"  # of a run
# Keys of conf/deploy/deploy.yaml that an Endpoint has as they stand.
ENDPOINT_KEYS = (
    *("target", "role_arn", "image_uri", "instance_type", "num_instances", "memory_mb", "max_concurrency"),
    *("capture_percent", "ttl_h", "scheduler_role_arn", "kms_key", "network_isolation", "environment", "tags"),
    *("subnets", "security_groups", "shadow_percent"),
)


class CannotDeploy(ValueError):
    """Something is missing or wrong before anything is made; the message lists all of it."""


def deploy(cfg: DictConfig) -> int:
    """Does what conf/deploy/deploy.yaml describes; returns the exit code, 1 where the new model was rolled back.

    Raises:
        CannotDeploy: Something is missing or wrong.
        EndpointFailed: AWS refuses, or the endpoint failed.
    """
    actions: dict[str, Callable[[DictConfig], int]] = {
        "deploy": _deploy,
        "status": _status,
        "delete": _delete,
        "list": _list,
    }
    return actions[cfg.action](cfg)


def _deploy(cfg: DictConfig) -> int:
    name = _named(cfg)
    files, version = _exported(cfg)
    values, found = as_plain(cfg), []
    if cfg.image_uri == AWS_IMAGE:
        region = find_region(cfg.profile, cfg.region) or DEFAULT_REGION
        found = [*aws_image_problems(values, region)]
        values, files = with_aws_image(values, region), files | code_files()
    archive, now = ModelArchive.of(files), datetime.now(UTC)
    endpoint, folder_url = _endpoint(values, name)
    archive_folder = join_url(folder_url, archive.sha256[:12])
    archive_url = join_url(archive_folder, ARCHIVE_NAME)
    print(f"{cfg.model}: version {version}, {len(archive.content) / 2**20:.1f} MiB as {ARCHIVE_NAME}")
    stages = endpoint.stages(archive_url, archive.sha256, is_new=not cfg.shadow_percent, now=now)
    found += problems(values, endpoint, [call for stage in stages for call in stage])
    if len(stages) > 1 and not cfg.wait:
        found.append("wait=false, but scaling.max_instances is taken once the endpoint is in service. Type wait=true")
    if cfg.dry_run:
        return _show([call for stage in stages for call in stage], found)
    _refuse(found)
    aws, endpoints = _account(cfg)
    _refuse(list(account_problems(aws, cfg.role_arn, cfg.bucket)))
    before = endpoints.describe(name)
    if before is not None:
        _refuse_another_kind(endpoint, endpoints.kind(before))
        stages = endpoint.stages(archive_url, archive.sha256, False, now, endpoints.answering(before))
        _refuse(problems(values, endpoint, [call for stage in stages for call in stage]))
    elif cfg.shadow_percent:
        raise CannotDeploy(f"shadow_percent: there is no endpoint {name} whose requests can be copied. Type 0")
    usd_an_hour = None if cfg.target == "serverless" else hourly_usd(aws, cfg.instance_type, "Hosting")
    print(price(endpoint, usd_an_hour), planned_end(endpoint, now, command(SCRIPT, {"action": "list"})), sep="\n")
    if not _agreed(cfg, f"{'Update' if before else 'Make'} the endpoint {name}?"):
        return 0
    storage = StorageOptions(profile=cfg.profile, region=aws.region_name, anonymous=False)
    Folder(archive_folder, storage).write(ARCHIVE_NAME, archive.content)
    outcome = Outcome("Updating" if before else "Creating")
    for stage in stages:
        send_all(endpoints, stage)
        if cfg.wait:
            outcome = settled(endpoints, name, stage, print, cfg.poll_s)
        if outcome.is_rolled_back:
            break
    _tell(cfg, endpoints, outcome)
    print(f"To delete it: {_deletion(name)}")
    reached = {"status": outcome.status, "rolled_back": outcome.is_rolled_back}
    print(json.dumps({"endpoint": name, "model_version": version, "usd_an_hour": usd_an_hour, **reached}))
    return int(outcome.is_rolled_back)


def _refuse_another_kind(endpoint: Endpoint, kind: str) -> None:
    """Refuses what AWS does not make of an endpoint that is there."""
    wanted = (
        "serverless" if endpoint.target == "serverless" else "component" if endpoint.hosts_component else "instances"
    )
    if kind == wanted or (kind, wanted) == ("serverless", "instances"):
        return
    words = {"serverless": "is serverless", "component": "may stand at no instance", "instances": "runs on instances"}
    raise CannotDeploy(
        f"name={endpoint.name} {words[kind]}, and AWS makes no such endpoint one that {words[wanted]}. Type another "
        f"name, or delete it first: {_deletion(endpoint.name)}"
    )


def _tell(cfg: DictConfig, endpoints: Endpoints, outcome: Outcome) -> None:
    if outcome.is_rolled_back:
        print(endpoints.explained(cfg.name, outcome.reason))
        print("The model of before answers.")
    elif cfg.wait:
        images = {"images": ["bin.jpg"], "endpoint": f"sagemaker:{cfg.name}"}
        print(f"To ask it: {command('scripts/predict.py', images)}")


def _status(cfg: DictConfig) -> int:
    name = _named(cfg)
    _, endpoints = _account(cfg)
    described = endpoints.describe(name)
    if described is None:
        raise EndpointFailed(f"name={name}: there is no such endpoint. Type: {command(SCRIPT, {'action': 'list'})}")
    print(f"{name}: {described['EndpointStatus']}, runs {described['EndpointConfigName']}")
    if reason := described.get("FailureReason"):
        print(endpoints.explained(name, reason))
    print(json.dumps({"endpoint": name, "status": described["EndpointStatus"]}))
    return 0


def _delete(cfg: DictConfig) -> int:
    name = _named(cfg)
    _, endpoints = _account(cfg)
    if not _agreed(cfg, f"Delete the endpoint {name}, its models, configs, alarms and schedule?"):
        return 0
    deleted = endpoints.delete(name, print, cfg.poll_s)
    print(json.dumps({"endpoint": name, "deleted": deleted}))
    return 0


def _list(cfg: DictConfig) -> int:
    _, endpoints = _account(cfg)
    now, overdue = datetime.now(UTC), []
    for found in endpoints.all():
        ends = "no planned end" if found.ends_at is None else f"ends {found.ends_at:%Y-%m-%d %H:%M} UTC"
        print(f"{found.name}: {found.status}, made {found.created:%Y-%m-%d %H:%M} UTC, {ends}")
        if found.is_overdue(now):
            overdue.append(found.name)
            print(f"  It is over its time. Type: {_deletion(found.name)}")
    print(json.dumps({"overdue": overdue}))
    return 0


def _deletion(name: str) -> str:
    return command(SCRIPT, {"action": "delete", "name": name})


def _named(cfg: DictConfig) -> str:
    if cfg.name is None:
        raise CannotDeploy("name is not set: it is the endpoint's. Type name=bins; action=list names those there are.")
    if len(cfg.name) > MAX_NAME_CHARACTERS:
        raise CannotDeploy(f"name={cfg.name} has {len(cfg.name)} characters; at most {MAX_NAME_CHARACTERS} allowed.")
    return cfg.name


def _exported(cfg: DictConfig) -> tuple[dict[str, bytes], str]:
    """Returns the files of an exported model, and its version.

    Raises:
        CannotDeploy: None is named, or there is none.
        ModelFolderError: It is not whole.
    """
    if cfg.model is None:
        raise CannotDeploy("model is not set. Type model=runs/demo/latest, or a folder that scripts/export.py wrote.")
    storage = StorageOptions(profile=cfg.profile, region=cfg.region)
    folders = [Folder(url, storage) for url in (join_url(cfg.model, MODEL_FOLDER), cfg.model)]
    folder = next((folder for folder in folders if folder.exists(MODEL_NAME)), None)
    if folder is None:
        export = command("scripts/export.py", {"checkpoint": "<run>/checkpoints/best.ckpt"})
        raise CannotDeploy(f"model={cfg.model} holds no {MODEL_NAME}, nor does its {MODEL_FOLDER}/. Type: {export}")
    files = {key: folder.read(key) for key, _ in folder.sizes()}
    with tempfile.TemporaryDirectory() as copy:
        for key, content in files.items():
            Path(copy, key).parent.mkdir(parents=True, exist_ok=True)
            Path(copy, key).write_bytes(content)
        described = read_model(Path(copy))
        read_graph(Path(copy), described)
    return files, described["version"]


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


def _refuse(found: Sequence[str]) -> None:
    if found:
        raise CannotDeploy("\n  ".join([f"Before it can be made, {len(found)}:", *found]))


def _show(calls: Sequence[Call], found: Sequence[str]) -> int:
    for call in calls:
        print(f"{call.service} {call.operation}", json.dumps(call.request, indent=2), sep="\n")
    if found:
        print(f"Before it can be made, {len(found)}:", *found, sep="\n  ")
    print("Checked against AWS's service models. Nothing was sent.")
    return 0


def _account(cfg: DictConfig) -> tuple[Any, Endpoints]:
    from botocore.config import Config

    aws = session(cfg.profile, cfg.region, "profile")
    if aws.region_name is None:
        raise CannotDeploy(no_region("region"))
    if aws.get_credentials() is None:
        raise CannotDeploy(
            "No AWS credentials: run `aws configure` or `aws sso login`, set AWS_PROFILE, or type profile=<name>. "
            "dry_run=true needs none."
        )
    check_identity(aws)
    hurried = Config(connect_timeout=10, read_timeout=30, retries={"mode": "standard", "total_max_attempts": 3})
    return aws, Endpoints(lambda service: aws.client(service, config=hurried))


def _agreed(cfg: DictConfig, question: str) -> bool:
    if cfg.yes:
        return True
    if not sys.stdin.isatty():
        raise CannotDeploy(f"{question} Nobody is here to be asked. Type yes=true to go on without a question.")
    is_agreed = input(f"{question} [y/N] ").strip().lower() in ("y", "yes")
    if not is_agreed:
        print("Nothing was done.")
    return is_agreed
