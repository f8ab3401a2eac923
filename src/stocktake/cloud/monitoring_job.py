"""What has AWS run scripts/monitor.py again and again: a request of EventBridge Scheduler's, from plain values.

At each time that the expression says, EventBridge calls CreateProcessingJob, which runs the image's monitor.py over a
log in S3. On drift monitor.py exits with 1, so the job ends as `Failed`; whoever wants to hear of it has a rule of
EventBridge's on "SageMaker Processing Job State Change". Sources: EventBridge Scheduler's user guide, "Universal
targets" and "Context attributes"; API reference of CreateProcessingJob.
"""

import json
import re
from collections.abc import Sequence

from stocktake.cloud.endpoint_requests import Request, tag_list
from stocktake.cloud.validation import problem_lines

CREATE_PROCESSING_JOB = "arn:aws:scheduler:::aws-sdk:sagemaker:createProcessingJob"
EXECUTION = "<aws.scheduler.execution-id>"  # for which EventBridge puts a UUID: the name of a job is used once
UUID = "00000000-0000-0000-0000-000000000000"
MAX_NAME_CHARACTERS = 63 - 1 - len(UUID)
INSTANCE_TYPE, VOLUME_GB, MAX_RUNTIME_S = "ml.t3.medium", 1, 3600
CONFIG_KEYS = {
    "Name": "schedule.name",
    "ScheduleExpression": "schedule.expression",
    "Target.RoleArn": "schedule.scheduler_role_arn",
    "ProcessingJobName": "schedule.name",
    "RoleArn": "schedule.role_arn",
    "AppSpecification.ImageUri": "schedule.image_uri",
    "AppSpecification.ContainerArguments": "log",
}


class ScheduleError(ValueError):
    """A schedule that AWS would refuse; lists every problem by its key."""


def monitoring_schedule(
    name: str,
    expression: str,
    arguments: Sequence[str],
    role_arn: str,
    scheduler_role_arn: str,
    image_uri: str,
) -> Request:
    """Returns the body of CreateSchedule that runs scripts/monitor.py at the times of an expression.

    Args:
        expression: Such as `cron(0 6 ? * MON *)`, in UTC, or `rate(7 days)`.
        arguments: Of monitor.py.
        role_arn: Of the job: it reads the log and the model, and writes the page.
        scheduler_role_arn: May call sagemaker:CreateProcessingJob and pass `role_arn`; trusts scheduler.amazonaws.com.
        image_uri: In ECR: the Dockerfile's stage `monitoring`.

    Raises:
        ScheduleError: AWS would refuse it.
    """
    job: Request = {
        "ProcessingJobName": f"{name}-{EXECUTION}",
        "RoleArn": role_arn,
        "AppSpecification": {
            "ImageUri": image_uri,
            "ContainerEntrypoint": ["python3", "scripts/monitor.py"],
            "ContainerArguments": list(arguments),
        },
        "ProcessingResources": {
            "ClusterConfig": {"InstanceCount": 1, "InstanceType": INSTANCE_TYPE, "VolumeSizeInGB": VOLUME_GB}
        },
        "StoppingCondition": {"MaxRuntimeInSeconds": MAX_RUNTIME_S},
        "Tags": tag_list(None),
    }
    schedule: Request = {
        "Name": name,
        "ScheduleExpression": expression,
        "FlexibleTimeWindow": {"Mode": "OFF"},
        "Target": {"Arn": CREATE_PROCESSING_JOB, "RoleArn": scheduler_role_arn, "Input": json.dumps(job)},
    }
    problems = problem_lines("CreateSchedule", schedule, CONFIG_KEYS, "scheduler")
    run = job | {"ProcessingJobName": job["ProcessingJobName"].replace(EXECUTION, UUID)}
    problems += problem_lines("CreateProcessingJob", run, CONFIG_KEYS)
    if re.fullmatch(r"at\(.*\)", expression):
        problems.append(f"schedule.expression={expression} is once. Type cron(0 6 ? * MON *) or rate(7 days)")
    if len(name) > MAX_NAME_CHARACTERS:
        problems.append(f"schedule.name={name} has {len(name)} characters; at most {MAX_NAME_CHARACTERS} allowed")
    if problems:
        raise ScheduleError("\n  ".join([f"AWS would refuse the schedule, {len(problems)}:", *problems]))
    return schedule
