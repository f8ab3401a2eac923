"""One instance of a rehearsed job: a base folder that stands in for /opt/ml, and the processes that live in it."""

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import psutil

from stocktake.cloud.container_supervisor import WAITS
from stocktake.rehearsal.entrypoint import SUBMIT_DIRECTORY, entrypoint
from stocktake.rehearsal.job_state import REGION, Job

BASE_VARIABLE = "SAGEMAKER_BASE_DIR"
# A container does not see the caller's environment: only what a process needs to start and to reach S3. Of the
# region it sees what SageMaker sets: AWS_REGION.
PASSED_ON = ("HOME", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "TZ", "USER")
NOT_PASSED_ON = ("AWS_REGION", "AWS_DEFAULT_REGION")
# In a container /opt/ml and /tmp are different disks, and a rename from one to the other fails (EXDEV).
OTHER_DISK = Path("/dev/shm")  # noqa: S108 - a folder of one's own in it


class Instance:
    """A host of a training job.

    Args:
        name: Such as algo-1, for people.
        address: Under which the other hosts reach it: 127.0.0.1 for the first.
        base: Its /opt/ml; what an earlier attempt left there is deleted, as a spot job starts on new machines.
        log: Where all that its processes print is appended.

    Attributes:
        waits: Its container has said that it only waits to be ended.
    """

    def __init__(self, name: str, address: str, base: Path, log: Path):
        self.name, self.address, self.base, self.log = name, address, base, log
        self.waits = False
        self._process = self._temporary = None
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
            "hyperparameters": {
                name: self._moved(value) if name == SUBMIT_DIRECTORY else value
                for name, value in request.get("HyperParameters", {}).items()
            },
        }
        for name, content in contents.items():
            (self.base / "input" / "config" / f"{name}.json").write_text(json.dumps(content))

    def start(self, request: Mapping, environment: Mapping[str, str], python: Path | None = None) -> None:
        """Starts PID 1 with the request's entrypoint; /opt/ml in it means the base folder.

        Args:
            environment: What SageMaker and the job set.
            python: Of an environment like the image's, which then has none of this user's variables either; `None`
                takes this one.
        """
        command = [self._moved(text) for text in entrypoint(request, python)]
        folders = [str((python or Path(sys.executable)).parent), os.defpath if python else os.environ.get("PATH")]
        search_path = os.pathsep.join(filter(None, folders))
        self._temporary = tempfile.TemporaryDirectory(
            prefix="stocktake-", dir=_other_disk(), ignore_cleanup_errors=True
        )
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - arguments, no shell
                command,
                cwd=self.base,
                env={
                    **_passed_on(self.base if python else None),
                    "PATH": search_path,
                    "PYTHONUNBUFFERED": "1",
                    "TMPDIR": self._temporary.name,
                    **environment,
                    BASE_VARIABLE: str(self.base),
                },
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C in the caller's terminal is not for the instance
            )

    def _moved(self, path: str) -> str:
        return str(self.base) + path.removeprefix("/opt/ml") if path.startswith("/opt/ml/") else path

    @property
    def exit_code(self) -> int | None:
        return self._process.poll() if self._process else None

    def terminate(self) -> None:
        if self._process and self._process.poll() is None:
            self._process.terminate()

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
        if self._temporary:
            self._temporary.cleanup()

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
            for line in lines:
                self.waits |= line == WAITS.encode()
                yield line.decode(errors="replace")

    def failure_reason(self) -> str:
        """Returns SageMaker's words for a container that failed, around what it wrote to its failure file."""
        path = self.base / "output" / "failure"
        written = path.read_text() if path.exists() else f"{self.name} wrote no failure file; see its log"
        return f"AlgorithmError: {written}, exit code: {self.exit_code}"


def _other_disk() -> Path | None:
    there = os.access(OTHER_DISK, os.W_OK) and shutil.disk_usage(OTHER_DISK).free > 2**30  # Docker gives it 64 MB
    return OTHER_DISK if there else None


def _passed_on(home: Path | None) -> dict[str, str]:
    """Returns the way to S3, and with no `home` of the instance's own this user's settings."""
    aws = {key: value for key, value in os.environ.items() if key.startswith("AWS_") and key not in NOT_PASSED_ON}
    if home:
        return aws | {"HOME": str(home), "LANG": "C.UTF-8", "LC_ALL": "C.UTF-8"}
    return aws | {key: os.environ[key] for key in PASSED_ON if key in os.environ}


def chosen_instances(request: Mapping) -> tuple[str, int]:
    """Returns the type and the number of instances; of several preferences, a rehearsal gets the first."""
    resources = request["ResourceConfig"]
    chosen = resources["InstancePreferences"][0] if "InstancePreferences" in resources else resources
    return chosen["InstanceType"], chosen["InstanceCount"]


def host_names(request: Mapping) -> list[str]:
    return [f"algo-{number}" for number in range(1, chosen_instances(request)[1] + 1)]


def job_environment(job: Job) -> dict[str, str]:
    """Returns the variables that SageMaker sets on every instance, and the job's own."""
    environment = {
        "AWS_REGION": REGION,
        "MASTER_PORT": str(free_port()),
        "TRAINING_JOB_ARN": job.arn,
        "TRAINING_JOB_NAME": job.name,
    }
    if not Path("/dev/nvidiactl").exists():
        environment["CUDA_VISIBLE_DEVICES"] = ""  # whatever type was asked for, this machine has no GPU
    return environment | job.request.get("Environment", {})


def free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]
