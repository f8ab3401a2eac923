"""SageMaker's model registry: groups of model packages, whose versions are approved or rejected."""

import threading
import time
from collections.abc import Mapping
from typing import Any

from stocktake.rehearsal.api_protocols import Operations
from stocktake.rehearsal.job_state import RequestRefused
from stocktake.rehearsal.listing import page
from stocktake.rehearsal.resource_store import arn
from stocktake.rehearsal.tag_api import Tags

GROUP, PACKAGE = "model-package-group", "model-package"
SUMMARY_FIELDS = (
    "ModelPackageName",
    "ModelPackageGroupName",
    "ModelPackageVersion",
    "ModelPackageArn",
    "ModelPackageDescription",
    "CreationTime",
    "ModelPackageStatus",
    "ModelApprovalStatus",
)


class ModelRegistry:
    """The groups and packages of the rehearsed account; any thread may call its methods."""

    def __init__(self, tags: Tags):
        self.tags = tags
        self._groups: dict[str, dict[str, Any]] = {}
        self._packages: dict[str, dict[str, Any]] = {}  # by ARN
        self._num_versions: dict[str, int] = {}  # a version's number is not given again
        self._by_token: dict[str, dict[str, str]] = {}  # answers, by the token of the call: made again it gets the same
        self._lock = threading.Lock()

    def operations(self) -> Operations:
        return {
            "CreateModelPackageGroup": self._create_group,
            "DescribeModelPackageGroup": lambda request: dict(self._group(request["ModelPackageGroupName"])),
            "ListModelPackageGroups": self._list_groups,
            "DeleteModelPackageGroup": self._delete_group,
            "CreateModelPackage": self._create,
            "DescribeModelPackage": lambda request: dict(self._package(request["ModelPackageName"])),
            "ListModelPackages": self._list,
            "UpdateModelPackage": self._update,
            "DeleteModelPackage": self._delete,
        }

    def container(self, package: str) -> Mapping[str, Any]:
        """Returns the container of a package, given its ARN or name, as CreateModel takes one.

        Raises:
            RequestRefused: There is no such package.
        """
        return self._package(package)["InferenceSpecification"]["Containers"][0]

    def _group(self, name: str) -> dict[str, Any]:
        name = name.rpartition("/")[2]  # an ARN names it, too
        with self._lock:
            if name not in self._groups:
                raise RequestRefused("ValidationException", f"ModelPackageGroup {arn(GROUP, name)} does not exist.")
            return self._groups[name]

    def _package(self, name: str) -> dict[str, Any]:
        key = name if name.startswith("arn:") else arn(PACKAGE, name)
        with self._lock:
            if key not in self._packages:
                raise RequestRefused("ValidationException", f"ModelPackage {key} does not exist.")
            return self._packages[key]

    def _create_group(self, request: Mapping) -> dict:
        name = request["ModelPackageGroupName"]
        group = {key: value for key, value in request.items() if key != "Tags"} | {
            "ModelPackageGroupArn": arn(GROUP, name),
            "ModelPackageGroupStatus": "Completed",
            "CreationTime": time.time(),
            "CreatedBy": {},
        }
        with self._lock:
            if name in self._groups:
                text = f"Model Package Group already exists: {group['ModelPackageGroupArn']}"
                raise RequestRefused("ValidationException", text)
            self._groups[name] = group
        self.tags.keep(group["ModelPackageGroupArn"], request)
        return {"ModelPackageGroupArn": group["ModelPackageGroupArn"]}

    def _list_groups(self, request: Mapping) -> dict:
        with self._lock:
            groups = [
                {key: value for key, value in group.items() if key != "CreatedBy"} for group in self._groups.values()
            ]
        return page(groups, request, "ModelPackageGroup", "ModelPackageGroupSummaryList")

    def _delete_group(self, request: Mapping) -> dict:
        group = self._group(request["ModelPackageGroupName"])
        name = group["ModelPackageGroupName"]
        with self._lock:
            if any(package.get("ModelPackageGroupName") == name for package in self._packages.values()):
                raise RequestRefused("ConflictException", f"{group['ModelPackageGroupArn']} still has model packages.")
            del self._groups[name]
        self.tags.forget(group["ModelPackageGroupArn"])
        return {}

    def _create(self, request: Mapping) -> dict:
        token = request.get("ClientToken", "")
        if token in self._by_token:
            return dict(self._by_token[token])
        package = {key: value for key, value in request.items() if key not in ("Tags", "ClientToken")}
        if ("ModelPackageName" in request) == ("ModelPackageGroupName" in request):
            raise RequestRefused(
                "ValidationException", "Give a ModelPackageName or a ModelPackageGroupName, one of them."
            )
        if "ModelPackageGroupName" in request:
            name = self._group(request["ModelPackageGroupName"])["ModelPackageGroupName"]
            with self._lock:
                version = self._num_versions[name] = self._num_versions.get(name, 0) + 1
            package |= {"ModelPackageGroupName": name, "ModelPackageName": name, "ModelPackageVersion": version}
            package["ModelPackageArn"] = f"{arn(PACKAGE, name)}/{version}"
            package.setdefault("ModelApprovalStatus", "PendingManualApproval")
        else:
            package["ModelPackageArn"] = arn(PACKAGE, request["ModelPackageName"])
        now = time.time()
        package |= {"CreationTime": now, "LastModifiedTime": now, "ModelPackageStatus": "Completed"}
        package["ModelPackageStatusDetails"] = {"ValidationStatuses": [], "ImageScanStatuses": []}
        with self._lock:
            if package["ModelPackageArn"] in self._packages:
                raise RequestRefused("ConflictException", f"Model Package already exists: {package['ModelPackageArn']}")
            self._packages[package["ModelPackageArn"]] = package
        self.tags.keep(package["ModelPackageArn"], request)
        answer = {"ModelPackageArn": package["ModelPackageArn"]}
        if token:
            self._by_token[token] = answer
        return answer

    def _list(self, request: Mapping) -> dict:
        group, approval = request.get("ModelPackageGroupName"), request.get("ModelApprovalStatus")
        group = group and self._group(group)["ModelPackageGroupName"]
        with self._lock:
            summaries = [
                {field: package[field] for field in SUMMARY_FIELDS if field in package}
                for package in self._packages.values()
                if package.get("ModelPackageGroupName") == group
                and approval in (None, package.get("ModelApprovalStatus"))
            ]
        return page(summaries, request, "ModelPackage", "ModelPackageSummaryList")

    def _update(self, request: Mapping) -> dict:
        package = self._package(request["ModelPackageArn"])
        changes = {key: value for key, value in request.items() if key not in ("ModelPackageArn", "ClientToken")}
        metadata = {**package.get("CustomerMetadataProperties", {}), **changes.pop("CustomerMetadataProperties", {})}
        for key in changes.pop("CustomerMetadataPropertiesToRemove", ()):
            metadata.pop(key, None)
        added = changes.pop("AdditionalInferenceSpecificationsToAdd", [])
        with self._lock:
            package.update(changes, LastModifiedTime=time.time())
            if metadata:
                package["CustomerMetadataProperties"] = metadata
            if added:
                package.setdefault("AdditionalInferenceSpecifications", []).extend(added)
        return {"ModelPackageArn": package["ModelPackageArn"]}

    def _delete(self, request: Mapping) -> dict:
        package_arn = self._package(request["ModelPackageName"])["ModelPackageArn"]
        with self._lock:
            self._packages.pop(package_arn, None)
        self.tags.forget(package_arn)
        return {}
