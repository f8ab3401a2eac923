"""The part of CloudWatch Logs' interface for a training job's log: DescribeLogStreams and GetLogEvents."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path

from stocktake.cloud.validation import RequestError, check_request
from stocktake.rehearsal.job_state import RequestRefused

TARGET_PREFIX = "Logs_20140328."
HOST = re.compile(r"algo-[0-9]{1,4}")
MAX_PAGE_BYTES = 1_000_000  # as CloudWatch gives at most one MiB in a page


class LogStreams:
    """Answers from the files in which the instances' output is kept; a stream is `<job>/<host>`.

    Args:
        log_folder: Gives the folder of a job's `<host>.log` by the job's name.
    """

    def __init__(self, log_folder: Callable[[str], Path]):
        self.log_folder = log_folder

    def respond(self, operation: str, request: Mapping) -> dict:
        """Returns the response body of one call.

        Raises:
            RequestRefused: CloudWatch would answer with an error.
        """
        operations = {"DescribeLogStreams": self._streams, "GetLogEvents": self._events}
        if operation not in operations:
            known = ", ".join(operations)
            raise RequestRefused("UnknownOperationException", f"{operation} is not rehearsed; {known} are.")
        return operations[operation](request)

    def _streams(self, request: Mapping) -> dict:
        job, _, host = request.get("logStreamNamePrefix", "").partition("/")
        _refuse_other_folders(job)
        names = sorted(path.stem for path in self.log_folder(job).glob("*.log"))
        return {"logStreams": [{"logStreamName": f"{job}/{name}"} for name in names if name.startswith(host)]}

    def _events(self, request: Mapping) -> dict:
        """Gives whole lines from the byte that the token names; their time is that of the last one written."""
        job, _, host = request.get("logStreamName", "").partition("/")
        _refuse_other_folders(job, host)
        path = self.log_folder(job) / f"{host}.log"
        if not path.is_file():
            raise RequestRefused("ResourceNotFoundException", "The specified log stream does not exist.")
        token = request.get("nextToken", "f/0")
        if not re.fullmatch(r"f/[0-9]{1,18}", token):
            raise RequestRefused("InvalidParameterException", f"nextToken={token!r} is none that this server gave.")
        position = int(token.removeprefix("f/"))
        with path.open("rb") as file:
            file.seek(position)
            content = file.read(MAX_PAGE_BYTES)
        end = content.rfind(b"\n") + 1 or (len(content) if len(content) == MAX_PAGE_BYTES else 0)
        time_ms = int(path.stat().st_mtime * 1000)
        lines = content[:end].decode(errors="replace").split("\n")
        return {
            "events": [{"timestamp": time_ms, "ingestionTime": time_ms, "message": line} for line in lines if line],
            "nextForwardToken": f"f/{position + end}",
            "nextBackwardToken": f"b/{position}",
        }


def _refuse_other_folders(job: str, host: str = "algo-1") -> None:
    """Refuses names with which a path would lead elsewhere; what a job may be called, AWS's own model says."""
    try:
        check_request("DescribeTrainingJob", {"TrainingJobName": job})
    except RequestError as error:
        raise RequestRefused("InvalidParameterException", str(error)) from error
    if not HOST.fullmatch(host):
        raise RequestRefused("ResourceNotFoundException", "The specified log stream does not exist.")
