"""BinDataModule: a dataset root as the three loaders that Lightning wants."""

import os
from collections.abc import Sequence

import torch
from pytorch_lightning import LightningDataModule
from torch.utils.data import DataLoader

from stocktake.data.manifest import Manifest
from stocktake.data.sampler import ResumableSampler
from stocktake.data.stream import ObjectImages
from stocktake.data.transforms import Augment, Resize
from stocktake.storage import Folder, StorageOptions


class BinDataModule(LightningDataModule):
    """Train, valid and test images of a dataset root made by `scripts/prepare.py`."""

    def __init__(
        self,
        root: str,
        batch_size: int,
        image_size_px: int = 224,
        resize: str = "squash",
        augment: Augment | None = None,
        counts: Sequence[int] = (1, 2, 3, 4, 5),
        limit: int | None = None,
        num_workers: int | None = None,
        seed: int = 0,
        storage: StorageOptions | None = None,
    ):
        """
        Args:
            root: `file://`, `s3://` or path of the folder that holds `manifest.parquet`.
            batch_size: Images of a global batch; every rank takes its share.
            image_size_px: Side of the square that the network sees, pixels.
            resize: `squash` or `letterbox`.
            augment: How training images vary; `None` for not at all.
            counts: The counts that the model tells apart.
            limit: At most so many images of each split.
            num_workers: Processes that fetch and decode, per rank; `None` chooses by the hardware.
            seed: Decides order and augmentation.
            storage: How to reach S3.
        """
        super().__init__()
        self.root = Folder(root, storage or StorageOptions())
        self.batch_size, self.counts, self.limit, self.seed = batch_size, list(counts), limit, seed
        self.resize, self.augment = Resize(image_size_px, resize), augment
        self.num_workers = _suitable_num_workers() if num_workers is None else num_workers
        self._manifest: Manifest | None = None
        self._train_sampler: ResumableSampler | None = None
        self._batches_done = 0

    @property
    def manifest(self) -> Manifest:
        if self._manifest is None:
            self._manifest = Manifest.read(self.root)
        return self._manifest

    def setup(self, stage: str) -> None:
        _ = self.manifest  # a missing or broken root is told before the model is built on the device

    def train_dataloader(self) -> DataLoader:
        loader = self.loader("train", shuffle=True, augment=self.augment)
        self._train_sampler = loader.sampler
        self._train_sampler.skip(self._batches_done)
        return loader

    def val_dataloader(self) -> DataLoader:
        return self.loader("valid")

    def test_dataloader(self) -> DataLoader:
        return self.loader("test")

    def loader(self, split: str, shuffle: bool = False, augment: Augment | None = None) -> DataLoader:
        """Returns this rank's batches of a split (`train`, `valid`, `test` or `all`)."""
        rows = self.manifest.side(split, self.limit, self.counts)
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
        return DataLoader(
            ObjectImages(self.root, rows, self.resize, augment, self.seed),
            sampler=sampler,
            batch_size=None,  # the sampler's plans are whole batches
            num_workers=self.num_workers,
            pin_memory=torch.cuda.is_available(),
            persistent_workers=self.num_workers > 0,
        )

    def state_dict(self) -> dict[str, int]:
        progress = self.trainer.fit_loop.epoch_loop.batch_progress.current
        return {"batches_done": progress.processed, "batch_size": self.batch_size}

    def load_state_dict(self, state: dict[str, int]) -> None:
        if state["batch_size"] != self.batch_size:
            raise ValueError(
                f"The checkpoint was made with data.batch_size={state['batch_size']}, now it is {self.batch_size}; "
                "the order of the images would not be the same. Type the old value, or start a new run."
            )
        self._batches_done = state["batches_done"]
        if self._train_sampler is not None:  # a scheduler may have asked for the loader before
            self._train_sampler.skip(self._batches_done)


def _suitable_num_workers() -> int:
    """A GPU is fed by every core but one; on a CPU the network needs the cores itself."""
    num_cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(8, max(1, num_cores - 1)) if torch.cuda.is_available() else min(2, num_cores // 2)
