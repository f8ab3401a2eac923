"""Endpoints of one account and region: made, looked at, waited for, listed, deleted with all that belongs to them."""

import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from stocktake.cloud import endpoint_scaling
from stocktake.cloud.client import HINTS as CALL_HINTS
from stocktake.cloud.deployment import ENDS_AT, PROJECT, Call, made_for
from stocktake.cloud.endpoint_upkeep import alarm_names, planned_ends
from stocktake.cloud.retries import Patience, Unavailable, is_passing

LOG_GROUPS = ("/aws/sagemaker/Endpoints", "/aws/sagemaker/InferenceComponents")
NUM_LOG_LINES = 20
MOVING = ("Creating", "Updating", "SystemUpdating", "RollingBack", "Deleting")
NOT_FOUND = re.compile(r"not ?found|could not find|does not exist|NoSuch", re.IGNORECASE)
THERE_ALREADY = re.compile(r"already exist", re.IGNORECASE)
# What AWS's reason for a failed endpoint usually comes from.
CAUSES = {
    r"ping health check|did not pass": "the container did not answer /ping in time, and its log says why; a large "
    "model needs longer, or more memory_mb",
    r"CannotPull|pull image|image .*(not|does not) exist|ECR": "image_uri is not in ECR of this region, or the role "
    "may not pull it (ecr:BatchGetImage, ecr:GetDownloadUrlForLayer)",
    r"Access ?Denied|not authorized|assume": "the role of role_arn may not read the bucket, or does not trust "
    "sagemaker.amazonaws.com",
    r"capacity": "AWS has none of instance_type at the moment; type another, or target=serverless",
    r"limit|quota": "the account's quota is used up; ask for more at https://console.aws.amazon.com/servicequotas",
    r"alarm": "an alarm went off while requests moved to the new model; see its 5xx and latency in CloudWatch",
}

HINTS = CALL_HINTS | {
    "ResourceLimitExceeded": "type another instance_type, fewer instances or target=serverless, or ask for more at "
    "https://console.aws.amazon.com/servicequotas",
    **dict.fromkeys(
        ("AccessDenied", "AccessDeniedException"),
        "the account may not do this: docs/operations.md lists what deploy.py needs",
    ),
}


class EndpointFailed(RuntimeError):
    """An endpoint could not be made, changed or looked at; the message says why and what to do.

    Attributes:
        code: AWS's name of the error, where it has one.
    """

    def __init__(self, message: str, code: str = ""):
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class ListedEndpoint:
    """An endpoint of this project's, as `Endpoints.all` finds it."""

    name: str
    status: str
    created: datetime
    ends_at: datetime | None

    def is_overdue(self, now: datetime) -> bool:
        return self.ends_at is not None and self.ends_at < now


class Endpoints:
    """The endpoints of one account and region.

    Args:
        client: Gives boto3's client of a service by botocore's name.
        patience: How often and how long a call is made again that AWS did not answer.
    """

    def __init__(self, client: Callable[[str], Any], patience: Patience | None = None):
        self.client, self.patience = client, patience or Patience()

    def send(self, call: Call) -> dict[str, Any]:
        """Makes one call of a deployment; what is there already, as an earlier one left it, is taken.

        Raises:
            EndpointFailed: AWS refuses it.
        """
        try:
            return self._ask(call.service, call.operation, **call.request)
        except EndpointFailed as error:
            if call.operation == "CreateModel" and THERE_ALREADY.search(str(error)):  # its name holds its digest
                return {}
            if call.operation == "CreateSchedule" and error.code == "ConflictException":
                return self._ask(call.service, "UpdateSchedule", **call.request)
            raise

    def describe(self, name: str) -> dict[str, Any] | None:
        """Returns the answer of DescribeEndpoint, `None` where there is no such endpoint."""
        return self._if_there("DescribeEndpoint", EndpointName=name)

    def describe_component(self, name: str) -> dict[str, Any] | None:
        """Returns the answer of DescribeInferenceComponent, `None` where there is none of this name."""
        return self._if_there("DescribeInferenceComponent", InferenceComponentName=name)

    def _if_there(self, operation: str, **request: str) -> dict[str, Any] | None:
        try:
            return self._ask("sagemaker", operation, **request)
        except EndpointFailed as error:
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
        causes = [cause for pattern, cause in CAUSES.items() if re.search(pattern, reason, re.IGNORECASE)]
        lines = [f"  | {line}" for line in self.last_log_lines(name)]
        hint = f" Usually: {causes[0]}." if causes else ""
        return "\n".join([f"{name}: {reason.rstrip('.')}.{hint}", *lines])

    def last_log_lines(self, name: str) -> list[str]:
        """Returns the end of the newest log of an endpoint's containers; nothing where there is none."""
        return next(filter(None, (self._log_end(f"{group}/{name}") for group in LOG_GROUPS)), [])

    def _log_end(self, group: str) -> list[str]:
        newest_first = {"orderBy": "LastEventTime", "descending": True, "limit": 1}
        try:
            streams = self._ask("logs", "DescribeLogStreams", logGroupName=group, **newest_first)["logStreams"]
            if not streams:
                return []
            stream = streams[0]["logStreamName"]
            page = self._ask("logs", "GetLogEvents", logGroupName=group, logStreamName=stream, limit=NUM_LOG_LINES)
        except EndpointFailed:  # no container ever began, or nobody may look
            return []
        return [event["message"].rstrip() for event in page["events"]]

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
            except EndpointFailed as error:
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

    def _pages(self, operation: str, **request: Any) -> Iterator[dict[str, Any]]:
        token: dict[str, str] = {}
        while True:
            page = self._ask("sagemaker", operation, **request, **token)
            yield page
            if not page.get("NextToken"):
                return
            token = {"NextToken": page["NextToken"]}

    def _ask(self, service: str, operation: str, **request: Any) -> dict[str, Any]:
        """Makes a call until AWS answers it."""
        return self.patience(lambda: self._once(service, operation, **request))

    def _once(self, service: str, operation: str, **request: Any) -> dict[str, Any]:
        from botocore import xform_name
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            return getattr(self.client(service), xform_name(operation))(**request)
        except (ClientError, BotoCoreError) as error:
            response = getattr(error, "response", None) or {}
            code = response.get("Error", {}).get("Code", type(error).__name__)
            message = f"{operation}: {response.get('Error', {}).get('Message', str(error)).rstrip('.')} ({code})."
            if is_passing(error):
                raise Unavailable(message, code) from error
            raise EndpointFailed(f"{message} Hint: {HINTS[code]}." if code in HINTS else message, code) from error
