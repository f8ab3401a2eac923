"""Hydra's jobs through hydra/launcher=sagemaker: SageMaker is the rehearsal's server, S3 a real one on this machine."""

import json
import os
import pty
import signal
import subprocess
import sys
import tarfile
import time

import pytest
from launched import read_until

from stocktake.rehearsal.faults import fault_plan
from stocktake.rehearsal.job_state import RequestRefused

SEND = ("-m", "hydra/launcher=sagemaker", "hydra.launcher.poll_s=0.2", "compute.requirements=null")
ROLE = "compute.role_arn=arn:aws:iam::123456789012:role/Stocktake"


def test_jobs_are_sent_followed_and_give_their_metrics_back(tiny, aws):
    words = ("lr=0.25,0.75", "compute.bucket=bins", ROLE, "hydra.launcher.job_name=sweep")
    told = tiny.type(*SEND, *words, is_fresh=True)
    assert told.returncode == 0, told.stdout + told.stderr
    assert sorted(job.name for job in aws.jobs) == ["sweep-0", "sweep-1"]
    request = aws.jobs[0].request
    tags = {tag["Key"]: tag["Value"] for tag in request["Tags"]}
    assert tags["dirty"] == "false"
    assert len(tags["commit"]) == 40
    assert "STOCKTAKE_REQUIREMENTS" not in request["Environment"]
    with tarfile.open(next((aws.buckets / "bins" / "stocktake" / "code").rglob("code.tar.gz"))) as archive:
        assert "src/tiny.py" in archive.getnames()
    for job, lr in ((0, 0.25), (1, 0.75)):
        (path,) = (tiny.folder / "runs" / "sweep" / str(job)).rglob("metrics.json")
        assert json.loads(path.read_text())["valid/accuracy"] == lr
    assert told.stdout.count("│ Completed │") == 2


def test_ctrl_c_without_a_terminal_leaves_it_running_and_the_name_attaches_again(tiny, aws, tmp_path):
    words = (*SEND, "compute.bucket=bins", ROLE, "hydra.launcher.job_name=long", "steps=3000", "pause_s=0.05")
    words = (*words, f"until={tmp_path / 'attached'}")
    process = tiny.start(*words)
    deadline = time.monotonic() + 60
    while not (aws.jobs and aws.jobs[0].metrics):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130, output
    assert "Left running" in output
    assert "hydra.launcher.job_name=long" in output
    assert aws.jobs[0].status == "InProgress"
    process = tiny.start(*words)
    output = ""
    while "attached to it" not in output:
        line = process.stdout.readline()
        assert line, output
        output += line
    (tmp_path / "attached").touch()
    rest, errors = process.communicate(timeout=60)
    assert process.returncode == 0, output + rest + errors
    assert len(aws.jobs) == 1
    assert "long: valid/accuracy 0.5000\n  results in" in rest


def test_another_instance_type_is_tried_with_the_same_checkpoints(tiny, aws):
    aws.runner.faults = [*aws.runner.faults, *fault_plan([{"kind": "capacity", "wait_s": 6.0}])]
    told = tiny.type(
        *(*SEND, "compute=spot", "compute.bucket=bins", ROLE, "hydra.launcher.job_name=any"),
        *("hydra.launcher.capacity_wait_s=1", "compute.instance_types=[ml.g6.xlarge,ml.g5.xlarge]"),
    )
    assert told.returncode == 0, told.stdout + told.stderr
    first, second = aws.jobs
    assert (first.status, second.status) == ("Stopped", "Completed")
    assert [job.request["ResourceConfig"]["InstanceType"] for job in aws.jobs] == ["ml.g6.xlarge", "ml.g5.xlarge"]
    assert first.request["CheckpointConfig"] == second.request["CheckpointConfig"]
    assert first.request["Environment"] == second.request["Environment"], "one W&B run"


NO_QUOTA = {"ml.g5.xlarge for training job usage": 1.0, "ml.m5.large for training job usage": 20.0}


