"""The schedule that runs monitor.py: its request passes AWS's own models, and what would be refused is told by key."""

import json

import pytest

from stocktake.cloud.monitoring_job import EXECUTION, ScheduleError, monitoring_schedule
from stocktake.cloud.validation import check_request

VALUES = {
    "name": "bins-monitor",
    "expression": "cron(0 6 ? * MON *)",
    "arguments": ["log=s3://bins/log", "baseline=s3://bins/model", "last_days=7", "output_dir=s3://bins/monitoring"],
    "role_arn": "arn:aws:iam::123456789012:role/StocktakeMonitoring",
    "scheduler_role_arn": "arn:aws:iam::123456789012:role/StocktakeScheduler",
    "image_uri": "123456789012.dkr.ecr.us-east-1.amazonaws.com/stocktake-monitoring:1",
}


def test_each_run_is_a_job_of_its_own_that_runs_monitor():
    schedule = monitoring_schedule(**VALUES)
    check_request("CreateSchedule", schedule, service="scheduler")
    job = json.loads(schedule["Target"]["Input"])
    job["ProcessingJobName"] = job["ProcessingJobName"].replace(EXECUTION, "7d2b6f4e-9d3c-4c67-a3e1-0f5b0a8c1d2e")
    check_request("CreateProcessingJob", job)
    specification = job["AppSpecification"]
    assert [*specification["ContainerEntrypoint"], *specification["ContainerArguments"]] == [
        *("python3", "scripts/monitor.py"),
        *VALUES["arguments"],
    ]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("name", "bins monitor"),
        ("name", "b" * 27),
        ("expression", "each Monday"),
        ("expression", "at(2026-11-30T06:00:00)"),
        ("role_arn", "StocktakeMonitoring"),
        ("scheduler_role_arn", "StocktakeScheduler"),
        ("image_uri", "my-image:" + "1" * 250),
    ],
)
def test_what_aws_would_refuse_is_told_by_its_key(key, value):
    with pytest.raises(ScheduleError, match=rf"schedule\.{key}\b"):
        monitoring_schedule(**VALUES | {key: value})
