"""The lists of Amazon's bins: which there are to collect, and the count that a list claims for each.

Format of file_list.json: {"<count>": ["data/metadata/<id>.json", ...]}. The folder in it is no prefix of any bucket;
only the id, a string, is kept.
"""

import json
import re
import warnings
from collections import Counter
from importlib import resources
from pathlib import PurePosixPath

from stocktake.data.sources.abid_records import LARGEST_QUANTITY
from stocktake.data.sources.source import MAX_ID_BYTES, ListError, is_id
from stocktake.s3 import PUBLIC_BUCKETS, split_bucket
from stocktake.storage import Folder, is_s3, split_url

LIST_KEY = "file_list.json"


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


def task_listing() -> list[tuple[str, int | None]]:
    """Returns the 10,441 bins of the inventory-monitoring task, as shipped with this package."""
    lines = resources.files("stocktake.data.sources").joinpath("abid_list.txt").read_text().splitlines()
    rows = (line.split() for line in lines if not line.startswith("#"))
    return sorted((image_id, int(count)) for count, *ids in rows for image_id in ids)


def _every_image(source: Folder) -> list[tuple[str, int | None]]:
    keys = [PurePosixPath(key) for key, _ in source.sizes("bin-images")]
    taken = {key for key in keys if key.suffix == ".jpg" and key.parent.name == "bin-images" and is_id(key.stem)}
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
    return "in folders below it" if is_id(key.stem) else "with unprintable or too long names"


def _parse_file_list(content: bytes, name: str) -> list[tuple[str, int | None]]:
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
    if not is_id(image_id):
        raise ValueError(
            f"{path[:80]!r} does not end in <id>.json, with an id of printable characters, 1 to {MAX_ID_BYTES} "
            "bytes long"
        )
    return image_id