@pytest.mark.parametrize(
    ("words", "variables", "errors", "told"),
    [
        ([], {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}, {}, "No AWS credentials: run `aws configure`"),
        (["hydra.launcher.profile=mine"], {}, {}, "hydra.launcher.profile=mine: "),
        ([], {}, {"GetCallerIdentity": (403, "ExpiredToken", "The token has expired")}, "Log in again"),
        (["compute.role_arn=null"], {}, {}, "compute.role_arn is not set: what the job may do"),
        ([], {}, {"GetRole": (404, "NoSuchEntity", "The role cannot be found")}, "must be a role of this account"),
        (["compute.bucket=null"], {}, {}, "compute.bucket is not set"),
        (["compute.bucket=not-there"], {}, {}, "compute.bucket=not-there does not exist. Type: aws s3 mb"),
        (["compute.num_instances=2"], {}, {}, "The account may use 1 ml.g5.xlarge for training job, and 2 are wanted"),
        (["compute.instance_types=[ml.g5.tiny]"], {}, {}, "'ml.g5.tiny' is none of AWS's"),
        (["data.root=bins"], {}, {}, "data.root=bins is a folder of this machine"),
        (["model.weights=w.pt"], {}, {}, "model.weights=w.pt is a file of this machine"),
        (["+compute.environment.WANDB_API_KEY=secret"], {}, {}, "Use compute.wandb_secret"),
    ],
)
def test_what_is_missing_is_one_clear_line_and_nothing_is_sent(tiny, aws, words, variables, errors, told):
    aws.account.errors, aws.account.quotas = errors, NO_QUOTA
    given = [word for word in ("compute.bucket=bins", ROLE) if word.partition("=")[0] not in "".join(words)]
    answer = tiny.type(*SEND, *given, *words, **variables)
    assert answer.returncode == 1
    assert told in answer.stderr
    assert "Traceback" not in answer.stderr
    assert aws.jobs == []
    assert list((aws.buckets / "bins").iterdir()) == []


DRY = (*SEND, "hydra.launcher.dry_run=true")


def test_a_dry_run_needs_no_account_and_says_at_once_what_is_missing(tiny):
    told = tiny.type(*DRY, "data.root=data/bins")
    assert told.returncode == 0, told.stderr
    assert '"TrainingJobName": "tiny-' in told.stdout
    assert '"RoleArn": "<role: set STOCKTAKE_ROLE>"' in told.stdout
    assert '"S3OutputPath": "s3://<bucket: set STOCKTAKE_BUCKET>/stocktake"' in told.stdout
    _, _, listed = told.stdout.partition("Missing before it can be sent, 4:\n")
    keys = [line.split()[0] for line in listed.splitlines()]
    assert keys == ["No", "compute.bucket", "compute.role_arn", "data.root=data/bins"]
    assert "export AWS_DEFAULT_REGION=" in listed
    assert "conf/train.yaml" not in told.stdout, "the files have a word of their own"


def test_a_dry_run_of_a_whole_request_says_so(tiny):
    told = tiny.type(*DRY, "compute.bucket=bins", ROLE, "hydra.launcher.region=af-south-1")
    assert told.returncode == 0, told.stderr
    assert "Checked against AWS's service model" in told.stdout
    assert "626614931356.dkr.ecr.af-south-1.amazonaws.com/pytorch:2.14-" in told.stdout
    assert '"AWS_DEFAULT_REGION": "af-south-1"' in told.stdout


def test_a_dry_run_refuses_all_that_would_fail_once_it_is_billed(tiny):
    words = ("compute.bucket=My_Bucket", ROLE, "compute.image_uri='pytorch:latest'", "compute.requirements=not.lock")
    told = tiny.type(*DRY, *words, "+compute.environment.HF_TOKEN=abcdef123", AWS_REGION="eu-west-1")
    assert told.returncode == 1
    assert "AWS_REGION=eu-west-1 is set, which boto3 does not read" in told.stdout
    _, _, listed = told.stdout.partition("Wrong, 4:\n")
    keys = sorted(line.split()[0] for line in listed.splitlines())
    assert keys == [
        "compute.bucket:",
        "compute.environment.HF_TOKEN",
        "compute.image_uri:",
        "compute.requirements=not.lock",
    ]
    assert "Did you mean my-bucket?" in listed
    assert '"HF_TOKEN": "***"' in told.stdout
    assert "abcdef123" not in told.stdout + told.stderr


