"""What of this project is in an account, who pays first in front: found, ended, deleted."""

import json
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from stocktake.cloud.account_part import is_own
from stocktake.cloud.endpoint_requests import PROJECT
from stocktake.cloud.endpoints import Endpoints
from stocktake.cloud.monitoring_job import CREATE_PROCESSING_JOB
from stocktake.cloud.service_calls import CallRefused, ServiceCalls

# Kinds of jobs, as AWS's operations and fields name them, and in words.
JOBS = {
    "Training": "training job",
    "HyperParameterTuning": "tuning job",
    "Transform": "batch job",
    "Processing": "processing job",
}
BEGINS_A_JOB = CREATE_PROCESSING_JOB.partition(":aws:")[2]  # in every partition
WARM_POOL = "warm pool of the training job"
# Of SageMaker's things, those that are looked for by themselves; what has ended among them cannot be deleted.
LISTED = re.compile(
    r":sagemaker:[^/]*:((training|processing|transform|hyper-parameter-tuning)-job|model|endpoint|endpoint-config|"
    r"inference-component|model-package|model-package-group)/"
)
NEWEST_FIRST = {"SortBy": "CreationTime", "SortOrder": "Descending", "MaxResults": 100}


@dataclass(frozen=True)
class Found:
    """Something of this project's.

    Attributes:
        kind: In words, such as `endpoint`.
        about: Its state and when it ends.
        is_endless: It is paid, and nothing ends it but a person.
    """

    kind: str
    name: str
    about: str = ""
    is_endless: bool = False

    def __str__(self) -> str:
        return f"{self.kind} {self.name}" + (f": {self.about}" if self.about else "")


