"""The first process of a training container: starts torchrun on this host and reports to SageMaker how it ended.

Only the standard library: this file and those that it imports are uploaded beside code.tar.gz and run without
the package, in AWS's PyTorch image as in an own one (`ENTRYPOINT ["python3", "-m", "stocktake.cloud.container"]`), and
under AWS's toolkit, whose command line it does not look at.

    /opt/ml/input/data/code/code.tar.gz        unpacked to /opt/ml/code; without it the working directory is the code
    /opt/ml/input/data/config/overrides.json   {"script": "train.py", "overrides": ["experiment=demo", ...]}
                                               of a trial also what is searched, see container_trial.py
    /opt/ml/checkpoints/run                    the first host's run folder (RUN_DIR): survives an interruption
    /opt/ml/checkpoints/JOB/run                the same of a trial: all of a tuning job share the folder above
    /opt/ml/run                                the other hosts'; begins as a copy of that
    /opt/ml/output/data, /opt/ml/model         what SageMaker uploads when the job ends
    /opt/ml/output/failure                     why it failed; shown as FailureReason

Exit codes: 0 completed, 1 failed, 75 (EX_TEMPFAIL of sysexits.h) interrupted, to be started again. train.py marks
an interruption by a file `interrupted` in the run folder: torchrun itself exits with 1 for that, too.

Environment: SAGEMAKER_BASE_DIR moves /opt/ml; MASTER_PORT (29500); NPROC_PER_NODE (the number of GPUs, else 1);
STOCKTAKE_REQUIREMENTS, a lock file in the code that is installed first; STOCKTAKE_EXPORT=false, no exported model;
WANDB_SECRET_ID, a secret of Secrets Manager that holds the W&B key.
"""

import json
import os
import re
import shutil
import sys
import tarfile
from collections.abc import Mapping
from pathlib import Path

if __package__:
    from stocktake.cloud.container_gpu import gpu_problem, num_gpus
    from stocktake.cloud.container_output import PEER_LOST, failure_reason, files, publish, write_failure
    from stocktake.cloud.container_supervisor import INTERRUPTED, Supervisor
    from stocktake.cloud.container_trial import trial_name, trial_overrides
else:  # uploaded, beside this file
    from container_gpu import (  # pyright: ignore[reportMissingImports] - found in the container only
        gpu_problem,
        num_gpus,
    )
    from container_output import (  # pyright: ignore[reportMissingImports] - found in the container only
        PEER_LOST,
        failure_reason,
        files,
        publish,
        write_failure,
    )
    from container_supervisor import (  # pyright: ignore[reportMissingImports] - found in the container only
        INTERRUPTED,
        Supervisor,
    )
    from container_trial import (  # pyright: ignore[reportMissingImports] - found in the container only
        trial_name,
        trial_overrides,
    )

# What is uploaded.
SOURCES = tuple(sorted(Path(__file__).parent.glob("container*.py")))
# SageMaker kills 120 s after SIGTERM; what is left after this long is for copying the results.
SHUTDOWN_TIMEOUT_S = 100
INTERRUPTED_NAME = "interrupted"  # as in stocktake.run_folder, which is not there to be imported


class Host:
    """This instance as SageMaker describes it in /opt/ml/input/config.

    Attributes:
        hosts: The names of all instances by their number; the first is the master and keeps the model.
        trial: The name of this trial of a tuning job; empty where it is none.
    """

    def __init__(self, base: Path):
        self.base = base
        resources = self._read("resourceconfig")
        # algo-10 comes after algo-2.
        self.hosts = sorted(resources["hosts"], key=lambda name: int(re.split(r"\D", name)[-1]))
        self.rank = self.hosts.index(resources["current_host"])
        self.instance_type = resources.get("current_instance_type", "")
        self.network_interface = resources.get("network_interface_name", "eth0")
        self.channels = set(self._read("inputdataconfig"))
        self.hyperparameters = self._read("hyperparameters")
        sent = base / "input" / "data" / "config" / "overrides.json"
        self.sent = json.loads(sent.read_text()) if "config" in self.channels else {}
        self.trial = trial_name(os.environ) if self.sent.get("searched") else ""

    def _read(self, name: str) -> dict:
        path = self.base / "input" / "config" / f"{name}.json"
        return json.loads(path.read_text()) if path.exists() else {}

    @property
    def run_folder(self) -> Path:
        """The first host's is kept in S3; which stays of two hosts' files of one name there, SageMaker does not say."""
        return self._kept if self.rank == 0 else self.base / "run"

    @property
    def _kept(self) -> Path:
        return self.base / "checkpoints" / self.trial / "run"

    def restore(self) -> None:
        """Makes the run folder, on every host with what SageMaker restored."""
        self.run_folder.mkdir(parents=True, exist_ok=True)
        if self.rank and self._kept.exists():
            shutil.copytree(self._kept, self.run_folder, dirs_exist_ok=True)

    def code(self) -> Path:
        """Returns the folder of the code, unpacked if it came through the channel `code`."""
        if "code" not in self.channels:
            return Path.cwd()
        folder = self.base / "code"
        with tarfile.open(self.base / "input" / "data" / "code" / "code.tar.gz") as archive:
            archive.extractall(folder, filter="data")
        return folder

    def script_and_overrides(self) -> list[str]:
        """Returns what torchrun runs.

        Raises:
            ValueError: A hyperparameter is none of what is searched.
        """
        tuned = trial_overrides(self.hyperparameters, self.sent.get("searched", {}))
        return [self.sent.get("script", "train.py"), *self.sent.get("overrides", []), *tuned]


