"""Which bins there are to collect, and the count that a list claims for each.

Format of file_list.json: {"<count>": ["data/metadata/<id>.json", ...]}. The folder in it is no prefix of any bucket;
only the id, a string, is kept.
"""

import json
import re
import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from importlib import resources
from pathlib import PurePosixPath

from stocktake.data.sources.abid_records import LARGEST_QUANTITY
from stocktake.s3 import PUBLIC_BUCKETS, split_bucket
from stocktake.storage import Folder, is_s3, split_url

LIST_KEY = "file_list.json"
MAX_ID_BYTES = 200  # most file systems take names of 255


class ListError(ValueError):
    """A list of bins that is missing or cannot be read."""


def read_listing(source: Folder, choice: str | None = None) -> list[tuple[str, int | None]]:
    """Returns (image id, count) of every bin to collect, sorted by id.

    Args:
        choice: `None` takes the source's own file_list.json, or for Amazon's bucket the task's list of 10,441 bins
            that comes with this package; `all` takes every image in the source, with the count left to its
            record; anything else is the path of a file_list.json.

    Raises:
        ListError: There is no list, or it is not of that format.
    """
    if choice == "all":
        return _every_image(source)
    if choice is not None:
        folder, name = split_url(choice)
        try:
            return _parse_file_list(Folder(folder, source.options).read(name), choice)
        except FileNotFoundError as error:
            raise ListError(f"list={choice}: {error}") from None
    if is_s3(source.url) and split_bucket(source.url)[0] in PUBLIC_BUCKETS:
        return task_listing()
    try:
        content = source.read(LIST_KEY)
    except FileNotFoundError:
        raise ListError(
            f"There is no {LIST_KEY} in source={source.url}. Name one with list=<path>, or type list=all to take every "
            "image there with the count of its record."
        ) from None
    return _parse_file_list(content, f"{source.url}/{LIST_KEY}")


def task_listing() -> list[tuple[str, int]]:
    """Returns the 10,441 bins of the inventory-monitoring task, as shipped with this package."""
    lines = resources.files("stocktake.data.sources").joinpath("abid_list.txt").read_text().splitlines()
    rows = (line.split() for line in lines if not line.startswith("#"))
    return sorted((image_id, int(count)) for count, *ids in rows for image_id in ids)


def _every_image(source: Folder) -> list[tuple[str, None]]:
    keys = [PurePosixPath(key) for key, _ in source.sizes("bin-images")]
    taken = {key for key in keys if key.suffix == ".jpg" and key.parent.name == "bin-images" and _is_id(key.stem)}
    if passed_over := [key for key in keys if key not in taken]:
        kinds = ", ".join(f"{number:,} {kind}" for kind, number in Counter(map(_kind, passed_over)).most_common(9))
        warnings.warn(
            f"bin-images/ also holds {kinds}, such as {passed_over[0]}: passed over, because only bin-images/<id>.jpg "
            "is taken for a bin's image. Name them so in the source to have them, too.",
            stacklevel=2,
        )
    if not taken:
        raise ListError(f"There is no bin-images/<id>.jpg in source={source.url}.")
    return sorted((key.stem, None) for key in taken)


def _kind(key: PurePosixPath) -> str:
    if key.suffix != ".jpg":
        return key.suffix or "without a suffix"
    return "in folders below it" if _is_id(key.stem) else "with unprintable or too long names"


def _parse_file_list(content: bytes, name: str) -> list[tuple[str, int]]:
    try:
        by_count = json.loads(content, object_pairs_hook=_without_repetition)
        rows = [(_image_id(path), _label(count)) for count, paths in by_count.items() for path in _checked_list(paths)]
    except (ValueError, AttributeError, TypeError, RecursionError) as error:
        raise ListError(
            f'{name} is not a list of the form {{"<count>": ["<id>.json", ...]}}: {type(error).__name__}: {error}'
        ) from None
    return sorted(rows)


def _without_repetition(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Makes a JSON object of its pairs; of a name that stands there twice, Python keeps the last one alone."""
    repeated = [name for name, number in Counter(name for name, _ in pairs).items() if number > 1]
    if repeated:
        raise ValueError(f"{repeated[0][:80]!r} stands there twice: make one list of the two")
    return dict(pairs)


def _label(count: str) -> int:
    # Python reads " 1", "+1", "1_0" and the digits of every script as numbers.
    if not re.fullmatch("0|[1-9][0-9]{0,9}", count) or int(count) > LARGEST_QUANTITY:
        raise ValueError(f"{count[:80]!r} is no count: a whole number from 0 to {LARGEST_QUANTITY}, in digits alone")
    return int(count)


def _checked_list(paths: object) -> list:
    if not isinstance(paths, list):  # a string would be taken for a list of its letters
        raise TypeError(f"{str(paths)[:80]!r} is not a list of paths")
    return paths


def _image_id(path: str) -> str:
    image_id = PurePosixPath(path).stem
    if not _is_id(image_id):
        raise ValueError(
            f"{path[:80]!r} does not end in <id>.json, with an id of printable characters, 1 to {MAX_ID_BYTES} "
            "bytes long"
        )
    return image_id


def _is_id(name: str) -> bool:
    return name.isprintable() and 0 < len(name.encode()) <= MAX_ID_BYTES


def check_counts(counts: Sequence[int], key: str = "counts") -> None:
    """Refuses what is not a list of different counts.

    Args:
        key: What the user calls it.

    Raises:
        ListError: It is none, or empty; or one in it is no whole number from 0 on, or stands there twice.
    """
    is_list = isinstance(counts, Sequence) and not isinstance(counts, str)
    are_counts = is_list and all(type(count) is int and 0 <= count <= LARGEST_QUANTITY for count in counts)
    if not are_counts or not counts or len(set(counts)) < len(counts):
        raise ListError(
            f"{key}={counts!r} must be a list of different whole numbers from 0 on, such as '{key}=[1,2,3,4,5]'."
        )


def narrowed(
    listing: Sequence[tuple[str, int | None]], counts: Sequence[int] | None = None, limit: int | None = None
) -> list[tuple[str, int | None]]:
    """Returns the rows with one of `counts` (a count that is not known yet may be any), at most `limit` of them.

    Raises:
        ListError: Counts or limit are out of range, or no row is left.
    """
    if limit is not None and (type(limit) is not int or limit < 1):
        raise ListError(f"limit={limit!r} must be a whole number, at least 1, or limit=null for the whole list.")
    if counts is not None:
        check_counts(counts)
    if not listing:
        raise ListError("The list names no bin.")
    rows = [(image_id, count) for image_id, count in listing if counts is None or count is None or count in counts]
    if not rows:
        listed = dict(sorted(Counter(count for _, count in listing).items()))
        raise ListError(
            f"counts={list(counts or [])}: none of the {len(listing):,} listed bins is to hold so many items; the list "
            f"has {listed} (count: bins). Type counts that it has."
        )
    return rows[:limit]


def by_id(rows: Iterable[tuple[str, int | None]]) -> dict[str, set[int | None]]:
    """Returns the counts that the list claims for each id: more than one is a contradiction."""
    claims: dict[str, set[int | None]] = {}
    for image_id, count in rows:
        claims.setdefault(image_id, set()).add(count)
    return claims
