"""Request dictionaries of what makes an endpoint, from plain values; nothing here talks to AWS.

An endpoint is three things of SageMaker's, and a few of other services beside them:

    model               an image and model.tar.gz                               CreateModel
    endpoint config     on which instances, or serverless; capture; KMS         CreateEndpointConfig
    endpoint            the name that is asked                                  CreateEndpoint, UpdateEndpoint
    scaling             instances by requests (Application Auto Scaling)        RegisterScalableTarget, PutScalingPolicy
    alarms              that roll an update back (CloudWatch)                   PutMetricAlarm
    planned end         DeleteEndpoint at a time (EventBridge Scheduler)        CreateSchedule

A model and a config cannot be changed: each deployment makes both anew under a name with the model's digest, and an
update points the endpoint at them. Beside it stands the batch job, which needs a model alone: CreateTransformJob.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

VARIANT = "all"  # there is one, which takes all requests
TARGETS = ("serverless", "realtime", "async", "batch")
STARTUP_S = 300  # for a container to answer /ping, and for its model to be downloaded
ALARM_PERIOD_S = 60  # CloudWatch's finest for these metrics
DELETE_ENDPOINT = "arn:aws:scheduler:::aws-sdk:sagemaker:deleteEndpoint"  # EventBridge's name of the call

Request = dict[str, Any]


def model(
    name: str,
    role_arn: str,
    image_uri: str,
    model_url: str,
    environment: Mapping[str, str] | None = None,
    subnets: Sequence[str] = (),
    security_groups: Sequence[str] = (),
    network_isolation: bool = False,
    tags: Mapping[str, str] | None = None,
) -> Request:
    """Returns the body of CreateModel.

    Args:
        model_url: Of model.tar.gz in S3, which is unpacked into /opt/ml/model.
        environment: Of the container.
    """
    container: Request = {"Image": image_uri, "ModelDataUrl": model_url, "Environment": dict(environment or {})}
    request: Request = {
        "ModelName": name,
        "PrimaryContainer": container,
        "ExecutionRoleArn": role_arn,
        "EnableNetworkIsolation": network_isolation,
        "Tags": _tags(tags),
    }
    if subnets or security_groups:
        request["VpcConfig"] = {"Subnets": list(subnets), "SecurityGroupIds": list(security_groups)}
    return request


def serverless_variant(model_name: str, memory_mb: int = 2048, max_concurrency: int = 5) -> Request:
    """Returns a variant whose instances AWS brings when somebody asks; nothing is paid in between."""
    serverless = {"MemorySizeInMB": memory_mb, "MaxConcurrency": max_concurrency}
    return {"VariantName": VARIANT, "ModelName": model_name, "ServerlessConfig": serverless}


def instance_variant(model_name: str, instance_type: str, num_instances: int = 1) -> Request:
    """Returns a variant on instances that run, and are billed, until the endpoint is deleted."""
    return {
        "VariantName": VARIANT,
        "ModelName": model_name,
        "InstanceType": instance_type,
        "InitialInstanceCount": num_instances,
        "InitialVariantWeight": 1.0,
        "ModelDataDownloadTimeoutInSeconds": STARTUP_S,
        "ContainerStartupHealthCheckTimeoutInSeconds": STARTUP_S,
    }


def endpoint_config(
    name: str,
    variant: Request,
    capture_url: str | None = None,
    capture_percent: int = 100,
    async_output_url: str | None = None,
    max_concurrent_invocations: int = 4,
    kms_key: str | None = None,
    tags: Mapping[str, str] | None = None,
) -> Request:
    """Returns the body of CreateEndpointConfig.

    Args:
        variant: Of `serverless_variant` or `instance_variant`.
        capture_url: S3 folder for what was asked and answered; `None` captures nothing.
        capture_percent: Share of the requests that are captured.
        async_output_url: S3 folder for the answers of an asynchronous endpoint; `None` makes one that answers at once.
        max_concurrent_invocations: Of an asynchronous endpoint, on each instance.
        kms_key: Id or ARN of the key for the instances' disks and for what is captured.
    """
    request: Request = {"EndpointConfigName": name, "ProductionVariants": [variant], "Tags": _tags(tags)}
    encrypted = {"KmsKeyId": kms_key} if kms_key else {}
    if capture_url is not None:
        request["DataCaptureConfig"] = {
            "EnableCapture": True,
            "InitialSamplingPercentage": capture_percent,
            "DestinationS3Uri": capture_url,
            "CaptureOptions": [{"CaptureMode": "Input"}, {"CaptureMode": "Output"}],
            # What is not listed is kept in base64; images are, anyway.
            "CaptureContentTypeHeader": {"JsonContentTypes": ["application/json"]},
            **encrypted,
        }
    if async_output_url is not None:
        request["AsyncInferenceConfig"] = {
            "ClientConfig": {"MaxConcurrentInvocationsPerInstance": max_concurrent_invocations},
            "OutputConfig": {"S3OutputPath": async_output_url, **encrypted},
        }
    if kms_key and "ServerlessConfig" not in variant:  # it has no disk of its own
        request["KmsKeyId"] = kms_key
    return request


def create_endpoint(name: str, config_name: str, tags: Mapping[str, str] | None = None) -> Request:
    """Returns the body of CreateEndpoint."""
    return {"EndpointName": name, "EndpointConfigName": config_name, "Tags": _tags(tags)}


def update_endpoint(name: str, config_name: str, deployment: Request | None = None) -> Request:
    """Returns the body of UpdateEndpoint.

    Args:
        deployment: Of `blue_green`; without it AWS shifts all at once and has no alarm to roll back on.
    """
    request: Request = {"EndpointName": name, "EndpointConfigName": config_name}
    return request | ({"DeploymentConfig": deployment} if deployment else {})


def blue_green(
    shift: str = "all_at_once",
    step_percent: int = 10,
    wait_s: int = 300,
    termination_wait_s: int = 120,
    max_time_s: int = 3600,
    alarms: Sequence[str] = (),
) -> Request:
    """Returns a DeploymentConfig: new instances beside the old ones, which go once the new ones have stood the wait.

    Args:
        shift: `all_at_once`, `canary` (one step, then the rest) or `linear` (step by step).
        step_percent: Of the capacity, for `canary` and `linear`.
        wait_s: After each step; an alarm within it rolls back.
        alarms: Names of CloudWatch alarms.
    """
    routing: Request = {"Type": shift.upper(), "WaitIntervalInSeconds": wait_s}
    step = {"Type": "CAPACITY_PERCENT", "Value": step_percent}
    if shift == "canary":
        routing["CanarySize"] = step
    elif shift == "linear":
        routing["LinearStepSize"] = step
    policy = {
        "TrafficRoutingConfiguration": routing,
        "TerminationWaitInSeconds": termination_wait_s,
        "MaximumExecutionTimeoutInSeconds": max_time_s,
    }
    deployment: Request = {"BlueGreenUpdatePolicy": policy}
    if alarms:
        deployment["AutoRollbackConfiguration"] = {"Alarms": [{"AlarmName": alarm} for alarm in alarms]}
    return deployment


def alarms(endpoint: str, max_errors: int = 5, max_latency_s: float = 5.0) -> list[Request]:
    """Returns the bodies of PutMetricAlarm: answers of 5xx within a minute, and the model's latency (p95)."""
    common = {
        "Namespace": "AWS/SageMaker",
        "Dimensions": [{"Name": "EndpointName", "Value": endpoint}, {"Name": "VariantName", "Value": VARIANT}],
        "Period": ALARM_PERIOD_S,
        "EvaluationPeriods": 1,
        "ComparisonOperator": "GreaterThanThreshold",
        "TreatMissingData": "notBreaching",  # nobody asked
    }
    errors = {"MetricName": "Invocation5XXErrors", "Statistic": "Sum", "Threshold": float(max_errors)}
    # AWS gives the latency in microseconds.
    latency = {"MetricName": "ModelLatency", "ExtendedStatistic": "p95", "Threshold": max_latency_s * 1e6}
    return [
        {"AlarmName": f"{endpoint}-5xx", **common, **errors},
        {"AlarmName": f"{endpoint}-latency", **common, **latency},
    ]


