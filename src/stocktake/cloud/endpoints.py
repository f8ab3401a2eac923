"""Endpoints of one account and region: made, looked at, waited for, listed, deleted with all that belongs to them."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from stocktake.cloud import endpoint_scaling
from stocktake.cloud.deployment import ENDS_AT, PROJECT, Call, made_for
from stocktake.cloud.endpoint_upkeep import alarm_names, planned_ends
from stocktake.cloud.service_calls import ACCOUNT_CAUSES, NOT_FOUND, CallRefused, ServiceCalls, explained

LOG_GROUPS = ("/aws/sagemaker/Endpoints", "/aws/sagemaker/InferenceComponents")
MOVING = ("Creating", "Updating", "SystemUpdating", "RollingBack", "Deleting")
CAUSES = {
    r"ping health check|did not pass": "the container did not answer /ping in time, and its log says why; a large "
    "model needs longer, or more memory_mb",
    **ACCOUNT_CAUSES,
    r"capacity": "AWS has none of instance_type at the moment; type another, or target=serverless",
    r"alarm": "an alarm went off while requests moved to the new model; see its 5xx and latency in CloudWatch",
}


class EndpointFailed(ValueError):
    """An endpoint is not there, or failed; the message says why and what to do."""


@dataclass(frozen=True)
class ListedEndpoint:
    """An endpoint of this project's, as `Endpoints.all` finds it."""

    name: str
    status: str
    created: datetime
    ends_at: datetime | None

    def is_overdue(self, now: datetime) -> bool:
        return self.ends_at is not None and self.ends_at < now


class Endpoints(ServiceCalls):
    """The endpoints of one account and region."""

    def describe(self, name: str) -> dict[str, Any] | None:
        """Returns the answer of DescribeEndpoint, `None` where there is no such endpoint."""
        return self._if_there("DescribeEndpoint", EndpointName=name)

    def describe_component(self, name: str) -> dict[str, Any] | None:
        """Returns the answer of DescribeInferenceComponent, `None` where there is none of this name."""
        return self._if_there("DescribeInferenceComponent", InferenceComponentName=name)

    def _if_there(self, operation: str, **request: str) -> dict[str, Any] | None:
        try:
            return self._ask("sagemaker", operation, **request)
        except CallRefused as error:
            if NOT_FOUND.search(str(error)):
                return None
            raise

    def answering(self, described: dict[str, Any]) -> dict[str, Any]:
        """Returns the production variant of an endpoint that was described, as CreateEndpointConfig takes it."""
        config = self._ask("sagemaker", "DescribeEndpointConfig", EndpointConfigName=described["EndpointConfigName"])
        return config["ProductionVariants"][0]

    def kind(self, described: dict[str, Any]) -> str:
        """Returns how an endpoint that was described holds its model: `serverless`, `component` or `instances`."""
        variant = self.answering(described)
        if "ServerlessConfig" in variant:
            return "serverless"
        return "instances" if "ModelName" in variant else "component"

    def wait(self, name: str, say: Callable[[str], None], poll_s: float) -> dict[str, Any]:
        """Waits until an endpoint no longer moves; says each state that it comes to.

        Raises:
            EndpointFailed: It is gone, or failed; with the last lines of its container and the usual cause.
        """
        seen = ""
        while True:
            described = self.describe(name)
            if described is None:
                raise EndpointFailed(f"name={name}: there is no such endpoint any more.")
            if described["EndpointStatus"] != seen:
                seen = described["EndpointStatus"]
                say(f"{name}: {seen}")
            if seen not in MOVING:
                break
            time.sleep(poll_s)
        if seen != "InService":
            raise EndpointFailed(self.explained(name, described.get("FailureReason", "AWS names no reason")))
        return described

    def explained(self, name: str, reason: str) -> str:
        """Returns a reason with its usual cause and the last lines that the container logged."""
        return explained(name, reason, CAUSES, self.last_log_lines(name))

    def last_log_lines(self, name: str) -> list[str]:
        """Returns the end of the newest log of an endpoint's containers; nothing where there is none."""
        for group in (f"{group}/{name}" for group in LOG_GROUPS):
            if newest := self._log_streams(group, orderBy="LastEventTime", descending=True, limit=1):
                return self._last_lines(group, newest[0])
        return []

    def all(self) -> Iterator[ListedEndpoint]:
        """Yields this project's endpoints, by their tag."""
        for page in self._pages("ListEndpoints"):
            for found in page["Endpoints"]:
                tags = self._ask("sagemaker", "ListTags", ResourceArn=found["EndpointArn"])["Tags"]
                by_key = {tag["Key"]: tag["Value"] for tag in tags}
                if PROJECT.items() <= by_key.items():
                    ends_at = datetime.fromisoformat(by_key[ENDS_AT]) if ENDS_AT in by_key else None
                    yield ListedEndpoint(
                        found["EndpointName"], found["EndpointStatus"], found["CreationTime"].astimezone(UTC), ends_at
                    )

    def delete(self, name: str, say: Callable[[str], None], poll_s: float) -> list[str]:
        """Deletes an endpoint and all that its deployments made beside it; returns what was deleted.

        What is gone already is passed over, so that a deletion that was broken off can be typed again.
        """
        deleted = []
        for call in self._deletions(name):
            try:
                self._ask(call.service, call.operation, **call.request)
            except CallRefused as error:
                if NOT_FOUND.search(f"{error} {error.code}"):
                    continue
                raise
            deleted.append(f"{call.operation}({', '.join(map(str, call.request.values()))})")
            say(f"Deleted: {deleted[-1]}")
            while call.operation == "DeleteInferenceComponent" and self.describe_component(name) is not None:
                time.sleep(poll_s)
        while self.describe(name) is not None:
            time.sleep(poll_s)
        return deleted

    def _deletions(self, name: str) -> Iterator[Call]:
        # Who pays first: the endpoint; what is left of a deletion that is broken off costs nothing. AWS deletes none
        # that holds an inference component.
        yield Call("sagemaker", "DeleteInferenceComponent", {"InferenceComponentName": name})
        yield Call("sagemaker", "DeleteEndpoint", {"EndpointName": name})
        for end in planned_ends(name):
            yield Call("scheduler", "DeleteSchedule", {"Name": end})
        for scalable in (endpoint_scaling.variant(name, is_async=False), endpoint_scaling.component(name)):
            yield Call("application-autoscaling", "DeregisterScalableTarget", scalable.key)
        if alarms := self._alarm_names(name):
            yield Call("cloudwatch", "DeleteAlarms", {"AlarmNames": alarms})
        for kind in ("EndpointConfig", "Model"):
            for page in self._pages(f"List{kind}s", NameContains=name):
                for found in page[f"{kind}s"]:
                    if made_for(name, found[f"{kind}Name"]):
                        yield Call("sagemaker", f"Delete{kind}", {f"{kind}Name": found[f"{kind}Name"]})

    def _alarm_names(self, name: str) -> Sequence[str]:
        found = self._ask("cloudwatch", "DescribeAlarms", AlarmNames=alarm_names(name))
        return [alarm["AlarmName"] for alarm in found.get("MetricAlarms", ())]
