"""A CSV of images: `path,count[,group]`, one image a line, wherever each of them lies."""

import csv
import io
import posixpath
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING
from urllib.parse import unquote

from stocktake.data.sources.abid_records import BinRecord
from stocktake.data.sources.source import COUNT, ListedBin, ListError, image_id_of, is_count, refuse_equal_ids
from stocktake.object_stores import WEB, scheme_of
from stocktake.storage import Folder, StorageOptions, is_local, local_path, split_url

if TYPE_CHECKING:
    from obstore import ObjectMeta

NEEDED, KNOWN = ("path", "count"), ("path", "count", "group")


@dataclass(frozen=True, slots=True)
class _Row:
    path: str
    count: int
    group: str


class CsvSource:
    """Images that a CSV lists, with their counts; those of one `group` are never on two splits.

    A path is relative to the CSV, absolute, or a URL. Where there is no group, each image is one of its own.
    """

    image_formats: tuple[str, ...] = ("JPEG", "PNG")
    has_records = False

    def __init__(self, url: str, options: StorageOptions | None = None):
        """
        Args:
            url: Path or URL of the CSV.
            options: How to reach it and the images.
        """
        self._url = str(local_path(url)) if is_local(url) else url
        self._options = options or StorageOptions()
        self._folders: dict[str, Folder] = {}

    @property
    def url(self) -> str:
        return self._url

    def listing(self) -> list[ListedBin]:
        return list(dict.fromkeys(ListedBin(image_id_of(row.path), row.count, row.group) for row in self._rows))

    def record(self, image_id: str) -> BinRecord | None:
        return None

    def image(self, image_id: str) -> bytes | None:
        folder, key = self._locations[image_id]
        return self._folder(folder).read_if_there(key)

    def image_facts(self, image_id: str) -> "ObjectMeta | None":
        folder, key = self._locations[image_id]
        return self._folder(folder).facts(key)

    def _folder(self, url: str) -> Folder:
        return self._folders.setdefault(url, Folder(url, self._options))  # one for all threads, which opens once

    @cached_property
    def _locations(self) -> dict[str, tuple[str, str]]:
        """Folder and key of each image by its id."""
        paths = refuse_equal_ids((image_id_of(row.path), row.path) for row in self._rows)
        return {image_id: _location(path, self._url) for image_id, path in paths.items()}

    @cached_property
    def _rows(self) -> list[_Row]:
        folder, name = split_url(self._url)
        try:
            content = Folder(folder, self._options).read(name)
        except FileNotFoundError:
            raise ListError(f"source={self._url} does not exist. Type the path of a CSV with path,count.") from None
        rows = list(self._parsed(content))
        if not rows:
            raise ListError(f"{self._url} lists no image: below path,count stands one image a line.")
        refuse_equal_ids((image_id_of(row.path), row.path) for row in rows)
        return rows

    def _parsed(self, content: bytes) -> Iterator[_Row]:
        try:
            lines = csv.DictReader(io.StringIO(content.decode("utf-8-sig"), newline=""), skipinitialspace=True)
            lines.fieldnames = [name.strip().lower() for name in lines.fieldnames or ()]
            _check_columns(lines.fieldnames, self._url)
            for line in lines:
                try:
                    yield self._row(line)
                except ValueError as error:
                    raise ValueError(f"line {lines.line_num}: {error}") from None
        except (ValueError, csv.Error) as error:
            raise ListError(f"{self._url} is not a CSV of path,count[,group]: {error}.") from None

    def _row(self, line: dict[str, str | None]) -> _Row:
        if None in line or None in line.values():  # so the csv module marks too many cells, or too few
            raise ValueError("it has another number of cells than the first line")
        path, count = (str(line[name]).strip() for name in NEEDED)
        if not COUNT.fullmatch(count) or not is_count(int(count)):
            raise ValueError(f"count={count[:80]!r} is no whole number from 0 on")
        if not path:
            raise ValueError("path is empty")
        if "\0" in path:  # which no system can open
            raise ValueError(f"path={path[:80]!r} holds a zero byte")
        if is_local(path):  # ./a.jpg is a.jpg
            path = posixpath.normpath(path.removeprefix("file://"))
        _location(path, self._url)
        return _Row(path, int(count), (line.get("group") or "").strip() or image_id_of(path))


def _check_columns(columns: Sequence[str], csv_url: str) -> None:
    """
    Raises:
        ValueError: One is missing, or stands there twice.
    """
    if missing := [name for name in NEEDED if name not in columns]:
        raise ValueError(
            f"its first line is {','.join(columns)[:80]!r} and lacks {' and '.join(missing)}; columns are separated by "
            "commas"
        )
    if repeated := [name for name in KNOWN if columns.count(name) > 1]:
        raise ValueError(f"the column {repeated[0]!r} stands there twice")
    if unread := [name for name in columns if name not in KNOWN]:
        own = "" if "group" in columns else "; without a column group each image is a group of its own"
        warnings.warn(
            f"{csv_url} also has {', '.join(unread)[:200]}: not read, because an image has a path, a count and a "
            f"group{own}.",
            stacklevel=2,
        )


def _location(path: str, csv_url: str) -> tuple[str, str]:
    """Returns the folder's URL and the key in it of an image that a line of the CSV names.

    Raises:
        ValueError: It names none.
    """
    if is_local(path) and is_local(csv_url):
        absolute = posixpath.normpath(posixpath.join(posixpath.dirname(csv_url), path))
        return "/", absolute.lstrip("/")
    if is_local(path):
        if path.startswith(("/", "..")):
            raise ValueError(f"path={path[:80]!r} is neither below the CSV's folder nor a URL")
        return split_url(csv_url)[0], path
    scheme, (host, _, key) = scheme_of(path), path.partition("://")[2].partition("/")
    if scheme in WEB:
        if "?" in path or "#" in path:
            raise ValueError(f"path={path[:80]!r} goes on after a ? or #, which is not sent: download it first")
        key = unquote(key)
    if not host or not key.strip("/"):
        raise ValueError(f"path={path[:80]!r} names no image")
    return f"{scheme}://{host}", key
