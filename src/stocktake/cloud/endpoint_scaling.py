"""Application Auto Scaling's requests for an endpoint: how many instances, or copies of its model, by the requests.

    a variant              instances by its invocations, one at least
    an asynchronous one    instances by how much waits, down to none
    a component            copies by its invocations, down to none

What stands at none answers nobody and so counts no invocations: a step policy brings the first one back, by an alarm on
the metric that AWS has for requests that found nothing. Sources: Amazon SageMaker developer guide, "Automatic scaling",
"Autoscale an asynchronous endpoint", "Scale an endpoint to zero instances".
"""

from dataclasses import dataclass
from typing import Any

from stocktake.cloud.endpoint_requests import VARIANT, Request

NAMESPACE = "AWS/SageMaker"


@dataclass(frozen=True)
class Scaling:
    """Instances or copies by the number of requests; `max_instances` of None leaves their number as it is.

    Attributes:
        invocations_per_instance: A minute, which is aimed at; of an asynchronous endpoint, that wait for an instance.
    """

    min_instances: int = 1
    max_instances: int | None = None
    invocations_per_instance: float = 300.0
    scale_in_cooldown_s: int = 300
    scale_out_cooldown_s: int = 60

    @property
    def is_to_zero(self) -> bool:
        return self.max_instances is not None and self.min_instances == 0


@dataclass(frozen=True)
class Scalable:
    """What Application Auto Scaling moves, and the metrics by which it does.

    Attributes:
        load: The metric that target tracking holds, as a policy names it.
        unanswered: The metric that counts requests which found nothing, and its dimension.
        statistic: Of `unanswered`.
    """

    resource_id: str
    dimension: str
    load: Request
    unanswered: tuple[str, dict[str, str]]
    statistic: str

    @property
    def key(self) -> Request:
        """Returns how Application Auto Scaling names it."""
        return {
            "ServiceNamespace": "sagemaker",
            "ResourceId": self.resource_id,
            "ScalableDimension": self.dimension,
        }


def variant(endpoint: str, is_async: bool) -> Scalable:
    of_the_endpoint = {"Name": "EndpointName", "Value": endpoint}
    backlog = {
        "MetricName": "ApproximateBacklogSizePerInstance",
        "Namespace": NAMESPACE,
        "Dimensions": [of_the_endpoint],
        "Statistic": "Average",
    }
    invocations = {"PredefinedMetricType": "SageMakerVariantInvocationsPerInstance"}
    return Scalable(
        f"endpoint/{endpoint}/variant/{VARIANT}",
        "sagemaker:variant:DesiredInstanceCount",
        {"CustomizedMetricSpecification": backlog} if is_async else {"PredefinedMetricSpecification": invocations},
        ("HasBacklogWithoutCapacity", of_the_endpoint),
        "Average",
    )


def component(endpoint: str) -> Scalable:
    invocations = {"PredefinedMetricType": "SageMakerInferenceComponentInvocationsPerCopy"}
    return Scalable(
        f"inference-component/{endpoint}",
        "sagemaker:inference-component:DesiredCopyCount",
        {"PredefinedMetricSpecification": invocations},
        ("NoCapacityInvocationFailures", {"Name": "InferenceComponentName", "Value": endpoint}),
        "Maximum",
    )


def register(scalable: Scalable, scaling: Scaling) -> Request:
    """Returns the body of RegisterScalableTarget."""
    return scalable.key | {"MinCapacity": scaling.min_instances, "MaxCapacity": scaling.max_instances}


def follow_load(endpoint: str, scalable: Scalable, scaling: Scaling) -> Request:
    """Returns the body of PutScalingPolicy for target tracking."""
    tracking: dict[str, Any] = {
        "TargetValue": scaling.invocations_per_instance,
        **scalable.load,
        "ScaleInCooldown": scaling.scale_in_cooldown_s,
        "ScaleOutCooldown": scaling.scale_out_cooldown_s,
    }
    policy = {"PolicyName": f"{endpoint}-invocations", "PolicyType": "TargetTrackingScaling"}
    return scalable.key | policy | {"TargetTrackingScalingPolicyConfiguration": tracking}


def leave_zero(endpoint: str, scalable: Scalable, scaling: Scaling) -> Request:
    """Returns the body of PutScalingPolicy that brings the first one, when `unanswered_alarm` goes off."""
    stepping = {
        "AdjustmentType": "ChangeInCapacity",
        "MetricAggregationType": scalable.statistic,
        "Cooldown": scaling.scale_out_cooldown_s,
        "StepAdjustments": [{"MetricIntervalLowerBound": 0.0, "ScalingAdjustment": 1}],
    }
    policy = {"PolicyName": f"{endpoint}-from-zero", "PolicyType": "StepScaling"}
    return scalable.key | policy | {"StepScalingPolicyConfiguration": stepping}


def unanswered_alarm_name(endpoint: str) -> str:
    return f"{endpoint}-unanswered"


def unanswered_alarm(endpoint: str, scalable: Scalable, policy_arn: str) -> Request:
    """Returns the body of PutMetricAlarm that carries out a policy when a request found nothing.

    Args:
        policy_arn: As PutScalingPolicy answered for `leave_zero`.
    """
    metric, dimension = scalable.unanswered
    return {
        "AlarmName": unanswered_alarm_name(endpoint),
        "Namespace": NAMESPACE,
        "MetricName": metric,
        "Dimensions": [dimension],
        "Statistic": scalable.statistic,
        "Period": 60,
        "EvaluationPeriods": 1,
        "Threshold": 1.0,
        "ComparisonOperator": "GreaterThanOrEqualToThreshold",
        "TreatMissingData": "missing",
        "AlarmActions": [policy_arn],
    }