def test_without_m_the_launcher_is_refused_with_what_to_type(tiny):
    told = tiny.type("hydra/launcher=sagemaker", "texts=['a b']")
    assert told.returncode == 1
    assert told.stderr.strip().endswith("""Type: python train.py -m hydra/launcher=sagemaker 'texts=['"'"'a b'"'"']'""")
    assert "Traceback" not in told.stderr
    assert not (tiny.folder / "runs" / "local" / "metrics.json").exists(), "nothing ran here"


def test_the_key_of_wandb_login_is_found(tiny):
    key = "0123456789abcdef0123456789abcdef01234567"
    (tiny.folder / ".netrc").write_text(f"machine api.wandb.ai login user password {key}\n")
    told = tiny.type(*DRY, "compute.bucket=bins", ROLE, "hydra.launcher.send_wandb_key=true")
    assert told.returncode == 0, told.stdout + told.stderr
    assert '"WANDB_API_KEY": "***"' in told.stdout
    assert key not in told.stdout


@pytest.mark.parametrize(
    "module",
    ["launcher", "sagemaker", "rehearsal", "options", "plan", "tuning_options", "tuning_sweeper", "trial_config"],
)
def test_importing_the_plugin_imports_nothing_heavy(module):
    code = f"import sys, hydra_plugins.stocktake_sagemaker.{module}; print(*sys.modules)"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {"boto3", "botocore", "sagemaker", "torch", "obstore", "psutil", "rich", "numpy"}
    assert heavy & set(told.stdout.split()) == set()


def test_a_training_on_this_machine_never_meets_aws(tiny):
    assert tiny.type("lr=0.1", is_fresh=True).returncode == 0
    modules = json.loads((tiny.folder / "runs" / "local" / "metrics.json").read_text())["modules"]
    assert "hydra" in modules
    assert not {"boto3", "botocore", "sagemaker"} & set(modules)


@pytest.mark.parametrize(
    ("answer", "status"), [("stop\n", "Stopped"), ("leave\n", "InProgress"), ("\x04", "InProgress")]
)
def test_ctrl_c_in_a_terminal_asks_once(tiny, aws, answer, status):
    words = (*SEND, "compute.bucket=bins", ROLE, "hydra.launcher.job_name=asked", "steps=2000", "pause_s=0.05")
    ours, theirs = pty.openpty()
    process = tiny.start(*words, "hydra.launcher.yes=true", terminal=theirs)
    os.close(theirs)
    seen = read_until(ours, "Training")
    process.send_signal(signal.SIGINT)
    seen = read_until(ours, "Leave them running, or stop them?")
    os.write(ours, answer.encode())
    read_until(ours, "Stopping: asked" if status == "Stopped" else "hydra.launcher.job_name=asked")
    assert process.wait(timeout=30) == 130, seen
    (job,) = aws.jobs
    if status == "Stopped":
        assert job.ended.wait(30)
    assert job.status == status


@pytest.mark.parametrize(("answer", "num_sent"), [("n\n", 0), ("\n", 0), ("y\n", 1)])
def test_in_a_terminal_nothing_is_sent_before_a_yes(tiny, aws, answer, num_sent):
    words = (*SEND, "compute.bucket=bins", ROLE, "hydra.launcher.job_name=asked", "compute.num_instances=2")
    ours, theirs = pty.openpty()
    process = tiny.start(*words, terminal=theirs)
    os.close(theirs)
    seen = read_until(ours, "Send it? [y/N]")
    assert "asked: 2 × ml.g5.xlarge, at most 86400 s" in seen
    assert aws.jobs == [] and not list((aws.buckets / "bins").rglob("code.tar.gz"))
    os.write(ours, answer.encode())
    read_until(ours, "asked: sent" if num_sent else "Nothing was done.")
    if num_sent:
        read_until(ours, "billed of")
    assert process.wait(timeout=60) == 0
    assert len(aws.jobs) == num_sent


def test_a_launch_of_which_nobody_knows_what_it_reads_has_no_bound(tiny, aws):
    told = tiny.type(*DRY, "compute.bucket=bins", ROLE, "hydra.launcher.max_usd=10")
    assert told.returncode == 1
    assert "hydra.launcher.max_usd=10: what this configuration reads from S3 is not known" in told.stdout


