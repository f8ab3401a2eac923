"""Folders of objects, on disk or in S3, behind one interface (obstore), opened where they are used."""

import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import obstore
from obstore.exceptions import BaseError
from obstore.store import LocalStore, ObjectStore

from stocktake.s3 import StorageError, StorageOptions, open_bucket

# Threads that meet a folder for the first time open it once, not each for itself.
_opening = threading.Lock()


def is_s3(url: str) -> bool:
    return url.startswith("s3://")


def local_path(url: str | os.PathLike) -> Path:
    """Returns the absolute path of a `file://` URL or of a plain path."""
    return Path(os.fspath(url).removeprefix("file://")).expanduser().absolute()


def join_url(url: str, *parts: str) -> str:
    return "/".join([url.rstrip("/"), *parts])


def split_url(url: str) -> tuple[str, str]:
    """Returns the folder and the name of an object, given its URL or path."""
    folder, slash, name = url.rpartition("/")
    return folder or slash or ".", name


def open_store(url: str | os.PathLike, options: StorageOptions | None = None) -> ObjectStore:
    """Opens `s3://bucket/prefix`, `file:///folder` or a plain path as an obstore store.

    obstore does not survive a fork: open a store in the process that uses it.

    Raises:
        FileNotFoundError: There is no such local folder.
        StorageError: There are no credentials for a bucket that is not public.
        ValueError: The URL's scheme is none of these.
    """
    url, options = os.fspath(url), options or StorageOptions()
    scheme = urlsplit(url).scheme
    if is_s3(url):
        return open_bucket(url, options)
    if scheme in ("", "file"):
        path = local_path(url)
        if not path.is_dir():  # a mistyped folder is not made by reading from it
            raise FileNotFoundError(f"{path} does not exist.")
        return LocalStore(prefix=path)
    raise ValueError(f"{url!r} is not a place to read or write: use s3://bucket/prefix, file:///folder or a path.")


@dataclass
class Folder:
    """A folder of objects that may be handed to another process: each process opens its own store."""

    url: str
    options: StorageOptions = field(default_factory=StorageOptions)

    def __post_init__(self):
        self.url = self.url if "://" in self.url else str(local_path(self.url))
        self._store, self._pid = None, None

    def __getstate__(self):
        return {"url": self.url, "options": self.options, "_store": None, "_pid": None}

    @property
    def store(self) -> ObjectStore:
        with _opening:
            if not self._is_open:
                self._store, self._pid = open_store(self.url, self.options), os.getpid()
        return self._store

    @property
    def _is_open(self) -> bool:
        return self._pid == os.getpid()

    def create(self) -> None:
        """Makes a local folder that is to be written to; a bucket must be there."""
        if not is_s3(self.url):
            local_path(self.url).mkdir(parents=True, exist_ok=True)

    def read(self, key: str) -> bytes:
        """Returns the bytes of one object.

        Raises:
            FileNotFoundError: There is no such object.
            StorageError: It could not be read within the retry budget.
        """
        return bytes(self._get(key))

    def read_writable(self, key: str) -> bytearray:
        """As `read`, into memory that may be written to, which spares a copy those who need such."""
        return bytearray(self._get(key))

    def _get(self, key: str) -> obstore.Bytes:
        try:
            return obstore.get(self.store, key).bytes()
        except (BaseError, FileNotFoundError) as error:  # obstore raises Python's own for an object that is not there
            raise self.explained(error, f"read {key}") from error

    def write(self, key: str, content: bytes) -> None:
        """Writes one object whole or not at all.

        Raises:
            StorageError: It could not be written.
        """
        if not self._is_open:
            self.create()
        try:
            obstore.put(self.store, key, content)
        except BaseError as error:
            raise self.explained(error, f"write {key}") from error

    def remove(self, key: str) -> None:
        """Removes one object.

        Raises:
            StorageError: It could not be removed.
        """
        try:
            obstore.delete(self.store, key)
        except BaseError as error:
            raise self.explained(error, f"remove {key}") from error

    def size(self, key: str) -> int | None:
        """Returns the size of one object in bytes, `None` if there is no such object."""
        try:
            return obstore.head(self.store, key)["size"]
        except FileNotFoundError:
            return None
        except BaseError as error:
            raise self.explained(error, f"look for {key}") from error

    def exists(self, key: str) -> bool:
        return self.size(key) is not None

    def sizes(self, prefix: str = "") -> Iterator[tuple[str, int]]:
        """Yields the key and the size in bytes of every object under `prefix`, page by page."""
        try:
            for page in obstore.list(self.store, prefix or None):
                yield from ((item["path"], item["size"]) for item in page)
        except FileNotFoundError:
            return
        except BaseError as error:
            raise self.explained(error, f"list {prefix or 'it'}") from error

    def explained(self, error: Exception, attempt: str) -> Exception:
        """Returns what to raise instead of obstore's error: what was tried where, and what to do."""
        if isinstance(error, FileNotFoundError):
            return FileNotFoundError(f"{join_url(self.url, attempt.split()[-1])} does not exist.")
        cures = "check the path and its permissions"
        if is_s3(self.url):
            cures = (
                "check the bucket's name, region and permissions (storage.profile, storage.region, storage.anonymous), "
                f"or wait and type the same again; it was tried for up to {self.options.retry_timeout_s:g} s "
                f"(storage.retry_timeout_s) and at most {self.options.max_retries + 1} times (storage.max_retries)"
            )
        reason = " ".join(str(error).split("\n\nDebug source")[0].split())
        return StorageError(f"Could not {attempt} in {self.url}: {reason[:500]}. Cure: {cures}.")
