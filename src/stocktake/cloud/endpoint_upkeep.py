"""What other services do for an endpoint, as requests from plain values; nothing here talks to AWS.

CloudWatch's alarms roll an update back (PutMetricAlarm); EventBridge Scheduler deletes it at a time (CreateSchedule).
What Application Auto Scaling does, endpoint_scaling.py has.
"""

import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from stocktake.cloud.endpoint_requests import DIGEST_CHARACTERS, VARIANT, Request
from stocktake.cloud.endpoint_scaling import NAMESPACE, unanswered_alarm_name

ALARM_PERIOD_S = 60  # CloudWatch's finest for these metrics
SDK_CALL = "arn:aws:scheduler:::aws-sdk:sagemaker"  # EventBridge's name of the API, before that of a call
COMPONENT_END = timedelta(minutes=10)  # before its endpoint's, which AWS does not delete while it holds one


@dataclass(frozen=True)
class Update:
    """How requests move from what an endpoint runs to the new model, and what brings them back."""

    shift: str = "all_at_once"
    step_percent: int = 10
    wait_s: int = 300
    termination_wait_s: int = 120
    max_time_s: int = 3600
    max_errors: int = 5
    max_latency_s: float = 5.0


def made_for(endpoint: str, name: str) -> bool:
    """Whether a model or a config of this name was made by a deployment of an endpoint."""
    digits = f"[0-9a-f]{{{DIGEST_CHARACTERS}}}"
    return re.fullmatch(rf"{re.escape(endpoint)}-{digits}(-\d{{{DIGEST_CHARACTERS}}})?", name) is not None


def alarm_names(endpoint: str) -> list[str]:
    """Returns the names of all alarms that a deployment may have made for an endpoint."""
    return [f"{endpoint}-5xx", f"{endpoint}-latency", unanswered_alarm_name(endpoint)]


def planned_ends(endpoint: str) -> list[str]:
    """Returns the names of the schedules that delete an endpoint, and the inference component that it may hold."""
    return [f"{endpoint}-end", f"{endpoint}-end-component"]


def alarms(
    endpoint: str, max_errors: int = 5, max_latency_s: float = 5.0, hosts_component: bool = False
) -> list[Request]:
    """Returns the bodies of PutMetricAlarm: answers of 5xx within a minute, and the model's latency (p95).

    Args:
        hosts_component: Its model is an inference component of its name, which has metrics of its own.
    """
    variant = [{"Name": "EndpointName", "Value": endpoint}, {"Name": "VariantName", "Value": VARIANT}]
    common = {
        "Namespace": NAMESPACE,
        "Dimensions": [{"Name": "InferenceComponentName", "Value": endpoint}] if hosts_component else variant,
        "Period": ALARM_PERIOD_S,
        "EvaluationPeriods": 1,
        "ComparisonOperator": "GreaterThanThreshold",
        "TreatMissingData": "notBreaching",  # nobody asked
    }
    errors_name, latency_name, _ = alarm_names(endpoint)
    errors = {"MetricName": "Invocation5XXErrors", "Statistic": "Sum", "Threshold": float(max_errors)}
    # AWS gives the latency in microseconds.
    latency = {"MetricName": "ModelLatency", "ExtendedStatistic": "p95", "Threshold": max_latency_s * 1e6}
    return [
        {"AlarmName": errors_name, **common, **errors},
        {"AlarmName": latency_name, **common, **latency},
    ]


def planned_end(endpoint: str, role_arn: str, at: datetime, hosts_component: bool = False) -> list[Request]:
    """Returns the bodies of CreateSchedule: EventBridge deletes the endpoint at a time, whoever's laptop is closed.

    Args:
        role_arn: May call sagemaker:DeleteEndpoint, and trusts scheduler.amazonaws.com.
        at: With a time zone.
        hosts_component: Its inference component goes before it; the role may call sagemaker:DeleteInferenceComponent.
    """
    end, component_end = planned_ends(endpoint)
    deletions = [(end, "deleteEndpoint", "EndpointName", at)]
    if hosts_component:
        first = (component_end, "deleteInferenceComponent", "InferenceComponentName", at - COMPONENT_END)
        deletions.insert(0, first)
    return [
        {
            "Name": name,
            "ScheduleExpression": f"at({when.astimezone(UTC):%Y-%m-%dT%H:%M:%S})",
            "FlexibleTimeWindow": {"Mode": "OFF"},
            "ActionAfterCompletion": "DELETE",
            "Target": {"Arn": f"{SDK_CALL}:{call}", "RoleArn": role_arn, "Input": json.dumps({field: endpoint})},
        }
        for name, call, field, when in deletions
    ]