def test_the_wandb_key_is_in_the_jobs_environment_and_nowhere_else(tiny, aws):
    key = "0123456789abcdef0123456789abcdef01234567"
    words = (*SEND, "compute.bucket=bins", ROLE, "hydra.launcher.send_wandb_key=true")
    shown = tiny.type(*words, "hydra.launcher.dry_run=true", WANDB_API_KEY=key)
    told = tiny.type(*words, WANDB_API_KEY=key)
    assert told.returncode == shown.returncode == 0, told.stderr
    (job,) = aws.jobs
    assert job.request["Environment"].pop("WANDB_API_KEY") == key
    assert key not in json.dumps(job.request) + shown.stdout + told.stdout
    written = [path for path in (aws.buckets, tiny.folder / "runs") for path in path.rglob("*") if path.is_file()]
    assert written
    assert [path for path in written if key.encode() in path.read_bytes()] == []
    offline = tiny.type(*SEND, "compute.bucket=bins", ROLE, "hydra.launcher.dry_run=true", WANDB_API_KEY=key)
    assert "W&B will be offline in the job" in offline.stdout


def test_a_sweep_refused_half_way_tells_what_runs_and_what_it_costs(tiny, aws, monkeypatch):
    aws.account.usd_an_hour = 1.408
    create = aws.server.jobs.create

    def refuse_the_second(request):
        if request["TrainingJobName"] == "sweep-1":
            raise RequestRefused("ResourceLimitExceeded", "The account-level service limit is 1 Instances")
        return create(request)

    monkeypatch.setattr(aws.server.jobs, "create", refuse_the_second)
    words = ("lr=0.25,0.5,0.75", "steps=300", "pause_s=0.05", "compute.num_instances=2")
    told = tiny.type(*SEND, *words, "compute.bucket=bins", ROLE, "hydra.launcher.job_name=sweep")
    assert told.returncode == 1
    assert "1 of 3 job(s) run on, and are billed: sweep-0." in told.stdout
    assert "They cost 2.82 USD an hour on demand" in told.stdout
    assert "aws sagemaker stop-training-job --training-job-name sweep-0 --region us-east-1" in told.stdout
    assert "type the same overrides and hydra.launcher.job_name=sweep" in told.stdout
    assert "2 × ml.g5.xlarge" in told.stdout, "the table"
    assert "sweep-1: The account-level service limit" in told.stderr
    assert [(job.name, job.status) for job in aws.jobs] == [("sweep-0", "InProgress")]


def test_a_damaged_result_ends_the_telling_of_its_own_job_only(tiny, aws):
    words = ("lr=0.25", "pause_s=0.0,1.5", "compute.bucket=bins", ROLE, "hydra.launcher.job_name=sweep")
    process = tiny.start(*SEND, *words)
    archive = aws.buckets / "bins" / "stocktake" / "sweep-0" / "output" / "output.tar.gz"
    deadline = time.monotonic() + 60
    while not (aws.jobs and aws.jobs[0].status == "Completed"):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    archive.write_bytes(archive.read_bytes()[:50])
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "sweep-0: s3://bins/stocktake/sweep-0/output/output.tar.gz is damaged" in errors
    assert "sweep-1: valid/accuracy 0.2500" in output


def test_a_run_that_is_there_is_not_written_over(tiny, aws):
    words = (*SEND, "compute=spot", "compute.bucket=bins", ROLE)
    run = aws.buckets / "bins" / "stocktake" / "checkpoints" / "tiny" / "default" / "0" / "run"
    run.mkdir(parents=True)
    (run / "config.yaml").write_text("lr: 0.1\n")
    told = tiny.type(*words)
    assert told.returncode == 1
    assert "checkpoints/tiny/default/0 holds a run already" in told.stderr
    assert "run_name=<new>" in told.stderr
    assert aws.jobs == []


def test_data_without_a_manifest_is_told_before_a_job_is_sent(tiny, aws):
    words = (*SEND, "compute.bucket=bins", ROLE, "data.root=s3://bins/abid")
    told = tiny.type(*words)
    assert told.returncode == 1
    assert "data.root: s3://bins/abid/manifest.parquet does not exist. Type: python scripts/prepare.py" in told.stderr
    (aws.buckets / "bins" / "abid").mkdir()
    (aws.buckets / "bins" / "abid" / "manifest.parquet").write_text("here")
    assert tiny.type(*words).returncode == 0
