"""One instance of a rehearsed job: a base folder that stands in for /opt/ml, and the processes that live in it."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import psutil

BASE_VARIABLE = "SAGEMAKER_BASE_DIR"
# A container does not see the caller's environment: only what a process needs to start and to reach S3.
PASSED_ON = ("HOME", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "TMPDIR", "TZ", "USER")


class Instance:
    """A host of a training job.

    Args:
        name: Such as algo-1, for people.
        address: Under which the other hosts reach it: 127.0.0.1 for the first.
        base: Its /opt/ml; what an earlier attempt left there is deleted, as a spot job starts on new machines.
        log: Where all that its processes print is appended.
    """

    def __init__(self, name: str, address: str, base: Path, log: Path):
        self.name, self.address, self.base, self.log = name, address, base, log
        self._process = None
        self._log_position = log.stat().st_size if log.exists() else 0
        self._cut_line = b""
        shutil.rmtree(base, ignore_errors=True)
        for folder in ("input/config", "input/data", "checkpoints", "model", "output/data"):
            (base / folder).mkdir(parents=True)

    def write_config(self, request: Mapping, instance_type: str, addresses: list[str]) -> None:
        """Writes the files of /opt/ml/input/config as SageMaker does."""
        group = "homogeneousCluster"
        resources = {
            "current_host": self.address,
            "current_instance_type": instance_type,
            "current_group_name": group,
            "hosts": addresses,
            "instance_groups": [{"instance_group_name": group, "instance_type": instance_type, "hosts": addresses}],
            "network_interface_name": next(n for _, n in socket.if_nameindex() if n.startswith("lo")),
        }
        channels = {
            channel["ChannelName"]: {
                "TrainingInputMode": channel.get("InputMode", "File"),
                "S3DistributionType": channel["DataSource"]["S3DataSource"].get(
                    "S3DataDistributionType", "FullyReplicated"
                ),
                "RecordWrapperType": "None",
            }
            for channel in request.get("InputDataConfig", ())
        }
        contents = {
            "resourceconfig": resources,
            "inputdataconfig": channels,
            "hyperparameters": request.get("HyperParameters", {}),
        }
        for name, content in contents.items():
            (self.base / "input" / "config" / f"{name}.json").write_text(json.dumps(content))

    def start(self, request: Mapping, environment: Mapping[str, str]) -> None:
        """Starts PID 1 with the request's entrypoint; /opt/ml in it means the base folder."""
        algorithm = request["AlgorithmSpecification"]
        words = [*algorithm["ContainerEntrypoint"], *algorithm.get("ContainerArguments", ())]
        command = [
            str(self.base) + word.removeprefix("/opt/ml") if word.startswith("/opt/ml/") else word for word in words
        ]
        passed_on = {key: value for key, value in os.environ.items() if key in PASSED_ON or key.startswith("AWS_")}
        search_path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
        self._process = subprocess.Popen(  # noqa: S603 - words, no shell
            command,
            cwd=self.base,
            env=passed_on
            | {"PATH": search_path, "PYTHONUNBUFFERED": "1"}
            | environment
            | {BASE_VARIABLE: str(self.base)},
            stdin=subprocess.DEVNULL,
            stdout=self.log.open("ab"),
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C in the caller's terminal is not for the instance
        )

    @property
    def exit_code(self) -> int | None:
        return self._process.poll() if self._process else None

    def terminate(self) -> None:
        if self._process and self._process.poll() is None:
            self._process.terminate()

    def wait(self, timeout_s: float) -> None:
        """Waits for PID 1; after `timeout_s` everything on the instance is killed."""
        if self._process:
            try:
                self._process.wait(timeout_s)
            except subprocess.TimeoutExpired:
                self.kill()

    def kill(self) -> None:
        """Kills every process of the instance at once, PID 1 first, so that nobody reacts to another's death.

        torchrun gives each worker a session of its own; all of them inherit the base folder's variable.
        """
        if self._process:
            self._process.kill()
            self._process.wait()
        while processes := self._processes():
            for process in processes:
                with suppress(psutil.NoSuchProcess):  # it ended by itself
                    process.kill()
            time.sleep(0.02)

    def _processes(self) -> list[psutil.Process]:
        found = []
        for process in psutil.process_iter():
            try:
                ours = process.environ().get(BASE_VARIABLE) == str(self.base)
                if ours and process.status() != psutil.STATUS_ZOMBIE:
                    found.append((process.create_time(), process.pid, process))
            except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
                continue  # ended meanwhile, or somebody else's
        return [process for *_, process in sorted(found, key=lambda entry: entry[:2])]

    def new_lines(self) -> Iterator[str]:
        """Yields the whole lines that were logged since the last call."""
        if self.log.exists():
            with self.log.open("rb") as file:
                file.seek(self._log_position)
                content = self._cut_line + file.read()
                self._log_position = file.tell()
            *lines, self._cut_line = content.split(b"\n")
            yield from (line.decode(errors="replace") for line in lines)

    def failure_reason(self) -> str:
        """Returns SageMaker's words for a container that failed, around what it wrote to its failure file."""
        path = self.base / "output" / "failure"
        written = path.read_text() if path.exists() else f"{self.name} wrote no failure file; see its log"
        return f"AlgorithmError: {written}, exit code: {self.exit_code}"


def chosen_instances(request: Mapping) -> tuple[str, int]:
    """Returns the type and the number of instances; of several preferences, a rehearsal gets the first."""
    resources = request["ResourceConfig"]
    chosen = resources["InstancePreferences"][0] if "InstancePreferences" in resources else resources
    return chosen["InstanceType"], chosen["InstanceCount"]


def host_names(request: Mapping) -> list[str]:
    return [f"algo-{number}" for number in range(1, chosen_instances(request)[1] + 1)]


def wait_all(instances: list[Instance], timeout_s: float) -> None:
    """Waits for all instances to end and kills those that have not after `timeout_s`."""
    end = time.monotonic() + timeout_s
    for instance in instances:
        instance.wait(max(end - time.monotonic(), 0))
