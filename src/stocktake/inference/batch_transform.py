"""One exported model that counts one input in S3, by a batch job that then ends."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from stocktake.cloud.batch_jobs import BatchJob, BatchJobs
from stocktake.cloud.deployment import Call
from stocktake.cloud.model_archive import ARCHIVE_NAME, ModelArchive
from stocktake.data.batch_input import BatchInput
from stocktake.inference.batch_answers import BatchAnswers
from stocktake.storage import Folder, join_url, split_url

MANIFEST_NAME, ANSWERS = "input.manifest", "answers"  # of a job, in the bucket


@dataclass(frozen=True)
class Transform:
    """One model that counts one input.

    Attributes:
        folder_url: In the bucket, for the model, and for a folder of each job.
        open_folder: The way from an S3 URL to its folder.
    """

    job: BatchJob
    archive: ModelArchive
    folder_url: str
    open_folder: Callable[[str], Folder]

    def stem(self, source: BatchInput) -> str:
        return self.job.stem(self.archive.sha256, source.digest)

    def calls(self, name: str, source: BatchInput) -> list[Call]:
        """Returns the requests that begin a job of this name."""
        folder_url = join_url(self.folder_url, name)
        return self.job.calls(
            name,
            self._model_url,
            join_url(folder_url, MANIFEST_NAME) if source.is_manifest else source.url,
            source.is_manifest,
            join_url(folder_url, ANSWERS),
        )

    def begin(self, jobs: BatchJobs, name: str, source: BatchInput) -> None:
        """Uploads the model and the manifest, and sends the requests."""
        self._write(self._model_url, self.archive.content)
        if source.is_manifest:
            self._write(join_url(self.folder_url, name, MANIFEST_NAME), source.manifest())
        for call in self.calls(name, source):
            jobs.send(call)

    @property
    def _model_url(self) -> str:
        return join_url(self.folder_url, self.archive.sha256[:12], ARCHIVE_NAME)

    def _write(self, url: str, content: bytes) -> None:
        folder, name = split_url(url)
        self.open_folder(folder).write(name, content)

    def answers(self, described: Mapping[str, Any], source: BatchInput, model: Mapping[str, Any]) -> BatchAnswers:
        """Reads what a job has answered.

        Args:
            described: The answer of DescribeTransformJob.
            model: What the model.json of the model holds.
        """
        folder = self.open_folder(described["TransformOutput"]["S3OutputPath"])
        return BatchAnswers.read(folder, source, model["counts"], model["version"])
