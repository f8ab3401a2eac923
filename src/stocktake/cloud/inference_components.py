"""An endpoint that may stand at no instance: its model is an inference component, whose copies come and go.

A variant that holds a model itself keeps one instance at least. Here the variant holds none, the instances follow the
copies, and each deployment is an update of the component, copy by copy:

    endpoint config       instances by need, from none on    CreateEndpointConfig
    inference component   a model, and what a copy takes     CreateInferenceComponent, UpdateInferenceComponent

Sources: Amazon SageMaker developer guide, "Scale an endpoint to zero instances" and "Use rolling deployments" of
inference components; API references of the three calls.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from stocktake.cloud.endpoint_requests import STARTUP_S, VARIANT, Request, tag_list

CORES_OF_A_COPY = 1


def variant(instance_type: str, max_instances: int) -> Request:
    """Returns a variant without a model, whose instances AWS brings and takes away by what its components need."""
    return {
        "VariantName": VARIANT,
        "InstanceType": instance_type,
        "InitialInstanceCount": 1,
        "ModelDataDownloadTimeoutInSeconds": STARTUP_S,
        "ContainerStartupHealthCheckTimeoutInSeconds": STARTUP_S,
        "ManagedInstanceScaling": {"Status": "ENABLED", "MinInstanceCount": 0, "MaxInstanceCount": max_instances},
        "RoutingConfig": {"RoutingStrategy": "LEAST_OUTSTANDING_REQUESTS"},
    }


def create(endpoint: str, model_name: str, memory_mb: int, tags: Mapping[str, str] | None = None) -> Request:
    """Returns the body of CreateInferenceComponent; the component has the endpoint's name.

    Args:
        memory_mb: That a copy takes of an instance.
    """
    return {
        "InferenceComponentName": endpoint,
        "EndpointName": endpoint,
        "VariantName": VARIANT,
        "Specification": _specification(model_name, memory_mb),
        "RuntimeConfig": {"CopyCount": 1},
        "Tags": tag_list(tags),
    }


def update(
    endpoint: str,
    model_name: str,
    memory_mb: int,
    wait_s: int = 300,
    max_time_s: int = 3600,
    alarms: Sequence[str] = (),
) -> Request:
    """Returns the body of UpdateInferenceComponent: a copy of the new model at a time, and back when one fails.

    Args:
        wait_s: After each step; an alarm within it rolls back.
        alarms: Names of CloudWatch alarms.
    """
    deployment: dict[str, Any] = {
        "RollingUpdatePolicy": {
            "MaximumBatchSize": {"Type": "COPY_COUNT", "Value": 1},
            "WaitIntervalInSeconds": wait_s,
            "MaximumExecutionTimeoutInSeconds": max_time_s,
        }
    }
    if alarms:
        deployment["AutoRollbackConfiguration"] = {"Alarms": [{"AlarmName": alarm} for alarm in alarms]}
    return {
        "InferenceComponentName": endpoint,
        "Specification": _specification(model_name, memory_mb),
        "DeploymentConfig": deployment,
    }


def _specification(model_name: str, memory_mb: int) -> Request:
    needs = {"NumberOfCpuCoresRequired": CORES_OF_A_COPY, "MinMemoryRequiredInMb": memory_mb}
    return {"ModelName": model_name, "ComputeResourceRequirements": needs}
