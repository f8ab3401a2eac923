"""Jobs of a small script that counts steps, played through the API from their creation to their end."""

import errno
import json
import os
import re
import socket
import subprocess
import sys
import tarfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from stocktake.cloud.container_supervisor import WAITS
from stocktake.cloud.requests import training_job
from stocktake.rehearsal.api_server import RehearsalServer
from stocktake.rehearsal.faults import Fault, fault_plan
from stocktake.rehearsal.instance import BASE_VARIABLE
from stocktake.rehearsal.local_runner import LocalRunner
from stocktake.rehearsal.summary import summary

# Counts to 40, saves every 10 steps and at SIGTERM; the first host writes, as rank zero does in a training.
# At the steps in HOLD it waits for a signal, once in a job, so that the tests need no luck with the time.
COUNTS = """
import json, os, pathlib, signal, subprocess, sys, time
base = pathlib.Path(os.environ["SAGEMAKER_BASE_DIR"])
hosts = json.loads((base / "input/config/resourceconfig.json").read_text())
first = hosts["current_host"] == hosts["hosts"][0]
checkpoint = base / "checkpoints/last.ckpt"
text = checkpoint.read_text() if checkpoint.exists() else "00000000"
step = int(text) if len(text) == 8 else 0
stopping = []
signal.signal(signal.SIGTERM, lambda *_: stopping.append(1))
holds = [int(step) for step in os.environ.get("HOLD", "").split()]
names = [f"algo-{number + 1}" for number in range(len(hosts["hosts"]))]
def begins_hold():
    held = [base.parent / f"{name}-held-{step}" for name in names]
    mine = held[names.index(base.name)]
    if step not in holds or mine.exists():
        return False
    mine.touch()
    while first and not all(path.exists() for path in held):  # who is held is ready for signals
        time.sleep(0.01)
    return True
worker = subprocess.Popen(["sleep", "600"], start_new_session=True)  # as torchrun starts its workers
def save():
    if first:
        part = base / "part"
        part.write_text(f"{step:08}")
        part.rename(checkpoint)
while step < 40:
    step += 1
    holding = begins_hold()
    if step % 10 == 0:
        save()
    if first:
        print(f"step={step} valid/accuracy={step / 40}", flush=True)
    while holding and not stopping:
        time.sleep(0.01)
    if stopping:
        save()
        sys.exit(75)
worker.kill()
(base / "output/data/steps.txt").write_text(str(step))
if first:
    (base / "model/model.txt").write_text(f"counted to {step}")
"""
FAILS = """
import os, pathlib, sys
base = pathlib.Path(os.environ["SAGEMAKER_BASE_DIR"])
(base / "output/failure").write_text("ValueError: no such backbone")
sys.exit(1)
"""
DEAF = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("step=1", flush=True)
time.sleep(600)
"""
TELLS = """
import json, os, pathlib, socket
base = pathlib.Path(os.environ["SAGEMAKER_BASE_DIR"])
with socket.socket() as server:
    server.bind(("127.0.0.1", int(os.environ["MASTER_PORT"])))
config = {path.stem: json.loads(path.read_text()) for path in (base / "input/config").iterdir()}
files = sorted(str(path.relative_to(base)) for path in (base / "input/data").rglob("*") if path.is_file())
told = {"config": config, "files": files, "environment": dict(os.environ)}
(base / "output/data" / (config["resourceconfig"]["current_host"] + ".json")).write_text(json.dumps(told))
"""


WAITS_TO_BE_ENDED = f"""
import os, pathlib, signal, time
told = pathlib.Path(os.environ["SAGEMAKER_BASE_DIR"]) / "checkpoints" / "told"
if told.exists():
    raise SystemExit
signal.signal(signal.SIGTERM, lambda *_: (told.touch(), print({WAITS!r}, flush=True)))
print("step=1", flush=True)
while True:
    time.sleep(0.05)
"""
DELETES = """
import json, os, pathlib, time
base = pathlib.Path(os.environ["SAGEMAKER_BASE_DIR"])
hosts = json.loads((base / "input/config/resourceconfig.json").read_text())
first = hosts["current_host"] == hosts["hosts"][0]
old, new = base / "checkpoints/old.ckpt", base / "checkpoints/new.ckpt"
if not old.exists():
    if first:
        old.write_text("1")
        time.sleep(0.3)
        print("step=1", flush=True)
    time.sleep(60)
