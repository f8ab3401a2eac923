"""Takes the parts of an account away again: a bucket with its objects, a role with its policies."""

from collections.abc import Callable
from typing import Any

from stocktake.cloud.account_part import Part
from stocktake.cloud.account_setup import AccountSetup, is_absent
from stocktake.cloud.service_calls import CallRefused

OBJECTS_AT_ONCE = 1000  # that DeleteObjects takes


class AccountTeardown(AccountSetup):
    """Deletes parts; what is gone already is passed over."""

    def about(self, part: Part) -> str:
        """Returns what goes with a part, in words."""
        if part.kind == "bucket":
            num_objects, num_bytes = 0, 0
            for page in self._object_pages(part.name):
                num_objects += len(page.get("Versions", ()))
                num_bytes += sum(version["Size"] for version in page.get("Versions", ()))
            return f"with {num_objects:,} objects, {num_bytes / 1e9:.2f} GB"
        if part.kind == "image repository":
            return "with all its images"
        return ""

    def delete(self, part: Part) -> None:
        """
        Raises:
            CallRefused: AWS refuses.
        """
        ways: dict[str, Callable[[str], Any]] = {
            "bucket": self._delete_bucket,
            "role": self._delete_role,
            "image repository": lambda name: self._ask("ecr", "DeleteRepository", repositoryName=name, force=True),
            # At once: a secret that is only marked keeps its name for a week, and the key of W&B is with W&B.
            "secret": lambda name: self._ask(
                "secretsmanager", "DeleteSecret", SecretId=name, ForceDeleteWithoutRecovery=True
            ),
            "budget": lambda _: self._ask("budgets", "DeleteBudget", **part.look.request),
        }
        try:
            ways[part.kind](part.name)
        except CallRefused as error:
            if not is_absent(error):
                raise

    def _delete_bucket(self, name: str) -> None:
        for page in self._object_pages(name):
            versions = [*page.get("Versions", ()), *page.get("DeleteMarkers", ())]
            objects = [{"Key": version["Key"], "VersionId": version["VersionId"]} for version in versions]
            if objects:
                answer = self._ask("s3", "DeleteObjects", Bucket=name, Delete={"Objects": objects, "Quiet": True})
                for error in answer.get("Errors", [])[:1]:
                    raise CallRefused(
                        f"{error['Key']}: {error.get('Message', '')} ({error.get('Code')}).", error["Code"]
                    )
        for upload in self._ask("s3", "ListMultipartUploads", Bucket=name).get("Uploads", ()):
            self._ask("s3", "AbortMultipartUpload", Bucket=name, Key=upload["Key"], UploadId=upload["UploadId"])
        self._ask("s3", "DeleteBucket", Bucket=name)

    def _object_pages(self, bucket: str):
        at: dict[str, str] = {}
        while True:
            page = self._ask("s3", "ListObjectVersions", Bucket=bucket, MaxKeys=OBJECTS_AT_ONCE, **at)
            yield page
            if not page.get("IsTruncated"):
                return
            at = {"KeyMarker": page["NextKeyMarker"], "VersionIdMarker": page["NextVersionIdMarker"]}

    def _delete_role(self, name: str) -> None:
        for policy in self._ask("iam", "ListRolePolicies", RoleName=name)["PolicyNames"]:
            self._ask("iam", "DeleteRolePolicy", RoleName=name, PolicyName=policy)
        for policy in self._ask("iam", "ListAttachedRolePolicies", RoleName=name)["AttachedPolicies"]:
            self._ask("iam", "DetachRolePolicy", RoleName=name, PolicyArn=policy["PolicyArn"])
        self._ask("iam", "DeleteRole", RoleName=name)
