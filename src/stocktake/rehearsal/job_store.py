"""All jobs of a rehearsal, by their names."""

import threading
from collections.abc import Mapping

from stocktake.rehearsal.job_state import Job, RequestRefused


class JobStore:
    """All jobs of a rehearsal by their name; any thread may call its methods."""

    def __init__(self):
        self._jobs: dict[str, Job] = {}
        self._lock = threading.Lock()

    def create(self, request: Mapping, trial: int | None = None) -> Job:
        """Adds a job.

        Args:
            trial: Its number, of a tuning job's.

        Raises:
            RequestRefused: There is one with this name already, ended or not.
        """
        job = Job(request, trial)
        with self._lock:
            if job.name in self._jobs:
                raise RequestRefused(
                    "ResourceInUse",
                    "Training job names must be unique within an AWS account and region, and a training job with "
                    f"this name already exists ({job.arn})",
                )
            self._jobs[job.name] = job
        return job

    def get(self, name: str) -> Job:
        """Returns the job of this name.

        Raises:
            RequestRefused: There is none; AWS names this a ValidationException, not a ResourceNotFound.
        """
        with self._lock:
            if name not in self._jobs:
                raise RequestRefused("ValidationException", "Requested resource not found.")
            return self._jobs[name]

    def all(self) -> list[Job]:
        with self._lock:
            return list(self._jobs.values())
