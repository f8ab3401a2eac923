"""What must be there before a job is sent: credentials, region, role, bucket, quota; each lack is one clear line.

Nothing here costs money or changes anything. What the account may not look at is passed over with a line: AWS
itself will tell when the job is sent.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from stocktake.cloud.jobs import JobError, Jobs
from stocktake.storage import Folder, StorageOptions

DEFAULT_REGION = "us-east-1"  # where nothing is sent: in a dry run
MAY_NOT_LOOK = ("AccessDenied", "AccessDeniedException", "UnauthorizedOperation")


def find_region(profile: str | None, region: str | None) -> str:
    """Returns the region of a request; needs no network and no credentials."""
    return region or _session(profile, None).region_name or DEFAULT_REGION


def account_jobs(profile: str | None, region: str | None, requests: Sequence[Mapping[str, Any]]) -> Jobs:
    """Returns the training jobs of the account, once it is clear that `requests` can be sent at the same time.

    Raises:
        JobError: Something is missing, and what to do about it.
    """
    session = _session(profile, region)
    if session.region_name is None:
        raise JobError("No AWS region: type hydra.launcher.region=<region>, or set AWS_REGION.")
    if session.get_credentials() is None:
        raise JobError(
            "No AWS credentials: run `aws configure` or `aws sso login`, set AWS_PROFILE, or type "
            "hydra.launcher.profile=<name>. hydra.launcher.dry_run=true and hydra/launcher=rehearsal need none."
        )
    _check_identity(session)
    for role_arn in {request["RoleArn"] for request in requests}:
        _check_role(session, role_arn)
    for bucket in {urlsplit(request["OutputDataConfig"]["S3OutputPath"]).netloc for request in requests}:
        _check_bucket(session, bucket)
    _check_quotas(session, requests)
    options = StorageOptions(profile=profile, region=session.region_name, anonymous=False)
    return Jobs(session.client("sagemaker"), session.client("logs"), lambda url: Folder(url, options))


def _session(profile: str | None, region: str | None):
    import boto3
    from botocore.exceptions import ProfileNotFound

    try:
        return boto3.Session(profile_name=profile, region_name=region)
    except ProfileNotFound as error:
        raise JobError(
            f"hydra.launcher.profile={profile}: {error}. `aws configure list-profiles` lists them."
        ) from error


def _ask(session: Any, service: str, operation: str, what: str, **words: Any) -> dict[str, Any] | None:
    """Returns AWS's answer, or `None` where the account may not look.

    Raises:
        JobError: AWS says no, or does not answer.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        return getattr(session.client(service), operation)(**words)
    except ClientError as error:
        code, message = error.response["Error"]["Code"], error.response["Error"].get("Message", "")
        if code in MAY_NOT_LOOK:
            print(f"{what}: not checked, these credentials may not look ({operation}).")
            return None
        raise JobError(f"{what}: {message.rstrip('.')} ({code}).") from error
    except BotoCoreError as error:
        raise JobError(f"{what}: AWS does not answer: {error}") from error


def _check_identity(session: Any) -> None:
    try:
        _ask(session, "sts", "get_caller_identity", "AWS credentials")
    except JobError as error:
        raise JobError(f"{error} Log in again (`aws sso login`), or see `aws configure`.") from error


def _check_role(session: Any, role_arn: str) -> None:
    try:
        _ask(session, "iam", "get_role", "compute.role_arn", RoleName=role_arn.rpartition("/")[2])
    except JobError as error:
        raise JobError(f"{error} compute.role_arn={role_arn} must be a role of this account.") from error


def _check_bucket(session: Any, bucket: str) -> None:
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        answer = session.client("s3").head_bucket(Bucket=bucket)
        found_in = answer["ResponseMetadata"]["HTTPHeaders"].get("x-amz-bucket-region", session.region_name)
    except BotoCoreError as error:
        raise JobError(f"compute.bucket={bucket}: S3 does not answer: {error}") from error
    except ClientError as error:
        status = error.response["ResponseMetadata"]["HTTPStatusCode"]
        if status == 404:
            raise JobError(
                f"compute.bucket={bucket} does not exist. Type: aws s3 mb s3://{bucket} --region {session.region_name}"
            ) from error
        if status == 403:
            raise JobError(
                f"compute.bucket={bucket} is somebody else's, or these credentials may not see it."
            ) from error
        if status not in (301, 307):
            raise JobError(f"compute.bucket={bucket}: {error}") from error
        found_in = error.response["ResponseMetadata"]["HTTPHeaders"].get("x-amz-bucket-region", "another region")
    if found_in != session.region_name:
        raise JobError(
            f"compute.bucket={bucket} lies in {found_in}, the job would run in {session.region_name}: SageMaker wants "
            f"both in one. Type hydra.launcher.region={found_in}, or another bucket."
        )


def _check_quotas(session: Any, requests: Sequence[Mapping[str, Any]]) -> None:
    """Compares what all jobs want at the same time with the quotas, of which others may use a part."""
    wanted: Counter[str] = Counter()
    for request in requests:
        resources = request["ResourceConfig"]
        if "InstanceType" in resources:  # of several preferences AWS takes what the quota allows
            way = "spot training job" if request.get("EnableManagedSpotTraining") else "training job"
            wanted[f"{resources['InstanceType']} for {way} usage"] += resources["InstanceCount"]
    token: dict[str, str] = {}
    while wanted:
        answer = _ask(session, "service-quotas", "list_service_quotas", "Quota", ServiceCode="sagemaker", **token)
        for quota in answer["Quotas"] if answer else ():
            number = wanted.pop(quota["QuotaName"], 0)
            if number > quota["Value"]:
                raise JobError(
                    f"The account may use {quota['Value']:g} {quota['QuotaName'].replace(' usage', '')}, and "
                    f"{number} are wanted. Ask for more at https://console.aws.amazon.com/servicequotas (a day or "
                    "two), or take another of compute.instance_types or fewer compute.num_instances."
                )
        if not answer or "NextToken" not in answer:
            return
        token = {"NextToken": answer["NextToken"]}
