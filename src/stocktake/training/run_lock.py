"""One process at a time trains in a run's folder: two would take each other's checkpoints."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from omegaconf import DictConfig
from pytorch_lightning.utilities.rank_zero import rank_zero_only

from stocktake.locks import kept_from_others
from stocktake.storage import is_s3, local_path
from stocktake.training.resume import elsewhere


@contextlib.contextmanager
def alone_in(cfg: DictConfig) -> Iterator[None]:
    """Keeps the run's folder, and that of its checkpoints, for this process until it ends, however it ends.

    The first rank does so for all. A link to a folder is that folder.

    Raises:
        FolderInUse: Another process has one of them.
    """
    run_dir, folders = Path(cfg.run_dir).absolute(), []
    if not is_s3(cfg.checkpoint_dir):
        place = local_path(cfg.checkpoint_dir).resolve()
        folders += [local_path(cfg.checkpoint_dir)] * (run_dir.resolve() not in (place, *place.parents))
    cure = f"Wait for its end, or type {elsewhere(cfg)} to train another run beside it."
    with contextlib.ExitStack() as held:
        for folder in (run_dir, *folders) if rank_zero_only.rank == 0 else ():
            held.enter_context(kept_from_others(folder, "training in", f"each other's checkpoints. {cure}"))
        yield
