"""One process at a time trains in a run's folder: two would take each other's checkpoints."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from omegaconf import DictConfig
from pytorch_lightning.utilities.rank_zero import rank_zero_only

from stocktake.storage import Folder, is_s3, local_path
from stocktake.workflows.resuming import elsewhere


class RunInUse(ValueError):
    """Another process trains in the folder of this run."""


@contextlib.contextmanager
def alone_in(cfg: DictConfig) -> Iterator[None]:
    """Keeps the run's folder, and that of its checkpoints, for this process until it ends, however it ends.

    The first rank does so for all. The folders themselves are locked, so no file is left that a kill would leave;
    where a file system has no locks, and between machines, nothing is known of others.

    Raises:
        RunInUse: Another process has one of them.
    """
    folders = [Path(cfg.run_dir).absolute()]
    if not is_s3(cfg.checkpoint_dir) and folders[0] not in local_path(cfg.checkpoint_dir).parents:
        folders.append(local_path(cfg.checkpoint_dir))
    with contextlib.ExitStack() as held:
        for folder in dict.fromkeys(folders) if rank_zero_only.rank == 0 else ():
            Folder(str(folder)).create()
            place = os.open(folder, os.O_RDONLY)
            held.callback(os.close, place)
            try:
                fcntl.flock(place, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise RunInUse(
                    f"Another process is training in {folder} at this moment, and two would overwrite each other's "
                    f"checkpoints. Wait for its end, or type {elsewhere(cfg)} to train another run beside it."
                ) from None
            except OSError:
                continue
        yield
