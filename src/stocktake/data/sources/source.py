"""What prepare collects bins from, and what it takes of them: a list, a record where there is one, and an image.

A new source is a class with the members of `Source`, and a line in sources/formats.py.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Protocol

from stocktake.data.sources.abid_records import LARGEST_QUANTITY, BinRecord

if TYPE_CHECKING:
    from obstore import ObjectMeta

MAX_ID_BYTES = 200  # most file systems take names of 255
COUNT = re.compile("[0-9]{1,10}")  # in digits, as a person types it
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")
# What no name of a file may hold, or begin with, here or on another system.
_UNSAFE = re.compile(r'^[-./]|[\\:*?"<>|#%]')


class ListError(ValueError):
    """A list of bins that is missing or cannot be read."""


@dataclass(frozen=True, slots=True)  # there may be half a million
class ListedBin:
    """A bin that a source lists.

    Attributes:
        image_id: Unique in the source, and safe as a name of a file.
        count: `None` leaves it to the record.
        group: Bins of one group are never on two splits; `None` takes the block of neighboring ids (split.block).
    """

    image_id: str
    count: int | None
    group: str | None = None


class Source(Protocol):
    """Where bins are collected from.

    Attributes:
        url: Stands in the manifest; with the id it is what an image is known by.
        image_formats: Pillow's names of the formats that its images may have.
        has_records: Whether `record` may give any.
    """

    image_formats: tuple[str, ...]
    has_records: bool

    @property
    def url(self) -> str: ...

    def listing(self) -> list[ListedBin]:
        """Returns every bin to collect, in the order in which a limit takes them; a warning names what is passed over.

        Raises:
            ListError: There is no list, or it cannot be read.
        """
        ...

    def record(self, image_id: str) -> BinRecord | None:
        """Returns what the warehouse believes is in the bin; `None` if there is no record.

        Raises:
            InvalidRecord: There is one, and it cannot be used.
        """
        ...

    def image(self, image_id: str) -> bytes | None:
        """Returns the image's bytes as they are; `None` if there is none."""
        ...

    def image_facts(self, image_id: str) -> "ObjectMeta | None":
        """Returns size and date of the image, which tell whether one that was fetched is still the same."""
        ...


def image_id_of(path: str) -> str:
    """Returns the id of an image that is known by its path or URL alone: `3/IMG 1.png` gives `3-IMG 1`.

    It depends on nothing but the path, so it stays when images are added. A path that would be no name of a file (too
    long, or with characters that some system forbids) gets a hash of it at the end.
    """
    stem = str(PurePosixPath(path).with_suffix("")) if is_image_name(path) else path
    name = stem.replace("/", "-")
    if is_id(name) and not _UNSAFE.search(stem):
        return name
    readable = "".join(char if char.isprintable() else "-" for char in _UNSAFE.sub("-", name))
    end = readable.encode()[-MAX_ID_BYTES // 2 :].decode(errors="ignore").strip("-. ")
    return f"{end}-{blake2b(path.encode(errors='backslashreplace'), digest_size=6).hexdigest()}".lstrip("-")


def is_image_name(path: str) -> bool:
    return path.lower().endswith(IMAGE_SUFFIXES) and PurePosixPath(path).stem != ""


def is_id(name: str) -> bool:
    """Whether a name can be that of a file in the dataset root, and of an object in a bucket."""
    return name.isprintable() and "\\" not in name and 0 < len(name.encode()) <= MAX_ID_BYTES


def refuse_equal_ids(paths: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Returns the paths of (image id, path) by their ids.

    Raises:
        ListError: Two paths have one id.
    """
    path_of: dict[str, str] = {}
    for image_id, path in paths:
        if path_of.setdefault(image_id, path) != path:
            raise ListError(
                f"{path_of[image_id]} and {path} would both be the image {image_id!r}: rename one of the two."
            )
    return path_of


def is_count(value: object) -> bool:
    return type(value) is int and 0 <= value <= LARGEST_QUANTITY


def check_counts(counts: Sequence[int], key: str = "counts") -> None:
    """Refuses what is not a list of different counts.

    Args:
        key: What the user calls it.

    Raises:
        ListError: It is none, or empty; or one in it is no whole number from 0 on, or stands there twice.
    """
    is_list = isinstance(counts, Sequence) and not isinstance(counts, str)
    are_counts = is_list and all(map(is_count, counts))
    if not are_counts or not counts or len(set(counts)) < len(counts):
        raise ListError(
            f"{key}={counts!r} must be a list of different whole numbers from 0 on, such as '{key}=[1,2,3,4,5]'."
        )


def narrowed(
    listing: Sequence[ListedBin], counts: Sequence[int] | None = None, limit: int | None = None
) -> list[ListedBin]:
    """Returns the bins with one of `counts` (a count that is not known yet may be any), at most `limit` of them.

    Raises:
        ListError: Counts or limit are out of range, or no bin is left.
    """
    if limit is not None and (type(limit) is not int or limit < 1):
        raise ListError(f"limit={limit!r} must be a whole number, at least 1, or limit=null for the whole list.")
    if counts is not None:
        check_counts(counts)
    if not listing:
        raise ListError("The list names no bin.")
    rows = [listed for listed in listing if counts is None or listed.count is None or listed.count in counts]
    if not rows:
        listed_counts = dict(sorted(Counter(listed.count for listed in listing).items()))
        raise ListError(
            f"counts={list(counts or [])}: none of the {len(listing):,} listed bins is to hold so many items; the list "
            f"has {listed_counts} (count: bins). Type counts that it has."
        )
    return rows[:limit]


def by_id(listing: Iterable[ListedBin]) -> Iterator[tuple[str, list[ListedBin]]]:
    """Yields, in the order of the ids, what the list claims of each: more than one claim is a contradiction."""
    claims: dict[str, set[ListedBin]] = {}
    for listed in listing:
        claims.setdefault(listed.image_id, set()).add(listed)
    for image_id in sorted(claims):
        yield image_id, sorted(claims[image_id], key=str)
