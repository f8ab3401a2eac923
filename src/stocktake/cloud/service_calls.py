"""Calls of AWS's services in one account and region: made until they are answered, and refusals with AWS's words."""

import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from stocktake.cloud.client import HINTS as CALL_HINTS
from stocktake.cloud.deployment import Call
from stocktake.cloud.retries import Patience, Unavailable, is_passing

Description = TypeVar("Description", dict[str, Any], dict[str, Any] | None)
NUM_LOG_LINES = 20
# States that end by themselves, of endpoints, components and jobs.
MOVING = ("Creating", "Updating", "SystemUpdating", "RollingBack", "Deleting", "InProgress", "Stopping")
NOT_FOUND = re.compile(r"not ?found|could not find|does not exist|NoSuch", re.IGNORECASE)
THERE_ALREADY = re.compile(r"already exist", re.IGNORECASE)
NAMED_BY_DIGEST = ("CreateModel", "CreateEndpointConfig", "CreateTransformJob")  # of equal names one is there already
# What AWS's reason for a failure usually comes from, by a pattern of it.
ACCOUNT_CAUSES = {
    r"CannotPull|pull image|image .*(not|does not) exist|ECR": "image_uri is not in ECR of this region, or the role "
    "may not pull it (ecr:BatchGetImage, ecr:GetDownloadUrlForLayer)",
    r"Access ?Denied|not authorized|assume": "the role of role_arn may not read the bucket, or does not trust "
    "sagemaker.amazonaws.com",
    r"capacity": "AWS has none of instance_type at the moment; type another",
    r"limit|quota": "the account's quota is used up; ask for more at https://console.aws.amazon.com/servicequotas",
}

# What to do about a call that AWS refuses, by its name of the error.
HINTS = CALL_HINTS | {
    "ResourceLimitExceeded": "type another instance_type, fewer instances or target=serverless, or ask for more at "
    "https://console.aws.amazon.com/servicequotas",
    **dict.fromkeys(
        ("AccessDenied", "AccessDeniedException"),
        "the account may not do this: docs/operations.md lists what deploy.py needs",
    ),
}


class CallRefused(ValueError):
    """AWS refuses a call; the message says why.

    Attributes:
        code: AWS's name of the error, where it has one.
    """

    def __init__(self, message: str, code: str = ""):
        super().__init__(message)
        self.code = code


class ServiceCalls:
    """The services of one account and region.

    Args:
        client: Gives boto3's client of a service by botocore's name.
        patience: How often and how long a call is made again that AWS did not answer.
    """

    def __init__(self, client: Callable[[str], Any], patience: Patience | None = None):
        self.client, self.patience = client, patience or Patience()

    def send(self, call: Call) -> dict[str, Any]:
        """Makes one call of a deployment; what is there already, as an earlier one left it, is taken.

        Raises:
            CallRefused: AWS refuses it.
        """
        try:
            return self._ask(call.service, call.operation, **call.request)
        except CallRefused as error:
            if call.operation in NAMED_BY_DIGEST and THERE_ALREADY.search(str(error)):
                return {}
            if call.operation == "CreateSchedule" and error.code == "ConflictException":
                return self._ask(call.service, "UpdateSchedule", **call.request)
            raise

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
            raise CallRefused(f"{message} Hint: {HINTS[code]}." if code in HINTS else message, code) from error

    def _at_rest(
        self,
        describe: Callable[[], Description],
        status_field: str,
        name: str,
        say: Callable[[str], None],
        poll_s: float,
    ) -> Description:
        """Waits until what is described moves no more, or is gone; says each state, returns the last description."""
        seen = ""
        while (described := describe()) is not None:
            if described[status_field] != seen:
                seen = described[status_field]
                say(f"{name}: {seen}")
            if seen not in MOVING:
                break
            time.sleep(poll_s)
        return described

    def _pages(self, operation: str, **request: Any) -> Iterator[dict[str, Any]]:
        token: dict[str, str] = {}
        while True:
            page = self._ask("sagemaker", operation, **request, **token)
            yield page
            if not page.get("NextToken"):
                return
            token = {"NextToken": page["NextToken"]}

    def _log_streams(self, group: str, **which: Any) -> list[str]:
        """Returns the names of log streams; none where no container ever began, or nobody may look."""
        try:
            streams = self._ask("logs", "DescribeLogStreams", logGroupName=group, **which)["logStreams"]
        except CallRefused:
            return []
        return [stream["logStreamName"] for stream in streams]

    def _last_lines(self, group: str, stream: str) -> list[str]:
        """Returns the end of a log stream; nothing where it may not be read."""
        try:
            page = self._ask("logs", "GetLogEvents", logGroupName=group, logStreamName=stream, limit=NUM_LOG_LINES)
        except CallRefused:
            return []
        return [event["message"].rstrip() for event in page["events"]]


def explained(name: str, reason: str, causes: Mapping[str, str], log_lines: Sequence[str]) -> str:
    """Returns AWS's reason for a failure with its usual cause and what was logged.

    Args:
        causes: Of failures, by a pattern of AWS's reason.
    """
    usual = [cause for pattern, cause in causes.items() if re.search(pattern, reason, re.IGNORECASE)]
    hint = f" Usually: {usual[0]}." if usual else ""
    return "\n".join([f"{name}: {reason.rstrip('.')}.{hint}", *[f"  | {line}" for line in log_lines]])
