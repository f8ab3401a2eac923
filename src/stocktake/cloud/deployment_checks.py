"""What must be there before an endpoint is made, what its requests hold that AWS would refuse, and what it costs."""

from collections.abc import Iterator, Mapping, Sequence
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
    "ProductionVariants.InstanceType": "instance_type",
    "ProductionVariants.InitialInstanceCount": "num_instances",
    "ProductionVariants.ServerlessConfig.MemorySizeInMB": "memory_mb",
    "ProductionVariants.ServerlessConfig.MaxConcurrency": "max_concurrency",
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


def problems(values: Mapping[str, Any], calls: Sequence[Call]) -> list[str]:
    """Returns what is missing or wrong, a line each, without asking AWS.

    Args:
        values: Of conf/deploy/deploy.yaml, of which what is not set is None.
    """
    found = [problem for call in calls for problem in call.problems(CONFIG_KEYS)]
    secrets = [key for key, value in values["environment"].items() if looks_secret(str(key), str(value))]
    found += [f"environment.{key} looks like a secret, and everybody can read it there" for key in secrets]
    for key, (what, variable, override) in NEEDED.items():
        if values[key] is None:
            found.append(f"{key} is not set: it is {what}. Type {override}, or: export {variable}=...")
    return list(dict.fromkeys(found))


def account_problems(aws: Any, role_arn: str, bucket: str) -> Iterator[str]:
    """Yields what the account lacks for an endpoint.

    Args:
        aws: A boto3 session.
    """
    for check in (
        partial(check_role, aws, role_arn, "role_arn"),
        partial(check_bucket, aws, bucket, "bucket", "region"),
    ):
        try:
            check()
        except JobError as error:
            yield str(error)


def price(endpoint: Endpoint, usd_an_hour: float | None) -> str:
    """Returns what an endpoint costs, in words; `usd_an_hour` is one instance's, None where AWS does not give it."""
    if endpoint.target == "serverless":
        memory = f"{endpoint.memory_mb:,} MB"
        return f"Serverless: nothing while nobody asks; then the seconds of {memory}, and the images' bytes."
    instances = f"{endpoint.num_instances} x {endpoint.instance_type}"
    if usd_an_hour is None:
        return f"{instances}, whose price AWS does not give: https://aws.amazon.com/sagemaker/pricing"
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
