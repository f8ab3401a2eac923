"""A disk cache for the images of one manifest, shared by every process of a host."""

import contextlib
import os
import tempfile
import warnings
import zlib
from pathlib import Path

import numpy
import pyarrow

MIB = 2**20
# At the end of each file. It finds what a disk damages, at a quarter of what sha256 takes in every epoch.
CHECKSUM_BYTES = 4


class DiskCache:
    """Keeps the images that fit, and always the same ones.

    Epochs go through all images again and again, where dropping the least recently used one never leaves a hit. So
    which images are kept is fixed by the manifest: the first ones of its table that fit into the limit together.
    Every process comes to the same answer by itself, and nothing needs to be counted or locked.
    """

    def __init__(self, folder: str | os.PathLike, limit_mib: float, table: pyarrow.Table, name: str):
        """
        Args:
            folder: Local folder; it may hold the caches of several manifests.
            limit_mib: The cached images together are never larger.
            table: The manifest's table.
            name: Of this manifest, such as its sha256.
        """
        self.folder = Path(folder) / name[:16]
        sizes = table["bytes"].fill_null(0).to_numpy() + CHECKSUM_BYTES
        fits = numpy.cumsum(sizes) <= limit_mib * MIB
        self.kept = {sha256 for sha256, fit in zip(table["sha256"].to_pylist(), fits, strict=True) if fit and sha256}

    def holds(self, sha256: str) -> bool:
        return os.path.exists(self._path(sha256))

    def read(self, sha256: str) -> bytearray | None:
        """Returns an image as it was written; `None` where there is none or it was damaged on the disk."""
        try:
            descriptor = os.open(self._path(sha256), os.O_RDONLY)
        except FileNotFoundError:
            return None
        try:
            content = bytearray(os.fstat(descriptor).st_size)
            os.readv(descriptor, [content])
        finally:
            os.close(descriptor)
        checksum = content[-CHECKSUM_BYTES:]
        del content[-CHECKSUM_BYTES:]  # in place: a copy of the rest would cost as much as the checksum
        return content if checksum == _checksum(content) else None

    def _path(self, sha256: str) -> str:
        return f"{self.folder}/{sha256[:2]}/{sha256}"

    def write(self, sha256: str, content: bytes | bytearray) -> None:
        """Stores an image that belongs to the kept ones, whole or not at all; its sha256 has been compared before."""
        if sha256 not in self.kept:
            return
        path = Path(self._path(sha256))
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor, part = tempfile.mkstemp(dir=path.parent, suffix=".part")
            try:
                with os.fdopen(descriptor, "wb") as file:
                    file.write(content + _checksum(content))
                os.replace(part, path)
            except BaseException:
                with contextlib.suppress(FileNotFoundError):
                    os.remove(part)
                raise
        except OSError as error:  # a cache that cannot be written is no reason to end a training
            self.kept = set()
            warnings.warn(f"data.cache_dir={self.folder.parent} takes no more images: {error}", stacklevel=2)


def _checksum(content: bytes | bytearray) -> bytes:
    return zlib.crc32(content).to_bytes(CHECKSUM_BYTES, "big")
