"""The order of the images: a function of (seed, epoch), cut into batches for every rank.

Whatever the number of ranks and workers, the global batches are the same. The only state is one integer,
the global batches that an epoch has behind it.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy

from stocktake.seeding import generator


class BatchPlan(NamedTuple):
    """What a worker is asked for: one batch of this rank, and what the same worker will be asked for next.

    Attributes:
        epoch: Decides, with seed and image id, how each image is augmented.
        rows: Rows of the split's table that make up the batch.
        ahead: Rows of the worker's next batches, so that it can fetch them while it decodes this one.
    """

    epoch: int
    rows: list[int]
    ahead: list[int]


class ResumableSampler:
    """Yields one `BatchPlan` a step for one rank; shuffled for training, in order for evaluation.

    In training every global batch is full, and the images that do not fill one (other ones each epoch) are
    left out, so all ranks take equal steps. In evaluation every image comes exactly once: batches differ in size by
    at most one image, and every rank has the same number of them.
    """

    def __init__(
        self,
        num_images: int,
        batch_size: int,
        shuffle: bool,
        seed: int = 0,
        rank: int = 0,
        num_ranks: int = 1,
        num_workers: int = 0,
        batches_ahead: int = 1,
    ):
        """
        Args:
            num_images: Images of the split.
            batch_size: Images of a global batch, over all ranks.
            num_workers: Worker processes that take batches in turn (0: the training process itself).
            batches_ahead: Batches of the same worker that a plan names in advance.

        Raises:
            ValueError: The batch does not divide by the ranks, or there are too few images for one batch.
        """
        if batch_size % num_ranks:
            raise ValueError(
                f"data.batch_size={batch_size} is the global batch and does not divide by {num_ranks} ranks; "
                f"type data.batch_size={max(1, batch_size // num_ranks) * num_ranks} or use another number of ranks."
            )
        fewest = batch_size if shuffle else num_ranks
        if num_images < fewest:
            raise ValueError(
                f"{num_images} images are too few for "
                + (f"one batch of data.batch_size={batch_size}; " if shuffle else f"{num_ranks} ranks; ")
                + "raise data.limit or data.num_train_bins, prepare more images, or lower data.batch_size."
            )
        self.num_images, self.batch_size, self.shuffle, self.seed = num_images, batch_size, shuffle, seed
        self.rank, self.num_ranks = rank, num_ranks
        self.stride, self.batches_ahead = max(1, num_workers), batches_ahead
        self.epoch = 0
        self.batches_done = 0

    def __len__(self) -> int:
        """Batches of a whole epoch, wherever this one starts."""
        if self.shuffle:
            return self.num_images // self.batch_size
        return max(1, min(-(-self.num_images // self.batch_size), self.num_images // self.num_ranks))

    def set_epoch(self, epoch: int) -> None:
        """Called by the Trainer before every epoch."""
        self.epoch = epoch

    def start_at(self, epoch: int, batches_done: int) -> None:
        """Makes the next pass that of `epoch`, after so many global batches; the passes after it are whole."""
        self.epoch, self.batches_done = epoch, batches_done

    def __iter__(self) -> Iterator[BatchPlan]:
        batches = self.batches()
        start, self.batches_done = self.batches_done, 0
        for position in range(start, len(batches)):
            following = batches[position + self.stride :: self.stride][: self.batches_ahead]
            yield BatchPlan(
                self.epoch, batches[position].tolist(), [row for batch in following for row in batch.tolist()]
            )

    def batches(self) -> list[numpy.ndarray]:
        """Returns this rank's part of every global batch of the epoch: rows, int64."""
        rows = numpy.arange(self.num_images)
        if not self.shuffle:
            return numpy.array_split(rows, len(self) * self.num_ranks)[self.rank :: self.num_ranks]
        generator("order", self.seed, self.epoch).shuffle(rows)
        whole = rows[: len(self) * self.batch_size].reshape(len(self), self.num_ranks, -1)
        return list(whole[:, self.rank])
