"""A whole AWS account on this machine: moto for S3, IAM, ECR, secrets, tags and budgets, the rehearsal for SageMaker.

What moto lacks is added here: who hears of a budget, and the tag of a training job, which the rehearsal does not keep.
"""

import json
import pathlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import boto3
from account import Account
from moto.budgets.responses import BudgetsResponse
from moto.core.models import DEFAULT_ACCOUNT_ID
from moto.iam.access_control import PermissionResult
from moto.moto_api._internal import moto_api_backend
from moto.s3.models import FakeBucket
from moto.server import ThreadedMotoServer

from stocktake.rehearsal.api_server import RehearsalServer
from stocktake.rehearsal.hosting import Hosting
from stocktake.rehearsal.job_state import REGION, Job

MOTO = ("S3", "IAM", "ECR", "SECRETS_MANAGER", "STS", "BUDGETS", "RESOURCE_GROUPS_TAGGING_API")
REHEARSED = ("SAGEMAKER", "CLOUDWATCH", "CLOUDWATCH_LOGS", "APPLICATION_AUTO_SCALING", "SCHEDULER")


def _describe_subscribers(self: BudgetsResponse) -> str:
    account, name, wanted = (self._get_param(key) for key in ("AccountId", "BudgetName", "Notification"))
    found = self.backend.budgets[account][name].notifications
    (subscribers,) = [each.subscribers for each in found if each.details == wanted]
    return json.dumps({"Subscribers": subscribers})


BudgetsResponse.describe_subscribers_for_notification = _describe_subscribers  # type: ignore[attr-defined]
# moto looks at no condition: a policy that denies what comes without TLS would deny all.
FakeBucket.get_permission = lambda self, action, resource: PermissionResult.NEUTRAL  # type: ignore[method-assign]


class Unplayed:
    """Takes training jobs, which run until they are stopped."""

    def check(self, request: dict) -> None:
        pass

    def start(self, job: Job) -> None:
        job.enter("Training")
        stop = job.stop

        def stopped() -> None:
            stop()
            job.enter("Stopped")

        job.stop = stopped  # type: ignore[method-assign]

    def log_folder(self, job_name: str) -> pathlib.Path:
        return pathlib.Path(job_name)


class Services:
    """The account's servers, as boto3 finds them in the environment.

    Attributes:
        listed: What further SageMaker lists hold: operation to its answer.
        account_id: That STS tells.
    """

    account_id = DEFAULT_ACCOUNT_ID

    def __init__(self, moto_url: str, server: RehearsalServer, account: Account, hosting: Hosting):
        self.moto_url, self.server, self.account, self.hosting = moto_url, server, account, hosting
        self.listed: dict[str, dict[str, Any]] = {
            "ListHyperParameterTuningJobs": {"HyperParameterTuningJobSummaries": []},
            "ListProcessingJobs": {"ProcessingJobSummaries": []},
        }
        sagemaker = next(service for service in server.services if getattr(service, "service", "") == "sagemaker")
        further = {name: lambda _, name=name: self.listed[name] for name in self.listed}
        sagemaker.operations = {**further, **sagemaker.operations}

    def environment(self) -> dict[str, str]:
        at = dict.fromkeys(MOTO, self.moto_url) | dict.fromkeys(REHEARSED, self.server.url)
        at |= dict.fromkeys(("SERVICE_QUOTAS", "PRICING"), self.account.url)
        return {
            **{f"AWS_ENDPOINT_URL_{service}": url for service, url in at.items()},
            "AWS_ENDPOINT_URL": "http://127.0.0.1:9",  # whom a test forgot must not be reached
            "AWS_ACCESS_KEY_ID": self.server.key.access_key_id,
            "AWS_SECRET_ACCESS_KEY": self.server.key.secret_access_key,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def client(self, service: str) -> Any:
        """Returns boto3's client of a service; the environment has to be set."""
        return boto3.Session().client(service)

    def begin_training(self, name: str, tags: dict[str, str]) -> None:
        """Begins a training job that runs until it is stopped."""
        source = {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": "s3://bins/code/"}}
        made = self.client("sagemaker").create_training_job(
            TrainingJobName=name,
            RoleArn=f"arn:aws:iam::{self.account_id}:role/Any",
            AlgorithmSpecification={"TrainingImage": "image", "TrainingInputMode": "File"},
            InputDataConfig=[{"ChannelName": "code", "DataSource": source}],
            OutputDataConfig={"S3OutputPath": "s3://bins/jobs"},
            ResourceConfig={"InstanceType": "ml.g5.xlarge", "InstanceCount": 1, "VolumeSizeInGB": 1},
            StoppingCondition={"MaxRuntimeInSeconds": 3600},
        )
        listed = [{"Key": key, "Value": value} for key, value in tags.items()]
        self.client("sagemaker").add_tags(ResourceArn=made["TrainingJobArn"], Tags=listed)


@contextmanager
def moto_server() -> Iterator[str]:
    """Runs moto, empty, and gives its URL."""
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    moto_api_backend.reset()
    host, port = server.get_host_and_port()
    try:
        yield f"http://{host}:{port}"
    finally:
        server.stop()


@contextmanager
def aws_services(folder: pathlib.Path) -> Iterator[Services]:
    """Opens an account that has nothing, whose endpoints answer from models in `folder`/s3."""
    with (
        moto_server() as url,
        Hosting(folder / "hosting", s3_folder=folder / "s3", time_scale=0.01) as hosting,
        RehearsalServer(Unplayed(), hosting=hosting) as server,
        Account() as account,
    ):
        yield Services(url, server, account, hosting)
