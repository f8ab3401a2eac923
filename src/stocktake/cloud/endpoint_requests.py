"""Request dictionaries of what makes an endpoint, from plain values; nothing here talks to AWS.

An endpoint is three things of SageMaker's; what other services do for it, endpoint_upkeep.py has:

    model               an image and model.tar.gz                               CreateModel
    endpoint config     on which instances, or serverless; capture; KMS         CreateEndpointConfig
    endpoint            the name that is asked                                  CreateEndpoint, UpdateEndpoint

A model and a config cannot be changed: each deployment makes both anew under a name with the model's digest, and an
update points the endpoint at them. Beside it stands the batch job, which needs a model alone: CreateTransformJob.
"""

from collections.abc import Mapping, Sequence
from typing import Any

PROJECT = {"project": "stocktake"}  # tag of all that is made
VARIANT, SHADOW = "all", "shadow"  # the one that answers all requests, and one that is given copies of them
DIGEST_CHARACTERS = 12  # of the archive's digest, in the names of models and configs
STARTUP_S = 300  # for a container to answer /ping, and for its model to be downloaded

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
        "Tags": tag_list(tags),
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


def shadow_variant(
    model_name: str, instance_type: str, num_instances: int, answering: Mapping[str, Any], percent: float
) -> Request:
    """Returns a variant that is given copies of requests, while another one answers them.

    The developer guide ("Testing models with shadow variants") shows equal weights, which copy every request. That the
    share is the shadow's weight by the other's is inferred from how weights work elsewhere, and was not tried on AWS.

    Args:
        answering: The production variant.
        percent: Of the requests that are copied.
    """
    weight = answering.get("InitialVariantWeight", 1.0) * percent / 100
    named = {"VariantName": SHADOW, "InitialVariantWeight": weight}
    return instance_variant(model_name, instance_type, num_instances) | named


def endpoint_config(
    name: str,
    variant: Mapping[str, Any],
    shadow: Request | None = None,
    role_arn: str | None = None,
    capture_url: str | None = None,
    capture_percent: int = 100,
    async_output_url: str | None = None,
    max_concurrent_invocations: int = 4,
    kms_key: str | None = None,
    tags: Mapping[str, str] | None = None,
) -> Request:
    """Returns the body of CreateEndpointConfig.

    Args:
        variant: Of `serverless_variant`, `instance_variant` or `inference_components.variant`.
        shadow: Of `shadow_variant`; `None` for none.
        role_arn: Of an endpoint whose variant has no model, which would bring one.
        capture_url: S3 folder for what was asked and answered; `None` captures nothing.
        capture_percent: Share of the requests that are captured.
        async_output_url: S3 folder for the answers of an asynchronous endpoint, and for failures below it in `failed`;
            `None` makes one that answers at once.
        max_concurrent_invocations: Of an asynchronous endpoint, on each instance.
        kms_key: Id or ARN of the key for the instances' disks and for what is captured.
    """
    request: Request = {"EndpointConfigName": name, "ProductionVariants": [dict(variant)], "Tags": tag_list(tags)}
    if shadow is not None:
        request["ShadowProductionVariants"] = [shadow]
    encrypted = {"KmsKeyId": kms_key} if kms_key else {}
    if role_arn is not None:
        request["ExecutionRoleArn"] = role_arn
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
            # Without a place for failures nobody hears of one.
            "OutputConfig": {
                "S3OutputPath": async_output_url,
                "S3FailurePath": f"{async_output_url.rstrip('/')}/failed",
                **encrypted,
            },
        }
    if kms_key and "ServerlessConfig" not in variant:  # it has no disk of its own
        request["KmsKeyId"] = kms_key
    return request


def create_endpoint(name: str, config_name: str, tags: Mapping[str, str] | None = None) -> Request:
    """Returns the body of CreateEndpoint."""
    return {"EndpointName": name, "EndpointConfigName": config_name, "Tags": tag_list(tags)}


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


def transform_job(
    name: str,
    model_name: str,
    input_url: str,
    output_url: str,
    instance_type: str = "ml.c6i.large",
    num_instances: int = 1,
    num_at_once: int = 4,
    payload_mb: int = 6,
    is_manifest: bool = False,
    kms_key: str | None = None,
    tags: Mapping[str, str] | None = None,
) -> Request:
    """Returns the body of CreateTransformJob: each image is one request, and each answer a file of its own.

    Args:
        input_url: S3 folder of the images, or a manifest that names them.
        output_url: S3 folder; the answer to `<key>` is `<key>.out`.
        num_at_once: Images that are with an instance at a time.
        payload_mb: No image is larger.
        kms_key: Id or ARN of the key for the instances' disks and for the answers.
    """
    data_type = "ManifestFile" if is_manifest else "S3Prefix"
    output = {"S3OutputPath": output_url, "Accept": "application/json", "AssembleWith": "None"}
    return {
        "TransformJobName": name,
        "ModelName": model_name,
        "MaxConcurrentTransforms": num_at_once,
        "MaxPayloadInMB": payload_mb,
        "BatchStrategy": "SingleRecord",
        "TransformInput": {
            "DataSource": {"S3DataSource": {"S3DataType": data_type, "S3Uri": input_url}},
            "ContentType": "application/x-image",
            "CompressionType": "None",
            "SplitType": "None",
        },
        "TransformOutput": output | ({"KmsKeyId": kms_key} if kms_key else {}),
        "TransformResources": {
            "InstanceType": instance_type,
            "InstanceCount": num_instances,
            **({"VolumeKmsKeyId": kms_key} if kms_key else {}),
        },
        "Tags": tag_list(tags),
    }


def tag_list(tags: Mapping[str, str] | None) -> list[dict[str, str]]:
    """Returns tags as AWS takes them, with the project's own among them."""
    return [{"Key": key, "Value": value} for key, value in (PROJECT | dict(tags or {})).items()]
