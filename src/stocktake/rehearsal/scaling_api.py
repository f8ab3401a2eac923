"""Application Auto Scaling's targets and policies of endpoints: kept and described; nothing here scales.

With AWS a policy brings CloudWatch alarms of its own, which a rehearsal leaves out.
"""

import threading
import time
import uuid
from collections.abc import Callable, Mapping
from typing import Any

from stocktake.rehearsal.api_protocols import Operations
from stocktake.rehearsal.job_state import ACCOUNT, REGION, RequestRefused

Target = tuple[str, str, str]  # service namespace, resource id, scalable dimension
ARN = f"arn:aws:application-autoscaling:{REGION}:{ACCOUNT}"
ROLE = (
    f"arn:aws:iam::{ACCOUNT}:role/aws-service-role/sagemaker.application-autoscaling.amazonaws.com/"
    "AWSServiceRoleForApplicationAutoScaling_SageMakerEndpoint"
)


class ScalableTargets:
    """The targets and policies of the rehearsed account; any thread may call its methods.

    Args:
        exists: Whether there is an `endpoint/<name>` or an `inference-component/<name>`.
    """

    def __init__(self, exists: Callable[[str], bool]):
        self._exists = exists
        self._targets: dict[Target, dict[str, Any]] = {}
        self._policies: dict[tuple[Target, str], dict[str, Any]] = {}
        self._lock = threading.Lock()

    def operations(self) -> Operations:
        return {
            "RegisterScalableTarget": self._register,
            "DescribeScalableTargets": self._describe_targets,
            "DeregisterScalableTarget": self._deregister,
            "PutScalingPolicy": self._put_policy,
            "DescribeScalingPolicies": self._describe_policies,
            "DeleteScalingPolicy": self._delete_policy,
        }

    def is_registered(self, endpoint: str, variant: str) -> bool:
        return any(resource == f"endpoint/{endpoint}/variant/{variant}" for _, resource, _ in list(self._targets))

    def policies_at_zero(self, resource: str) -> list[str]:
        """Returns the ARNs of the step policies of a resource, which bring what an alarm asks for."""
        with self._lock:
            return [
                kept["PolicyARN"]
                for (target, _), kept in self._policies.items()
                if target[1] == resource and kept["PolicyType"] == "StepScaling"
            ]

    def forget(self, resource: str) -> None:
        """Deregisters the targets of an endpoint or a component, as its deletion does: it asks for the permission."""
        with self._lock:
            for target in [target for target in self._targets if f"{target[1]}/".startswith(f"{resource}/")]:
                self._remove(target)

    def _remove(self, target: Target) -> None:
        del self._targets[target]
        for key in [key for key in self._policies if key[0] == target]:
            del self._policies[key]

    def _register(self, request: Mapping) -> dict:
        target, resource = _target(request), "/".join(request["ResourceId"].split("/")[:2])
        if not self._exists(resource):  # AWS's own words are not known
            raise RequestRefused("ValidationException", f"There is no {resource}.")
        with self._lock:
            known = self._targets.get(target)
            if known is None and not {"MinCapacity", "MaxCapacity"} <= set(request):
                raise RequestRefused("ValidationException", "MinCapacity and MaxCapacity are needed at first.")
            arn = f"{ARN}:scalable-target/{uuid.uuid4().hex}"
            known = known or {"CreationTime": time.time(), "ScalableTargetARN": arn, "RoleARN": ROLE}
            self._targets[target] = known | dict(request)
            return {"ScalableTargetARN": known["ScalableTargetARN"]}

    def _describe_targets(self, request: Mapping) -> dict:
        with self._lock:
            found = [
                kept
                for (namespace, resource, _), kept in self._targets.items()
                if namespace == request["ServiceNamespace"] and resource in request.get("ResourceIds", [resource])
            ]
        return {"ScalableTargets": found}

    def _deregister(self, request: Mapping) -> dict:
        with self._lock:
            if _target(request) not in self._targets:
                raise _unknown("No scalable target found", request)
            self._remove(_target(request))
        return {}

    def _put_policy(self, request: Mapping) -> dict:
        key = (_target(request), request["PolicyName"])
        with self._lock:
            if key[0] not in self._targets:
                raise _unknown("No scalable target registered", request)
            arn = f"{ARN}:scalingPolicy:{uuid.uuid4()}:resource/sagemaker/{key[0][1]}:policyName/{key[1]}"
            known = self._policies.get(key) or {"CreationTime": time.time(), "PolicyARN": arn, "Alarms": []}
            self._policies[key] = known | dict(request)
            return {"PolicyARN": known["PolicyARN"], "Alarms": []}

    def _describe_policies(self, request: Mapping) -> dict:
        with self._lock:
            found = [
                kept
                for ((namespace, resource, _), name), kept in self._policies.items()
                if namespace == request["ServiceNamespace"]
                and resource == request.get("ResourceId", resource)
                and name in request.get("PolicyNames", [name])
            ]
        return {"ScalingPolicies": found}

    def _delete_policy(self, request: Mapping) -> dict:
        with self._lock:
            if self._policies.pop((_target(request), request["PolicyName"]), None) is None:
                raise _unknown("No scaling policy found", request)
        return {}


def _target(request: Mapping) -> Target:
    return request["ServiceNamespace"], request["ResourceId"], request["ScalableDimension"]


def _unknown(what: str, request: Mapping) -> RequestRefused:
    namespace, resource, dimension = _target(request)
    text = f"{what} for service namespace: {namespace}, resource ID: {resource}, scalable dimension: {dimension}"
    return RequestRefused("ObjectNotFoundException", text)
