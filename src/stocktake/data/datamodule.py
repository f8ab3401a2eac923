"""BinDataModule: a dataset root as the three loaders that Lightning wants."""

from collections.abc import Sequence
from typing import Any

import pyarrow
import torch
from filelock import FileLock
from pytorch_lightning import LightningDataModule
from pytorch_lightning.loops.progress import _ProcessedTracker
from torch.utils.data import DataLoader

from stocktake.data.ingest.ingest import Ingest
from stocktake.data.loading.cache import DiskCache
from stocktake.data.loading.dataset import BatchLoader, ObjectImages
from stocktake.data.loading.sampler import ResumableSampler
from stocktake.data.loading.workers import WorkerStart, worker_context
from stocktake.data.manifest import MANIFEST_KEY, Manifest
from stocktake.data.sources.drawn_bins import DRAWN_SOURCE, DrawnSource, check_drawing_location, check_drawn
from stocktake.data.sources.source import check_counts
from stocktake.data.split import SplitRule
from stocktake.data.transforms import Augment, Resize
from stocktake.hardware import num_cores
from stocktake.storage import Folder, StorageOptions, is_local, local_path


class BinDataModule(LightningDataModule):
    """Train, valid and test images of a dataset root made by `scripts/prepare.py`."""

    def __init__(
        self,
        root: str,
        batch_size: int,
        image_size_px: int = 224,
        resize: str = "squash",
        train_sizes_px: Sequence[int] | None = None,
        augment: Augment | None = None,
        counts: Sequence[int] = (1, 2, 3, 4, 5),
        limit: int | None = None,
        num_train_bins: int | None = None,
        num_workers: int | None = None,
        seed: int = 0,
        cache_dir: str | None = None,
        cache_limit_mib: float = 20_000,
        storage: StorageOptions | None = None,
    ):
        """
        Args:
            root: `file://`, `s3://` or path of the folder that holds `manifest.parquet`.
            batch_size: Images of a global batch; every rank takes its share.
            image_size_px: Side of the square that the network sees, pixels.
            resize: `squash` or `letterbox`.
            train_sizes_px: Side in training, epoch by epoch, the last one from then on; `None` for the same always.
            augment: How training images vary; `None` for not at all.
            counts: The counts that the model tells apart.
            limit: At most so many images of each split.
            num_train_bins: At most so many training bins, in whole blocks of neighbors, so that fewer are part of
                more; `None` for all. Validation and test stay whole.
            num_workers: Processes that fetch and decode, per rank; `None` chooses by the hardware.
            seed: Decides order and augmentation.
            cache_dir: Local folder to keep images of a remote root in, from one epoch to the next; `None` for none.
            cache_limit_mib: The kept images together are never larger.
            storage: How to reach S3.

        Raises:
            ValueError: A number is out of its range.
        """
        super().__init__()
        check_counts(counts, "data.counts")
        _check_range("batch_size", batch_size, 1)
        _check_range("limit", limit, 1, "null for all of them")
        _check_range("num_workers", num_workers, 0, "null for as many as suit the hardware")
        self.root = Folder(root, storage or StorageOptions())
        self.batch_size, self.counts, self.limit, self.seed = batch_size, list(counts), limit, seed
        self.num_train_bins = num_train_bins
        self.cache_dir, self.cache_limit_mib = cache_dir, cache_limit_mib
        self.resize, self.augment = Resize(image_size_px, resize), augment
        self.train_resize = Resize(train_sizes_px or image_size_px, resize)
        self.num_workers = _suitable_num_workers() if num_workers is None else num_workers
        # The workers' server is started here, so that it imports torch while the model is still being built.
        self._worker_context = worker_context() if self.num_workers else None
        self._manifest: Manifest | None = None
        self._train_sampler: ResumableSampler | None = None
        self._epoch, self._batches_done = 0, 0

    @property
    def manifest(self) -> Manifest:
        if self._manifest is None:
            self._manifest = Manifest.read(self.root)
        return self._manifest

    def setup(self, stage: str) -> None:
        _ = self.manifest  # a missing or broken root is named before the model is built on the device

    def train_dataloader(self) -> DataLoader:
        loader = self.loader("train", shuffle=True, augment=self.augment)
        sampler = loader.sampler
        assert isinstance(sampler, ResumableSampler)  # of `loader`
        self._train_sampler = sampler
        if self.trainer and self.trainer.current_epoch > self._epoch:  # asked for anew, epochs after the run went on
            sampler.start_at(self.trainer.current_epoch, 0)
        else:
            sampler.start_at(self._epoch, self._batches_done)
        return loader

    def val_dataloader(self) -> DataLoader:
        return self.loader("valid")

    def test_dataloader(self) -> DataLoader:
        return self.loader("test")

    def rows(self, split: str) -> pyarrow.Table:
        """Returns the manifest's rows of a split (`train`, `valid`, `test` or `all`), as many as are asked for."""
        return self.manifest.rows(split, self.limit, self.counts, self.num_train_bins, self.seed)

    def loader(
        self, split: str, shuffle: bool = False, augment: Augment | None = None, resize: Resize | None = None
    ) -> DataLoader:
        """Returns this rank's batches of a split (`train`, `valid`, `test` or `all`).

        Args:
            resize: To another size than the network sees.
        """
        rows = self.rows(split)
        cache = None
        if self.cache_dir is not None:
            cache = DiskCache(self.cache_dir, self.cache_limit_mib, self.manifest.table, self.manifest.sha256)
        trainer = self.trainer
        sampler = ResumableSampler(
            rows.num_rows,
            self.batch_size,
            shuffle,
            self.seed,
            rank=trainer.global_rank if trainer else 0,
            num_ranks=trainer.world_size if trainer else 1,
            num_workers=self.num_workers,
        )
        return BatchLoader(
            ObjectImages(
                self.root,
                rows,
                resize or (self.train_resize if shuffle else self.resize),
                augment,
                self.seed,
                cache=cache,
            ),
            sampler=sampler,
            batch_size=None,  # the sampler's plans are whole batches
            num_workers=self.num_workers,
            multiprocessing_context=self._worker_context,
            worker_init_fn=WorkerStart(),
            pin_memory=torch.cuda.is_available(),
            persistent_workers=self.num_workers > 0,
        )

    def state_dict(self) -> dict[str, int]:
        """Where the order of the images stands: the whole of what exact resuming needs of the data."""
        assert self.trainer is not None  # Lightning asks within a training
        fit_loop = self.trainer.fit_loop
        current = fit_loop.epoch_loop.batch_progress.current
        assert isinstance(current, _ProcessedTracker)
        epoch, done = self.trainer.current_epoch, current.processed
        if done == fit_loop.max_batches:
            epoch, done = epoch + 1, 0
        return {"epoch": epoch, "batches_done": done, "batch_size": self.batch_size}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        # Before the first batch nothing depends on it, and there Lightning's batch size finder changes it.
        epoch, batches_done, batch_size = (state_dict[name] for name in ("epoch", "batches_done", "batch_size"))
        if (epoch, batches_done) != (0, 0) and batch_size != self.batch_size:
            raise ValueError(
                f"The checkpoint was made with data.batch_size={batch_size}, now it is {self.batch_size}; "
                "the order of the images would not be the same. Type the old value, or start a new run."
            )
        self._epoch, self._batches_done = epoch, batches_done
        if self._train_sampler is not None:  # a scheduler may have asked for the loader before
            self._train_sampler.start_at(self._epoch, self._batches_done)


