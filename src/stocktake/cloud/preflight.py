"""What must be there before a job is sent: credentials, region, role, bucket, quota; each lack is one clear line.

Nothing here costs money or changes anything. What the account may not look at is passed over with a line: AWS
itself will say so when the job is sent.
"""

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache, partial
from typing import Any
from urllib.parse import urlsplit

from stocktake.cloud.client import JobError, Jobs
from stocktake.cloud.price_list import hourly_usd
from stocktake.storage import Folder, StorageOptions

DEFAULT_REGION = "us-east-1"  # where nothing is sent: in a dry run
MAY_NOT_LOOK = ("AccessDenied", "AccessDeniedException", "UnauthorizedOperation")


def find_region(profile: str | None, region: str | None) -> str | None:
    """Returns the region of a request, `None` where none is set; needs no network and no credentials."""
    return region or session(profile, None).region_name


def no_region(key: str = "hydra.launcher.region") -> str:
    """Returns what to say where no region is set; `key` sets it in the user's configuration."""
    set_in_vain = "AWS_REGION" in os.environ
    aside = f" (AWS_REGION={os.environ['AWS_REGION']} is set, which boto3 does not read)" if set_in_vain else ""
    named = os.environ.get("AWS_REGION", "<region>")
    return f"No AWS region is set{aside}. Type {key}={named}, or: export AWS_DEFAULT_REGION={named}"


def account_jobs(aws: Any, profile: str | None = None) -> Jobs:
    """Returns the training jobs of the account.

    Args:
        aws: A boto3 session.
        profile: Its name in the AWS configuration.
    """
    from botocore.config import Config

    options = StorageOptions(profile=profile, region=aws.region_name, anonymous=False)
    # Further tries are `Patience`'s, which waits longer and says so.
    hurried = Config(connect_timeout=10, read_timeout=30, retries={"mode": "standard", "total_max_attempts": 3})
    return Jobs(
        aws.client("sagemaker", config=hurried),
        aws.client("logs", config=hurried),
        lambda url: Folder(url, options),
        cache(partial(hourly_usd, aws)),
    )