if first:
    new.write_text("2")
    old.unlink()
time.sleep(0.3)
"""
TELLS_CHECKPOINTS = """
import os, pathlib
base = pathlib.Path(os.environ["SAGEMAKER_BASE_DIR"])
paths = sorted(path.relative_to(base / "checkpoints") for path in (base / "checkpoints").rglob("*.ckpt"))
(base / "output/data/told.txt").write_text("\\n".join(map(str, paths)))
"""
CLASHES = """
import os, pathlib, time
base = pathlib.Path(os.environ["SAGEMAKER_BASE_DIR"])
for folder in ("checkpoints", "output/data"):
    (base / folder / "mine.txt").write_text(base.name)
(base / "checkpoints" / "equal.txt").write_text("equal")
time.sleep(0.3)
"""
RENAMES = """
import errno, os, pathlib, tempfile
base = pathlib.Path(os.environ["SAGEMAKER_BASE_DIR"])
path = pathlib.Path(tempfile.mkdtemp()) / "part"
path.touch()
try:
    path.rename(base / "part")
    told = "renamed"
except OSError as error:
    told = errno.errorcode[error.errno]
(base / "output/data/told.txt").write_text(f"{told} {path}")
"""


@contextmanager
def rehearsal(folder: Path, script: str, **settings):
    """Yields a client, with `script` in the stand-in for S3 as every job's code."""
    code = folder / "s3" / "bins" / "code"
    code.mkdir(parents=True)
    (code / "fake.py").write_text(script)
    settings = {"grace_s": 5, "upload_interval_s": 0.05, "s3_folder": folder / "s3"} | settings
    with (
        LocalRunner(folder / "jobs", **settings) as runner,
        RehearsalServer(runner, faults=runner.faults) as server,
    ):
        yield server.client("sagemaker"), server.jobs
    left = [p for p in psutil.process_iter() if str(folder) in environment_of(p).get(BASE_VARIABLE, "")]
    assert left == [], "nothing runs on after a rehearsal"


def environment_of(process: psutil.Process) -> dict:
    try:
        return process.environ()
    except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
        return {}


def request(name: str = "demo", **values: Any) -> dict[str, Any]:
    environment = {"HOLD": values.pop("hold", "")} | values.pop("environment", {})
    values = {
        "environment": environment,
        "entrypoint": ["python3", "/opt/ml/input/data/code/fake.py"],
        "max_runtime_s": 60,
    } | values
    body = training_job(
        name,
        "arn:aws:iam::123456789012:role/Stocktake",
        "123456789012.dkr.ecr.us-east-1.amazonaws.com/stocktake:1",
        "s3://bins/code",
        values.pop("config_url", "s3://bins/code"),
        "s3://bins/jobs",
        **values,
    )
    return {**body}


SPOT: dict[str, Any] = {"spot": True, "checkpoint_url": "s3://bins/demo/checkpoints"}


def ended(client, jobs, name: str = "demo") -> dict:
    assert jobs.get(name).ended.wait(30), "the job did not end"
    return client.describe_training_job(TrainingJobName=name)


def states(told: dict) -> list[str]:
    return [entry["Status"] for entry in told["SecondaryStatusTransitions"]]


def unpacked(folder: Path, name: str) -> dict[str, str]:
    with tarfile.open(folder / "s3" / "bins" / "jobs" / "demo" / "output" / name) as archive:
        return {member.name: file.read().decode() for member in archive if (file := archive.extractfile(member))}


RUN = ["Starting", "Downloading", "Training"]


def test_a_job_completes_with_its_model_and_output(tmp_path):
    with rehearsal(tmp_path, COUNTS) as (client, jobs):
        client.create_training_job(**request())
        told = ended(client, jobs)
    assert states(told) == [*RUN, "Uploading", "Completed"]
    assert unpacked(tmp_path, "model.tar.gz") == {"model.txt": "counted to 40"}
    assert unpacked(tmp_path, "output.tar.gz") == {"steps.txt": "40"}
    metrics = {metric["MetricName"]: metric["Value"] for metric in told["FinalMetricDataList"]}
    assert metrics == {"step": 40, "valid/accuracy": 1}
    assert 1 <= told["BillableTimeInSeconds"] <= 10


