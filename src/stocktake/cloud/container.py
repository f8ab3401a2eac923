"""The first process of a training container: starts torchrun on this host and tells SageMaker how it ended.

Only the standard library, no import from this package: the file is uploaded beside code.tar.gz and runs alone, in
AWS's PyTorch image as in an own one (`ENTRYPOINT ["python3", "-m", "stocktake.cloud.container"]`).

    /opt/ml/input/data/code/code.tar.gz        unpacked to /opt/ml/code; without it the working directory is the code
    /opt/ml/input/data/config/overrides.json   {"script": "train.py", "overrides": ["experiment=demo", ...]}
    /opt/ml/checkpoints/run                    the run folder (RUN_DIR): survives an interruption with all in it
    /opt/ml/output/data, /opt/ml/model         what SageMaker uploads when the job ends
    /opt/ml/output/failure                     why it failed; shown as FailureReason

Exit codes: 0 completed, 1 failed, 75 (EX_TEMPFAIL of sysexits.h) interrupted, to be started again. train.py tells
an interruption by a file `interrupted` in the run folder: torchrun itself exits with 1 for that, too.

Environment: SAGEMAKER_BASE_DIR moves /opt/ml; MASTER_PORT (29500); NPROC_PER_NODE (the number of GPUs, else 1);
STOCKTAKE_REQUIREMENTS, a lock file in the code that is installed first; WANDB_SECRET_ID, a secret of Secrets Manager
that holds the W&B key.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

INTERRUPTED = 75
# SageMaker kills 120 s after SIGTERM; what is left after this long is for copying the results.
SHUTDOWN_TIMEOUT_S = 100
# A host whose peer is gone waits this long for SageMaker to end it as well.
PEER_WAIT_S = 150
MAX_FAILURE_CHARACTERS = 980  # FailureReason holds 1,024, with SageMaker's own words around ours
# A frame of an installed package in a traceback: its place and the lines under it. 980 characters are for the user's.
INSTALLED_FRAME = re.compile(r'  File "[^"]*site-packages[^"]*", line .*\n(?:    .*\n)*')
PEER_LOST = re.compile(
    r"Connection (closed|reset) by peer|Connection refused|Broken pipe|DistNetworkError|DistBackendError|"
    r"DistStoreError|NCCL error|ncclRemoteError|Gloo\b.*timed out|Socket Timeout",
    re.IGNORECASE,
)


class Host:
    """This instance as SageMaker describes it in /opt/ml/input/config.

    Attributes:
        hosts: The names of all instances by their number; the first is the master and keeps the model.
    """

    def __init__(self, base: Path):
        self.base = base
        resources = self._read("resourceconfig")
        # algo-10 comes after algo-2.
        self.hosts = sorted(resources["hosts"], key=lambda name: int(re.search(r"(\d+)$", name)[1]))
        self.rank = self.hosts.index(resources["current_host"])
        self.network_interface = resources.get("network_interface_name", "eth0")
        self.channels = set(self._read("inputdataconfig"))
        self.hyperparameters = self._read("hyperparameters")

    def _read(self, name: str) -> dict:
        path = self.base / "input" / "config" / f"{name}.json"
        return json.loads(path.read_text()) if path.exists() else {}

    @property
    def run_folder(self) -> Path:
        return self.base / "checkpoints" / "run"

    def code(self) -> Path:
        """Returns the folder of the code, unpacked if it came through the channel `code`."""
        if "code" not in self.channels:
            return Path.cwd()
        folder = self.base / "code"
        with tarfile.open(self.base / "input" / "data" / "code" / "code.tar.gz") as archive:
            archive.extractall(folder, filter="data")
        return folder

    def words(self) -> list[str]:
        """Returns the script and the user's words; a tuner's hyperparameters are words, too."""
        path = self.base / "input" / "data" / "config" / "overrides.json"
        sent = json.loads(path.read_text()) if "config" in self.channels else {}
        tuned = [
            f"{key}={value}" for key, value in self.hyperparameters.items() if not key.startswith(("_", "sagemaker_"))
        ]
        return [sent.get("script", "train.py"), *sent.get("overrides", []), *tuned]


class Supervisor:
    """Runs one child at a time and passes SIGTERM on to it."""

    def __init__(self):
        self.terminated = False
        self.child = None
        signal.signal(signal.SIGTERM, self._terminate)

    def _terminate(self, *_):
        self.terminated = True
        if self.child is not None:
            self.child.terminate()

    def run(self, command: Sequence[str], folder: Path, environment: Mapping[str, str]) -> int:
        if self.terminated:
            return INTERRUPTED
        self.child = subprocess.Popen(command, cwd=folder, env=environment)  # noqa: S603 - words, no shell
        if self.terminated:  # the signal came between the two lines above
            self.child.terminate()
        return self.child.wait()

    def wait_for_end(self, timeout_s: float) -> None:
        end = time.monotonic() + timeout_s
        while not self.terminated and time.monotonic() < end:
            time.sleep(0.2)


def torchrun_command(host: Host, environment: Mapping[str, str], log_folder: Path) -> list[str]:
    num_gpus = len([path for path in Path("/dev").glob("nvidia*") if path.name[6:].isdigit()])
    return [
        *(sys.executable, "-m", "torch.distributed.run"),
        f"--nnodes={len(host.hosts)}",
        f"--node-rank={host.rank}",
        f"--master-addr={host.hosts[0]}",
        f"--master-port={environment.get('MASTER_PORT', '29500')}",
        f"--nproc-per-node={environment.get('NPROC_PER_NODE', max(num_gpus, 1))}",
        f"--log-dir={log_folder}",
        "--tee=3",  # each process's output goes to the log and to a file, where its traceback stands unmixed
        *host.words(),
    ]


def training_environment(host: Host, code: Path) -> dict[str, str]:
    environment = dict(os.environ)
    environment |= {
        "RUN_DIR": str(host.run_folder),
        "PYTHONUNBUFFERED": "1",
        "HYDRA_FULL_ERROR": "1",  # whoever started the job needs the traceback, too
        "TORCH_ELASTIC_SHUTDOWN_TIMEOUT": str(SHUTDOWN_TIMEOUT_S),
        "NCCL_SOCKET_IFNAME": host.network_interface,
        "GLOO_SOCKET_IFNAME": host.network_interface,
        "PYTHONPATH": os.pathsep.join(filter(None, [str(code / "src"), os.environ.get("PYTHONPATH")])),
    }
    if "WANDB_SECRET_ID" in environment and "WANDB_API_KEY" not in environment:
        environment["WANDB_API_KEY"] = read_secret(environment["WANDB_SECRET_ID"])
    return environment


def read_secret(secret_id: str) -> str:
    import boto3  # only where a secret is asked for

    return boto3.client("secretsmanager").get_secret_value(SecretId=secret_id)["SecretString"]


def last_tracebacks(log_folder: Path) -> list[str]:
    """Returns the last traceback of each process of this host, those that are no mere echo of a lost peer first."""
    tracebacks = []
    for path in sorted(log_folder.rglob("stderr.log")):
        _, found, tail = path.read_text(errors="replace").rpartition("Traceback (most recent call last):")
        if found:
            tracebacks.append(found + tail.rstrip())
    return sorted(tracebacks, key=lambda text: bool(PEER_LOST.search(text)))


def last_words(log_folder: Path) -> str:
    """Returns the last lines that this host's first process wrote as errors: a plain message has no traceback."""
    for path in sorted(log_folder.rglob("stderr.log")):
        if lines := path.read_text(errors="replace").strip().splitlines():
            return "\n".join(lines[-10:])
    return ""


