"""What other services do for an endpoint, as requests from plain values; nothing here talks to AWS.

CloudWatch's alarms roll an update back (PutMetricAlarm); Application Auto Scaling brings instances by the number of
requests (RegisterScalableTarget, PutScalingPolicy); EventBridge Scheduler deletes it at a time (CreateSchedule).
"""

import json
from datetime import UTC, datetime

from stocktake.cloud.endpoint_requests import VARIANT, Request

ALARM_PERIOD_S = 60  # CloudWatch's finest for these metrics
DELETE_ENDPOINT = "arn:aws:scheduler:::aws-sdk:sagemaker:deleteEndpoint"  # EventBridge's name of the call


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
