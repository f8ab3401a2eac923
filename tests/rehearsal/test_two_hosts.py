"""The real container, the real torchrun and a real gloo group on two hosts, interrupted in every way."""

import json
import shutil
import tarfile

import pytest

from stocktake.cloud import container
from stocktake.cloud.requests import training_job
from stocktake.rehearsal.api_server import RehearsalServer
from stocktake.rehearsal.local_runner import LocalRunner

# Sums over both hosts at each step, saves every 10 steps; all ranks agree on stopping at the same step.
TRAINS = """
import os, pathlib, signal, sys, time
import torch
import torch.distributed as dist

run = pathlib.Path(os.environ["RUN_DIR"])
checkpoint = run / "checkpoints" / "best.ckpt"
checkpoint.parent.mkdir(parents=True, exist_ok=True)
stopping = []
dist.init_process_group("gloo")
rank = dist.get_rank()
step, total = torch.load(checkpoint) if checkpoint.exists() else (0, 0.0)

def save():
    if rank == 0:
        torch.save((step, total), run / "part")
        (run / "part").rename(checkpoint)

signal.signal(signal.SIGTERM, lambda *_: stopping.append(1))
while step < 60:
    told = torch.tensor([float(step + rank), float(len(stopping))])
    dist.all_reduce(told)
    if told[1]:
        save()
        (run / "interrupted").touch()
        os._exit(75)
    step += 1
    total += told[0].item()
    if rank == 0:
        print(f"step={step}", flush=True)
    if step % 10 == 0:
        save()
    if step == int(sys.argv[1]):
        raise KeyError("words")
    time.sleep(0.1)
if rank == 0:
    (run / "metrics.json").write_text(f"[{step}, {total}]")
"""


def play(folder, faults, fails_at: int = 0) -> tuple[dict, list]:
    s3 = folder / "s3" / "bins"
    for name in ("code", "config", "packed"):
        (s3 / name).mkdir(parents=True)
    (s3 / "packed" / "train.py").write_text(TRAINS)
    for path in container.SOURCES:
        shutil.copy(path, s3 / "code")
    with tarfile.open(s3 / "code" / "code.tar.gz", "w:gz") as archive:
        archive.add(s3 / "packed", arcname=".")
    (s3 / "config" / "overrides.json").write_text(json.dumps({"overrides": [str(fails_at)]}))
    request = training_job(
        "demo",
        "arn:aws:iam::123456789012:role/Stocktake",
        "123456789012.dkr.ecr.us-east-1.amazonaws.com/stocktake:1",
        *("s3://bins/code", "s3://bins/config", "s3://bins/jobs"),
        num_instances=2,
        spot=True,
        max_runtime_s=600,
        checkpoint_url="s3://bins/demo/checkpoints",
        environment={"NPROC_PER_NODE": "1"},
    )
    with (
        LocalRunner(folder / "jobs", faults, folder / "s3", grace_s=20, upload_interval_s=0.2) as runner,
        RehearsalServer(runner) as server,
    ):
        client = server.client("sagemaker")
        client.create_training_job(**request)
        job = server.jobs.get("demo")
        assert job.ended.wait(240)
        return client.describe_training_job(TrainingJobName="demo"), job.attempts


@pytest.mark.slow
def test_a_job_on_two_hosts_ends_right_after_four_interruptions(tmp_path):
    faults = [
        {"kind": "notice", "step": 15},
        {"kind": "kill", "step": 28},
        {"kind": "notice", "host": "algo-2", "step": 35},
        {"kind": "kill", "host": "algo-2", "step": 44},
    ]
    told, attempts = play(tmp_path, faults)
    assert told["TrainingJobStatus"] == "Completed"
    starts, ends = [attempt.first_step for attempt in attempts], [attempt.last_step for attempt in attempts]
    assert starts == [1, ends[0] + 1, 21, ends[2] + 1, 41], "a notice loses nothing, a kill what is not saved"
    assert attempts[2].exit_codes == [-9, -9], "they wait to be ended"
    assert attempts[3].exit_codes == [-9, -9], "who lost its peer is not who failed"
    output = tmp_path / "s3" / "bins" / "jobs" / "demo" / "output"
    with tarfile.open(output / "output.tar.gz") as archive:
        metrics = archive.extractfile("metrics.json")
        assert metrics
        step, total = json.load(metrics)
    assert (step, total) == (60, sum(2 * step + 1 for step in range(60)))
    with tarfile.open(output / "model.tar.gz") as archive:
        assert archive.getnames() == ["best.ckpt"]


@pytest.mark.slow
def test_a_user_error_on_both_hosts_is_told_as_it_is(tmp_path):
    told, _ = play(tmp_path, [], fails_at=3)
    assert told["TrainingJobStatus"] == "Failed"
    assert "KeyError: 'words'" in told["FailureReason"]
    assert told["FailureReason"].endswith("exit code: 1")