def account_problems(aws: Any, requests: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yields what keeps the account from running `requests` at the same time, and what to do about it.

    Args:
        aws: A boto3 session.
    """
    if aws.region_name is None:
        yield no_region()
        return
    if aws.get_credentials() is None:
        yield (
            "No AWS credentials: run `aws configure` or `aws sso login`, set AWS_PROFILE, or type "
            "hydra.launcher.profile=<name>. hydra.launcher.dry_run=true and hydra/launcher=rehearsal need none."
        )
        return
    try:
        check_identity(aws)
    except JobError as error:  # the rest would say the same
        yield str(error)
        return
    role_arns = {request["RoleArn"] for request in requests}
    buckets = {urlsplit(request["OutputDataConfig"]["S3OutputPath"]).netloc for request in requests}
    checks = [partial(check_role, aws, role_arn) for role_arn in sorted(role_arns)]
    checks += [partial(check_bucket, aws, bucket) for bucket in sorted(buckets)]
    checks += [partial(_check_quotas, aws, requests)]
    for check in checks:
        try:
            check()
        except JobError as error:
            yield str(error)


def session(profile: str | None, region: str | None, key: str = "hydra.launcher.profile"):
    """Returns a boto3 session; `key` sets the profile in the user's configuration.

    Raises:
        JobError: There is no such profile.
    """
    import boto3
    from botocore.exceptions import ProfileNotFound

    try:
        return boto3.Session(profile_name=profile, region_name=region)
    except ProfileNotFound as error:
        raise JobError(f"{key}={profile}: {error}. `aws configure list-profiles` lists them.") from error


def _ask(session: Any, service: str, operation: str, what: str, **request: Any) -> dict[str, Any] | None:
    """Returns AWS's answer, or `None` where the account may not look.

    Raises:
        JobError: AWS says no, or does not answer.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        return getattr(session.client(service), operation)(**request)
    except ClientError as error:
        code, message = error.response["Error"]["Code"], error.response["Error"].get("Message", "")
        if code in MAY_NOT_LOOK:
            print(f"{what}: not checked, these credentials may not look ({operation}).")
            return None
        raise JobError(f"{what}: {message.rstrip('.')} ({code}).") from error
    except BotoCoreError as error:
        raise JobError(f"{what}: AWS does not answer: {error}") from error


def check_identity(session: Any) -> None:
    try:
        _ask(session, "sts", "get_caller_identity", "AWS credentials")
    except JobError as error:
        raise JobError(f"{error} Log in again (`aws sso login`), or see `aws configure`.") from error


def check_role(session: Any, role_arn: str, key: str = "compute.role_arn") -> None:
    """Asks IAM for a role, which `key` sets in the user's configuration.

    Raises:
        JobError: The account has none of that name.
    """
    try:
        _ask(session, "iam", "get_role", key, RoleName=role_arn.rpartition("/")[2])
    except JobError as error:
        raise JobError(f"{error} {key}={role_arn} must be a role of this account.") from error


def check_bucket(
    session: Any, bucket: str, key: str = "compute.bucket", region_key: str = "hydra.launcher.region"
) -> None:
    """Asks S3 for a bucket, which `key` sets in the user's configuration, as `region_key` does the region.

    Raises:
        JobError: It is not there, or somebody else's, or in another region.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        response = session.client("s3").head_bucket(Bucket=bucket)
        found_in = response["ResponseMetadata"]["HTTPHeaders"].get("x-amz-bucket-region", session.region_name)
    except BotoCoreError as error:
        raise JobError(f"{key}={bucket}: S3 does not answer: {error}") from error
    except ClientError as error:
        status = error.response["ResponseMetadata"]["HTTPStatusCode"]
        if status == 404:
            raise JobError(
                f"{key}={bucket} does not exist. Type: aws s3 mb s3://{bucket} --region {session.region_name}"
            ) from error
        if status == 403:
            raise JobError(f"{key}={bucket} is somebody else's, or these credentials may not see it.") from error
        if status not in (301, 307):
            raise JobError(f"{key}={bucket}: {error}") from error
        found_in = error.response["ResponseMetadata"]["HTTPHeaders"].get("x-amz-bucket-region", "another region")
    if found_in != session.region_name:
        raise JobError(
            f"{key}={bucket} lies in {found_in}, what is made would run in {session.region_name}: SageMaker wants "
            f"both in one. Type {region_key}={found_in}, or another bucket."
        )


def _check_quotas(session: Any, requests: Sequence[Mapping[str, Any]]) -> None:
    """Compares what all jobs want at the same time with the quotas, of which others may use a part."""
    wanted: Counter[str] = Counter()
    for request in requests:
        resources = request["ResourceConfig"]
        if "InstanceType" in resources:  # of several preferences AWS takes what the quota allows
            way = "spot training job" if request.get("EnableManagedSpotTraining") else "training job"
            wanted[f"{resources['InstanceType']} for {way} usage"] += resources["InstanceCount"]
    for name, value in quotas(session, wanted).items():
        if wanted[name] > value:
            raise JobError(
                f"The account may use {value:g} {name.replace(' usage', '')}, and {wanted[name]} are wanted. Ask for "
                "more at https://console.aws.amazon.com/servicequotas (a day or two), or take another of "
                "compute.instance_types or fewer compute.num_instances."
            )


def quotas(session: Any, names: Iterable[str]) -> dict[str, float]:
    """Returns the account's quotas of these names, as far as it may look at them.

    Raises:
        JobError: AWS does not answer.
    """
    wanted, found, token = set(names), {}, {}
    while wanted - found.keys():
        response = _ask(session, "service-quotas", "list_service_quotas", "Quota", ServiceCode="sagemaker", **token)
        for quota in response["Quotas"] if response else ():
            if quota["QuotaName"] in wanted:
                found[quota["QuotaName"]] = quota["Value"]
        if not response or "NextToken" not in response:
            break
        token = {"NextToken": response["NextToken"]}
    return found
