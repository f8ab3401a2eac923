"""Folders of objects, on disk or in any store that obstore opens, behind one interface, opened where they are used."""

import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

import obstore
from obstore.exceptions import BaseError
from obstore.store import ObjectStore

from stocktake.object_stores import (
    WEB,
    ImpossibleKey,
    explained,
    is_local,
    is_s3,
    join_url,
    local_path,
    open_store,
    read_object,
    scheme_of,
    split_url,
    wrong_key,
)
from stocktake.s3 import StorageError, StorageOptions, are_expired

if TYPE_CHECKING:
    from obstore import ObjectMeta

__all__ = [
    "Folder",
    "ImpossibleKey",
    "StorageError",
    "StorageOptions",
    "is_local",
    "is_s3",
    "join_url",
    "local_path",
    "open_store",
    "split_url",
]

Response = TypeVar("Response")

# Threads that meet a folder for the first time open it once, not each for itself.
_opening = threading.Lock()


@dataclass
class Folder:
    """A folder of objects that may be handed to another process: each process opens its own store."""

    url: str
    options: StorageOptions = field(default_factory=StorageOptions)

    def __post_init__(self):
        self.url = self.url if "://" in self.url else str(local_path(self.url))
        self._store: ObjectStore | None = None
        self._pid: int | None = None

    def __getstate__(self):
        return {"url": self.url, "options": self.options, "_store": None, "_pid": None}

    @property
    def store(self) -> ObjectStore:
        with _opening:
            if self._store is None or not self._is_open:
                self._store, self._pid = open_store(self.url, self.options), os.getpid()
            return self._store

    @property
    def _is_open(self) -> bool:
        return self._pid == os.getpid()

    def create(self) -> None:
        """Makes a local folder that is to be written to; a bucket must be there.

        Raises:
            NotADirectoryError: A file, or a link that leads nowhere, stands in its place or in that of a folder above.
            StorageError: It could not be made, or is on the web.
        """
        if not is_local(self.url):
            self._refuse_on_web("written to")
            return
        path = local_path(self.url)
        try:
            path.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            odd = next((parent for parent in path.parents if os.path.lexists(parent) and not parent.is_dir()), path)
            kind = "a file" if odd.is_file() else "a link that leads nowhere" if odd.is_symlink() else "no folder"
            raise NotADirectoryError(
                f"{path} cannot be a folder, because {odd} is {kind}. Type another folder, or move that away."
            ) from None
        except OSError as error:
            raise self.explained(error, "make the folder") from error
        if not os.access(path, os.W_OK):
            raise StorageError(f"{path} cannot be written to. Type another folder, or get yourself the permission.")

    def _refuse_on_web(self, done: str, instead: str = "type a folder, s3://, gs:// or az://") -> None:
        if scheme_of(self.url) in WEB:
            raise StorageError(f"{self.url} is on the web and cannot be {done}: {instead}.")

    def _ask(self, attempt: str, request: Callable[[ObjectStore], Response]) -> Response:
        """Sends a request, and once more with credentials searched for anew where they have expired."""
        if not attempt.partition(" ")[2]:
            raise wrong_key(attempt, self.url)
        try:
            store = self.store
            try:
                return request(store)
            except (ValueError, TypeError):  # what obstore raises before it sends anything
                raise wrong_key(attempt, self.url) from None
            except BaseError as error:
                if not are_expired(error):
                    raise
                with _opening:  # of many threads that are refused at once, one opens it anew
                    if self._store is store:
                        self._pid = None
                return request(self.store)
        except (BaseError, FileNotFoundError) as error:  # obstore raises Python's own for an object that is not there
            raise self.explained(error, attempt) from error

    def read(self, key: str) -> bytes:
        """Returns the bytes of one object.

        Raises:
            FileNotFoundError: There is no such object.
            StorageError: It could not be read within the retry budget.
        """
        return bytes(self._get(key))

    def read_if_there(self, key: str) -> bytes | None:
        """As `read`, with `None` for an object that is not there."""
        try:
            return self.read(key)
        except FileNotFoundError:
            return None

    def read_writable(self, key: str) -> bytearray:
        """As `read`, into memory that may be written to, which spares a copy those who need such."""
        return bytearray(self._get(key))

    def _get(self, key: str) -> obstore.Bytes:
        return self._ask(f"read {key}", lambda store: read_object(store, self.url, key))

    def write(self, key: str, content: bytes) -> None:
        """Writes one object whole or not at all.

        Raises:
            NotADirectoryError: The folder cannot be made, because it is a file.
            StorageError: It could not be written.
        """
        self._refuse_on_web("written to")
        if not self._is_open:
            self.create()
        self._ask(f"write {key}", lambda store: obstore.put(store, key, content))

    def write_together(self, files: Mapping[str, bytes]) -> None:
        """Writes objects of which the last means that all are there: the old one of that name goes before all others.

        Raises:
            StorageError: They could not be written.
        """
        self.create()
        if self.exists(last := [*files][-1]):
            self.remove(last)
        for key, content in files.items():
            self.write(key, content)

    def copy(self, key: str, to: str) -> None:
        """Copies one object within the folder, whole or not at all.

        Raises:
            FileNotFoundError: There is no such object.
            StorageError: It could not be copied.
        """
        try:
            self._ask(f"copy {key}", lambda store: obstore.copy(store, key, to))
        except StorageError:  # a file system without hard links, or an object past the 5 GB of S3's CopyObject
            self.write(to, self.read(key))

    def remove(self, key: str) -> None:
        """Removes one object.

        Raises:
            StorageError: It could not be removed.
        """
        self._refuse_on_web("written to")
        self._ask(f"remove {key}", lambda store: obstore.delete(store, key))

    def facts(self, key: str) -> "ObjectMeta | None":
        """Returns what the store knows of one object (`size` in bytes, `last_modified`), `None` if there is none such.

        Raises:
            StorageError: It could not be asked.
        """
        try:
            return self._ask(f"find {key}", lambda store: obstore.head(store, key))
        except FileNotFoundError:
            return None

    def size(self, key: str) -> int | None:
        """Returns the size of one object in bytes, `None` if there is no such object."""
        return facts["size"] if (facts := self.facts(key)) is not None else None

    def exists(self, key: str) -> bool:
        return self.size(key) is not None

    def names(self) -> set[str]:
        """Returns the names of the objects and of the folders that lie directly in this one.

        Raises:
            StorageError: It could not be listed.
        """
        there = self._ask("list it", obstore.list_with_delimiter)
        return {*there["common_prefixes"], *(facts["path"] for facts in there["objects"])}

    def sizes(self, prefix: str = "") -> Iterator[tuple[str, int]]:
        """Yields the key and the size in bytes of every object under `prefix`, page by page."""
        return ((facts["path"], facts["size"]) for facts in self.objects(prefix))

    def objects(self, prefix: str = "") -> "Iterator[ObjectMeta]":
        """Yields `path`, `size` in bytes and `last_modified` of every object under `prefix`, page by page.

        Raises:
            StorageError: It could not be listed.
        """
        self._refuse_on_web("listed", "name its images in a CSV with path,count")
        pages: Iterator[Sequence[ObjectMeta]] = iter(())
        listed: ObjectStore | None = None
        last: str | None = None

        def next_page(store: ObjectStore) -> "Sequence[ObjectMeta] | None":
            nonlocal pages, listed
            if store is not listed:  # opened anew, with other credentials: it goes on after what came
                pages, listed = iter(obstore.list(store, prefix or None, offset=last)), store
            return next(pages, None)

        try:
            while (page := self._ask(f"list {prefix or 'it'}", next_page)) is not None:
                yield from page
                last = page[-1]["path"]
        except FileNotFoundError:
            return

    def explained(self, error: Exception, attempt: str) -> Exception:
        """Returns what to raise instead of obstore's error: what was tried where, and what to do."""
        return explained(error, attempt, self.url, self.options)
