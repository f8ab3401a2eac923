"""A batch size from the rate of real training steps; on a GPU, Lightning's scaler says first what fits the memory."""

import resource
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.tuner.tuning import Tuner
from pytorch_lightning.utilities.memory import garbage_collection_cuda, is_oom_error
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from stocktake.data.datamodule import BinDataModule
from stocktake.model.counter import BinCounter
from stocktake.tuning.finding import BATCH_SIZE, Finding

NUM_WARMUP_STEPS = 2
NUM_DOUBLINGS_WITHOUT_GAIN = 2  # so many in a row end the search
BYTES_OF_MAXRSS = 1 if sys.platform == "darwin" else 1024


class BatchSizeSearch:
    """Measures images per second at each power of two, and takes the smallest batch that is nearly the fastest."""

    def __init__(
        self,
        smallest: int = 4,
        largest: int = 1024,
        tolerance: float = 0.05,
        num_steps: int = 5,
        seconds: float = 5.0,
    ):
        """
        Args:
            smallest: The first batch size; each further one is twice the one before.
            largest: No batch is larger.
            tolerance: Share of the best rate that a smaller batch may lack.
            num_steps: Training steps timed at each size, at least.
            seconds: Time taken at each size, at least.

        Raises:
            ValueError: The sizes are no range, or the tolerance is no share.
        """
        if not 1 <= smallest <= largest:
            raise ValueError(f"find.smallest={smallest} must be 1 or more, and at most find.largest={largest}.")
        if not 0 <= tolerance < 1:
            raise ValueError(f"find.tolerance={tolerance} is a share of the best rate: type 0.05 for 5 %.")
        self.smallest, self.largest, self.tolerance = smallest, largest, tolerance
        self.num_steps, self.seconds = num_steps, seconds

    def run(self, module: BinCounter, datamodule: BinDataModule, make_trainer: Callable[..., Trainer]) -> Finding:
        """Returns the batch size, and leaves the model's weights as they were.

        Args:
            make_trainer: Gives a Trainer with these options beside its own.

        Raises:
            ValueError: There are several ranks, too few images, or not even the smallest batch fits the memory.
        """
        module.scheduler = None
        trainer = make_trainer(max_epochs=-1)
        if trainer.world_size > 1:
            raise ValueError(f"find=batch_size wants one process, not {trainer.world_size}; type trainer.devices=1.")
        datamodule.prepare_data()  # draws synthetic bins where there are none yet
        num_images = datamodule.manifest.rows("train", datamodule.limit, datamodule.counts).num_rows
        end = min(self.largest, num_images)
        if end < self.smallest:
            raise ValueError(f"{num_images} training images are fewer than find.smallest={self.smallest}.")
        weights = {name: value.clone() for name, value in module.state_dict().items()}
        how = "A CPU has no memory to run out of: training steps were timed at each size."
        if trainer.strategy.root_device.type == "cuda":
            end = self.largest_that_fits(module, datamodule, make_trainer, end)
            how = (
                f"Lightning's batch size scaler went up to {end}; then training steps were timed at each size up to it."
            )
        rows = self.measure(module, datamodule, make_trainer, end)
        module.load_state_dict(weights)
        size = datamodule.batch_size = self.choose({row["batch_size"]: row["images_per_s"] for row in rows})
        best = max(rows, key=lambda row: row["images_per_s"])
        return Finding(
            key=BATCH_SIZE,
            value=size,
            sentences=[
                f"Batches of {size} are the smallest within {100 * self.tolerance:g} % of the best rate, "
                f"{best['images_per_s']:.4g} images a second at {best['batch_size']}.",
                how,
                "Another batch size wants another learning rate: find=lr with it comes next.",
            ],
            measured=rows,
        )

    def largest_that_fits(
        self, module: BinCounter, datamodule: BinDataModule, make_trainer: Callable[..., Trainer], end: int
    ) -> int:
        """Returns the largest power-of-two multiple of `smallest`, at most `end`, at which Lightning can train.

        The last one before `end` may be untried (Lightning 2.6.6 stops on reaching its bound); timing it tries it.
        """
        datamodule.batch_size = self.smallest
        size = self.smallest
        while size * 2 <= end:
            size *= 2
        trainer = make_trainer(max_epochs=-1, check_val_every_n_epoch=sys.maxsize)
        found = Tuner(trainer).scale_batch_size(
            module, datamodule=datamodule, mode="power", init_val=self.smallest, max_val=size
        )
        return found or self.smallest

    def measure(
        self, module: BinCounter, datamodule: BinDataModule, make_trainer: Callable[..., Trainer], end: int
    ) -> list[dict[str, Any]]:
        """Returns `batch_size`, `images_per_s` and `memory_mib` (the peak) of each size, as far as it is worth it."""
        rows: list[dict[str, Any]] = []
        size, best, num_without_gain = self.smallest, 0.0, 0
        columns = TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[rate]}"), TimeElapsedColumn()
        with Progress(*columns, console=Console(stderr=True)) as progress:
            num_sizes = (end // size).bit_length()
            task = progress.add_task("", total=num_sizes, rate="")
            while size <= end and num_without_gain < NUM_DOUBLINGS_WITHOUT_GAIN:
                progress.update(task, description=f"batches of {size}")
                datamodule.batch_size = size
                timer = StepTimer(size, self.num_steps, self.seconds)
                try:
                    make_trainer(max_epochs=-1, limit_val_batches=0, callbacks=[timer]).fit(
                        module, datamodule=datamodule
                    )
                except RuntimeError as error:
                    if not is_oom_error(error):
                        raise
                    garbage_collection_cuda()
                    break
                rows.append(
                    {"batch_size": size, "images_per_s": timer.images_per_s, "memory_mib": timer.peak_memory_mib}
                )
                num_without_gain = 0 if timer.images_per_s > best * (1 + self.tolerance) else num_without_gain + 1
                best = max(best, timer.images_per_s)
                progress.update(task, advance=1, rate=f"{timer.images_per_s:.4g} images/s")
                size *= 2
            progress.update(task, total=len(rows), description="done")
        if not rows:
            raise ValueError(
                f"Not even batches of find.smallest={self.smallest} fit the memory; type find.smallest=1, a smaller "
                "data.image_size_px, or another model."
            )
        return rows

    def choose(self, images_per_s: dict[int, float]) -> int:
        """Returns the smallest batch whose rate is within the tolerance of the best."""
        enough = (1 - self.tolerance) * max(images_per_s.values())
        return min(size for size, rate in images_per_s.items() if rate >= enough)


class StepTimer(Callback):
    """Stops a fit once enough steps were timed; the first ones, which allocate and compile, are not."""

    def __init__(self, batch_size: int, num_steps: int, seconds: float):
        """
        Args:
            batch_size: Images of a batch.
            num_steps: Batches to time, at least.
            seconds: To go on for, at least.
        """
        self.batch_size, self.num_steps, self.seconds = batch_size, num_steps, seconds
        self.num_seen, self.images_per_s, self.peak_memory_mib, self._start_s = 0, 0.0, 0.0, 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if pl_module.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(pl_module.device)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any, **__: Any) -> None:
        if pl_module.device.type == "cuda":
            torch.cuda.synchronize(pl_module.device)  # its work is queued, and the clock would see only the queueing
        self.num_seen += 1
        now_s = time.perf_counter()
        num_timed = self.num_seen - NUM_WARMUP_STEPS
        if num_timed == 0:
            self._start_s = now_s
        if num_timed < self.num_steps or now_s - self._start_s < self.seconds:
            return
        self.images_per_s = num_timed * self.batch_size / (now_s - self._start_s)
        self.peak_memory_mib = _peak_memory_mib(pl_module.device)
        trainer.should_stop = True


def _peak_memory_mib(device: torch.device) -> float:
    """Of the GPU, or of this process since it began, which is that of the largest batch so far."""
    if device.type == "cuda":
        return torch.cuda.max_memory_reserved(device) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * BYTES_OF_MAXRSS / 2**20
