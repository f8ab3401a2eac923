"""Keeps a job's checkpoints in S3 equal to those on its instances, as SageMaker does while the job runs."""

import os
import re
from contextlib import suppress
from pathlib import Path

import obstore

from stocktake.rehearsal.s3_sync import Prefix

# How obstore calls a file until it is whole and renamed; none of its stores takes such a name.
BEING_WRITTEN = re.compile(r"#\d+$")


class Mirror:
    """Keeps a prefix in S3 like one instance's /opt/ml/checkpoints.

    What is new or changed here is uploaded, and what is deleted here is deleted there, too. What another instance
    wrote there does not come here before the job starts again.

    Args:
        host: The instance's name.
        writers: Who wrote a key last in this attempt; shared by the mirrors of one job.
    """

    def __init__(self, local: Path, remote: Prefix, host: str, writers: dict[str, str]):
        self.local, self.remote, self.host, self.writers = local, remote, host, writers
        self.clashes: list[str] = []
        self._known: dict[str, tuple[int, int]] = {}  # path: size in bytes and time of change
        self._uploads: list[str] = []

    def restore(self) -> None:
        self.local.mkdir(parents=True, exist_ok=True)
        for path, key in self.remote.keys().items():
            with suppress(FileNotFoundError):  # deleted since it was listed: the trials of a tuning job share a prefix
                self.remote.download(self.local, {path: key})
        self._known = self._files()

    def upload(self) -> list[str]:
        """Uploads what is new or changed, oldest first, then deletes; returns the paths that arrived."""
        uploaded = []
        files = self._files()
        changed = sorted(
            (path for path, state in files.items() if self._known.get(path) != state),
            key=lambda path: files[path][1],
        )
        for path in changed:
            key = self.remote.key(path)
            try:
                self._look_for_clash(path, key)
                obstore.put(self.remote.folder.store, key, self.local / path)
            except FileNotFoundError:
                if (self.local / path).exists():
                    raise
                continue  # deleted since it was listed, as old checkpoints are
            self._known[path] = files[path]
            uploaded.append(path)
        for path in self._known.keys() - files.keys():
            key = self.remote.key(path)
            self._look_for_clash(path, key)
            with suppress(FileNotFoundError):
                obstore.delete(self.remote.folder.store, key)
            del self._known[path]
        self._uploads += uploaded
        return uploaded

    def _look_for_clash(self, path: str, key: str) -> None:
        writer = self.writers.setdefault(key, self.host)
        if writer != self.host and self._differs(path, key):
            self.clashes.append(
                f"{path} in {self.remote.url} was written by {writer} and by {self.host}: which one stays, AWS does "
                "not say"
            )
        self.writers[key] = self.host

    def _differs(self, path: str, key: str) -> bool:
        local = self.local / path
        try:
            stored = self.remote.folder.read(key)
        except FileNotFoundError:
            return local.exists()
        return not local.exists() or local.read_bytes() != stored

    def halve_newest(self) -> str | None:
        """Leaves only the first half of the newest uploaded checkpoint in S3; returns its path."""
        there = [path for path in self._uploads if path in self._known]
        checkpoints = [path for path in there if path.endswith(".ckpt")] or there
        if not checkpoints:
            return None
        key = self.remote.key(checkpoints[-1])
        content = self.remote.folder.read(key)
        self.remote.folder.write(key, content[: len(content) // 2])
        return checkpoints[-1]

    def _files(self) -> dict[str, tuple[int, int]]:
        files = {}
        # Path.rglob would end with an error where a folder is deleted meanwhile.
        for folder, _, names in os.walk(self.local):
            for path in (Path(folder, name) for name in names if not BEING_WRITTEN.search(name)):
                with suppress(FileNotFoundError):  # deleted since it was listed
                    status = path.stat()
                    if path.is_file():  # and no socket
                        files[path.relative_to(self.local).as_posix()] = (status.st_size, status.st_mtime_ns)
        return files