class Inventory(ServiceCalls):
    """This project's things at SageMaker's, by their tag, and schedules, in one account and region."""

    def running(self) -> Iterator[Found]:
        """Yields what is being paid: endpoints, jobs, instances that are kept warm, and schedules that begin jobs."""
        now = datetime.now(UTC)
        for endpoint in Endpoints(self.client, self.patience).all():
            ends = "no planned end" if endpoint.ends_at is None else f"ends {endpoint.ends_at:%Y-%m-%d %H:%M} UTC"
            late = ", which is over" if endpoint.is_overdue(now) else ""
            endless = endpoint.ends_at is None or endpoint.is_overdue(now)
            yield Found("endpoint", endpoint.name, f"{endpoint.status}, {ends}{late}", endless)
        for kind, title in JOBS.items():
            for job in self._listed(
                f"List{kind}Jobs", f"{kind}JobSummaries", StatusEquals="InProgress", **NEWEST_FIRST
            ):
                if self._is_own(job[f"{kind}JobArn"]):
                    began = f"since {job['CreationTime'].astimezone(UTC):%Y-%m-%d %H:%M} UTC"
                    yield Found(title, job[f"{kind}JobName"], began)
        pools = {"WarmPoolStatusEquals": "Available", **NEWEST_FIRST}
        for job in self._listed("ListTrainingJobs", "TrainingJobSummaries", **pools):
            is_warm = job.get("WarmPoolStatus", {}).get("Status") == "Available"
            if is_warm and self._is_own(job["TrainingJobArn"]):
                yield Found(WARM_POOL, job["TrainingJobName"], "its instances are kept warm, and billed")
        for name in self._schedules():
            yield Found("schedule", name, "begins a processing job again and again", is_endless=True)

    def kept(self) -> Iterator[Found]:
        """Yields what costs nothing by itself: models, configurations, versions in the registry."""
        for kind, title in {"EndpointConfig": "endpoint configuration", "Model": "model"}.items():
            for found in self._listed(f"List{kind}s", f"{kind}s"):
                if self._is_own(found[f"{kind}Arn"]):
                    yield Found(title, found[f"{kind}Name"])
        for group in self._listed("ListModelPackageGroups", "ModelPackageGroupSummaryList"):
            if self._is_own(group["ModelPackageGroupArn"]):
                yield Found("model group", group["ModelPackageGroupName"], "with all its versions")

    def elsewhere(self, known: Sequence[str]) -> list[Found]:
        """Returns what else has this project's tag in the region, as AWS's list of tagged things has it.

        Args:
            known: Names of parts, which are not told again.
        """
        (key, value), token, found = *PROJECT.items(), {}, []
        while True:
            filters = [{"Key": key, "Values": [value]}]
            page = self._ask("resourcegroupstaggingapi", "GetResources", TagFilters=filters, **token)
            for resource in page["ResourceTagMappingList"]:
                arn = resource["ResourceARN"]
                if not LISTED.search(arn) and not any(is_named(arn, name) for name in known):
                    found.append(Found("tagged", arn))
            if not page.get("PaginationToken"):
                return found
            token = {"PaginationToken": page["PaginationToken"]}

    def end(self, found: Found, say: Callable[[str], None], poll_s: float) -> None:
        """Ends or deletes something, and waits until it is so.

        Raises:
            CallRefused: AWS refuses.
            EndpointFailed: An endpoint is no longer this project's.
        """
        if found.kind == "endpoint":
            Endpoints(self.client, self.patience).delete(found.name, say, poll_s)
            return
        for kind, title in JOBS.items():
            if found.kind == title:
                self._ask("sagemaker", f"Stop{kind}Job", **{f"{kind}JobName": found.name})
                describe = {f"{kind}JobName": found.name}
                self._at_rest(
                    lambda kind=kind, describe=describe: self._ask("sagemaker", f"Describe{kind}Job", **describe),
                    f"{kind}JobStatus",
                    found.name,
                    say,
                    poll_s,
                )
                return
        if found.kind == WARM_POOL:
            cold = {"ResourceConfig": {"KeepAlivePeriodInSeconds": 0}}
            self._ask("sagemaker", "UpdateTrainingJob", TrainingJobName=found.name, **cold)
            while self._is_warm(found.name):
                time.sleep(poll_s)
        elif found.kind == "schedule":
            self._ask("scheduler", "DeleteSchedule", Name=found.name)
        elif found.kind == "model group":
            self._delete_group(found.name)
        elif found.kind == "model":
            self._ask("sagemaker", "DeleteModel", ModelName=found.name)
        elif found.kind == "endpoint configuration":
            self._ask("sagemaker", "DeleteEndpointConfig", EndpointConfigName=found.name)
        else:
            raise CallRefused(f"{found}: scripts/aws.py does not know how to delete it. Delete it in the console.")
        say(f"Deleted: {found.kind} {found.name}")

    def _is_warm(self, job: str) -> bool:
        described = self._ask("sagemaker", "DescribeTrainingJob", TrainingJobName=job)
        return described.get("WarmPoolStatus", {}).get("Status") in ("Available", "InUse")

    def _delete_group(self, name: str) -> None:
        for version in self._listed("ListModelPackages", "ModelPackageSummaryList", ModelPackageGroupName=name):
            self._ask("sagemaker", "DeleteModelPackage", ModelPackageName=version["ModelPackageArn"])
        self._ask("sagemaker", "DeleteModelPackageGroup", ModelPackageGroupName=name)

    def _schedules(self) -> Iterator[str]:
        """Yields the schedules that begin a processing job with this project's tag; they have no tags themselves."""
        token: dict[str, str] = {}
        while True:
            page = self._ask("scheduler", "ListSchedules", GroupName="default", **token)
            for listed in page["Schedules"]:
                if listed["Target"]["Arn"].endswith(BEGINS_A_JOB):
                    target = self._ask("scheduler", "GetSchedule", Name=listed["Name"])["Target"]
                    tags = json.loads(target.get("Input") or "{}").get("Tags", [])
                    if is_own({tag["Key"]: tag["Value"] for tag in tags}):
                        yield listed["Name"]
            if not page.get("NextToken"):
                return
            token = {"NextToken": page["NextToken"]}

    def _is_own(self, arn: str) -> bool:
        tags = self._ask("sagemaker", "ListTags", ResourceArn=arn)["Tags"]
        return is_own({tag["Key"]: tag["Value"] for tag in tags})

    def _listed(self, operation: str, field: str, **which: Any) -> list[dict[str, Any]]:
        """Returns a whole list: what is deleted meanwhile would move its pages."""
        return [found for page in self._pages(operation, **which) for found in page[field]]


def is_named(arn: str, name: str) -> bool:
    """Whether an ARN is of a part of this name; Secrets Manager puts six characters behind it."""
    return re.search(rf"[:/]{re.escape(name)}(-\w{{6}})?$", arn) is not None
