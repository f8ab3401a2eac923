"""ObjectImages: batches of decoded images, read from the dataset root as the objects they are.

A map-style dataset whose index is a whole `BatchPlan`: its rows are the batch, and while they are decoded the
GETs of the rows ahead are under way. So a worker never waits for a batch that it could have known of.
"""

import hashlib
from collections.abc import Callable, Iterator
from typing import Any

import pyarrow
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate

from stocktake.data.loading.cache import DiskCache
from stocktake.data.loading.prefetch import FetchAhead
from stocktake.data.loading.sampler import BatchPlan
from stocktake.data.loading.workers import named_end
from stocktake.data.transforms import UndecodableImage, decode
from stocktake.storage import Folder, join_url

Batch = dict[str, Any]


# An object that arrives damaged is asked for again; one that is damaged where it lies is named.
NUM_TRIES = 3


class ChangedObject(ValueError):
    """An object is not the one that the manifest describes: cut off, overwritten or mixed up."""


class ObjectImages(Dataset):
    """The images of one split.

    Indexing with a `BatchPlan` gives `{"images": images_BCSS uint8, "counts": [int], "image_ids": [str]}`;
    `BatchLoader` makes a tensor of the counts.
    """

    def __init__(
        self,
        root: Folder,
        rows: pyarrow.Table,
        resize: Callable[..., Tensor],
        augment: Callable[..., Tensor] | None = None,
        seed: int = 0,
        num_connections: int = 32,
        cache: DiskCache | None = None,
    ):
        """
        Args:
            rows: The split's part of the manifest.
            resize: Brings `image_CHW` to the size that the network sees in an epoch.
            augment: Called with the resized image and what its randomness may depend on; `None` for evaluation.
            num_connections: GETs under way at once, in each worker.
            cache: Where images are kept on this host.
        """
        self.root, self.resize, self.augment, self.seed = root, resize, augment, seed
        self.cache = cache
        self.image_ids: list[str] = rows["image_id"].to_pylist()
        self.keys: list[str] = rows["key"].to_pylist()
        self.counts: list[int] = rows["count"].to_pylist()
        self.sha256: list[str] = rows["sha256"].to_pylist()
        self.num_connections = num_connections
        self._epoch = None
        self._fetched = self._start_fetching()

    def _start_fetching(self) -> FetchAhead:
        return FetchAhead(self._fetch, self.num_connections, self._is_cached)

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, plan: BatchPlan) -> Batch:
        if plan.epoch != self._epoch:  # one that was cut short has left rows that nobody will take
            self._epoch, self._fetched = plan.epoch, self._start_fetching()
        self._fetched.request((*plan.rows, *plan.ahead))
        # Rows, columns, channels, as the decoder lays them out: the stack is a plain copy, into shared memory.
        images_BSSC = default_collate([self._image(row, plan.epoch).permute(1, 2, 0) for row in plan.rows])
        return {
            "images": images_BSSC.permute(0, 3, 1, 2),
            "counts": [self.counts[row] for row in plan.rows],
            "image_ids": [self.image_ids[row] for row in plan.rows],
        }

    def _fetch(self, row: int) -> bytearray:
        """Returns the image that the manifest describes, from the cache or else from the root."""
        sha256 = self.sha256[row]
        content = self.cache.read(sha256) if self.cache is not None else None
        if content is not None:
            return content
        content = bytearray()
        for _ in range(NUM_TRIES):
            content = self.root.read_writable(self.keys[row])
            if _is_intact(content, sha256):
                if self.cache is not None:
                    self.cache.write(sha256, content)
                return content
        raise ChangedObject(
            f"{join_url(self.root.url, self.keys[row])} is not the image that the manifest describes "
            f"({len(content)} bytes came, {NUM_TRIES} times). Run prepare again as before to mend the root."
        )

    def _is_cached(self, row: int) -> bool:
        return self.cache is not None and self.cache.holds(self.sha256[row])

    def _image(self, row: int, epoch: int) -> Tensor:
        content = self._fetched.take(row)
        try:
            image = self.resize(decode(content), epoch)
        except UndecodableImage as error:
            raise UndecodableImage(f"{join_url(self.root.url, self.keys[row])}: {error}") from None
        if self.augment is not None:
            image = self.augment(image, self.seed, epoch, self.image_ids[row])
        return image


def _is_intact(content: bytearray, sha256: str) -> bool:
    return hashlib.sha256(content).hexdigest() == sha256


class BatchLoader(DataLoader):
    """Loads the batches of `ObjectImages`, with `counts_B` int64.

    Every tensor that a worker sends has shared memory and a connection between the processes of its own. For 256 bytes
    of counts that takes as long as decoding two images; so they come along with the ids, and become a tensor here.
    """

    def __iter__(self) -> Iterator[Batch]:
        batches = super().__iter__()
        return named_end(map(_with_counts_tensor, batches), getattr(batches, "_workers", ()))


def _with_counts_tensor(batch: Batch) -> Batch:
    return batch | {"counts": torch.tensor(batch["counts"], dtype=torch.int64)}


def num_images(batch: Batch) -> int:
    """Returns how many images a batch holds: what the throughput monitor counts."""
    return len(batch["image_ids"])
