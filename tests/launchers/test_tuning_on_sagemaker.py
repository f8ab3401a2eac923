"""A search as one tuning job through hydra/launcher=sagemaker: SageMaker is the rehearsal's server, S3 a real one."""

import json
import os
import pty
import signal
import time

import pytest
from launched import read_until

SEARCH = ("-m", "hydra/sweeper=sagemaker", "hydra/launcher=sagemaker", "hydra.launcher.poll_s=0.2")
ACCOUNT = (
    "compute.bucket=bins",
    "compute.role_arn=arn:aws:iam::123456789012:role/Stocktake",
    "compute.requirements=null",
)
LR = ("lr=interval(0.1,0.9)", "hydra.sweeper.start_by=image", "hydra.sweeper.num_trials=3")
NAMED = "hydra.sweeper.job_name=find-lr"


def last_line(told) -> dict:
    return json.loads(told.stdout.rstrip().splitlines()[-1])


def tunings(aws) -> dict:
    return aws.server.tuning._tunings


def wait_until(reached, timeout_s: float = 60) -> None:
    deadline = time.monotonic() + timeout_s
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_it_is_sent_followed_and_paid_for_and_its_name_attaches_again(tiny, aws):
    aws.account.usd_an_hour = 3600.0  # a dollar a second
    words = (*SEARCH, *ACCOUNT, *LR, NAMED, "compute=spot", "hydra.sweeper.parallel=3", "steps=2")
    told = tiny.type(*words, is_fresh=True)
    assert told.returncode == 0, told.stdout + told.stderr
    request = tunings(aws)["find-lr"].request
    assert request["TrainingJobDefinition"]["CheckpointConfig"]["S3Uri"].endswith("/checkpoints/tiny/default/find-lr/")
    names = sorted(path.name for path in (aws.buckets / "bins/stocktake/checkpoints/tiny/default/find-lr").iterdir())
    assert names == sorted(job.name for job in aws.jobs)
    line = last_line(told)
    assert (line["trials"], line["failed"]) == (3, 0)
    again = tiny.type(*words)
    assert again.returncode == 0, again.stdout + again.stderr
    assert "find-lr: is there already; attached to it." in again.stdout
    assert last_line(again) == line
    assert len(aws.jobs) == 3, "nothing was sent twice"


def test_a_name_of_another_search_is_refused(tiny, aws):
    first = tiny.type(*SEARCH, *ACCOUNT, *LR, NAMED)
    assert first.returncode == 0, first.stdout + first.stderr
    told = tiny.type(*SEARCH, *ACCOUNT, "lr=interval(0.2,0.9)", *LR[1:], NAMED)
    assert told.returncode == 1
    assert "hydra.sweeper.job_name=find-lr is of another search: its ParameterRanges is" in told.stderr


def test_ctrl_c_without_a_terminal_leaves_it_running_and_tells_how_to_go_on(tiny, aws, tmp_path):
    aws.account.usd_an_hour = 2.0
    until = f"until={tmp_path / 'attached'}"
    words = (*SEARCH, *ACCOUNT, *LR, NAMED, "hydra.sweeper.parallel=3", "steps=3000", "pause_s=0.05", until)
    words = (*words, "compute.max_runtime_s=3600")
    process = tiny.start(*words)
    wait_until(lambda: any(job.metrics for job in aws.jobs))
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 130, output + errors
    assert "find-lr runs on, and is billed: at most 3 hours of ml.g5.xlarge in all." in output
    assert "It costs up to 6.00 USD an hour on demand" in output
    stop = "aws sagemaker stop-hyper-parameter-tuning-job --hyper-parameter-tuning-job-name find-lr --region us-east-1"
    assert stop in output
    assert "type the same overrides and hydra.sweeper.job_name=find-lr" in output
    assert tunings(aws)["find-lr"].status == "InProgress"
    (tmp_path / "attached").touch()
    told = tiny.type(*words)
    assert told.returncode == 0, told.stdout + told.stderr
    assert last_line(told)["trials"] == 3


def test_who_does_not_agree_in_a_terminal_sends_nothing(tiny, aws):
    ours, theirs = pty.openpty()
    process = tiny.start(*SEARCH, *ACCOUNT, *LR, terminal=theirs)
    os.close(theirs)
    seen = read_until(ours, "Send it?")
    assert "3 trials, 1 at a time, at most 72 hours of ml.g5.xlarge in all" in seen
    os.write(ours, b"no\n")
    assert process.wait(timeout=30) == 0
    assert tunings(aws) == {}