def scaling(
    endpoint: str,
    min_instances: int,
    max_instances: int,
    invocations_per_instance: float,
    scale_in_cooldown_s: int = 300,
    scale_out_cooldown_s: int = 60,
) -> tuple[Request, Request]:
    """Returns the bodies of RegisterScalableTarget and PutScalingPolicy.

    Args:
        invocations_per_instance: A minute, which target tracking holds.
    """
    resource = {
        "ServiceNamespace": "sagemaker",
        "ResourceId": f"endpoint/{endpoint}/variant/{VARIANT}",
        "ScalableDimension": "sagemaker:variant:DesiredInstanceCount",
    }
    tracking = {
        "TargetValue": invocations_per_instance,
        "PredefinedMetricSpecification": {"PredefinedMetricType": "SageMakerVariantInvocationsPerInstance"},
        "ScaleInCooldown": scale_in_cooldown_s,
        "ScaleOutCooldown": scale_out_cooldown_s,
    }
    policy = {"PolicyName": f"{endpoint}-invocations", "PolicyType": "TargetTrackingScaling"}
    return (
        resource | {"MinCapacity": min_instances, "MaxCapacity": max_instances},
        resource | policy | {"TargetTrackingScalingPolicyConfiguration": tracking},
    )


def planned_end(endpoint: str, role_arn: str, at: datetime) -> Request:
    """Returns the body of CreateSchedule: EventBridge deletes the endpoint at a time, whoever's laptop is closed.

    Args:
        role_arn: May call sagemaker:DeleteEndpoint, and trusts scheduler.amazonaws.com.
        at: With a time zone.
    """
    return {
        "Name": f"{endpoint}-end",
        "ScheduleExpression": f"at({at.astimezone(UTC):%Y-%m-%dT%H:%M:%S})",
        "FlexibleTimeWindow": {"Mode": "OFF"},
        "ActionAfterCompletion": "DELETE",
        "Target": {"Arn": DELETE_ENDPOINT, "RoleArn": role_arn, "Input": json.dumps({"EndpointName": endpoint})},
    }


def _tags(tags: Mapping[str, str] | None) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in ({"project": "stocktake"} | dict(tags or {})).items()]
