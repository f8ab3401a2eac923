"""Moves files between S3, or a folder that stands in for it, and an instance's disk."""

import os
import tarfile
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
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


class Prefix:
    """All objects whose keys begin with an S3 URL.

    SageMaker takes S3Uri for the beginning of a key, not for a folder: s3://bucket/runs/1 also holds what lies in
    s3://bucket/runs/10, s3://bucket/runs/1/ does not.
    """

    def __init__(self, url: str, open_folder: OpenFolder):
        parent, _, self.beginning = url.rpartition("/") if url.count("/") > 2 else (url, "", "")
        self.url, self.folder = url, open_folder(parent)

    def keys(self) -> dict[str, str]:
        """Returns the path on an instance's disk and the key in `folder` of every object."""
        found = (key for key, _ in self.folder.sizes() if key.startswith(self.beginning))
        return {key[len(self.beginning) :].lstrip("/") or key: key for key in sorted(found)}

    def key(self, path: str) -> str:
        """Returns the key in `folder` under which a file of the instance is uploaded."""
        return f"{self.beginning}/{path}" if self.beginning else path

    def download(self, target: Path, paths: Mapping[str, str]) -> None:
        for name, key in paths.items():
            path, stream = target / name, obstore.get(self.folder.store, key).stream()
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("wb") as file:
                for chunk in stream:
                    file.write(chunk)


def download_channel(source: Mapping, target: Path, open_folder: OpenFolder, rank: int, num_hosts: int) -> None:
    """Brings an input channel (`S3DataSource` of the request) to the instance of this rank.

    Raises:
        DataMissing: There is nothing to bring, in SageMaker's words.
    """
    prefix = Prefix(source["S3Uri"], open_folder)
    paths = prefix.keys()
    if not paths:
        raise DataMissing(
            f'No S3 objects found under S3 URL "{source["S3Uri"]}" given in input data source. Please ensure that the '
            "bucket exists, that objects exist under that S3 prefix, and that the role may list and read them."
        )
    if source.get("S3DataDistributionType") == "ShardedByS3Key":
        paths = dict(list(paths.items())[rank::num_hosts])
    prefix.download(target, paths)


def upload_results(bases: Sequence[Path], target: Folder, with_model: bool) -> list[str]:
    """Uploads what the instances left below their `bases`; returns what two of them left under one name."""
    warnings = []
    for name, folder in (("output.tar.gz", "output/data"), ("model.tar.gz", "model"))[: 1 + with_model]:
        clashes = upload_archive([base / folder for base in bases], target, name)
        warnings += [f"{path} of {name} came from several hosts: which one stays, AWS does not say" for path in clashes]
    return warnings


def upload_archive(folders: Iterable[Path], target: Folder, name: str) -> list[str]:
    """Packs the files of `folders` into one .tar.gz and uploads it; of files with one name the first counts.

    Returns:
        The names that came from several folders: which one stays, SageMaker does not say.
    """
    clashes = []
    with tempfile.NamedTemporaryFile(suffix=".tar.gz") as file:
        packed = set()
        # Weights hardly get smaller, and the default level takes minutes for them.
        with tarfile.open(fileobj=file, mode="w:gz", compresslevel=1) as archive:
            for folder in folders:
                for path in sorted(folder.rglob("*")):
                    inside = path.relative_to(folder)
                    if path.is_file() and inside in packed:
                        clashes.append(str(inside))
                    elif path.is_file():
                        packed.add(inside)
                        archive.add(path, arcname=str(inside))
        file.flush()
        obstore.put(target.store, name, Path(file.name))
    return clashes