def torchrun_command(host: Host, environment: Mapping[str, str], log_folder: Path) -> list[str]:
    return [
        sys.executable,
        "-m",
        "torch.distributed.run",
        f"--nnodes={len(host.hosts)}",
        f"--node-rank={host.rank}",
        f"--master-addr={host.hosts[0]}",
        f"--master-port={environment.get('MASTER_PORT', '29500')}",
        f"--nproc-per-node={environment.get('NPROC_PER_NODE', max(num_gpus(), 1))}",
        f"--log-dir={log_folder}",
        "--tee=3",  # each process's output goes to the log and to a file, where its traceback stands unmixed
        *host.script_and_overrides(),
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
    if host.trial:
        environment |= {"WANDB_RUN_ID": host.trial, "WANDB_RESUME": "allow"}
    if "AWS_REGION" in environment:  # which SageMaker sets; boto3 and the object store read the other one
        os.environ.setdefault("AWS_DEFAULT_REGION", environment["AWS_REGION"])
        environment.setdefault("AWS_DEFAULT_REGION", environment["AWS_REGION"])
    if "WANDB_SECRET_ID" in environment and "WANDB_API_KEY" not in environment:
        environment["WANDB_API_KEY"] = read_secret(environment["WANDB_SECRET_ID"])
    return environment


def read_secret(secret_id: str) -> str:
    import boto3  # only where a secret is asked for

    return boto3.client("secretsmanager").get_secret_value(SecretId=secret_id)["SecretString"]


def export(host: Host, supervisor: Supervisor, code: Path, environment: Mapping[str, str]) -> str | None:
    """Writes the exported model beside the best checkpoint; returns why it could not."""
    best, script = host.base / "model" / "best.ckpt", "scripts/export.py"
    if host.rank or environment.get("STOCKTAKE_EXPORT") == "false":
        return None
    if not (best.exists() and (code / script).exists()):
        print(f"No exported model: there is no {best.name if not best.exists() else script}.", flush=True)
        return None
    command = [sys.executable, script, f"checkpoint={best}", f"output_dir={best.parent}", "overwrite=true"]
    if returncode := supervisor.run(command, code, environment):
        # Of a failed job SageMaker keeps no model.
        shutil.copy2(best, host.base / "output" / "data" / best.name)
        return (
            f"The training is complete, but the export of its model ended with exit code {returncode}; see the log. "
            f"{best.name} lies in output.tar.gz. To do without: compute.environment.STOCKTAKE_EXPORT='false'"
        )
    return None


def train(host: Host, supervisor: Supervisor) -> int:
    """Runs the training on this host, publishes its results and returns the exit code."""
    log_folder = host.base / "logs"
    shutil.rmtree(log_folder, ignore_errors=True)
    log_folder.mkdir(parents=True)
    host.restore()
    interrupted = host.run_folder / INTERRUPTED_NAME
    interrupted.unlink(missing_ok=True)  # of the attempt before this
    restored = files(host.run_folder)

    code = host.code()
    environment = training_environment(host, code)
    problem = gpu_problem(host.instance_type, host.script_and_overrides(), environment)
    if not problem and (requirements := environment.get("STOCKTAKE_REQUIREMENTS")):
        pip_install = [sys.executable, "-m", "pip", "install", "--require-hashes", "--no-deps", "-r", requirements]
        if supervisor.run(pip_install, code, environment):
            problem = f"pip could not install {requirements}; see the log."
    if problem and not supervisor.terminated:
        write_failure(host.base, problem)
        return 1
    returncode = supervisor.run(torchrun_command(host, environment, log_folder), code, environment)
    publish(host.run_folder, host.base, None if host.rank == 0 else host.hosts[host.rank], restored)
    problem = export(host, supervisor, code, environment) if returncode == 0 else failure_reason(log_folder, returncode)
    if not problem and not supervisor.terminated:
        return 0
    peer_lost = len(host.hosts) > 1 and returncode != 0 and bool(PEER_LOST.search(problem or ""))
    if supervisor.terminated or interrupted.exists() or peer_lost:
        supervisor.wait_to_be_ended()
    if supervisor.terminated or interrupted.exists():
        return INTERRUPTED
    write_failure(host.base, problem or "")
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
