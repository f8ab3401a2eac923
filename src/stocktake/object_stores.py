"""From a URL to the store that obstore opens for it: a disk, S3, Google Cloud, Azure, the web or this process's memory.

S3 is reached as boto3 would (s3.py). The credentials of the other clouds are those that obstore finds in the
environment or, on a machine of that cloud, in its metadata service.
"""

import errno
import os
import stat
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import obstore
from obstore.exceptions import BaseError
from obstore.store import AzureStore, GCSStore, HTTPStore, LocalStore, MemoryStore, ObjectStore

from stocktake.s3 import StorageError, StorageOptions, open_bucket

if TYPE_CHECKING:
    from obstore.store import AzureConfig, ClientConfig, GCSConfig, RetryConfig

WEB = ("http", "https")  # read only, and a folder of it cannot be listed
# What obstore needs to know of a cloud, and from where it takes it.
HINTS = {
    "s3": "check the bucket's name, region and permissions (storage.profile, storage.region, storage.anonymous)",
    "gs": "check the bucket's name and permissions (GOOGLE_APPLICATION_CREDENTIALS=<file>.json, or "
    "storage.anonymous=true for a public one)",
    "az": "check the container's name, the account and permissions (AZURE_STORAGE_ACCOUNT_NAME with "
    "AZURE_STORAGE_ACCOUNT_KEY or AZURE_STORAGE_SAS_TOKEN, or storage.anonymous=true for a public one)",
    "http": "check the URL and whether the server is up",
    "https": "check the URL and whether the server is up",
}
LOCAL_HINTS = {
    os.strerror(errno.ENOSPC): "the disk is full: make room on it, then type the same again",
    os.strerror(errno.EROFS): "that file system can only be read: type a folder elsewhere",
    "Encountered object with invalid path": "rename that file: a name with a line break, a tab or what is not "
    "UTF-8 cannot be read here",
    "File system loop found": "remove that link, which leads back into a folder above it",
}
UNREACHED = "error sending request"  # obstore's words where no answer came at all

_memory: dict[str, MemoryStore] = {}


class ImpossibleKey(StorageError):
    """A key that no object can have."""


def scheme_of(url: str) -> str:
    """Returns `s3` of `s3://bucket`, and `file` of a plain path."""
    return url.partition("://")[0] if "://" in url else "file"


def is_s3(url: str) -> bool:
    return scheme_of(url) == "s3"


def is_local(url: str) -> bool:
    return scheme_of(url) == "file"


def local_path(url: str | os.PathLike) -> Path:
    """Returns the absolute path of a `file://` URL or of a plain path.

    Raises:
        ValueError: The URL is of another scheme.
    """
    if not is_local(os.fspath(url)):
        raise ValueError(f"{url} is not on this machine, where a folder is needed: type file:///folder or a path.")
    return Path(os.fspath(url).removeprefix("file://")).expanduser().absolute()


def join_url(url: str, *parts: str) -> str:
    return "/".join([url.rstrip("/"), *parts])


def split_url(url: str) -> tuple[str, str]:
    """Returns the folder and the name of an object, given its URL or path."""
    folder, slash, name = url.rpartition("/")
    return folder or slash or ".", name


def open_store(url: str | os.PathLike, options: StorageOptions | None = None) -> ObjectStore:
    """Opens a folder as an obstore store.

    obstore does not survive a fork: open a store in the process that uses it.

    Args:
        url: `file:///folder` or a plain path, `s3://bucket/prefix`, `gs://bucket/prefix`, `az://container/prefix`,
            `http(s)://host/folder`, or `memory://name`, which every folder of that URL in this process sees, and no
            other process.

    Raises:
        FileNotFoundError: There is no such local folder.
        NotADirectoryError: It is a file.
        StorageError: There are no credentials for a bucket that is not public.
        ValueError: The URL's scheme is none of these, or obstore needs to know more; the message says what.
    """
    url, options = os.fspath(url), options or StorageOptions()
    if is_s3(url):
        return open_bucket(url, options)
    if not is_local(url):
        return _open_remote(url, options)
    path = local_path(url)
    if path.exists() and not path.is_dir():
        raise NotADirectoryError(f"{path} is a file, not a folder.")
    if not path.is_dir():  # a mistyped folder is not made by reading from it
        raise FileNotFoundError(f"{path} does not exist.")
    return LocalStore(prefix=path)


