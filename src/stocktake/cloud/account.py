"""An AWS account as this project uses it: where it is, what there is called, and who may do what.

What is allowed stands in policies/*.json, which terraform/ reads as well: `${name}` means there what it does here.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any

from stocktake.cloud.training_images import ACCOUNTS, OLDER_ACCOUNTS, SHARED_ACCOUNT

POLICIES = Path(__file__).parent / "policies"
NO_ACCOUNT = "000000000000"  # stands in a dry run where no account is known
# Whom a policy is for, as `whom=` names it.
PEOPLE = ("person", "setup", "job", "job_trust", "scheduler", "scheduler_trust", "bucket")
BUCKET_NAME = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")

Document = dict[str, Any]


class AccountError(ValueError):
    """Something is missing or wrong in the account, or in what was typed; the message says what to do."""


@dataclass(frozen=True)
class Account:
    """Where everything is made, and under which names. All names but the bucket's are the region's own.

    Attributes:
        partition: `aws`, `aws-cn` or `aws-us-gov`.
        name: Begins all names.
        set_bucket: The bucket's name; None makes one of name, account and region.
        kms_key: ARN of a key of KMS's that encrypts the bucket, and that jobs may use.
        has_vpc: Jobs may run in subnets.
        data_buckets: Further buckets, which jobs may read.
    """

    partition: str
    region: str
    account: str
    name: str = "stocktake"
    set_bucket: str | None = None
    kms_key: str | None = None
    has_vpc: bool = False
    data_buckets: Sequence[str] = ()
    checkpoint_days: int = 30
    budget_usd: float | None = None
    budget_email: str | None = None

    @property
    def bucket(self) -> str:
        return self.set_bucket or f"{self.name}-{self.account}-{self.region}"

    @property
    def job_role(self) -> str:
        return f"{self.name}-job-{self.region}"

    @property
    def scheduler_role(self) -> str:
        return f"{self.name}-scheduler-{self.region}"

    @property
    def repositories(self) -> list[str]:
        return [self.name, f"{self.name}-serving", f"{self.name}-monitoring"]

    @property
    def secret(self) -> str:
        return f"{self.name}/wandb"

    @property
    def budget(self) -> str:
        return f"{self.name}-{self.region}"

    def role_arn(self, role: str) -> str:
        return f"arn:{self.partition}:iam::{self.account}:role/{role}"

    def document(self, whom: str, **further: str) -> Document:
        """Returns a policy of policies/ with this account's names in it."""
        values = {
            "partition": self.partition,
            "region": self.region,
            "account": self.account,
            "name": self.name,
            "bucket": self.bucket,
            "kms_key": self.kms_key or "",
            "image_account": _image_account(self.region),
        }
        return json.loads(Template((POLICIES / f"{whom}.json").read_text()).substitute(values | further))

    def policy(self, whom: str) -> Document:
        """Returns all that somebody of PEOPLE may do, as one document."""
        parts = [self.document(whom)]
        if self.kms_key and whom in ("job", "person"):  # who writes into the bucket, and has volumes encrypted
            parts.append(self.document("kms"))
        if whom == "job":
            parts += [self.document("job_vpc")] if self.has_vpc else []
            parts += [self.document("job_data", data_bucket=bucket) for bucket in self.data_buckets]
        return parts[0] | {"Statement": [statement for part in parts for statement in part["Statement"]]}

    def problems(self) -> list[str]:
        """Returns what is wrong with the names, a line each."""
        buckets = {"bucket": self.bucket, **{f"data_buckets={bucket}": bucket for bucket in self.data_buckets}}
        found = [
            f"{key}: {bucket!r} is no bucket's name: 3 to 63 small letters, digits, hyphens and dots. Type another"
            for key, bucket in buckets.items()
            if not BUCKET_NAME.fullmatch(bucket)
        ]
        if self.kms_key and not re.fullmatch(r"arn:[\w-]+:kms:[\w-]+:\d{12}:key/[\w-]+", self.kms_key):
            found.append(
                f"kms_key={self.kms_key} is no ARN of a key, which a policy needs. Type "
                f"kms_key=arn:{self.partition}:kms:{self.region}:{self.account}:key/<id>"
            )
        return found


def _image_account(region: str) -> str:
    """Returns the account in which AWS keeps its PyTorch images for a region."""
    older = OLDER_ACCOUNTS.get(region)
    return older[0] if older else ACCOUNTS.get(region, SHARED_ACCOUNT)
