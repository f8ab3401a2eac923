"""Tuning jobs through SageMaker's API: send, look, list the trials, stop; the trials themselves are training jobs."""

from collections.abc import Mapping
from typing import Any

from stocktake.cloud.client import ENDED, JobError, Jobs

NOT_THERE = ("ResourceNotFound", "ResourceNotFoundException")
PAGE_SIZE = 100


class TuningJobs:
    """The tuning jobs of one account and region.

    Args:
        jobs: The way to SageMaker, and the training jobs that trials are.
    """

    def __init__(self, jobs: Jobs):
        self.jobs = jobs

    def submit(self, request: Mapping[str, Any]) -> None:
        """Sends a checked CreateHyperParameterTuningJob.

        Raises:
            JobError: AWS refuses it.
        """
        name = request["HyperParameterTuningJobName"]
        self.jobs.create("create_hyper_parameter_tuning_job", name, request)

    def describe(self, name: str) -> dict[str, Any]:
        """Returns the answer of DescribeHyperParameterTuningJob.

        Raises:
            JobError: There is no such job, or it may not be looked at.
        """
        return self._call("describe_hyper_parameter_tuning_job", name)

    def exists(self, name: str) -> bool:
        try:
            self.describe(name)
        except JobError as error:
            if error.code in NOT_THERE:
                return False
            raise
        return True

    def trials(self, name: str) -> list[dict[str, Any]]:
        """Returns a summary of each trial, in the order in which they were created."""
        found: list[dict[str, Any]] = []
        token: dict[str, str] = {}
        while True:
            asked = {"SortBy": "CreationTime", "SortOrder": "Ascending", "MaxResults": PAGE_SIZE, **token}
            page = self._call("list_training_jobs_for_hyper_parameter_tuning_job", name, **asked)
            found += page["TrainingJobSummaries"]
            if not page.get("NextToken"):
                return found
            token = {"NextToken": page["NextToken"]}

    def stop(self, name: str) -> None:
        """Asks it to end, and its trials with it; one that has ended stays as it is."""
        if self.describe(name)["HyperParameterTuningJobStatus"] not in (*ENDED, "Stopping"):
            self._call("stop_hyper_parameter_tuning_job", name)

    def _call(self, operation: str, name: str, **request: Any) -> dict[str, Any]:
        return self.jobs.call(self.jobs.sagemaker, operation, name, HyperParameterTuningJobName=name, **request)
