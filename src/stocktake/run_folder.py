"""The folders that commands write into: the names of their files, who writes, what may go, and which figures are whole.

One process at a time writes into a folder, a result is not replaced by one of something else unless the user asks, and
figures carry a checksum within the JSON file that holds them, where one turned bit makes another number of a digit.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from stocktake.shell import typed_again
from stocktake.storage import Folder, join_url, split_url

# In a run's folder:
CONFIG_NAME = "config.yaml"  # as it was composed, with what each `auto` became
METRICS_NAME = "metrics.json"  # last of all, so that its presence means that the run is finished; an evaluation's, too
CALIBRATION_NAME = "calibration.json"  # beside the checkpoint that it is of
INTERRUPTED_NAME = "interrupted"  # empty; tells an interruption from a failure; cloud/container.py looks for it
BEST_NAME, BEFORE_NAME = "best.ckpt", "best-before.ckpt"
BEST_KEY = f"checkpoints/{BEST_NAME}"

SEAL = "metrics_sha256"  # in metrics.json; older files lack it


def run_dir_of(checkpoint: str) -> str | None:
    """Returns the run folder of `<run>/checkpoints/<name>.ckpt`."""
    folder = split_url(checkpoint)[0]
    return split_url(folder)[0] if split_url(folder)[1] == "checkpoints" else None


class FolderInUse(ValueError):
    """Another process writes into a folder that is for one."""


@contextlib.contextmanager
def kept_from_others(folder: Path, doing: str, lost: str) -> Iterator[None]:
    """Keeps a folder for this process, as far as its file system has locks.

    The folder itself is locked, so no file is left that a kill would leave. The lock holds among the processes of one
    machine. Of another machine on the same shared folder it knows only where the file system carries flock between
    them, which few do for a folder; of a bucket it knows nothing, and of a file system without locks nothing either,
    which is noted on stderr.

    Args:
        doing: What the process does there, for messages: `training in`.
        lost: What two of them would overwrite, and what to do.

    Raises:
        FolderInUse: Another process has it.
    """
    Folder(str(folder)).create()
    opened = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(opened)
        raise FolderInUse(
            f"Another process is {doing} {folder} at this moment, and two would overwrite {lost}"
        ) from None
    except OSError as error:  # ENOLCK, ENOTSUP, EBADF of NFS, ...
        print(
            f"Note: the file system of {folder} has no locks ({error.strerror}), so another process {doing} it would "
            "not be noticed, and the two would overwrite each other's files. Start one at a time.",
            file=sys.stderr,
        )
    try:
        yield
    finally:
        os.close(opened)


class WouldReplaceError(ValueError):
    """A folder holds a result of something else, which nobody asked to replace."""


def require_replaceable(output: Folder, key: str, now: Mapping[str, Any], overwrite: bool) -> None:
    """Looks, before the work, whether a folder can be written and what is in it may go.

    Made again of the same it may, and what is half written, too.

    Args:
        key: Of the file that says what the folder holds, as JSON.
        now: What that file is to say of what it is made of; `num_images` may have grown.
        overwrite: Whether the user asked for it.

    Raises:
        WouldReplaceError: It is of something else; the message names what, and the override to type.
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
    except (FileNotFoundError, ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None


def sealed(figures: Mapping[str, Any], seal: str = SEAL) -> dict[str, Any]:
    """Returns what a file is to hold: the figures, and last, under the key `seal`, the checksum of them."""
    return {**figures, seal: _digest(figures, seal)}


def check_seal(figures: Mapping[str, Any], seal: str = SEAL) -> None:
    """
    Raises:
        ValueError: They are others than when they were written; the message goes on from the file's name.
    """
    if seal in figures and figures[seal] != _digest(figures, seal):
        raise ValueError(f"holds other figures than when it was written ({seal} is not theirs): damaged, or edited")


def _digest(figures: Mapping[str, Any], seal: str) -> str:
    plain = json.loads(json.dumps({key: value for key, value in figures.items() if key != seal}))
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()
