"""How a bucket of S3 is reached: credentials, endpoint, region, retries."""

import os
from dataclasses import dataclass
from datetime import UTC, timedelta
from pathlib import Path
from typing import Any

from obstore.store import S3Store

# Buckets that anyone may read without an account, and where they are.
PUBLIC_BUCKETS = {"aft-vbi-pds": "us-east-1"}
# Of the service that gives an instance its role's credentials. botocore tries once, which is too few where every
# worker of every rank asks in the same second: https://github.com/meta-pytorch/data/issues/906
METADATA_ATTEMPTS = 5


class StorageError(OSError):
    """A folder or an object could not be read or written; the message names it and what to do."""


@dataclass(frozen=True)
class StorageOptions:
    """How to reach S3; a local folder needs none of it.

    Attributes:
        anonymous: Send unsigned requests; `None` does so for known public buckets only.
        endpoint: URL of an S3 that is not AWS's; `None` takes `AWS_ENDPOINT_URL_S3`, `AWS_ENDPOINT_URL`, then the
            profile's `endpoint_url`, then AWS.
        profile: Name in the AWS configuration; `None` takes boto3's usual search (environment, profile, role).
        region: `None` takes boto3's, then `AWS_REGION`, then us-east-1.
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


def split_bucket(url: str) -> tuple[str, str]:
    """Returns the bucket, and the key or prefix in it, of `s3://bucket/key`.

    The name of an object is no web address: `#`, `?` and `%` in it stand for themselves.

    Raises:
        ValueError: The URL names no bucket.
    """
    bucket, _, key = url.removeprefix("s3://").partition("/")
    if not bucket:
        raise ValueError(f"{url!r} names no bucket; type s3://<bucket>/<folder>.")
    return bucket, key.strip("/")


def open_bucket(url: str, options: StorageOptions) -> S3Store:
    """Opens `s3://bucket/prefix` as an obstore store.

    Raises:
        StorageError: There are no credentials for a bucket that is not public.
    """
    bucket, prefix = split_bucket(url)
    return S3Store(bucket, prefix=prefix or None, **_arguments(bucket, options))


def let_fsspec_use_obstore(url: str, options: StorageOptions) -> None:
    """Makes fsspec, through which Lightning writes checkpoints, reach the bucket of `url` as this module does."""
    import fsspec
    from fsspec.config import conf
    from obstore.fsspec import FsspecStore

    class NamedObjects(FsspecStore):
        protocol = "s3"

        def _split_path(self, path: str) -> tuple[str, str]:
            bucket, _, key = path.removeprefix("s3://").partition("/")  # obstore's own stops at a `#`
            return bucket, key.lstrip("/")

    fsspec.register_implementation("s3", NamedObjects, clobber=True)
    conf["s3"] = _arguments(split_bucket(url)[0], options)


class Credentials:
    """Gives obstore what botocore finds, with the time at which it really expires.

    obstore asks again five minutes before that, when botocore has renewed it: it does so ten minutes before at the
    latest. obstore's own provider promises thirty minutes of whatever it is given.
    """

    def __init__(self, credentials: Any):
        """
        Args:
            credentials: botocore's, which renew themselves where they can.
        """
        self._credentials = credentials

    def __call__(self) -> dict[str, Any]:
        self._credentials.get_frozen_credentials()  # renews them if it is time
        # Read before the keys, so that it never belongs to later ones; keys that are for ever have none.
        expires_at = getattr(self._credentials, "_expiry_time", None)
        keys = self._credentials.get_frozen_credentials()
        return {
            "access_key_id": keys.access_key,
            "secret_access_key": keys.secret_key,
            "token": keys.token,
            "expires_at": expires_at and expires_at.astimezone(UTC),
        }


def are_expired(error: Exception) -> bool:
    """Says of a refused request whether its credentials were good once: a new search may find newer ones."""
    return "ExpiredToken" in str(error)


def _arguments(bucket: str, options: StorageOptions) -> dict[str, Any]:
    """Returns what S3Store takes: as boto3 would reach the bucket, under the same configuration and environment."""
    endpoint = options.endpoint or os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    region, credentials = options.region, None
    certificates = os.environ.get("AWS_CA_BUNDLE")
    anonymous = options.anonymous
    if anonymous is None and bucket in PUBLIC_BUCKETS and not endpoint:
        anonymous, region = True, region or PUBLIC_BUCKETS[bucket]  # needs nothing that boto3 knows
    else:
        session = _session(bucket, options)
        endpoint = endpoint or _endpoint_of_profile(session)
        certificates = session.get_config_variable("ca_bundle")
        region = region or PUBLIC_BUCKETS.get(bucket) or session.get_config_variable("region")
        if not anonymous:
            credentials = _credentials(session, bucket, options)
    config: dict[str, Any] = {"region": region or os.environ.get("AWS_REGION") or "us-east-1"}
    if options.requester_pays:
        config["request_payer"] = True
    if endpoint:
        config |= {"endpoint": endpoint, "virtual_hosted_style_request": False}
    if anonymous:
        config["skip_signature"] = True
    client: dict[str, Any] = {
        "allow_http": bool(endpoint and endpoint.startswith("http://")),
        "timeout": timedelta(seconds=options.request_timeout_s),
    }
    if certificates := certificates or os.environ.get("REQUESTS_CA_BUNDLE"):
        client["root_certificate"] = _read_certificates(certificates)
    return {
        "config": config,
        "credential_provider": credentials,
        "client_options": client,
        "retry_config": {
            "max_retries": options.max_retries,
            "retry_timeout": timedelta(seconds=options.retry_timeout_s),
        },
    }


def _session(bucket: str, options: StorageOptions):
    # botocore is not needed for a public bucket, and takes a third of a second to import.
    import botocore.session
    from botocore.exceptions import BotoCoreError

    session = botocore.session.Session(profile=options.profile)
    try:
        profile = session.get_scoped_config()
    except BotoCoreError as error:  # there is no such profile, or the file cannot be parsed
        raise _no_credentials(bucket, options, error) from error
    if "AWS_METADATA_SERVICE_NUM_ATTEMPTS" not in os.environ and "metadata_service_num_attempts" not in profile:
        session.set_config_variable("metadata_service_num_attempts", METADATA_ATTEMPTS)
    return session


def _endpoint_of_profile(session) -> str | None:
    """Returns the `endpoint_url` of the profile: for S3, or else for every service.

    https://docs.aws.amazon.com/sdkref/latest/guide/feature-ss-endpoints.html
    """
    if session.get_config_variable("ignore_configured_endpoint_urls"):
        return None
    profile = session.get_scoped_config()
    services = session.full_config.get("services", {}).get(profile.get("services"), {})
    return services.get("s3", {}).get("endpoint_url") or profile.get("endpoint_url")


def _credentials(session, bucket: str, options: StorageOptions) -> Credentials:
    from botocore.exceptions import BotoCoreError

    try:
        credentials = session.get_credentials()
    except BotoCoreError as error:
        raise _no_credentials(bucket, options, error) from error
    if credentials is None:
        raise _no_credentials(bucket, options, "none were found")
    return Credentials(credentials)


def _no_credentials(bucket: str, options: StorageOptions, reason: object) -> StorageError:
    return StorageError(
        f"No AWS credentials for s3://{bucket} (profile={options.profile}): {reason}. Run `aws configure`, "
        "set AWS_PROFILE, or, for a public bucket, type storage.anonymous=true."
    )


def _read_certificates(path: str) -> bytes:
    try:
        return Path(path).expanduser().read_bytes()
    except OSError as error:
        raise StorageError(
            f"The certificates in {path} cannot be read: {error.strerror}. It is named by AWS_CA_BUNDLE, by ca_bundle "
            "in the AWS configuration, or by REQUESTS_CA_BUNDLE: name a PEM file there."
        ) from error
