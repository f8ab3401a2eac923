"""Endpoints of one account and region: made, looked at, waited for, listed, deleted with all that belongs to them."""

import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from stocktake.cloud import endpoint_scaling
from stocktake.cloud.deployment import ENDS_AT, Call
from stocktake.cloud.endpoint_requests import PROJECT
from stocktake.cloud.endpoint_upkeep import alarm_names, made_for, planned_ends
from stocktake.cloud.service_calls import ACCOUNT_CAUSES, NOT_FOUND, CallRefused, ServiceCalls, explained

LOG_GROUPS = ("/aws/sagemaker/Endpoints", "/aws/sagemaker/InferenceComponents")
TAKEN = re.compile(r"already exist|in-progress", re.IGNORECASE)  # as AWS refuses what it has done already
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

    @staticmethod
    def end_of(tag: str | None) -> datetime | None:
        """Returns the planned end that a tag holds; None where it holds none, as one that a person wrote may."""
        try:
            ends_at = datetime.fromisoformat(tag or "")
        except ValueError:
            return None
        return ends_at if ends_at.tzinfo else ends_at.replace(tzinfo=UTC)


class Endpoints(ServiceCalls):
    """The endpoints of one account and region."""

    def send(self, call: Call) -> dict[str, Any]:
        """As `ServiceCalls.send`; an endpoint that is where a call would bring it was brought there by a lost try."""
        try:
            return super().send(call)
        except CallRefused as error:
            if call.operation not in ("CreateEndpoint", "UpdateEndpoint") or not TAKEN.search(str(error)):
                raise
            described = self.describe(call.request["EndpointName"]) or {}
            going = [described, described.get("PendingDeploymentSummary", {})]
            if call.request["EndpointConfigName"] not in [config.get("EndpointConfigName") for config in going]:
                raise
            return {}

    def tags(self, described: dict[str, Any]) -> dict[str, str]:
        found = self._ask("sagemaker", "ListTags", ResourceArn=described["EndpointArn"])["Tags"]
        return {tag["Key"]: tag["Value"] for tag in found}

    def require_own(self, described: dict[str, Any]) -> None:
        """
        Raises:
            EndpointFailed: The endpoint was made by something else, and is not this project's to change or delete.
        """
        if not PROJECT.items() <= self.tags(described).items():
            (key, value), name = *PROJECT.items(), described["EndpointName"]
            raise EndpointFailed(f"name={name} was not made by deploy.py: no tag {key}={value}. Type another name.")

    def withdraw(self, described: dict[str, Any], calls: Sequence[Call], ends_at: datetime | None) -> None:
        """Takes back of earlier deployments what this one does not ask for: a planned end, and scaling."""
        name, operations = described["EndpointName"], {call.operation for call in calls}
        if "CreateSchedule" not in operations:
            for end in planned_ends(name):
                self._is_deleted(Call("scheduler", "DeleteSchedule", {"Name": end}))
        if "RegisterScalableTarget" not in operations:
            for scalable in (endpoint_scaling.variant(name, is_async=False), endpoint_scaling.component(name)):
                self._is_deleted(Call("application-autoscaling", "DeregisterScalableTarget", scalable.key))
        arn = described["EndpointArn"]
        if ends_at is None:
            self._ask("sagemaker", "DeleteTags", ResourceArn=arn, TagKeys=[ENDS_AT])
        else:
            tag = {"Key": ENDS_AT, "Value": ends_at.astimezone(UTC).isoformat(timespec="seconds")}
            self._ask("sagemaker", "AddTags", ResourceArn=arn, Tags=[tag])

    def _is_deleted(self, call: Call) -> bool:
        """Makes a call that deletes something; says whether it was there."""
        try:
            self._ask(call.service, call.operation, **call.request)
        except CallRefused as error:
            if NOT_FOUND.search(f"{error} {error.code}"):
                return False
            raise
        return True

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

    def model_url(self, name: str) -> str | None:
        """Returns where the archive of the model lies that answers; `None` where none does, or it is being changed."""
        described = self.describe(name)
        if described is None or described["EndpointStatus"] != "InService":
            return None
        model = self.answering(described).get("ModelName")
        if model is None:
            component = self.describe_component(name)
            if component is None or component["InferenceComponentStatus"] != "InService":
                return None
            model = component["Specification"]["ModelName"]
        return self._ask("sagemaker", "DescribeModel", ModelName=model)["PrimaryContainer"].get("ModelDataUrl")

    def kind(self, described: dict[str, Any]) -> str:
        """Returns how a described endpoint holds its model: `serverless`, `async`, `component` or `instances`."""
        variant = self.answering(described)
        if "ServerlessConfig" in variant:
            return "serverless"
        if "ModelName" not in variant:
            return "component"
        return "async" if "AsyncInferenceConfig" in described else "instances"

    def wait(self, name: str, say: Callable[[str], None], poll_s: float) -> dict[str, Any]:
        """Waits until an endpoint no longer moves; says each state that it comes to.

        Raises:
            EndpointFailed: It is gone, or failed; with the last lines of its container and the usual cause.
        """
        return self._in_service(name, "endpoint", "EndpointStatus", lambda: self.describe(name), say, poll_s)

    def wait_for_component(self, name: str, say: Callable[[str], None], poll_s: float) -> dict[str, Any]:
        """As `wait`, for the inference component of an endpoint."""
        status, describe = "InferenceComponentStatus", lambda: self.describe_component(name)
        return self._in_service(name, "inference component", status, describe, say, poll_s)

    def _in_service(
        self,
        name: str,
        kind: str,
        status_field: str,
        describe: Callable[[], dict[str, Any] | None],
        say: Callable[[str], None],
        poll_s: float,
    ) -> dict[str, Any]:
        shown = name if kind == "endpoint" else f"{name}, {kind}"
        described = self._at_rest(describe, status_field, shown, say, poll_s)
        if described is None:
            raise EndpointFailed(f"name={name}: there is no such {kind} any more.")
        if described[status_field] != "InService":
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
                by_key = self.tags(found)
                if PROJECT.items() <= by_key.items():
                    ends_at = ListedEndpoint.end_of(by_key.get(ENDS_AT))
                    yield ListedEndpoint(
                        found["EndpointName"], found["EndpointStatus"], found["CreationTime"].astimezone(UTC), ends_at
                    )

    def delete(self, name: str, say: Callable[[str], None], poll_s: float) -> list[str]:
        """Deletes an endpoint and all that its deployments made beside it; returns what was deleted.

        What is gone already is passed over, so that a deletion that was broken off can be typed again.
        """
        deleted = []
        described = self.describe(name)
        if described and described["EndpointStatus"] != "Deleting":
            self.require_own(described)
        for call in self._deletions(name):
            if not self._is_deleted(call):
                continue
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
