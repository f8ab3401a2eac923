"""What must be there before an endpoint or a batch job is made, what AWS would refuse of it, and what it costs."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any

from stocktake.cloud.client import JobError
from stocktake.cloud.deployment import MAX_NAME_CHARACTERS, OWN_TAGS, Call, Endpoint
from stocktake.cloud.preflight import check_bucket, check_identity, check_role, no_region, session
from stocktake.cloud.secrets import looks_secret, masked

# What has to be set: what it is, the variable that sets it, and what to type.
NEEDED = {
    "bucket": ("the S3 bucket for the model", "STOCKTAKE_BUCKET", "bucket=<bucket>"),
    "role_arn": ("the role of the endpoint", "STOCKTAKE_ROLE", "role_arn=arn:aws:iam::<account>:role/<name>"),
    "image_uri": (
        "the serving image in ECR, which the Dockerfile makes",
        "STOCKTAKE_SERVING_IMAGE",
        "image_uri=<account>.dkr.ecr.<region>.amazonaws.com/stocktake-serving@sha256:<digest>, image_uri=aws",
    ),
}
# What stands in a dry run where nothing was set; of the form that AWS wants.
PLACEHOLDERS = {
    "bucket": "set-stocktake-bucket",
    "role_arn": "arn:aws:iam::000000000000:role/set-STOCKTAKE_ROLE",
    "image_uri": "000000000000.dkr.ecr.us-east-1.amazonaws.com/set-stocktake-serving-image:1",
}
# Path in a request: the key of conf/deploy/deploy.yaml that sets it.
CONFIG_KEYS = {
    "EndpointName": "name",
    "EndpointConfigName": "name",
    "ModelName": "name",
    "ExecutionRoleArn": "role_arn",
    "PrimaryContainer.Image": "image_uri",
    "PrimaryContainer.Environment": "environment",
    "PrimaryContainer.ModelDataUrl": "bucket",
    "ProductionVariants.ModelName": "name",
    "ProductionVariants.ManagedInstanceScaling": "scaling",
    "InferenceComponentName": "name",
    "Specification.ComputeResourceRequirements.MinMemoryRequiredInMb": "memory_mb",
    "ProductionVariants.InstanceType": "instance_type",
    "ProductionVariants.InitialInstanceCount": "num_instances",
    "ProductionVariants.ServerlessConfig.MemorySizeInMB": "memory_mb",
    "ProductionVariants.ServerlessConfig.MaxConcurrency": "max_concurrency",
    "ShadowProductionVariants": "shadow_percent",
    "ShadowProductionVariants.ModelName": "name",
    "ShadowProductionVariants.InstanceType": "instance_type",
    "ShadowProductionVariants.InitialInstanceCount": "num_instances",
    "DataCaptureConfig": "capture_percent",
    "KmsKeyId": "kms_key",
    "Tags": "tags",
    "VpcConfig.Subnets": "subnets",
    "VpcConfig.SecurityGroupIds": "security_groups",
    "EnableNetworkIsolation": "network_isolation",
    "MinCapacity": "scaling.min_instances",
    "MaxCapacity": "scaling.max_instances",
    "TargetTrackingScalingPolicyConfiguration": "scaling",
    "DeploymentConfig.BlueGreenUpdatePolicy.TrafficRoutingConfiguration": "update.step_percent",
    "DeploymentConfig.BlueGreenUpdatePolicy.MaximumExecutionTimeoutInSeconds": "update.max_time_s",
    "DeploymentConfig.BlueGreenUpdatePolicy": "update",
    "Target.RoleArn": "scheduler_role_arn",
    "TransformJobName": "name",
    "TransformInput": "input",
    "TransformOutput.S3OutputPath": "bucket",
    "TransformOutput.KmsKeyId": "kms_key",
    "TransformResources.InstanceType": "instance_type",
    "TransformResources.InstanceCount": "num_instances",
    "TransformResources.VolumeKmsKeyId": "kms_key",
    "MaxConcurrentTransforms": "batch.num_at_once",
    "MaxPayloadInMB": "batch.payload_mb",
}


class CannotDeploy(ValueError):
    """Something is missing or wrong before anything is made; the message lists all of it."""


def require_name(name: str | None) -> str:
    """Returns the name of an endpoint or a batch job.

    Raises:
        CannotDeploy: There is none, or it leaves no room for what AWS's names hold beside it.
    """
    if name is None:
        raise CannotDeploy(
            "name is not set: it is the endpoint's, or the batch job's. Type name=bins; action=list names the "
            "endpoints that there are."
        )
    if len(name) > MAX_NAME_CHARACTERS:
        raise CannotDeploy(f"name={name} has {len(name)} characters; at most {MAX_NAME_CHARACTERS} allowed.")
    return name


def problems(values: Mapping[str, Any], endpoint: Endpoint, calls: Sequence[Call]) -> list[str]:
    """Returns what is missing or wrong of an endpoint, a line each, without asking AWS.

    Args:
        values: Of conf/deploy/endpoint.yaml, of which what is not set is None.
        endpoint: What is made of them.
    """
    return [*_scaling_problems(endpoint), *request_problems(values, calls, CONFIG_KEYS, NEEDED)]


def request_problems(
    values: Mapping[str, Any], calls: Sequence[Call], config_keys: Mapping[str, str], needed: Iterable[str]
) -> list[str]:
    """Returns what is missing or wrong of requests, a line each.

    Args:
        config_keys: Path in a request: the key that sets it.
        needed: Of NEEDED, what has to be set.
    """
    found = [problem for call in calls for problem in call.problems(config_keys)]
    found += [
        f"tags.{key} is what deploy.py finds its own by. Type another key" for key in OWN_TAGS if key in values["tags"]
    ]
    secrets = [key for key, value in values["environment"].items() if looks_secret(str(key), str(value))]
    found += [f"environment.{key} looks like a secret, and everybody can read it there" for key in secrets]
    for key in needed:
        what, variable, override = NEEDED[key]
        if values[key] is None:
            found.append(f"{key} is not set: it is {what}. Type {override}, or: export {variable}=...")
    return list(dict.fromkeys(found))


def _scaling_problems(endpoint: Endpoint) -> Iterator[str]:
    scaling = endpoint.scaling
    if endpoint.target == "serverless" and scaling.max_instances is not None:
        yield "scaling.max_instances is for instances, and a serverless endpoint needs none. Type target=realtime"
    if scaling.min_instances == 0 and scaling.max_instances is None:
        yield "scaling.min_instances=0 says nothing without the most there may be. Type scaling.max_instances=1"
    if endpoint.hosts_component and endpoint.shadow_percent:
        yield (
            "shadow_percent is for endpoints that hold one model, and with scaling.min_instances=0 it is an inference "
            "component. Type scaling.min_instances=1, or shadow_percent=0"
        )
    if endpoint.hosts_component and endpoint.capture_url is not None:
        yield (
            "capture_percent is for endpoints that hold one model, and with scaling.min_instances=0 it is an "
            "inference component. Type scaling.min_instances=1, or capture_percent=0"
        )


def refuse(found: Sequence[str]) -> None:
    """
    Raises:
        CannotDeploy: Something was found.
    """
    if found:
        raise CannotDeploy("\n  ".join([f"Before it can be made, {len(found)}:", *found]))


def show(calls: Sequence[Call], found: Sequence[str]) -> None:
    """Prints what a dry run shows: every request, and what is missing or wrong."""
    for call in calls:
        print(f"{call.service} {call.operation}", json.dumps(_masked(call.request), indent=2), sep="\n")
    if found:
        print(f"Before it can be made, {len(found)}:", *found, sep="\n  ")
    print("Checked against AWS's service models. Nothing was sent.")


def _masked(request: Any) -> Any:
    """Returns a request with the secrets of environments covered."""
    if isinstance(request, list):
        return [_masked(each) for each in request]
    if not isinstance(request, Mapping):
        return request
    return {key: masked(each) if key == "Environment" else _masked(each) for key, each in request.items()}


def open_account(profile: str | None, region: str | None) -> Any:
    """Returns a boto3 session of an account that AWS knows.

    Raises:
        CannotDeploy: No region or no credentials are set.
        JobError: There is no such profile, or AWS does not take the credentials.
    """
    aws = session(profile, region, "profile")
    if aws.region_name is None:
        raise CannotDeploy(no_region("region"))
    if aws.get_credentials() is None:
        raise CannotDeploy(
            "No AWS credentials: run `aws configure` or `aws sso login`, set AWS_PROFILE, or type profile=<name>. "
            "dry_run=true needs none."
        )
    check_identity(aws)
    return aws


def clients(aws: Any) -> Callable[[str], Any]:
    """Returns what gives boto3's client of a service; further tries are `Patience`'s, which says so."""
    from botocore.config import Config

    hurried = Config(connect_timeout=10, read_timeout=30, retries={"mode": "standard", "total_max_attempts": 3})
    return lambda service: aws.client(service, config=hurried)


def account_problems(aws: Any, role_arn: str | None, bucket: str) -> Iterator[str]:
    """Yields what the account lacks for an endpoint, or with a `role_arn` of None for a model in S3 alone.

    Args:
        aws: A boto3 session.
    """
    role = [partial(check_role, aws, role_arn, "role_arn")] if role_arn else []
    for check in [*role, partial(check_bucket, aws, bucket, "bucket", "region")]:
        try:
            check()
        except JobError as error:
            yield str(error)


def price(endpoint: Endpoint, usd_an_hour: float | None) -> str:
    """Returns what an endpoint costs, in words; `usd_an_hour` is one instance's, None where AWS does not give it."""
    if endpoint.target == "serverless":
        memory = f"{endpoint.memory_mb:,} MB"
        return f"Serverless: nothing while nobody asks; then the seconds of {memory}, and the images' bytes."
    if endpoint.scaling.is_to_zero and usd_an_hour is not None:
        most = endpoint.scaling.max_instances
        return f"{endpoint.instance_type}: {usd_an_hour:.2f} USD an hour for each that runs, of none to {most}."
    when = "whether or not somebody asks"
    beside = " more, for the shadow" if endpoint.shadow_percent else ""
    return instance_price(endpoint.num_instances, f"{endpoint.instance_type}{beside}", usd_an_hour, when)


def instance_price(num_instances: int, instance_type: str, usd_an_hour: float | None, when: str) -> str:
    """Returns what instances cost, in words.

    Args:
        usd_an_hour: Of one instance; None where AWS does not give it.
        when: It is paid.
    """
    instances = f"{num_instances} x {instance_type}"
    if usd_an_hour is None:
        return f"{instances}, whose price AWS does not give: https://aws.amazon.com/sagemaker/pricing"
    return f"{instances}: {num_instances * usd_an_hour:.2f} USD an hour, {when}."


def planned_end(endpoint: Endpoint, now: datetime, list_command: str) -> str:
    """Returns when and how an endpoint ends, in words."""
    ends_at = endpoint.ends_at(now)
    if ends_at is None:
        return "ttl_h=null: it is there, and paid, until somebody deletes it."
    if endpoint.scheduler_role_arn is None:
        return (
            f"Its planned end is {ends_at:%Y-%m-%d %H:%M} UTC, and nothing deletes it then, because "
            f"scheduler_role_arn is not set. What is over its time: {list_command}"
        )
    return f"EventBridge deletes it on {ends_at:%Y-%m-%d %H:%M} UTC."
