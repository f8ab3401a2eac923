"""BinCounter: a timm backbone with dropout and a counting head, as a LightningModule.

Axes: B images of a batch, C 3 channels, H height, W width, K counts that the model tells apart (in rising order).
"""

import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from pytorch_lightning import LightningModule
from timm.optim import (  # whose __init__ names them by plain imports
    param_groups_layer_decay,  # pyright: ignore[reportPrivateImportUsage]
    param_groups_weight_decay,  # pyright: ignore[reportPrivateImportUsage]
)
from torch import Tensor
from torchmetrics import MeanMetric

from stocktake.model.backbone import create_backbone, normalization
from stocktake.model.heads import Head
from stocktake.model.validation_metrics import CountMetrics

LENGTHS = frozenset({"total_steps", "T_max"})  # what a schedule calls the length of the run, where it depends on it


def open_lengths(schedule: Callable[..., Any]) -> set[str]:
    """Returns those of a schedule's lengths that the run's own is to be put in, because nobody typed another."""
    typed = {name for name, value in getattr(schedule, "keywords", {}).items() if value is not None}
    if typed >= {"epochs", "steps_per_epoch"}:  # OneCycleLR's other way to say it
        return set()
    return set(LENGTHS & inspect.signature(schedule).parameters.keys() - typed)


