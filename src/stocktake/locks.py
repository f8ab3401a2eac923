"""A folder that one process at a time writes into: two would take each other's files."""

import contextlib
import fcntl
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from stocktake.storage import Folder


class FolderInUse(ValueError):
    """Another process writes into a folder that is for one."""


@contextlib.contextmanager
def kept_from_others(folder: Path, doing: str, lost: str) -> Iterator[None]:
    """Keeps a folder for this process, as far as its file system has locks.

    The folder itself is locked, so no file is left that a kill would leave. The lock holds among the processes of one
    machine. Of another machine on the same shared folder it knows only where the file system carries flock between
    them, which few do for a folder; of a bucket it knows nothing, and of a file system without locks nothing either,
    which is told.

    Args:
        doing: What the process does there, for messages: `training in`.
        lost: What two of them would overwrite, and what to do.

    Raises:
        FolderInUse: Another process has it.
    """
    Folder(str(folder)).create()
    place = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(place, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(place)
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
        os.close(place)
