"""The part of CloudWatch Logs' interface for what instances print: DescribeLogStreams and GetLogEvents."""

import re
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

from stocktake.cloud.validation import RequestError, check_request
from stocktake.rehearsal.api_protocols import Operations
from stocktake.rehearsal.job_state import RequestRefused

HOST = re.compile(r"algo-[0-9]{1,4}")
HOSTED = tuple(f"/aws/sagemaker/{kind}" for kind in ("Endpoints/", "InferenceComponents/", "TransformJobs"))
MAX_PAGE_BYTES = 1_000_000  # as CloudWatch gives at most one MiB in a page


class LogGroups:
    """The files of the log streams of endpoints and batch jobs; as with CloudWatch they outlive these."""

    def __init__(self, folder: Path):
        self.folder = folder
        self._groups: dict[str, dict[str, Path]] = {}
        self._lock = threading.Lock()

    def create(self, group: str, stream: str) -> Path:
        """Returns the file of a new stream."""
        path = self.folder / f"{group}/{stream}.log".lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        with self._lock:
            self._groups.setdefault(group, {})[stream] = path
        return path

    def streams(self, group: str) -> dict[str, Path]:
        """Returns the files of a group by their streams' names; none where there is no such group."""
        with self._lock:
            return dict(self._groups.get(group, {}))


class LogStreams:
    """Answers from the files in which the instances' output is kept; a training job's stream is `<job>/<host>`.

    Args:
        log_folder: Gives the folder of a training job's `<host>.log` by the job's name; `None` where there are none.
        groups: The other log groups.
    """

    def __init__(self, log_folder: Callable[[str], Path] | None = None, groups: LogGroups | None = None):
        self.log_folder, self.groups = log_folder, groups

    def operations(self) -> Operations:
        return {"DescribeLogStreams": self._streams, "GetLogEvents": self._events}

    def _streams(self, request: Mapping) -> dict:
        prefix = request.get("logStreamNamePrefix", "")
        if (hosted := self._hosted(request)) is not None:
            names = sorted(name for name in hosted if name.startswith(prefix))
            if request.get("orderBy") == "LastEventTime":
                names.sort(key=lambda name: hosted[name].stat().st_mtime_ns)
            names = names[::-1] if request.get("descending") else names
            return {"logStreams": [{"logStreamName": name} for name in names[: request.get("limit")]]}
        job, _, host = prefix.partition("/")
        names = sorted(path.stem for path in self._job_folder(job).glob("*.log"))
        return {"logStreams": [{"logStreamName": f"{job}/{name}"} for name in names if name.startswith(host)]}

    def _events(self, request: Mapping) -> dict:
        """Gives whole lines from the byte that the token names; their time is that of the last one written.

        Without a token and without `startFromHead` they are the last ones, as CloudWatch gives them.
        """
        path = self._path(request)
        token = request.get("nextToken", "f/0")
        if not re.fullmatch(r"f/[0-9]{1,18}", token):
            raise RequestRefused("InvalidParameterException", f"nextToken={token!r} is none that this server gave.")
        from_the_end = "nextToken" not in request and not request.get("startFromHead")
        position = max(0, path.stat().st_size - MAX_PAGE_BYTES) if from_the_end else int(token.removeprefix("f/"))
        with path.open("rb") as file:
            file.seek(position)
            content = file.read(MAX_PAGE_BYTES)
        end = content.rfind(b"\n") + 1 or (len(content) if len(content) == MAX_PAGE_BYTES else 0)
        lines, limit = content[:end].splitlines(keepends=True), request.get("limit", MAX_PAGE_BYTES)
        if from_the_end:
            position += sum(map(len, lines[:-limit]))
        lines = lines[-limit:] if from_the_end else lines[:limit]
        time_ms = int(path.stat().st_mtime * 1000)
        texts = (line.removesuffix(b"\n").decode(errors="replace") for line in lines)
        return {
            "events": [{"timestamp": time_ms, "ingestionTime": time_ms, "message": text} for text in texts if text],
            "nextForwardToken": f"f/{position + sum(map(len, lines))}",
            "nextBackwardToken": f"b/{position}",
        }

    def _path(self, request: Mapping) -> Path:
        stream = request["logStreamName"]
        if (hosted := self._hosted(request)) is not None:
            path = hosted.get(stream)
        else:
            job, _, host = stream.partition("/")
            path = self._job_folder(job, host) / f"{host}.log"
        if path is None or not path.is_file():
            raise RequestRefused("ResourceNotFoundException", "The specified log stream does not exist.")
        return path

    def _hosted(self, request: Mapping) -> Mapping[str, Path] | None:
        """Returns the streams of an endpoint's or of the batch jobs' log group, `None` for one of training jobs."""
        group = request.get("logGroupName", "")
        if not group.startswith(HOSTED):
            return None
        if self.groups is None or not (streams := self.groups.streams(group)):
            raise RequestRefused("ResourceNotFoundException", "The specified log group does not exist.")
        return streams

    def _job_folder(self, job: str, host: str = "algo-1") -> Path:
        """Returns the folder of a training job's logs.

        Raises:
            RequestRefused: With such names a path would lead elsewhere; what a job may be called, AWS's own model says.
        """
        if self.log_folder is None:
            raise RequestRefused("ResourceNotFoundException", "The specified log group does not exist.")
        try:
            check_request("DescribeTrainingJob", {"TrainingJobName": job})
        except RequestError as error:
            raise RequestRefused("InvalidParameterException", str(error)) from error
        if not HOST.fullmatch(host):
            raise RequestRefused("ResourceNotFoundException", "The specified log stream does not exist.")
        return self.log_folder(job)
