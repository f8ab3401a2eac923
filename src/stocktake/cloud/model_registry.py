"""SageMaker's model registry: a model as a version of a group, with its figures and what it was made of.

A group has model packages, numbered from 1. Each names image and model.tar.gz, so that whoever may approve it can
deploy it without this project; `CreateModel` takes it by its ARN once it is approved.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from stocktake.cloud.deployment import Call
from stocktake.cloud.endpoint_requests import Request, tag_list
from stocktake.cloud.service_calls import ServiceCalls

APPROVED, PENDING = "Approved", "PendingManualApproval"
MAX_TOKEN_CHARACTERS = 36
# Path in a request: the key of conf/promote.yaml that sets it.
CONFIG_KEYS = {
    "ModelPackageGroupName": "registry",
    "ModelApprovalStatus": "approval",
    "InferenceSpecification.Containers.Image": "image_uri",
    "InferenceSpecification.Containers.ModelDataUrl": "bucket",
    "InferenceSpecification.Containers.Environment": "environment",
    "InferenceSpecification.SupportedRealtimeInferenceInstanceTypes": "instance_type",
    "ModelMetrics": "bucket",
    "CustomerMetadataProperties": "challenger",
    "Tags": "tags",
}


@dataclass(frozen=True)
class RegisteredModel:
    """A model as a group of the registry keeps it.

    Attributes:
        model_url: Of model.tar.gz in S3.
        metrics_url: Of the evaluation's metrics.json in S3.
        content_types: That the server takes.
        properties: What it was made of, and how well it counts; what is None is left out.
        commit: Of the code that exported it; None where that is not known.
        approval: `Approved`, or `PendingManualApproval` until a person looks at it.
        environment: Of the container.
        tags: Of the group; its packages have none of their own.
    """

    group: str
    description: str
    image_uri: str
    model_url: str
    metrics_url: str
    content_types: Sequence[str]
    instance_type: str
    properties: Mapping[str, str | None]
    commit: str | None = None
    approval: str = PENDING
    environment: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)

    def group_call(self) -> Call:
        request = {
            "ModelPackageGroupName": self.group,
            "ModelPackageGroupDescription": "Models that count the items in a photo of a warehouse bin.",
            "Tags": tag_list(self.tags),
        }
        return Call("sagemaker", "CreateModelPackageGroup", request)

    def package_call(self) -> Call:
        container = {"Image": self.image_uri, "ModelDataUrl": self.model_url, "Environment": dict(self.environment)}
        request: Request = {
            "ModelPackageGroupName": self.group,
            "ModelPackageDescription": self.description,
            "InferenceSpecification": {
                "Containers": [container],
                "SupportedContentTypes": list(self.content_types),
                "SupportedResponseMIMETypes": ["application/json"],
                "SupportedRealtimeInferenceInstanceTypes": [self.instance_type],
            },
            "ModelMetrics": {
                "ModelQuality": {"Statistics": {"ContentType": "application/json", "S3Uri": self.metrics_url}}
            },
            "CustomerMetadataProperties": {key: value for key, value in self.properties.items() if value is not None},
            "ModelApprovalStatus": self.approval,
        }
        if self.commit is not None:
            request["MetadataProperties"] = {"CommitId": self.commit}
        # A call that is made again, because nobody heard its answer, makes no second version.
        digest = hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()
        request["ClientToken"] = digest[:MAX_TOKEN_CHARACTERS]
        return Call("sagemaker", "CreateModelPackage", request)

    def calls(self) -> list[Call]:
        return [self.group_call(), self.package_call()]


class ModelRegistry(ServiceCalls):
    """The registry of one account and region."""

    def has_group(self, name: str) -> bool:
        pages = self._pages("ListModelPackageGroups", NameContains=name, MaxResults=100)
        return any(
            group["ModelPackageGroupName"] == name for page in pages for group in page["ModelPackageGroupSummaryList"]
        )

    def register(self, model: RegisteredModel) -> str:
        """Makes a version of a model's group, which is made where it is not there; returns the version's ARN."""
        if not self.has_group(model.group):
            self.send(model.group_call())
        return self.send(model.package_call())["ModelPackageArn"]

    def newest_approved(self, group: str) -> dict[str, Any] | None:
        """Returns the newest approved version as DescribeModelPackage gives it, None where there is none."""
        if not self.has_group(group):
            return None
        newest_first = {"SortBy": "CreationTime", "SortOrder": "Descending", "MaxResults": 1}
        wanted = {"ModelPackageGroupName": group, "ModelApprovalStatus": APPROVED}
        found = self._ask("sagemaker", "ListModelPackages", **wanted, **newest_first)["ModelPackageSummaryList"]
        if not found:
            return None
        return self._ask("sagemaker", "DescribeModelPackage", ModelPackageName=found[0]["ModelPackageArn"])