def test_it_survives_a_notice_and_a_kill(tmp_path):
    faults = [{"kind": "notice", "step": 15}, {"kind": "kill", "step": 28}]
    with rehearsal(tmp_path, COUNTS, faults=faults) as (client, jobs):
        client.create_training_job(**request(num_instances=2, hold="15 28", **SPOT))
        told = ended(client, jobs)
        attempts = jobs.get("demo").attempts
    assert states(told) == [*RUN, "Interrupted", *RUN, "Interrupted", *RUN, "Uploading", "Completed"]
    assert [attempt.outcome for attempt in attempts] == ["interrupted", "interrupted", "completed"]
    assert [attempt.exit_codes for attempt in attempts] == [[75, 75], [-9, -9], [0, 0]]
    assert [attempt.first_step for attempt in attempts] == [1, 16, 21], "a kill loses what no checkpoint holds"
    assert [attempt.last_step for attempt in attempts] == [15, 28, 40]
    assert unpacked(tmp_path, "model.tar.gz") == {"model.txt": "counted to 40"}


def test_a_host_that_ends_by_itself_after_sigterm_is_told(tmp_path):
    with rehearsal(tmp_path, COUNTS, faults=[{"kind": "notice", "step": 15}]) as (client, jobs):
        client.create_training_job(**request(hold="15", **SPOT))
        ended(client, jobs)
    (warning,) = jobs.get("demo").warnings
    assert warning.startswith("algo-1 ended with exit code 75 after SIGTERM, before SageMaker ended it")


def test_who_waits_to_be_ended_need_not_wait_long(tmp_path):
    with rehearsal(tmp_path, WAITS_TO_BE_ENDED, faults=[{"kind": "notice", "step": 1}], grace_s=60) as (client, jobs):
        client.create_training_job(**request(**SPOT))
        ended(client, jobs)
    assert jobs.get("demo").attempts[0].exit_codes == [-9]
    assert jobs.get("demo").warnings == []


def test_what_is_deleted_on_an_instance_is_deleted_in_s3(tmp_path):
    with rehearsal(tmp_path, DELETES, faults=[{"kind": "notice", "step": 1}]) as (client, jobs):
        client.create_training_job(**request(num_instances=2, **SPOT))
        assert ended(client, jobs)["TrainingJobStatus"] == "Completed"
    checkpoints = tmp_path / "s3/bins/demo/checkpoints"
    assert [path.name for path in checkpoints.iterdir()] == ["new.ckpt"], "the other host's copy does not come back"


def test_checkpoints_are_restored_from_a_prefix_and_not_from_a_folder(tmp_path):
    checkpoints = tmp_path / "s3" / "bins" / "demo"
    for name in ("1", "10", "2"):
        (checkpoints / name).mkdir(parents=True)
        (checkpoints / name / "last.ckpt").write_text("00000039")
    restored = {}
    for name, url in (("without", "s3://bins/demo/1"), ("with", "s3://bins/demo/1/")):
        with rehearsal(tmp_path / name, TELLS_CHECKPOINTS, s3_folder=tmp_path / "s3") as (client, jobs):
            (tmp_path / "s3" / "bins" / "code").mkdir(parents=True, exist_ok=True)
            (tmp_path / "s3" / "bins" / "code" / "fake.py").write_text(TELLS_CHECKPOINTS)
            place = {"CheckpointConfig": {"S3Uri": url, "LocalPath": "/opt/ml/checkpoints"}}
            client.create_training_job(**request(spot=True) | place)
            ended(client, jobs)
        restored[name] = unpacked(tmp_path, "output.tar.gz")["told.txt"].split()
    assert restored == {"without": ["0/last.ckpt", "last.ckpt"], "with": ["last.ckpt"]}


def test_a_file_that_is_being_written_is_not_uploaded(tmp_path):
    script = """
import os, pathlib, time
checkpoints = pathlib.Path(os.environ["SAGEMAKER_BASE_DIR"]) / "checkpoints"
(checkpoints / "best.ckpt#1").write_text("hal")
time.sleep(0.3)
(checkpoints / "best.ckpt#1").rename(checkpoints / "best.ckpt")
"""
    with rehearsal(tmp_path, script) as (client, jobs):
        client.create_training_job(**request(**SPOT))
        assert ended(client, jobs)["TrainingJobStatus"] == "Completed"
    assert [path.name for path in (tmp_path / "s3/bins/demo/checkpoints").iterdir()] == ["best.ckpt"]


