"""A job's story, from attempts that are written down here."""

import json

import pytest
from rich.console import Console

from stocktake.cloud.costs import billed_s
from stocktake.cloud.monitor import FollowedJob
from stocktake.cloud.progress import table
from stocktake.cloud.requests import training_job
from stocktake.rehearsal.job_state import Attempt, Job
from stocktake.rehearsal.summary import readable, summary, write_summaries


def ended_job() -> Job:
    request = training_job(
        "demo",
        "arn:aws:iam::123456789012:role/R",
        "image",
        "s3://b/c",
        "s3://b/f",
        "s3://b",
        num_instances=2,
        spot=True,
    )
    job = Job(request)
    job.attempts = [
        Attempt(1, 0.0, "interrupted", "notice", 1, 5, 30.0),
        Attempt(2, 0.0, "interrupted", "kill (host=algo-2)", 6, 12, 20.5),
        Attempt(3, 0.0, "interrupted", "kill", None, None, 9.0),
        Attempt(4, 0.0, "completed", None, 9, 20, 40.0),
    ]
    job.unplayed_faults = ["half_upload"]
    job.training_started_at = 1.0
    job.enter("Completed")
    return job


def test_what_was_lost_and_billed():
    told = summary(ended_job())
    assert told["status"] == "Completed"
    assert (told["attempts"], told["world_size"]) == (4, 2)
    # 6 follows 5: nothing. The third attempt told no step, so nobody knows.
    assert told["steps_lost"] == [0, None, None]
    assert told["billed_s"] == 2 * 100, "99.5 s, counted in whole seconds, on two instances"
    assert told["faults"] == ["notice", "kill (host=algo-2)", "kill"]


def test_the_table_bills_what_the_summary_bills():
    job, shown = ended_job(), FollowedJob("demo")
    shown.see(job.describe())
    console = Console(width=140)
    with console.capture() as captured:
        console.print(table([shown]))
    assert f"{summary(job)['billed_s']} s" in captured.get()


@pytest.mark.parametrize(
    ("described", "seconds"),
    [
        ({"ResourceConfig": {"InstanceType": "ml.g5.xlarge", "InstanceCount": 2}}, None),
        ({"BillableTimeInSeconds": 57, "ResourceConfig": {"InstanceType": "ml.g5.xlarge", "InstanceCount": 2}}, 114),
        ({"BillableTimeInSeconds": 5, "ResourceConfig": {"InstancePreferences": [{"InstanceCount": 3}]}}, 15),
    ],
)
def test_every_instance_is_billed(described, seconds):
    assert billed_s(described) == seconds


def test_steps_taken_twice_are_lost():
    job = ended_job()
    job.attempts[2].first_step, job.attempts[2].last_step = 9, 9
    assert summary(job)["steps_lost"] == [0, 4, 1]


def test_a_person_can_read_it(tmp_path, capsys):
    job = ended_job()
    story = readable(job)
    assert "attempt 1: steps 1 to 5, 30 s, interrupted; notice; 0 step(s) lost" in story
    assert "attempt 3: no step, 9 s" in story
    assert "not played, the job ended before: half_upload" in story
    assert "billed: 200 s (100 s on 2 instance(s))" in story
    write_summaries(tmp_path, [job])
    assert json.loads((tmp_path / "summary.json").read_text()) == [summary(job)]
    assert story in capsys.readouterr().out
