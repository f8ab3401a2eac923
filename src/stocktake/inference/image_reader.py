"""Images on the disk, in S3 and on the web, found and read one by one."""

import http.client
import os
import stat
import urllib.error
import urllib.request
from functools import cache
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

import obstore
from obstore.exceptions import BaseError

from stocktake.images.decoding import MAX_BYTES
from stocktake.inference.web import open_response
from stocktake.s3 import split_bucket
from stocktake.storage import Folder, StorageOptions, is_s3, local_path

SUFFIXES = (".jpg", ".jpeg", ".png", ".gif", ".webp")  # what is taken from a folder
# What finding, reading and decoding can raise; StorageError is an OSError, UndecodableImage a ValueError.
READ_ERRORS = (OSError, ValueError, http.client.HTTPException)


class ImageReader:
    """Reads images from the disk, from S3 and from the web."""

    def __init__(self, storage: StorageOptions, max_bytes: int, timeout_s: float):
        """
        Args:
            storage: How to reach S3.
            max_bytes: A larger file is refused before it is read.
            timeout_s: A web server may take this long for its whole answer.

        Raises:
            ValueError: `max_bytes` is more than any image may have, or nothing.
        """
        if not 0 < max_bytes <= MAX_BYTES:
            raise ValueError(
                f"max_mib={max_bytes / 2**20:g} is out of range: images of up to {MAX_BYTES / 2**20:g} MiB are read. "
                f"Type max_mib={MAX_BYTES / 2**20:g} or less."
            )
        self.max_bytes, self.timeout_s = max_bytes, timeout_s
        self._bucket = cache(lambda name: Folder(f"s3://{name}", storage))

    def expand(self, url: str) -> list[str]:
        """Returns the images under a folder, by name and however deep, or else the URL itself.

        What is named as an image and is no file, and a folder that cannot be looked into, is among them: `read` says
        what is wrong with it.

        Raises:
            ValueError: The folder holds no image.
            StorageError: A bucket could not be listed.
        """
        scheme = urlsplit(url).scheme
        if scheme in ("http", "https"):
            return [url]
        if is_s3(url):
            if _is_image(url):
                return [url]
            bucket, prefix = split_bucket(url)
            found = [f"s3://{bucket}/{key}" for key, _ in self._bucket(bucket).sizes(prefix) if _is_image(key)]
        elif scheme not in ("", "file"):
            raise ValueError(
                f"{scheme}:// is no location to read from; use a path, file://, s3://, http:// or https://"
            )
        elif local_path(url).is_dir():
            found = _under(Path(url.removeprefix("file://")).expanduser())
        else:
            return [url]
        if not found:
            raise ValueError(f"there is no {', '.join(SUFFIXES)} under it")
        return sorted(found)

    def read(self, url: str) -> bytes:
        """Returns the bytes of one image.

        Raises:
            ValueError: It is larger than `max_bytes`.
            OSError: It could not be read; over the web also an HTTPException.
        """
        if is_s3(url):
            return self._read_s3(*split_bucket(url))
        if urlsplit(url).scheme in ("http", "https"):
            return self._read_web(url)
        path = local_path(url)
        facts = path.stat()
        if stat.S_ISDIR(facts.st_mode):
            next(os.scandir(path), None)  # says why it cannot be looked into
            raise ValueError("it is a folder")
        if not stat.S_ISREG(facts.st_mode):
            raise ValueError("it is a pipe, a socket or a device, which may never end; save what it gives as a file")
        self._check_size(facts.st_size)
        with open(path, "rb", opener=_open_at_once) as file:
            content = file.read(self.max_bytes + 1)  # it may grow
        self._check_size(len(content))
        return content

    def _read_s3(self, bucket: str, key: str) -> bytes:
        folder = self._bucket(bucket)
        try:
            response = obstore.get(folder.store, key)
            self._check_size(response.meta["size"])
            return bytes(response.bytes())
        except (BaseError, FileNotFoundError) as error:
            raise folder.explained(error, f"read {key}") from error

    def _read_web(self, url: str) -> bytes:
        # Some servers turn Python's own name away.
        request = urllib.request.Request(url, headers={"User-Agent": "stocktake"})  # noqa: S310 (http or https)
        with open_response(request, self.timeout_s) as response:
            if isinstance(response, urllib.error.HTTPError):
                raise response
            self._check_size(int(response.headers.get("Content-Length") or 0))
            content = response.read(self.max_bytes + 1)  # the header may be missing, or wrong
        self._check_size(len(content))
        return content

    def _check_size(self, num_bytes: int) -> None:
        if num_bytes > self.max_bytes:
            raise ValueError(
                f"it has at least {num_bytes / 2**20:.1f} MiB, more than max_mib={self.max_bytes / 2**20:g}; "
                f"make it smaller, or type a larger max_mib, at most {MAX_BYTES / 2**20:g}"
            )


def _open_at_once(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))  # should it be a pipe by now, nobody is waited for


def _under(folder: Path) -> list[str]:
    unread = []
    walk = os.walk(folder, onerror=lambda error: unread.append(error.filename))
    found = [os.path.join(path, name) for path, _, names in walk for name in names if _is_image(name)]
    return found + unread


def _is_image(name: str) -> bool:
    return PurePosixPath(name).suffix.lower() in SUFFIXES