def test_two_hosts_that_write_one_name_are_told(tmp_path):
    with rehearsal(tmp_path, CLASHES) as (client, jobs):
        client.create_training_job(**request(num_instances=2, **SPOT))
        ended(client, jobs)
        warnings = summary(jobs.get("demo"))["warnings"]
    # Which host comes first is chance, and each may come twice.
    subjects = {re.sub(r" by algo-\d and by algo-\d: .*", "", warning) for warning in warnings}
    assert subjects == {
        "mine.txt of output.tar.gz came from several hosts: which one stays, AWS does not say",
        "mine.txt in s3://bins/demo/checkpoints/ was written",
    }


def test_the_temporary_folder_is_another_disk(tmp_path):
    with rehearsal(tmp_path, RENAMES) as (client, jobs):
        client.create_training_job(**request())
        ended(client, jobs)
    told = unpacked(tmp_path, "output.tar.gz")["told.txt"].split()
    assert told[0] == errno.errorcode[errno.EXDEV]
    assert not Path(told[1]).exists(), "nothing is left on it"


def test_by_default_a_fault_comes_after_the_first_checkpoint(tmp_path):
    with rehearsal(tmp_path, COUNTS, faults=["kill"]) as (client, jobs):
        client.create_training_job(**request(hold="12", **SPOT))
        ended(client, jobs)
        attempts = jobs.get("demo").attempts
    assert attempts[1].first_step == 11


def test_one_host_of_two_is_taken_and_both_start_again(tmp_path):
    faults = [
        {"kind": "notice", "host": "algo-2", "step": 12},
        {"kind": "kill", "host": "algo-2", "step": 24},
    ]
    with rehearsal(tmp_path, COUNTS, faults=faults) as (client, jobs):
        client.create_training_job(**request(num_instances=2, hold="12 24", **SPOT))
        told = ended(client, jobs)
        attempts = jobs.get("demo").attempts
    assert told["TrainingJobStatus"] == "Completed"
    assert [attempt.exit_codes for attempt in attempts] == [[75, 75], [75, -9], [0, 0]]
    assert [attempt.first_step for attempt in attempts] == [1, 13, 25]


def test_a_checkpoint_that_was_half_uploaded_is_what_the_next_attempt_finds(tmp_path):
    with rehearsal(tmp_path, COUNTS, faults=["half_upload"]) as (client, jobs):
        client.create_training_job(**request(hold="15", **SPOT))
        ended(client, jobs)
        attempts = jobs.get("demo").attempts
    assert attempts[0].fault == "half_upload, halved last.ckpt"
    assert attempts[1].first_step == 1, "the script saw four characters where eight belong"


def test_a_user_error_is_told(tmp_path):
    with rehearsal(tmp_path, FAILS) as (client, jobs):
        client.create_training_job(**request(num_instances=2))
        told = ended(client, jobs)
    assert told["TrainingJobStatus"] == told["SecondaryStatus"] == "Failed"
    assert told["FailureReason"] == "AlgorithmError: ValueError: no such backbone, exit code: 1"


def test_stop_ends_within_the_grace_time_even_who_does_not_listen(tmp_path):
    with rehearsal(tmp_path, DEAF, grace_s=1) as (client, jobs):
        client.create_training_job(**request())
        while not jobs.get("demo").metrics:
            time.sleep(0.05)
        client.stop_training_job(TrainingJobName="demo")
        began = time.monotonic()
        told = ended(client, jobs)
        assert 1 <= time.monotonic() - began < 4
    assert states(told) == [*RUN, "Stopping", "Stopped"]
    assert jobs.get("demo").attempts[0].exit_codes == [-9]


def test_stop_lets_who_listens_save(tmp_path):
    with rehearsal(tmp_path, COUNTS) as (client, jobs):
        client.create_training_job(**request(hold="12", **SPOT))
        while jobs.get("demo").metrics.get("step", [0])[0] < 12:
            time.sleep(0.02)
        client.stop_training_job(TrainingJobName="demo")
        assert ended(client, jobs)["SecondaryStatus"] == "Stopped"
    assert int((tmp_path / "s3/bins/demo/checkpoints/last.ckpt").read_text()) == 12


