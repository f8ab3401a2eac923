"""Plays training jobs on this machine: instances, channels, checkpoints, interruptions, restarts, results.

    with LocalRunner(folder, faults=["notice", "kill"], s3_folder=folder / "s3") as runner, \\
            RehearsalServer(runner) as server:
        client = boto3.client("sagemaker", endpoint_url=server.url, ...)

The container's code has no branch for it: it sees the files, variables and signals that SageMaker gives. What
differs: no image is pulled (the entrypoint runs in this Python's environment, or in one like the image's), the hosts
are 127.0.0.1, 127.0.0.2, ... with a port of their own for each job, and where this machine has no GPU they have none.
"""

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from stocktake.rehearsal.entrypoint import NO_TOOLKIT, lacks_toolkit
from stocktake.rehearsal.faults import INTERRUPTIONS, Fault, fault_plan
from stocktake.rehearsal.instance import host_names
from stocktake.rehearsal.job_runner import JobRun
from stocktake.rehearsal.job_state import Job
from stocktake.rehearsal.s3_sync import opener
from stocktake.storage import StorageOptions


class LocalRunner:
    """Plays jobs at the same time, each in a thread and in a folder of its own; a context manager.

    Args:
        folder: Holds a folder for every job: one per instance, and `logs`.
        faults: What shall go wrong in every job, see `stocktake.rehearsal.faults`.
        s3_folder: A local folder that stands in for S3 (s3://bucket/key lies in bucket/key); `None` takes S3 itself.
        storage: How to reach S3.
        grace_s: From SIGTERM to SIGKILL; SageMaker's is 120.
        upload_interval_s: How often checkpoints are uploaded; SageMaker does not say how often it does.
        python: Of an environment like the image's, see `clean_python`; `None` takes this one.
    """

    def __init__(
        self,
        folder: str | Path,
        faults: Sequence[str | Mapping[str, Any] | Fault] = (),
        s3_folder: str | Path | None = None,
        storage: StorageOptions | None = None,
        grace_s: float = 120.0,
        upload_interval_s: float = 1.0,
        python: Path | None = None,
    ):
        self.folder = Path(folder).absolute()
        self.faults = fault_plan(faults)
        self.open_folder = opener(s3_folder, storage)
        self.grace_s, self.upload_interval_s = grace_s, upload_interval_s
        self.closing, self.python = threading.Event(), python
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_) -> None:
        """Kills what still runs."""
        self.closing.set()
        for thread in self._threads:
            thread.join()

    def check(self, request: Mapping) -> None:
        """Refuses what cannot be played here.

        Raises:
            ValueError: With the reason.
        """
        algorithm, resources = request["AlgorithmSpecification"], request["ResourceConfig"]
        if "ContainerEntrypoint" not in algorithm and "TuningJobArn" not in request:
            raise ValueError(
                "AlgorithmSpecification.ContainerEntrypoint is missing: a rehearsal has no image whose ENTRYPOINT it "
                "could take."
            )
        if algorithm["TrainingInputMode"] == "Pipe":
            raise ValueError("AlgorithmSpecification.TrainingInputMode is Pipe: a rehearsal plays File and FastFile.")
        if "InstanceGroups" in resources:
            raise ValueError("ResourceConfig.InstanceGroups: a rehearsal plays instances of one type.")
        hosts = host_names(request)
        for fault in self.faults:
            if fault.trial is not None and "TuningJobArn" not in request:
                raise ValueError(f"faults: {fault} names a trial, and this is no tuning job: leave trial out.")
            if fault.kind in INTERRUPTIONS and not request.get("EnableManagedSpotTraining"):
                raise ValueError(f"faults: {fault} interrupts, and only spot jobs are interrupted: switch spot on.")
            if fault.host is not None and fault.host not in hosts:
                raise ValueError(f"faults: {fault} names a host that is not there: there are {', '.join(hosts)}.")

    def log_folder(self, job_name: str) -> Path:
        return self.folder / job_name / "logs"

    def start(self, job: Job) -> None:
        if lacks_toolkit(job.request, self.python):
            job.warnings.append(NO_TOOLKIT)
        job_run = JobRun(
            job,
            self.folder / job.name,
            self.faults,
            self.open_folder,
            self.grace_s,
            self.upload_interval_s,
            self.closing,
            self.python,
        )
        thread = threading.Thread(target=job_run.run, name=job.name)
        self._threads.append(thread)
        thread.start()