def read_object(store: ObjectStore, url: str, key: str) -> obstore.Bytes:
    """Returns the bytes of one object of the store that was opened for `url`.

    Raises:
        StorageError: It is a pipe, a socket or a device on this machine.
        BaseError: What obstore raises.
        FileNotFoundError: Likewise.
    """
    if is_local(url) and is_endless(path := os.path.join(url.removeprefix("file://"), key)):
        raise StorageError(
            f"{path} is a pipe, a socket or a device, which may never end. Save what it gives as a file, and type that."
        )
    return obstore.get(store, key).bytes()


def is_endless(path: str) -> bool:
    """Whether something else than a file or a folder lies there."""
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):  # reading it says what is wrong
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def _open_remote(url: str, options: StorageOptions) -> ObjectStore:
    scheme = scheme_of(url)
    if scheme == "memory":
        return _memory.setdefault(url, MemoryStore())
    is_plain = "http://" in (url[:7], (options.endpoint or "")[:7])
    client: ClientConfig = {"allow_http": is_plain, "timeout": timedelta(seconds=options.request_timeout_s)}
    retries: RetryConfig = {
        "max_retries": options.max_retries,
        "retry_timeout": timedelta(seconds=options.retry_timeout_s),
    }
    if scheme in WEB:
        return HTTPStore(url, client_options=client, retry_config=retries)
    try:
        if scheme == "gs":
            google: GCSConfig = {"skip_signature": True} if options.anonymous else {}
            google |= {"base_url": options.endpoint} if options.endpoint else {}
            return GCSStore.from_url(url, config=google, client_options=client, retry_config=retries)
        if scheme == "az":
            azure: AzureConfig = {"skip_signature": True} if options.anonymous else {}
            azure |= {"endpoint": options.endpoint} if options.endpoint else {}
            return AzureStore.from_url(url, config=azure, client_options=client, retry_config=retries)
    except (BaseError, ValueError) as error:  # a URL without a bucket, no account
        raise ValueError(f"{url} cannot be opened: {_reason(error)}. Hint: {HINTS[scheme]}.") from error
    raise ValueError(
        f"{url!r} is no location to read or write: use s3://bucket/folder, gs://bucket/folder, "
        "az://container/folder, https://host/folder (to read), file:///folder or a path."
    )


def _hint(error: Exception, url: str, options: StorageOptions) -> str:
    """Returns what to do about a request to `url` that failed."""
    if "InvalidCertificate" in str(error):
        return "the server's certificate is not trusted; name a company's own with AWS_CA_BUNDLE=<file>.pem"
    scheme = scheme_of(url)
    if scheme not in HINTS:
        return next(
            (hint for sign, hint in LOCAL_HINTS.items() if sign in str(error)), "check the path and its permissions"
        )
    first = "check the network first (python scripts/doctor.py network=true); then " if UNREACHED in str(error) else ""
    return (
        f"{first}{HINTS[scheme]}, or wait and type the same again; it was tried for up to "
        f"{options.retry_timeout_s:g} s (storage.retry_timeout_s) and at most {options.max_retries + 1} times "
        "(storage.max_retries)"
    )


def explained(error: Exception, attempt: str, url: str, options: StorageOptions) -> Exception:
    """Returns what to raise instead of obstore's error: what was tried where, and what to do."""
    if isinstance(error, FileNotFoundError):
        return FileNotFoundError(f"{join_url(url, attempt.partition(' ')[2])} does not exist.")
    return StorageError(f"Could not {attempt} in {url}: {_reason(error)[:500]}. Hint: {_hint(error, url, options)}.")


def wrong_key(attempt: str, url: str) -> ImpossibleKey:
    """Returns the error of a key that obstore refuses before it sends anything."""
    verb, _, key = attempt.partition(" ")
    return ImpossibleKey(
        f"Could not {verb} {key!r} in {url}: no object is called so. A name has no line break, tab or other "
        "control character in it, and between its slashes stands neither nothing nor . or .. alone."
    )


def _reason(error: Exception) -> str:
    return " ".join(str(error).split("\n\nDebug source")[0].split())
