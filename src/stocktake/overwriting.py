"""A result is not replaced by one of something else, unless that is said."""

import json
from collections.abc import Mapping
from typing import Any

from stocktake.shell import typed_again
from stocktake.storage import Folder, join_url


class WouldReplaceError(ValueError):
    """A folder holds a result of something else, which nobody said to replace."""


def require_replaceable(output: Folder, key: str, now: Mapping[str, Any], overwrite: bool) -> None:
    """Looks, before the work, whether a folder can be written and what is in it may go.

    Made again of the same it may, and what is half written, too.

    Args:
        key: Of the file that says what the folder holds, as JSON.
        now: What that file is to say of what it is made of; `num_images` may have grown.
        overwrite: Whether the user said so.

    Raises:
        WouldReplaceError: It is of something else; the message names what, and the words to type.
        OSError: The folder cannot be made or written.
    """
    output.create()
    before = None if overwrite else _read(output, key)
    if before is None:
        return
    # An older file may lack what is asked for.
    differing = [
        f"{name} is {before[name]} there, {value} here"
        for name, value in now.items()
        if name in before and (before[name] > value if name == "num_images" else before[name] != value)
    ]
    if differing:
        raise WouldReplaceError(
            f"{join_url(output.url, key)} would be replaced by that of something else: {'; '.join(differing)}. Keep "
            f"both: {typed_again('output_dir=<a new folder>')}\nOr replace it: {typed_again('overwrite=true')}"
        )


def _read(output: Folder, key: str) -> dict[str, Any] | None:
    try:
        content = json.loads(output.read(key))
    except (FileNotFoundError, ValueError):
        return None
    return content if isinstance(content, dict) else None
