"""Endpoints of one account and region: made, looked at, waited for, listed, deleted with all that belongs to them."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from stocktake.cloud.deployment import ENDS_AT, PROJECT, Call, made_for
from stocktake.cloud.endpoint_requests import VARIANT
from stocktake.cloud.service_calls import ACCOUNT_CAUSES, NOT_FOUND, CallRefused, ServiceCalls, explained

LOG_GROUP = "/aws/sagemaker/Endpoints"
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
        try:
            return self._ask("sagemaker", "DescribeEndpoint", EndpointName=name)
        except CallRefused as error:
            if NOT_FOUND.search(str(error)):
                return None
            raise

    def is_serverless(self, described: dict[str, Any]) -> bool:
        """Whether an endpoint that was described is serverless; AWS moves none of the others there."""
        config = self._ask("sagemaker", "DescribeEndpointConfig", EndpointConfigName=described["EndpointConfigName"])
        return "ServerlessConfig" in config["ProductionVariants"][0]

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
        group = f"{LOG_GROUP}/{name}"
        newest = self._log_streams(group, orderBy="LastEventTime", descending=True, limit=1)
        return self._last_lines(group, newest[0]) if newest else []

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
        while self.describe(name) is not None:
            time.sleep(poll_s)
        return deleted

    def _deletions(self, name: str) -> Iterator[Call]:
        # Who pays first: the endpoint; what is left of a deletion that is broken off costs nothing.
        yield Call("sagemaker", "DeleteEndpoint", {"EndpointName": name})
        yield Call("scheduler", "DeleteSchedule", {"Name": f"{name}-end"})
        scalable = {
            "ServiceNamespace": "sagemaker",
            "ResourceId": f"endpoint/{name}/variant/{VARIANT}",
            "ScalableDimension": "sagemaker:variant:DesiredInstanceCount",
        }
        yield Call("application-autoscaling", "DeregisterScalableTarget", scalable)
        if alarms := self._alarm_names(name):
            yield Call("cloudwatch", "DeleteAlarms", {"AlarmNames": alarms})
        for kind in ("EndpointConfig", "Model"):
            for page in self._pages(f"List{kind}s", NameContains=name):
                for found in page[f"{kind}s"]:
                    if made_for(name, found[f"{kind}Name"]):
                        yield Call("sagemaker", f"Delete{kind}", {f"{kind}Name": found[f"{kind}Name"]})

    def _alarm_names(self, name: str) -> Sequence[str]:
        found = self._ask("cloudwatch", "DescribeAlarms", AlarmNames=[f"{name}-5xx", f"{name}-latency"])
        return [alarm["AlarmName"] for alarm in found.get("MetricAlarms", ())]