def test_the_launchers_own_limit_holds_for_all_trials_together(tiny, aws):
    told = tiny.type(*SEARCH, *ACCOUNT, *LR, "hydra.launcher.max_usd=1")
    assert told.returncode == 1
    assert "hydra.launcher.max_usd=1" in told.stderr
    assert tunings(aws) == {}


@pytest.mark.parametrize(("answer", "status"), [("stop\n", "Stopped"), ("leave\n", "InProgress")])
def test_ctrl_c_in_a_terminal_asks_once(tiny, aws, answer, status):
    words = (*SEARCH, *ACCOUNT, *LR, NAMED, "steps=2000", "pause_s=0.05")
    ours, theirs = pty.openpty()
    process = tiny.start(*words, terminal=theirs)
    os.close(theirs)
    read_until(ours, "Send it?")
    os.write(ours, b"yes\n")
    seen = read_until(ours, "Training")
    process.send_signal(signal.SIGINT)
    seen = read_until(ours, "Leave it running, or stop it with all its trials?")
    os.write(ours, answer.encode())
    read_until(ours, "hydra.sweeper.job_name=find-lr")
    assert process.wait(timeout=30) == 130, seen
    tuning = tunings(aws)["find-lr"]
    wait_until(lambda: tuning.status == status, 30)
    if status == "Stopped":
        again = tiny.type(*words)
        assert again.returncode == 1, "no trial has a result"
        assert (last_line(again)["trials"], last_line(again)["failed"]) == (1, 0), (
            "a trial that was cut is no failed one"
        )


@pytest.mark.parametrize(
    ("usd", "words", "told"),
    [
        (1.5, ["hydra.sweeper.max_usd=8"], "could cost 9.00 USD (at most 6 hours of ml.g5.xlarge in all, 1.50 USD"),
        (1.5, ["hydra.sweeper.max_usd=17", "compute.num_instances=2"], "could cost 18.00 USD (at most 12 hours"),
        (None, ["hydra.sweeper.max_usd=9"], "AWS does not tell what ml.g5.xlarge costs, so it can bound nothing"),
        (1.5, ["hydra.sweeper.max_usd=9"], None),
        (1.5, ["hydra.sweeper.max_usd=1.5", "hydra.sweeper.max_hours=1"], None),
    ],
)
def test_what_could_cost_more_than_the_limit_is_not_sent(tiny, aws, usd, words, told):
    """3 trials of at most 2 hours; worked by hand."""
    aws.account.usd_an_hour = usd
    answer = tiny.type(*SEARCH, *ACCOUNT, *LR, "compute.max_runtime_s=7200", "steps=1", *words)
    assert answer.returncode == (told is not None), answer.stdout + answer.stderr
    assert bool(aws.jobs) is (told is None)
    assert told is None or told in answer.stderr


def test_the_quota_is_judged_by_what_runs_at_a_time(tiny, aws):
    aws.account.quotas = {"ml.g5.xlarge for training job usage": 2.0}
    told = tiny.type(*SEARCH, *ACCOUNT, *LR, "hydra.sweeper.parallel=3")
    assert told.returncode == 1
    assert "The account may use 2 ml.g5.xlarge for training job, and 3 are wanted" in told.stderr
    assert tunings(aws) == {}


def test_an_answer_that_is_lost_sends_nothing_twice(tiny, aws):
    create, calls = aws.server.tuning._create, []

    def answer_is_lost(request):
        calls.append(create(request))
        raise ConnectionResetError

    aws.server.services[0].operations["CreateHyperParameterTuningJob"] = answer_is_lost
    told = tiny.type(*SEARCH, *ACCOUNT, *LR)
    assert told.returncode == 0, told.stdout + told.stderr
    assert len(calls) == 1 and last_line(told)["trials"] == 3


def test_without_account_network_and_region_a_dry_run_checks_it_all(tiny):
    told = tiny.type(*SEARCH, LR[0], "hydra.sweeper.dry_run=true", "data.root=bins", "compute.bucket=My_Bucket")
    assert told.returncode == 1
    assert '"HyperParameterTuningJobName": "search-' in told.stdout
    assert '"sagemaker_program": "container.py"' in told.stdout, "AWS's own image has AWS's toolkit"
    assert "No AWS region is set" in told.stdout and "compute.role_arn is not set" in told.stdout
    assert "data.root=bins is a folder of this machine" in told.stdout
    assert "'My_Bucket' is no name of a bucket" in told.stdout
    assert "Nothing was sent" in told.stdout
