"""Moves files between S3, or a folder that stands in for it, and an instance's disk."""

import os
import tarfile
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import obstore

from stocktake.storage import Folder, StorageOptions

OpenFolder = Callable[[str], Folder]


class DataMissing(Exception):
    """A channel's folder in S3 is empty or does not exist."""


def opener(s3_folder: str | os.PathLike | None = None, options: StorageOptions | None = None) -> OpenFolder:
    """Returns the way from an S3 URL to its folder.

    Args:
        s3_folder: A local folder in which `bucket/key` stands for s3://bucket/key; `None` takes S3 itself.
    """

    def open_folder(url: str) -> Folder:
        if s3_folder is None:
            return Folder(url, options or StorageOptions())
        folder = Folder(str(Path(s3_folder).absolute() / url.removeprefix("s3://")))
        folder.create()  # S3 has no folders that could be missing
        return folder

    return open_folder


def download(source: Folder, target: Path, keys: Iterable[str]) -> None:
    for key in keys:
        path = target / key
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            for chunk in obstore.get(source.store, key).stream():
                file.write(chunk)


def download_channel(source: Mapping, target: Path, open_folder: OpenFolder, rank: int, num_hosts: int) -> None:
    """Brings an input channel (`S3DataSource` of the request) to the instance of this rank.

    Raises:
        DataMissing: There is nothing to bring, in SageMaker's words.
    """
    folder = open_folder(source["S3Uri"])
    keys = sorted(key for key, _ in folder.sizes())
    if not keys:
        raise DataMissing(
            f'No S3 objects found under S3 URL "{source["S3Uri"]}" given in input data source. Please ensure that the '
            "bucket exists, that objects exist under that S3 prefix, and that the role may list and read them."
        )
    if source.get("S3DataDistributionType") == "ShardedByS3Key":
        keys = keys[rank::num_hosts]
    download(folder, target, keys)


def upload_archive(folders: Iterable[Path], target: Folder, name: str) -> None:
    """Packs the files of `folders` into one .tar.gz and uploads it; of files with one name the first counts."""
    with tempfile.NamedTemporaryFile(suffix=".tar.gz") as file:
        packed = set()
        # Weights hardly get smaller, and the default level takes minutes for them.
        with tarfile.open(fileobj=file, mode="w:gz", compresslevel=1) as archive:
            for folder in folders:
                for path in sorted(folder.rglob("*")):
                    inside = path.relative_to(folder)
                    if path.is_file() and inside not in packed:
                        packed.add(inside)
                        archive.add(path, arcname=str(inside))
        file.flush()
        obstore.put(target.store, name, Path(file.name))


class Mirror:
    """Keeps a folder in S3 like one instance's /opt/ml/checkpoints, as SageMaker does during a job.

    Only what changed on this instance is uploaded, so that several instances can share the folder in S3. What is
    deleted here stays there.
    """

    def __init__(self, local: Path, remote: Folder):
        self.local, self.remote = local, remote
        self._known: dict[str, tuple[int, int]] = {}  # key: size in bytes and time of change
        self._uploads: list[str] = []

    def restore(self) -> None:
        self.local.mkdir(parents=True, exist_ok=True)
        download(self.remote, self.local, [key for key, _ in self.remote.sizes()])
        self._known = self._files()

    def upload(self) -> list[str]:
        """Uploads what is new or changed, oldest first, and returns the keys that arrived."""
        uploaded = []
        files = self._files()
        changed = sorted(
            (key for key, state in files.items() if self._known.get(key) != state),
            key=lambda key: files[key][1],
        )
        for key in changed:
            try:
                obstore.put(self.remote.store, key, self.local / key)
            except FileNotFoundError:
                if (self.local / key).exists():
                    raise
                continue  # deleted since it was listed, as old checkpoints are
            self._known[key] = files[key]
            uploaded.append(key)
        self._uploads += uploaded
        return uploaded

    def halve_newest(self) -> str | None:
        """Leaves only the first half of the newest uploaded checkpoint in S3; returns its key."""
        checkpoints = [key for key in self._uploads if key.endswith(".ckpt")] or self._uploads
        if not checkpoints:
            return None
        content = self.remote.read(checkpoints[-1])
        self.remote.write(checkpoints[-1], content[: len(content) // 2])
        return checkpoints[-1]

    def _files(self) -> dict[str, tuple[int, int]]:
        files = {}
        for path in self.local.rglob("*"):
            try:
                status = path.stat()
            except FileNotFoundError:
                continue  # deleted since it was listed
            if path.is_file():
                files[path.relative_to(self.local).as_posix()] = (status.st_size, status.st_mtime_ns)
        return files
