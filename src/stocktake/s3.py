"""How a bucket of S3 is reached: credentials, endpoint, region, retries."""

import os
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

from obstore.store import S3Store

# Buckets that anyone may read without an account, and where they are.
PUBLIC_BUCKETS = {"aft-vbi-pds": "us-east-1"}


class StorageError(OSError):
    """A folder or an object could not be read or written; the message names it and the cure."""


@dataclass(frozen=True)
class StorageOptions:
    """How to reach S3; a local folder needs none of it.

    Attributes:
        anonymous: Send unsigned requests; `None` does so for known public buckets only.
        endpoint: URL of an S3 that is not AWS's; `None` takes `AWS_ENDPOINT_URL`, then AWS.
        profile: Name in the AWS configuration; `None` takes boto3's usual search (environment, profile, role).
        region: `None` takes boto3's, then us-east-1.
        requester_pays: Agree to pay for the requests to somebody else's bucket.
        max_retries: Tries after the first for a request that failed with a 5xx or a broken connection.
        retry_timeout_s: No further try of a request starts this long after its first.
        request_timeout_s: One try of a request may take this long.
    """

    anonymous: bool | None = None
    endpoint: str | None = None
    profile: str | None = None
    region: str | None = None
    requester_pays: bool = False
    max_retries: int = 8
    retry_timeout_s: float = 60.0
    request_timeout_s: float = 30.0


def open_bucket(url: str, options: StorageOptions) -> S3Store:
    """Opens `s3://bucket/prefix` as an obstore store.

    Raises:
        StorageError: There are no credentials for a bucket that is not public.
    """
    bucket, prefix = urlsplit(url).netloc, urlsplit(url).path.strip("/")
    return S3Store(bucket, prefix=prefix or None, **_arguments(bucket, options))


def let_fsspec_use_obstore(url: str, options: StorageOptions) -> None:
    """Makes fsspec, through which Lightning writes checkpoints, reach the bucket of `url` as this module does."""
    import fsspec
    import obstore.fsspec

    obstore.fsspec.register("s3")
    fsspec.config.conf["s3"] = _arguments(urlsplit(url).netloc, options)


def _arguments(bucket: str, options: StorageOptions) -> dict[str, Any]:
    endpoint = options.endpoint or os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    anonymous = bucket in PUBLIC_BUCKETS and not endpoint if options.anonymous is None else options.anonymous
    region = options.region or PUBLIC_BUCKETS.get(bucket)
    config = {"request_payer": True} if options.requester_pays else {}
    credentials = None
    if endpoint:
        config |= {"endpoint": endpoint, "virtual_hosted_style_request": False}
    if anonymous:
        config["skip_signature"] = True
    else:
        credentials = _credentials(bucket, options)
        region = region or credentials.config.get("region")
    return {
        "config": config | {"region": region or "us-east-1"},
        "credential_provider": credentials,
        "client_options": {
            "allow_http": bool(endpoint and endpoint.startswith("http://")),
            "timeout": timedelta(seconds=options.request_timeout_s),
        },
        "retry_config": {
            "max_retries": options.max_retries,
            "retry_timeout": timedelta(seconds=options.retry_timeout_s),
        },
    }


def _credentials(bucket: str, options: StorageOptions):
    # boto3 is only needed for a private bucket, and takes half a second to import.
    import boto3
    from botocore.exceptions import ProfileNotFound
    from obstore.auth.boto3 import Boto3CredentialProvider

    try:
        return Boto3CredentialProvider(boto3.Session(profile_name=options.profile))
    except (ProfileNotFound, ValueError) as error:
        raise StorageError(
            f"No AWS credentials for s3://{bucket} (profile={options.profile}): {error}. Run `aws configure`, "
            "set AWS_PROFILE, or, for a public bucket, type storage.anonymous=true."
        ) from error
