"""SageMaker's operations of batch transform jobs: create, describe, list, stop."""

import threading
from collections.abc import Mapping

from stocktake.rehearsal.api_protocols import Operations
from stocktake.rehearsal.fleet import Machines
from stocktake.rehearsal.job_state import RequestRefused
from stocktake.rehearsal.listing import page
from stocktake.rehearsal.resource_store import Resource, ResourceStore, arn
from stocktake.rehearsal.tag_api import Tags
from stocktake.rehearsal.transform_job import TransformJob


class TransformJobs:
    """The batch jobs of the rehearsed account; as with AWS they stay in its lists for good."""

    def __init__(self, machines: Machines, models: ResourceStore[Resource], tags: Tags):
        self.machines, self.models, self.tags = machines, models, tags
        self._jobs: dict[str, TransformJob] = {}
        self._lock = threading.Lock()

    def operations(self) -> Operations:
        return {
            "CreateTransformJob": self._create,
            "DescribeTransformJob": lambda request: self._job(request).describe(),
            "ListTransformJobs": self._list,
            "StopTransformJob": self._stop,
        }

    def close(self) -> None:
        """Ends the jobs that still run."""
        for job in list(self._jobs.values()):
            job.close()

    def _job(self, request: Mapping) -> TransformJob:
        name = request["TransformJobName"]
        with self._lock:
            if name not in self._jobs:
                raise RequestRefused("ValidationException", f"Could not find requested job with name: {name}")
            return self._jobs[name]

    def _create(self, request: Mapping) -> dict:
        name, model = request["TransformJobName"], self.models.get(request["ModelName"]).request
        source, output = request["TransformInput"], request["TransformOutput"]
        plain = (
            source.get("SplitType", "None"),
            source.get("CompressionType", "None"),
            output.get("AssembleWith", "None"),
        )
        if plain != ("None",) * 3 or "DataProcessing" in request:
            text = "A rehearsal plays whole objects: no SplitType, CompressionType, AssembleWith or DataProcessing."
            raise RequestRefused("ValidationException", text)
        job = TransformJob(request, model, self.machines)
        with self._lock:
            if name in self._jobs:
                raise RequestRefused(
                    "ResourceInUse",
                    "Job name must be unique within an AWS account and region, and a job with this name already exists "
                    f"({arn('transform-job', name)})",
                )
            self._jobs[name] = job
        self.tags.keep(job.arn, request)
        job.start()
        return {"TransformJobArn": job.arn}

    def _list(self, request: Mapping) -> dict:
        with self._lock:
            summaries = [job.summary() for job in self._jobs.values()]
        return page(summaries, request, "TransformJob", "TransformJobSummaries")

    def _stop(self, request: Mapping) -> dict:
        self._job(request).stop()
        return {}
