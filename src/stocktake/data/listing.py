"""Which bins there are to collect, and the count that a list claims for each.

Format of file_list.json: {"<count>": ["data/metadata/<id>.json", ...]}. The folder in it is no prefix of any bucket;
only the id, a string, is kept.
"""

import json
from collections.abc import Iterable
from importlib import resources
from pathlib import PurePosixPath

from stocktake.s3 import PUBLIC_BUCKETS, split_bucket
from stocktake.storage import Folder, is_s3, split_url

LIST_KEY = "file_list.json"


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
    lines = resources.files("stocktake.data").joinpath("abid_list.txt").read_text().splitlines()
    rows = (line.split() for line in lines if not line.startswith("#"))
    return sorted((image_id, int(count)) for count, *ids in rows for image_id in ids)


def _every_image(source: Folder) -> list[tuple[str, None]]:
    keys = (PurePosixPath(key) for key, _ in source.sizes("bin-images"))
    found = sorted((key.stem, None) for key in keys if key.suffix == ".jpg")
    if not found:
        raise ListError(f"There is no bin-images/<id>.jpg in source={source.url}.")
    return found


def _parse_file_list(content: bytes, name: str) -> list[tuple[str, int]]:
    try:
        by_count = json.loads(content)
        rows = [(_image_id(path), int(count)) for count, paths in by_count.items() for path in _checked_list(paths)]
    except (ValueError, AttributeError, TypeError) as error:
        raise ListError(
            f'{name} is not a list of the form {{"<count>": ["<id>.json", ...]}}: {type(error).__name__}: {error}'
        ) from None
    return sorted(rows)


def _checked_list(paths: object) -> list:
    if not isinstance(paths, list):  # a string would be taken for a list of its letters
        raise TypeError(f"{str(paths)[:80]!r} is not a list of paths")
    return paths


def _image_id(path: str) -> str:
    image_id = PurePosixPath(path).stem
    if not (image_id.isascii() and image_id.isdigit()):
        raise ValueError(f"{path[:80]!r} does not end in <digits>.json")
    return image_id


def by_id(rows: Iterable[tuple[str, int | None]]) -> dict[str, set[int | None]]:
    """Returns the counts that the list claims for each id: more than one is a contradiction."""
    claims: dict[str, set[int | None]] = {}
    for image_id, count in rows:
        claims.setdefault(image_id, set()).add(count)
    return claims