def write_failure(host_base: Path, reason: str) -> None:
    path = host_base / "output" / "failure"
    path.parent.mkdir(parents=True, exist_ok=True)
    reason = INSTALLED_FRAME.sub("", reason)
    # The end of a traceback says what happened; SageMaker cuts at the end.
    path.write_text(reason if len(reason) <= MAX_FAILURE_CHARACTERS else "..." + reason[3 - MAX_FAILURE_CHARACTERS :])


def publish(host: Host) -> None:
    """Copies the run folder to where SageMaker uploads from, and on the first host the best checkpoint as the model."""
    best = host.run_folder / "checkpoints" / "best.ckpt"
    if host.rank == 0 and best.exists():
        (host.base / "model").mkdir(parents=True, exist_ok=True)
        shutil.copy2(best, host.base / "model" / best.name)
    if host.run_folder.exists():
        # Checkpoints have their own way to S3.
        target = host.base / "output" / "data"
        shutil.copytree(host.run_folder, target, dirs_exist_ok=True, ignore=shutil.ignore_patterns("checkpoints"))


def export(host: Host, supervisor: Supervisor, code: Path, environment: Mapping[str, str]) -> None:
    """Writes the exported model beside the best checkpoint; where that fails, the log says so and the job completes."""
    best = host.base / "model" / "best.ckpt"
    command = [sys.executable, "scripts/export.py", f"checkpoint={best}", f"output_dir={best.parent}"]
    if host.rank == 0 and best.exists() and (returncode := supervisor.run(command, code, environment)):
        print(f"The export ended with exit code {returncode}; {best.name} is whole.", file=sys.stderr, flush=True)


def train(host: Host, supervisor: Supervisor) -> int:
    """Runs the training on this host, publishes its results and returns the exit code."""
    log_folder = host.base / "logs"
    interrupted = host.run_folder / "interrupted"
    interrupted.unlink(missing_ok=True)  # of the attempt before this
    shutil.rmtree(log_folder, ignore_errors=True)
    log_folder.mkdir(parents=True)
    host.run_folder.mkdir(parents=True, exist_ok=True)

    code = host.code()
    environment = training_environment(host, code)
    if requirements := environment.get("STOCKTAKE_REQUIREMENTS"):
        install = [
            *(sys.executable, "-m", "pip", "install", "--require-hashes", "--no-deps", "-r"),
            requirements,
        ]
        if supervisor.run(install, code, environment) and not supervisor.terminated:
            write_failure(host.base, f"pip could not install {requirements}; see the log.")
            return 1
    returncode = supervisor.run(torchrun_command(host, environment, log_folder), code, environment)
    publish(host)
    if returncode == 0:
        export(host, supervisor, code, environment)
        return 0
    tracebacks = last_tracebacks(log_folder)
    peer_lost = len(host.hosts) > 1 and bool(tracebacks) and bool(PEER_LOST.search(tracebacks[0]))
    if (interrupted.exists() or peer_lost) and not supervisor.terminated:
        # Another host was taken away or failed: SageMaker knows, and ends this one. To exit first would look
        # like a failure of its own.
        supervisor.wait_for_end(PEER_WAIT_S)
    if supervisor.terminated or interrupted.exists():
        return INTERRUPTED
    told = tracebacks[0] if tracebacks else last_words(log_folder)
    write_failure(host.base, told or f"torchrun ended with exit code {returncode}; see the log.")
    return 1


def main() -> int:
    base = Path(os.environ.get("SAGEMAKER_BASE_DIR", "/opt/ml"))
    supervisor = Supervisor()
    try:
        return train(Host(base), supervisor)
    except Exception as error:
        write_failure(base, f"{type(error).__name__}: {error}")
        raise


if __name__ == "__main__":
    sys.exit(main())