def test_limits_end_a_job(tmp_path):
    with rehearsal(tmp_path, DEAF, grace_s=0.2, faults=[{"kind": "no_capacity"}]) as (client, jobs):
        client.create_training_job(**request("waits", **SPOT, max_wait_s=1) | stopping(1, 1))
        client.create_training_job(**request("at-once"))
        assert states(ended(client, jobs, "waits")) == ["Starting", "Stopping", "MaxWaitTimeExceeded"]
        told = ended(client, jobs, "at-once")
        assert told["FailureReason"].startswith("CapacityError: Unable to provision requested ML compute capacity")
    with rehearsal(tmp_path / "long", DEAF, grace_s=0.2) as (client, jobs):
        client.create_training_job(**request("long", max_runtime_s=1))
        assert states(ended(client, jobs, "long")) == [*RUN, "Stopping", "MaxRuntimeExceeded"]


def stopping(max_runtime_s: int, max_wait_s: int) -> dict:
    return {"StoppingCondition": {"MaxRuntimeInSeconds": max_runtime_s, "MaxWaitTimeInSeconds": max_wait_s}}


def test_a_job_that_is_pending_waits(tmp_path):
    with rehearsal(tmp_path, COUNTS, faults=[{"kind": "pending", "wait_s": 0.5}]) as (client, jobs):
        client.create_training_job(**request())
        told = ended(client, jobs)
    assert states(told) == ["Starting", "Pending", *RUN[1:], "Uploading", "Completed"]
    pending = told["SecondaryStatusTransitions"][1]
    assert (pending["EndTime"] - pending["StartTime"]).total_seconds() >= 0.5


def test_missing_capacity_delays_the_start(tmp_path):
    with rehearsal(tmp_path, COUNTS, faults=[{"kind": "capacity", "wait_s": 0.5}]) as (client, jobs):
        client.create_training_job(**request())
        told = ended(client, jobs)
    first = told["SecondaryStatusTransitions"][0]
    assert (first["EndTime"] - first["StartTime"]).total_seconds() >= 0.5
    assert first["StatusMessage"] == "Insufficient capacity error from EC2 while launching instances, retrying!"


def test_a_missing_channel_fails_as_with_sagemaker(tmp_path):
    with rehearsal(tmp_path, COUNTS) as (client, jobs):
        client.create_training_job(**request(config_url="s3://bins/nowhere"))
        told = ended(client, jobs)
    assert told["FailureReason"].startswith(
        'ClientError: Data download failed:No S3 objects found under S3 URL "s3://bins/nowhere/"'
    )


def test_an_instance_sees_what_sagemaker_shows(tmp_path, monkeypatch):
    monkeypatch.setenv("MY_OWN_VARIABLE", "must not be seen")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    words = ["it's $(touch x) `y`", "[a,b]", "ü 数"]
    with rehearsal(tmp_path, TELLS) as (client, jobs):
        values: dict[str, Any] = {
            "hyperparameters": {"words": words[0]},
            "environment": {"WORDS": json.dumps(words)},
        }
        client.create_training_job(
            **request(num_instances=2, instance_types=["ml.g5.xlarge", "ml.g6.xlarge"], **values)
        )
        assert ended(client, jobs)["TrainingJobStatus"] == "Completed"
    told = json.loads(unpacked(tmp_path, "output.tar.gz")["127.0.0.2.json"])
    assert told["config"]["resourceconfig"]["hosts"] == ["127.0.0.1", "127.0.0.2"]
    assert told["config"]["resourceconfig"]["current_instance_type"] == "ml.g5.xlarge"
    assert told["config"]["hyperparameters"] == {"words": words[0]}
    assert told["files"] == ["input/data/code/fake.py", "input/data/config/fake.py"]
    assert json.loads(told["environment"]["WORDS"]) == words
    assert told["environment"]["TRAINING_JOB_NAME"] == "demo"
    assert told["environment"]["AWS_REGION"] == "us-east-1"
    assert not {"MY_OWN_VARIABLE", "AWS_DEFAULT_REGION"} & set(told["environment"])


def test_two_jobs_at_once_do_not_meet(tmp_path):
    with rehearsal(tmp_path, TELLS) as (client, jobs):
        for name in ("demo", "other"):
            client.create_training_job(**request(name))
        for name in ("demo", "other"):
            assert ended(client, jobs, name)["TrainingJobStatus"] == "Completed"


def test_leaving_a_rehearsal_ends_its_jobs(tmp_path):
    with rehearsal(tmp_path, DEAF) as (client, jobs):
        client.create_training_job(**request())
        while not jobs.get("demo").metrics:
            time.sleep(0.05)
    assert jobs.get("demo").status == "Stopped"