class BinCounter(LightningModule):
    """Sees a bin, says P(count)."""

    mean_C11: Tensor
    std_C11: Tensor

    def __init__(
        self,
        backbone: str,
        counts: Sequence[int],
        head: Head,
        optimizer: Callable[..., torch.optim.Optimizer] | None = None,
        scheduler: Callable[..., torch.optim.lr_scheduler.LRScheduler] | None = None,
        scheduler_interval: str = "step",
        layer_decay: float | None = None,
        decay_norms: bool = True,
        weights: str | None = "imagenet",
        drop_rate: float = 0.5,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        channels_last: bool = False,
        torch_compile: bool = False,
    ):
        """
        Args:
            backbone: Name of a timm model.
            counts: The counts that it tells apart.
            head: Loss and P(count).
            optimizer: Given the parameters, makes the optimizer.
            scheduler: Given the optimizer (and `total_steps`, `T_max` or `max_lr`, where it takes them and none is
                typed), makes the scheduler.
            scheduler_interval: `step` or `epoch`: how often the scheduler steps.
            layer_decay: Factor of the learning rate from each layer to the one below it, and no weight decay for
                biases and norms (BEiT, https://arxiv.org/abs/2106.08254, appendix); `None` treats all alike.
            decay_norms: Whether the optimizer's weight decay pulls at biases and norms, too, as PyTorch's optimizers do
                unless told otherwise.
            weights: `imagenet`, a path or s3:// URL, or `none`.
            drop_rate: Dropout before the last layer.
            mean: Of the three channels, on 0..1; `None` takes what the backbone's weights were trained with.
            std: Likewise.
            channels_last: Memory layout that convolutions are faster in on tensor cores and AVX-512 BF16.
            torch_compile: Compile the backbone; pays on a GPU, after a minute of its own.
        """
        super().__init__()
        self.counts = sorted(counts)
        self.head, self.optimizer, self.scheduler = head, optimizer, scheduler
        self.scheduler_interval, self.layer_decay, self.decay_norms = scheduler_interval, layer_decay, decay_norms
        self.flip_tta = False
        self.backbone = create_backbone(backbone, head.num_logits(len(self.counts)), weights, drop_rate)
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self.backbone.to(memory_format=self.memory_format)
        if torch_compile:
            self.backbone.compile()  # in place: the names in the checkpoint stay as they are
        mean_C11, std_C11 = normalization(self.backbone, mean, std)
        self.register_buffer("mean_C11", mean_C11)
        self.register_buffer("std_C11", std_C11)
        self._counts_K = torch.tensor(self.counts)  # no buffer, which an average of the weights would average
        self.valid_metrics, self.valid_loss = CountMetrics(self.counts), MeanMetric()

    def forward(self, images_BCHW: Tensor) -> Tensor:
        """Returns `logits_BK` for uint8 pixels."""
        normalized_BCHW = (images_BCHW - self.mean_C11) / self.std_C11
        return self.backbone(normalized_BCHW.contiguous(memory_format=self.memory_format))

    def probabilities(self, images_BCHW: Tensor) -> Tensor:
        """Returns P(count), `probabilities_BK`, for uint8 pixels.

        With `flip_tta` it is the mean over the image and its mirror image.
        """
        probabilities_BK = self.head.probabilities(self(images_BCHW))
        if self.flip_tta:
            probabilities_BK = (probabilities_BK + self.head.probabilities(self(images_BCHW.flip(-1)))) / 2
        return probabilities_BK

    def classes(self, counts_B: Tensor) -> Tensor:
        """Returns each count's position among the K counts."""
        if self._counts_K.device != counts_B.device:
            self._counts_K = self._counts_K.to(counts_B.device)
        return torch.searchsorted(self._counts_K, counts_B)

    def training_step(self, batch: dict[str, Any], _batch_index: int) -> Tensor:
        loss = self.head.loss(self(batch["images"]), self.classes(batch["counts"]))
        self.log("train/loss", loss, batch_size=len(batch["counts"]))
        return loss

    def validation_step(self, batch: dict[str, Any], _batch_index: int) -> dict[str, Tensor]:
        """Returns `{"probabilities": probabilities_BK, "classes": classes_B}`, untempered."""
        logits_BK, classes_B = self(batch["images"]), self.classes(batch["counts"])
        # Not through log(sync_dist=True), which rounds the ranks' mean number of images down (Lightning 2.6.6).
        self.valid_loss.update(self.head.loss(logits_BK, classes_B), len(classes_B))
        probabilities_BK = self.head.probabilities(logits_BK)
        self.valid_metrics.update(probabilities_BK, classes_B)
        return {"probabilities": probabilities_BK, "classes": classes_B}

    def on_validation_epoch_end(self) -> None:
        """Logs the metrics of all ranks."""
        metrics = {f"valid/{name}": value for name, value in self.valid_metrics.compute().items()}
        shown = {"valid/loss": self.valid_loss.compute(), "valid/accuracy": metrics.pop("valid/accuracy")}
        self.log_dict(shown, prog_bar=True)
        self.log_dict(metrics)
        self.reset_metrics()

    def reset_metrics(self) -> None:
        self.valid_metrics.reset()
        self.valid_loss.reset()

    def predict_step(self, batch: dict[str, Any], _batch_index: int = 0) -> dict[str, Any]:
        """Returns `{"image_ids": [str], "probabilities": probabilities_BK}`."""
        return {"image_ids": batch["image_ids"], "probabilities": self.probabilities(batch["images"])}

    def configure_optimizers(self) -> dict[str, Any]:
        if self.optimizer is None:
            raise ValueError(
                "This model has no optimizer: type optimizer=functools.partial(torch.optim.AdamW, lr=0.001)."
            )
        optimizer = self.optimizer(self._parameter_groups())
        if self.scheduler is None:
            return {"optimizer": optimizer}
        taken = inspect.signature(self.scheduler).parameters
        runtime: dict[str, Any] = {}
        length: int | None = None
        if lengths := open_lengths(self.scheduler):
            by_step = self.scheduler_interval == "step"
            length = int(self.trainer.estimated_stepping_batches) if by_step else self.trainer.max_epochs
            runtime = dict.fromkeys(lengths, length)
        typed = getattr(self.scheduler, "keywords", {})
        share = typed.get("pct_start")
        if (
            share is not None and length is not None and share * length == 1
        ):  # a way up of no steps at all, by which torch would divide
            runtime["pct_start"] = share * 1.000001
        if "max_lr" in taken and typed.get("max_lr") is None:
            runtime["max_lr"] = [group["lr"] for group in optimizer.param_groups]
        scheduler = self.scheduler(optimizer, **runtime)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": self.scheduler_interval},
        }

    def _parameter_groups(self) -> Iterable[Any]:
        keywords = getattr(self.optimizer, "keywords", {})
        if self.layer_decay is None:
            decay = keywords.get("weight_decay", 0.0)
            return self.parameters() if self.decay_norms else param_groups_weight_decay(self.backbone, decay)
        groups = param_groups_layer_decay(
            self.backbone, weight_decay=keywords.get("weight_decay", 0.0), layer_decay=self.layer_decay
        )
        return [
            {name: group[name] for name in ("params", "weight_decay", "lr_scale")}
            | {"lr": keywords["lr"] * group["lr_scale"]}
            for group in groups
        ]
