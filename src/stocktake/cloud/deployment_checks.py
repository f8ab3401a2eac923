"""What must be there before an endpoint is made, what its requests hold that AWS would refuse, and what it costs."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any

from stocktake.cloud.client import JobError
from stocktake.cloud.deployment import Call, Endpoint
from stocktake.cloud.preflight import check_bucket, check_role
from stocktake.cloud.secrets import looks_secret

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
}


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
    beside = " more, for the shadow" if endpoint.shadow_percent else ""
    instances = f"{endpoint.num_instances} x {endpoint.instance_type}{beside}"
    if usd_an_hour is None:
        return f"{instances}, whose price AWS does not give: https://aws.amazon.com/sagemaker/pricing"
    if endpoint.scaling.is_to_zero:
        most = endpoint.scaling.max_instances
        return f"{endpoint.instance_type}: {usd_an_hour:.2f} USD an hour for each that runs, of none to {most}."
    return f"{instances}: {endpoint.num_instances * usd_an_hour:.2f} USD an hour, whether or not somebody asks."


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