def test_a_fault_that_never_came_is_told(tmp_path):
    with rehearsal(tmp_path, COUNTS, faults=[{"kind": "kill", "step": 4000}]) as (client, jobs):
        client.create_training_job(**request(**SPOT))
        ended(client, jobs)
    assert jobs.get("demo").unplayed_faults == ["kill (step=4000)"]


@pytest.mark.parametrize(
    ("faults", "values", "message"),
    [
        (["kill"], {}, "only spot jobs are interrupted"),
        ([{"kind": "kill", "host": "algo-2"}], SPOT, "there are algo-1"),
        ([], {"entrypoint": ()}, "ContainerEntrypoint is missing"),
    ],
)
def test_what_cannot_be_played_is_refused(tmp_path, faults, values, message):
    with (
        rehearsal(tmp_path, COUNTS, faults=faults) as (client, _),
        pytest.raises(client.exceptions.ClientError, match=message),
    ):
        client.create_training_job(**request(**values))


def test_a_fault_plan_is_read_from_words_and_mappings():
    assert fault_plan(["notice", {"kind": "kill", "step": 11}]) == [Fault("notice"), Fault("kill", step=11)]
    with pytest.raises(ValueError, match=r"'flood' is unknown\. Known are notice: "):
        fault_plan(["flood"])
    with pytest.raises(ValueError, match="needs a kind and may have host, step, after_s, wait_s, calls, number"):
        fault_plan([{"kind": "kill", "stepp": 1}])


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("notise", r"'notise' is unknown\. Did you mean notice\?"),
        ({"kind": "kill", "step": "abc"}, "step='abc' of kill must be a whole number, at least 0"),
        ({"kind": "kill", "step": 1.5}, "step=1.5 of kill must be a whole number"),
        (
            {"kind": "capacity", "wait_s": float("nan")},
            "wait_s=nan of capacity must be a number of seconds, at least 0",
        ),
        ({"kind": "throttle", "calls": 0}, "calls=0 of throttle must be a whole number, at least 1"),
        ({"kind": "refused_submit", "number": True}, "number=True of refused_submit must be a whole number"),
        ({"kind": "kill", "host": 2}, "host=2 of kill names no host: type such as algo-2"),
    ],
)
def test_what_a_fault_gets_wrong_is_named(entry, message):
    with pytest.raises(ValueError, match=message):
        fault_plan([entry])


def test_neither_torch_nor_boto3_is_imported():
    code = "import sys, stocktake.rehearsal.local_runner, stocktake.rehearsal.api_server\n"
    code += "print({'torch', 'boto3'} & set(sys.modules))"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    assert subprocess.check_output([sys.executable, "-c", code], env=environment, text=True).strip() == "set()"


@pytest.fixture
def s3(tmp_path, monkeypatch):
    """A real S3 server on this machine with a bucket `bins`; returns the folder that it serves."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    served = tmp_path / "served"
    (served / "bins" / "code").mkdir(parents=True)
    for name, value in {
        "ACCESS_KEY_ID": "user",
        "SECRET_ACCESS_KEY": "password",
        "ENDPOINT_URL": f"http://{address}",
    }.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    rclone = str(Path(sys.executable).parent / "rclone")
    command = [rclone, "serve", "s3", "--addr", address, "--auth-key", "user,password", str(served)]
    server = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    end = time.monotonic() + 10
    while not listens(address):
        assert time.monotonic() < end, "the S3 server did not start"
        time.sleep(0.05)
    yield served
    server.terminate()
    server.wait()


def listens(address: str) -> bool:
    host, port = address.split(":")
    with socket.socket() as client:
        return client.connect_ex((host, int(port))) == 0


def test_channels_checkpoints_and_results_go_through_a_real_s3(tmp_path, s3):
    (s3 / "bins" / "code" / "fake.py").write_text(COUNTS)
    with rehearsal(tmp_path, "", faults=["kill"], s3_folder=None) as (client, jobs):
        client.create_training_job(**request(hold="15", **SPOT))
        assert ended(client, jobs)["TrainingJobStatus"] == "Completed"
        assert jobs.get("demo").attempts[1].first_step == 11
    assert (s3 / "bins/demo/checkpoints/last.ckpt").read_text() == "00000040"
    assert tarfile.is_tarfile(s3 / "bins/jobs/demo/output/model.tar.gz")
