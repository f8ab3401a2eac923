"""A training step that waits for nothing: on the device `meta`, which has no values, whoever asks for one fails."""

from functools import partial

import pytest
import torch
from pytorch_lightning import Trainer
from pytorch_lightning.accelerators import CPUAccelerator
from pytorch_lightning.strategies import SingleDeviceStrategy
from torch.utils.data import DataLoader, IterableDataset

from stocktake.callbacks.determinism import StatelessDropout
from stocktake.callbacks.freeze_backbone import FreezeBackbone
from stocktake.callbacks.progress import NonBlockingProgressBar, NonBlockingThroughputMonitor
from stocktake.callbacks.step_logger import StepLogger
from stocktake.callbacks.weight_average import WeightAverage
from stocktake.data.loading.dataset import num_images
from stocktake.model.counter import BinCounter
from stocktake.model.heads import CornHead, SoftLabelHead, SoftmaxHead

NUM_STEPS = 5


class Enough(Exception):
    """The steps that are watched are over; what an epoch's end asks is asked once."""


class Batches(IterableDataset):
    def __iter__(self):
        images, counts = torch.zeros(4, 3, 32, 32, dtype=torch.uint8), torch.tensor([1, 2, 3, 1])
        yield from [{"images": images, "counts": counts, "image_ids": ["a", "b", "c", "d"]}] * NUM_STEPS
        raise Enough


class NoAccelerator(CPUAccelerator):
    def setup_device(self, device):
        pass


class OnMeta(SingleDeviceStrategy):
    """Lets a Trainer run on `meta`."""

    def __init__(self):
        super().__init__(torch.device("meta"), NoAccelerator())

    def reduce(self, tensor, *_args, **_options):
        return torch.tensor(2 * NUM_STEPS)  # of the loader's length, before the first step


@pytest.mark.parametrize("head", [SoftmaxHead(0.1), SoftLabelHead(), CornHead()], ids=["smooth", "soft", "corn"])
def test_no_step_between_two_logged_ones_asks_the_device(head, tmp_path, capsys, monkeypatch):
    model = BinCounter(
        "test_resnet",
        [1, 2, 3],
        head,
        partial(torch.optim.AdamW, lr=0.01, foreach=True),
        partial(torch.optim.lr_scheduler.StepLR, step_size=1),
        weights="none",
    )
    trainer = Trainer(
        strategy=OnMeta(),
        limit_train_batches=2 * NUM_STEPS,
        max_epochs=1,
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        log_every_n_steps=100,
        default_root_dir=tmp_path,
        callbacks=[
            StatelessDropout(0),
            FreezeBackbone(1),
            WeightAverage(0.9),
            NonBlockingThroughputMonitor(num_images),
            NonBlockingProgressBar(),
            StepLogger(),
        ],
    )
    monkeypatch.setattr(trainer, "_teardown", lambda: None)  # it would bring the figures to the CPU
    with pytest.raises(Enough):
        trainer.fit(model, DataLoader(Batches(), batch_size=None))
    assert capsys.readouterr().out.count("step=") == NUM_STEPS