class SyntheticBinDataModule(BinDataModule):
    """A dataset root of drawn bins, which it makes when it is not there yet."""

    def __init__(self, root: str, num_bins: int = 2000, draw: bool | None = True, **options: Any):
        """
        Args:
            root: Local folder; the drawn source bucket is kept in it too.
            num_bins: Bins to draw, over all splits.
            draw: Whether to draw them where there is no dataset yet; `None` only if the folder's name begins with
                `synthetic-`, so that a mistyped one is not filled with drawings and trained on.
            options: As for `BinDataModule`.
        """
        super().__init__(root, **options)
        _check_range("num_bins", num_bins, 1)
        self.num_bins, self.draw = num_bins, draw

    def prepare_data(self) -> None:
        """Draws and ingests; Lightning calls it once a machine, and several runs may share the folder.

        Raises:
            RootError: There is no dataset and it may not be drawn there, or the one that was drawn is another.
        """
        check_drawing_location(self.root, self.draw, self.num_bins)
        if not is_local(self.root.url):
            return
        root = local_path(self.root.url)
        root.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{root}.lock"):
            if not self.root.exists(MANIFEST_KEY):
                source = DrawnSource(root / DRAWN_SOURCE, self.num_bins, self.counts)
                # Drawn bins are independent of their neighbors.
                Ingest(source, self.root, source.listing(), SplitRule(block=1)).run()
        check_drawn(self.root, self.manifest, self.num_bins, self.counts)


def _check_range(name: str, value: object, least: int, otherwise: str | None = None) -> None:
    if value is None and otherwise:
        return
    if type(value) is not int or value < least:
        hint = f", or {otherwise}" if otherwise else ""
        raise ValueError(f"data.{name}={value!r} must be a whole number, at least {least}{hint}.")


def _suitable_num_workers() -> int:
    """A GPU is fed by every core but one; on a CPU the network needs the cores itself."""
    return min(8, max(1, num_cores() - 1)) if torch.cuda.is_available() else min(2, num_cores() // 2)
