"""SageMaker's operations of training jobs: create, describe, list, stop."""

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from stocktake.rehearsal.api_protocols import Operations
from stocktake.rehearsal.job_state import Job, RequestRefused
from stocktake.rehearsal.job_store import JobStore
from stocktake.rehearsal.listing import page


class Runner(Protocol):
    """Whoever plays the jobs; it learns from `job.stop_asked` that it shall end one."""

    def check(self, request: Mapping) -> None:
        """Raises a ValueError for a job that it cannot play."""
        ...

    def start(self, job: Job) -> None:
        """Begins to play a job and returns at once."""
        ...

    def log_folder(self, job_name: str) -> Path:
        """Returns the folder of a job's logs, one `<host>.log` for each instance."""
        ...


class TrainingJobs:
    """Answers for the jobs that a runner plays."""

    def __init__(self, runner: Runner, jobs: JobStore):
        self.runner, self.jobs = runner, jobs

    def operations(self) -> Operations:
        return {
            "CreateTrainingJob": self._create,
            "DescribeTrainingJob": self._describe,
            "ListTrainingJobs": self._list,
            "StopTrainingJob": self._stop,
        }

    def _create(self, request: Mapping) -> dict:
        try:
            self.runner.check(request)
        except ValueError as error:
            raise RequestRefused("ValidationException", str(error)) from error
        job = self.jobs.create(request)
        self.runner.start(job)
        return {"TrainingJobArn": job.arn}

    def _describe(self, request: Mapping) -> dict:
        return self.jobs.get(request["TrainingJobName"]).describe()

    def _stop(self, request: Mapping) -> dict:
        self.jobs.get(request["TrainingJobName"]).stop()
        return {}

    def _list(self, request: Mapping) -> dict:
        summaries = [job.summary() for job in self.jobs.all()]
        return page(summaries, request, "TrainingJob", "TrainingJobSummaries")
