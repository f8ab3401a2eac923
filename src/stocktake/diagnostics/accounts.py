"""What the doctor says of accounts: AWS, what SageMaker wants there, W&B."""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass

from stocktake.diagnostics.credentials import aws_source, wandb_key_source

SAGEMAKER = "only hydra/launcher=sagemaker wants one"
INSTANCE_TYPE = "ml.g5.xlarge"  # the first of compute.instance_types


@dataclass(frozen=True)
class Finding:
    """One line: what was looked for, what is there, and, where `hint` is set, what is missing and what to type.

    Attributes:
        stops_training: Without it no training starts, so the command ends with exit code 1.
    """

    subject: str
    detail: str
    hint: str | None = None
    stops_training: bool = False


def aws(network: bool) -> Finding:
    """By which method AWS credentials would be found; only with `network` whether AWS accepts them."""
    subject, purpose = "AWS credentials", "only private buckets need any"
    try:
        source = aws_source()
    except ValueError as error:
        return Finding(subject, str(error), "unset AWS_PROFILE, or: aws configure --profile $AWS_PROFILE")
    if not network:
        if source is None:
            return Finding(
                subject,
                f"none found; {purpose}",
                "aws configure   # or on an EC2 instance: python scripts/doctor.py network=true",
            )
        return Finding(subject, f"{source} (not tried: network=true)")

    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        hurried = Config(connect_timeout=5, read_timeout=5, retries={"total_max_attempts": 2})
        region = boto3.Session().region_name or "us-east-1"
        identity = boto3.Session(region_name=region).client("sts", config=hurried).get_caller_identity()
    except (BotoCoreError, ClientError, ValueError) as error:
        hint = "aws sso login" if source and source.startswith("single sign-on") else "aws configure"
        return Finding(subject, f"{source or 'none found'}; {purpose}: {error}", hint)
    return Finding(subject, f"{source or 'the role of this machine'}: {identity['Arn']}")


def wandb() -> Finding:
    source = wandb_key_source()
    if source is None:
        return Finding("W&B key", "not found, so runs are kept offline in their folder", "wandb login")
    return Finding("W&B key", f"found in {source}, so runs go online")


def sagemaker(network: bool) -> Iterator[Finding]:
    """Region, bucket and role for jobs; only with `network` whether they are there, and the quotas."""
    from stocktake.cloud.client import JobError
    from stocktake.cloud.preflight import check_bucket, check_role, find_region, no_region, quotas, session

    try:
        region, found = find_region(None, None), session(None, None)
    except JobError as error:
        yield Finding("SageMaker", str(error), "unset AWS_PROFILE, or: aws configure --profile $AWS_PROFILE")
        return
    if region is None:
        yield Finding("SageMaker region", no_region().split(". Type")[0], "export AWS_DEFAULT_REGION=<region>")
    else:
        yield Finding("SageMaker region", region)
    for subject, variable, check, hint in (
        ("bucket", "STOCKTAKE_BUCKET", check_bucket, "export STOCKTAKE_BUCKET=<name>"),
        ("role", "STOCKTAKE_ROLE", check_role, "export STOCKTAKE_ROLE=arn:aws:iam::<account>:role/<name>"),
    ):
        value = os.environ.get(variable)
        if not value:
            yield Finding(f"SageMaker {subject}", f"{variable} is not set; {SAGEMAKER}", hint)
        elif not (network and region):
            yield Finding(f"SageMaker {subject}", f"{value} (not tried: network=true)")
        else:
            try:
                check(found, value)
                yield Finding(f"SageMaker {subject}", value)
            except JobError as error:
                yield Finding(f"SageMaker {subject}", _in_one_line(error), hint)
    if network and region:
        yield from _quotas(found, quotas)


def _quotas(found, quotas) -> Iterator[Finding]:
    from stocktake.cloud.client import JobError

    names = [f"{INSTANCE_TYPE} for {way} usage" for way in ("training job", "spot training job")]
    try:
        numbers = quotas(found, names)
    except JobError as error:
        yield Finding("SageMaker quota", _in_one_line(error), "aws configure")
        return
    for name in names:
        number = numbers.get(name)
        quota = "not reported" if number is None else f"{number:g}"
        hint = "https://console.aws.amazon.com/servicequotas   # ask for more: a day or two" if number == 0 else None
        yield Finding("SageMaker quota", f"{name}: {quota}", hint)


def _in_one_line(error: Exception) -> str:
    return re.sub(r"\s+", " ", str(error))
