"""The life of one rehearsed job: wait for instances, run them, interrupt them, begin again, upload the results."""

import re
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from stocktake.rehearsal.faults import CAPACITY, ENDINGS, INTERRUPTIONS, OF_THE_API, Fault
from stocktake.rehearsal.instance import Instance, chosen_instances, host_names, job_environment
from stocktake.rehearsal.job_state import Attempt, Job
from stocktake.rehearsal.mirror import Mirror
from stocktake.rehearsal.s3_sync import DataMissing, OpenFolder, Prefix, download_channel, upload_results
from stocktake.storage import StorageError

POLL_S = 0.1
NUMBER = re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?")
INTERNAL_ERROR = "InternalServerError: We encountered an internal error.  Please try again."
OUTCOMES = {"Completed": "completed", "Failed": "failed", "Interrupted": "interrupted"}


class JobRun:
    """Runs one job in the thread that calls `run`; the arguments are those of `LocalRunner`.

    Args:
        folder: Holds the instances' base folders and `logs`.
        closing: Set when everything shall end at once.
    """

    def __init__(
        self,
        job: Job,
        folder: Path,
        faults: Sequence[Fault],
        open_folder: OpenFolder,
        grace_s: float,
        upload_interval_s: float,
        closing: threading.Event,
        python: Path | None = None,
    ):
        self.job, self.request, self.folder = job, job.request, folder
        mine = [fault for fault in faults if fault.trial in (None, job.trial)]
        self.plan = [fault for fault in mine if fault.kind not in OF_THE_API]
        self.open_folder, self.grace_s, self.upload_interval_s = open_folder, grace_s, upload_interval_s
        self.closing, self.python = closing, python
        self.failed: Instance | None = None
        stopping = self.request.get("StoppingCondition", {})
        self.max_runtime_s = stopping.get("MaxRuntimeInSeconds", 24 * 3600)
        self.max_wait_s = stopping.get("MaxWaitTimeInSeconds")
        self.metrics = {
            metric["Name"]: re.compile(metric["Regex"])
            for metric in self.request["AlgorithmSpecification"].get("MetricDefinitions", ())
        }

    def run(self) -> None:
        try:
            while self._wait_for_capacity():
                ending = self._attempt()
                if ending != "Interrupted":
                    break
        except Exception as error:
            self.job.fail(f"InternalServerError: the rehearsal itself failed: {error!r}")
            raise

    def _wait_for_capacity(self) -> bool:
        """Lets instances be missing as the plan wants it; returns whether the job goes on."""
        self.job.enter("Starting")
        while self.plan and self.plan[0].kind in CAPACITY:
            fault = self.plan.pop(0)
            if fault.kind == "no_capacity" and not self.job.spot:
                self._end(
                    "Failed",
                    "CapacityError: Unable to provision requested ML compute capacity. Please retry using a "
                    "different ML instance type.",
                )
                return False
            if fault.kind == "pending":
                self.job.enter("Pending")
            else:
                self.job.enter("Starting", "Insufficient capacity error from EC2 while launching instances, retrying!")
            end = time.monotonic() + (float("inf") if fault.kind == "no_capacity" else fault.wait_s)
            while time.monotonic() < end and not self._limit(0.0):
                time.sleep(POLL_S)
        if limit := self._limit(0.0):
            self.job.enter("Stopping")
            self._end(limit)
        return not limit

    def _attempt(self) -> str:
        """Runs all instances once and returns the secondary status in which that left the job."""
        attempt = Attempt(number=len(self.job.attempts) + 1, started_at=time.time())
        instances: list[Instance] = []
        mirrors: list[Mirror] = []
        reason = ""
        self.job.attempts.append(attempt)
        self.job.enter("Downloading")
        try:
            self._launch(instances, mirrors)
            self.job.enter("Training")
            ending = self._watch(attempt, instances, mirrors)
            if ending == "Failed":
                reason = self.failed.failure_reason() if self.failed else INTERNAL_ERROR
            if ending == "Completed":
                self.job.enter("Uploading")
            if ending != "Interrupted":
                bases = [instance.base for instance in instances]
                url = f"{self.request['OutputDataConfig']['S3OutputPath'].rstrip('/')}/{self.job.name}/output"
                self.job.warnings += upload_results(bases, self.open_folder(url), with_model=ending != "Failed")
        except DataMissing as error:
            ending, reason = "Failed", f"ClientError: Data download failed:{error}"
        except StorageError as error:
            ending, reason = "Failed", f"ClientError: {error}"
        finally:
            for instance in instances:
                instance.kill()
            for mirror in mirrors:
                self.job.warnings += mirror.clashes
        attempt.exit_codes = [instance.exit_code for instance in instances]
        attempt.on_instances_s = time.time() - attempt.started_at
        attempt.outcome = OUTCOMES.get(ending, "stopped")
        if ending == "Interrupted":
            self.job.enter(ending)
        else:
            self._end(ending, reason)
        return ending

    def _end(self, secondary_status: str, reason: str = "") -> None:
        self.job.unplayed_faults = [str(fault) for fault in self.plan]
        if secondary_status == "Failed":
            self.job.fail(reason)
        else:
            self.job.enter(secondary_status)

    def _launch(self, instances: list[Instance], mirrors: list[Mirror]) -> None:
        """Starts new instances with their channels and the checkpoints so far; those that could be made are added."""
        names, instance_type = host_names(self.request), chosen_instances(self.request)[0]
        addresses = [f"127.0.0.{number}" for number in range(1, len(names) + 1)]
        (self.folder / "logs").mkdir(parents=True, exist_ok=True)
        environment = job_environment(self.job)
        writers: dict[str, str] = {}
        for rank, (name, address) in enumerate(zip(names, addresses, strict=True)):
            instance = Instance(name, address, self.folder / name, self.folder / "logs" / f"{name}.log")
            instance.write_config(self.request, instance_type, addresses)
            for channel in self.request.get("InputDataConfig", ()):
                target = instance.base / "input" / "data" / channel["ChannelName"]
                download_channel(channel["DataSource"]["S3DataSource"], target, self.open_folder, rank, len(names))
            if "CheckpointConfig" in self.request:
                prefix = Prefix(self.request["CheckpointConfig"]["S3Uri"], self.open_folder)
                mirror = Mirror(instance.base / "checkpoints", prefix, name, writers)
                mirror.restore()
                mirrors.append(mirror)
            instances.append(instance)
        for instance in instances:
            instance.start(self.request, environment, self.python)

    def _watch(self, attempt: Attempt, instances: list[Instance], mirrors: list[Mirror]) -> str:
        """Follows the instances until they or the plan end; returns the secondary status that follows."""
        started, uploaded_at, num_saved = time.monotonic(), float("-inf"), 0
        while True:
            self._read_logs(instances)
            if time.monotonic() - uploaded_at >= self.upload_interval_s:
                num_saved += sum(key.endswith(".ckpt") for mirror in mirrors for key in mirror.upload())
                uploaded_at = time.monotonic()
            training_s = time.monotonic() - started
            limit = self._limit(time.time() - attempt.started_at)
            if not limit and self._fault_is_due(training_s, attempt.last_step, num_saved):
                fault = self.plan.pop(0)
                attempt.fault = str(fault)
                if fault.kind == "internal_error":
                    return "Failed"
                if fault.kind != "max_runtime":
                    self._interrupt(attempt, fault, instances, mirrors)
                    return "Interrupted"
                limit = "MaxRuntimeExceeded"
            # An exit code is None while the instance runs.
            self.failed = next((instance for instance in instances if instance.exit_code), None)
            completed = all(instance.exit_code == 0 for instance in instances)
            if limit:
                self.job.enter("Stopping")
            if limit or self.failed or completed:
                self._terminate(instances)
                self._read_logs(instances)
                for mirror in mirrors:
                    mirror.upload()
                return limit or ("Failed" if self.failed else "Completed")
            time.sleep(POLL_S)

    def _limit(self, on_instances_s: float) -> str | None:
        """Returns the secondary status in which the job must end now, if it must."""
        if self.job.stop_asked.is_set() or self.closing.is_set():
            return "Stopped"
        if self.max_wait_s is not None and time.time() - self.job.created_at > self.max_wait_s:
            return "MaxWaitTimeExceeded"
        if self.job.on_instances_s + on_instances_s > self.max_runtime_s:
            return "MaxRuntimeExceeded"
        return None

    def _fault_is_due(self, training_s: float, last_step: int | None, num_saved: int) -> bool:
        if not self.plan or self.plan[0].kind not in (*INTERRUPTIONS, *ENDINGS):
            return False
        fault = self.plan[0]
        if fault.after_s is not None:
            return training_s >= fault.after_s
        if fault.step is not None:
            return last_step is not None and last_step >= fault.step
        return num_saved > 0

    def _interrupt(self, attempt: Attempt, fault: Fault, instances: list[Instance], mirrors: list[Mirror]) -> None:
        """Takes the instances away: those that the fault names first, then the others, as none can go on alone."""
        met = [instance for instance in instances if fault.host in (None, instance.name)]
        if fault.kind == "notice":
            self._terminate(met)
        else:
            for instance in met:
                instance.kill()
        self._terminate(instances)
        self._read_logs(instances)
        for instance, mirror in zip(instances, mirrors, strict=False):
            if fault.kind == "notice" or instance not in met:
                mirror.upload()
        if fault.kind == "half_upload":
            halved = next(filter(None, (mirror.halve_newest() for mirror in mirrors)), "nothing: none was uploaded")
            attempt.fault = f"{fault}, halved {halved}"

    def _terminate(self, instances: list[Instance]) -> None:
        """SIGTERM, and after the grace time SIGKILL; sooner for a host that only waits for it."""
        running = [instance for instance in instances if instance.exit_code is None]
        for instance in running:
            instance.terminate()
        end = time.monotonic() + self.grace_s
        while any(instance.exit_code is None and not instance.waits for instance in running):
            if time.monotonic() > end or self.closing.is_set():
                break
            time.sleep(POLL_S / 2)
            self._read_logs(running)
        for instance in running:
            if instance.exit_code and not self.failed:
                self.job.warnings.append(
                    f"{instance.name} ended with exit code {instance.exit_code} after SIGTERM, before SageMaker ended "
                    "it: AWS does not say that this is no failure"
                )
            instance.kill()

    def _read_logs(self, instances: list[Instance]) -> None:
        for instance in instances:
            for line in instance.new_lines():
                for name, regex in self.metrics.items():
                    found = regex.search(line)
                    if found and NUMBER.fullmatch(found[1]):  # a metric is a number, whatever the regex lets pass
                        self.job.see_metric(name, float(found[1]))
