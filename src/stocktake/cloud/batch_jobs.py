"""Batch transform jobs: what one sends, and those of an account found again, waited for, explained, stopped.

A job's name holds a digest of its model and of its images, and a number: who asks for the same again finds the job that
was there before.
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from stocktake.cloud import endpoint_requests
from stocktake.cloud.deployment import DIGEST_CHARACTERS, Call
from stocktake.cloud.served_model import ServedModel
from stocktake.cloud.service_calls import ACCOUNT_CAUSES, MOVING, NOT_FOUND, CallRefused, ServiceCalls, explained

LOG_GROUP = "/aws/sagemaker/TransformJobs"
CAUSES = {
    r"ClientError: See job logs": "an image was refused, because it is larger than batch.payload_mb or is no JPEG, "
    "PNG, GIF or WebP; the job's log names it",
    r"AlgorithmError|ping": "the container did not begin, or failed; its log says why",
    **ACCOUNT_CAUSES,
}


@dataclass(frozen=True)
class BatchJob(ServedModel):
    """What counts the images; the keys of conf/deploy/deploy.yaml.

    Attributes:
        num_at_once: Images that are with an instance at a time.
        payload_mb: No image is larger.
    """

    name: str
    role_arn: str
    image_uri: str
    instance_type: str
    num_instances: int
    num_at_once: int
    payload_mb: int
    kms_key: str | None = None
    network_isolation: bool = False
    environment: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    subnets: Sequence[str] = ()
    security_groups: Sequence[str] = ()

    def stem(self, archive_digest: str, input_digest: str) -> str:
        """Returns how the names of all jobs begin that have these images counted by this model.

        Args:
            archive_digest: SHA-256 of model.tar.gz.
            input_digest: Tells the images from others.
        """
        what = [archive_digest, input_digest, self.model("", "", {})]
        digest = hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:DIGEST_CHARACTERS]
        return f"{self.name}-{digest}-batch"

    def calls(self, name: str, model_url: str, input_url: str, is_manifest: bool, output_url: str) -> list[Call]:
        """Returns the requests that begin a job, in order.

        Args:
            name: Of the job, and of the model that it has for itself.
            model_url: Of model.tar.gz in S3.
            input_url: S3 folder of the images, or a manifest that names them.
            output_url: S3 folder of the answers.
        """
        tags = {**self.tags, "batch": self.name}
        job = endpoint_requests.transform_job(
            name,
            name,
            input_url,
            output_url,
            instance_type=self.instance_type,
            num_instances=self.num_instances,
            num_at_once=self.num_at_once,
            payload_mb=self.payload_mb,
            is_manifest=is_manifest,
            kms_key=self.kms_key,
            tags=tags,
        )
        return [
            Call("sagemaker", "CreateModel", self.model(name, model_url, tags)),
            Call("sagemaker", "CreateTransformJob", job),
        ]


@dataclass(frozen=True)
class ListedJob:
    """A batch job of this project's, as `BatchJobs.named` finds it."""

    name: str
    status: str
    failure_reason: str | None

    @property
    def stem(self) -> str:
        return self.name.rpartition("-")[0]

    @property
    def number(self) -> int:
        return int(self.name.rpartition("-")[2])

    @property
    def runs(self) -> bool:
        return self.status in MOVING


class BatchJobs(ServiceCalls):
    """The batch jobs of one account and region; as AWS keeps them, they are in its lists for good."""

    def named(self, name: str) -> list[ListedJob]:
        """Returns the jobs that were begun under a name, the newest first."""
        ours = re.compile(rf"{re.escape(name)}-[0-9a-f]{{{DIGEST_CHARACTERS}}}-batch-\d+")
        newest_first = {"SortBy": "CreationTime", "SortOrder": "Descending", "MaxResults": 100}
        return [
            ListedJob(found["TransformJobName"], found["TransformJobStatus"], found.get("FailureReason"))
            for page in self._pages("ListTransformJobs", NameContains=name, **newest_first)
            for found in page["TransformJobSummaries"]
            if ours.fullmatch(found["TransformJobName"])
        ]

    def wait(self, job: str, say: Callable[[str], None], poll_s: float) -> dict[str, Any]:
        """Waits until a job has ended; says each state that it comes to, and returns its description.

        Its model is deleted then: nobody else has it.
        """
        described = self._at_rest(lambda: self._describe(job), "TransformJobStatus", job, say, poll_s)
        self._delete_model(job)
        return described

    def _describe(self, job: str) -> dict[str, Any]:
        return self._ask("sagemaker", "DescribeTransformJob", TransformJobName=job)

    def stop(self, job: str) -> None:
        """Has a job end; one that has ended meanwhile is left as it is."""
        try:
            self._ask("sagemaker", "StopTransformJob", TransformJobName=job)
        except CallRefused as error:
            if error.code != "ValidationException":
                raise

    def explained(self, job: str, reason: str) -> str:
        """Returns a reason with its usual cause and the last lines of the job's log."""
        return explained(job, reason, CAUSES, next(self._logs(job), []))

    def _logs(self, job: str) -> Iterator[list[str]]:
        """Yields the ends of the job's logs that have any: first those that name objects, then the containers'."""
        streams = self._log_streams(LOG_GROUP, logStreamNamePrefix=f"{job}/")
        for stream in sorted(streams, key=lambda name: not name.endswith("data-log")):
            if lines := self._last_lines(LOG_GROUP, stream):
                yield lines

    def _delete_model(self, name: str) -> None:
        try:
            self._ask("sagemaker", "DeleteModel", ModelName=name)
        except CallRefused as error:
            if not NOT_FOUND.search(f"{error} {error.code}"):
                raise
