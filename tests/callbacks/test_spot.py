"""Checkpoints of a run that may be taken away at any step."""

import hashlib
import inspect
import os
import signal
from types import SimpleNamespace

import pytest
import pytorch_lightning
import torch
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.loops.training_epoch_loop import _TrainingEpochLoop
from torch.utils.data import DataLoader, TensorDataset

from stocktake.callbacks.spot import Interrupted, SpotCheckpoint

NUM_BATCHES = 6


class Line(LightningModule):
    """A straight line that can be told to send itself SIGTERM."""

    def __init__(self, training_at=None, validation_at=None):
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)
        self.training_at, self.validation_at = training_at, validation_at

    def training_step(self, batch, batch_index):
        if (self.current_epoch, batch_index) == self.training_at:
            os.kill(os.getpid(), signal.SIGTERM)
        return self.layer(batch[0]).square().mean()

    def validation_step(self, batch, batch_index):
        if (self.current_epoch, batch_index) == self.validation_at:
            os.kill(os.getpid(), signal.SIGTERM)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.01)


def fit(tmp_path, module, every_n_train_steps=100, **options):
    loader = DataLoader(TensorDataset(torch.ones(NUM_BATCHES * 2, 1)), batch_size=2)
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=2,
        logger=False,
        callbacks=[SpotCheckpoint(str(tmp_path), every_n_train_steps)],
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
        num_sanity_val_steps=0,
        **options,
    )
    trainer.fit(module, loader, loader)
    return trainer


def steps(tmp_path) -> int:
    newest = max(tmp_path.glob("*.ckpt"))
    step = torch.load(newest, weights_only=True)["global_step"]
    assert newest.name == f"step-{step:08d}.ckpt"
    return step


@pytest.fixture(autouse=True)
def handlers_are_left_as_they_were():
    before = signal.getsignal(signal.SIGTERM)
    yield
    assert signal.getsignal(signal.SIGTERM) == before
    signal.signal(signal.SIGTERM, before)


def test_a_whole_run_ends_with_its_last_step(tmp_path):
    fit(tmp_path, Line())
    assert steps(tmp_path) == 2 * NUM_BATCHES


@pytest.mark.parametrize("at", [(0, 0), (0, 2), (1, 3)])
def test_a_signal_in_a_step_saves_that_step(tmp_path, at):
    with pytest.raises(Interrupted, match=f"after step {at[0] * NUM_BATCHES + at[1] + 1}, saved .*step-[0-9]*.ckpt"):
        fit(tmp_path, Line(training_at=at))
    assert steps(tmp_path) == at[0] * NUM_BATCHES + at[1] + 1


def test_a_signal_in_the_last_step_of_an_epoch_waits_for_its_validation(tmp_path):
    with pytest.raises(Interrupted):
        fit(tmp_path, Line(training_at=(0, NUM_BATCHES - 1)))
    assert steps(tmp_path) == NUM_BATCHES


def test_a_signal_in_a_validation_saves_at_its_end(tmp_path):
    with pytest.raises(Interrupted):
        fit(tmp_path, Line(validation_at=(0, 1)))
    assert steps(tmp_path) == NUM_BATCHES


def test_gradients_under_way_are_finished_first(tmp_path):
    with pytest.raises(Interrupted):
        fit(tmp_path, Line(training_at=(0, 2)), accumulate_grad_batches=2)
    assert steps(tmp_path) == 2  # batches 2 and 3 are the second step


def test_steps_are_saved_on_the_way(tmp_path):
    class Vanishes(Line):
        def training_step(self, batch, batch_index):
            if batch_index == 5:
                raise RuntimeError("gone without notice")
            return super().training_step(batch, batch_index)

    with pytest.raises(RuntimeError, match="gone"):
        fit(tmp_path, Vanishes(), every_n_train_steps=1)
    assert sorted(path.name for path in tmp_path.glob("*.ckpt")) == ["step-00000004.ckpt", "step-00000005.ckpt"]


def test_a_save_that_is_due_at_an_epochs_end_comes_with_the_next_step(tmp_path):
    fit(tmp_path, Line(), every_n_train_steps=NUM_BATCHES, check_val_every_n_epoch=2)
    saved = sorted(path.name for path in tmp_path.glob("*.ckpt"))
    assert saved == [f"step-{step:08d}.ckpt" for step in (NUM_BATCHES + 1, 2 * NUM_BATCHES)]


def test_ranks_ask_each_other_every_ten_steps_and_after_a_validation(tmp_path):
    asked = []

    def reduce(flag, reduce_op):
        asked.append(trainer.global_step)
        return flag

    strategy = SimpleNamespace(root_device=torch.device("cpu"), reduce=reduce)
    trainer = SimpleNamespace(world_size=2, training=True, global_step=0, strategy=strategy)
    callback = SpotCheckpoint(str(tmp_path), 100)
    for trainer.global_step in range(1, 31):
        callback._is_any_rank_signaled(trainer)
    trainer.training, trainer.global_step = False, 33
    callback._is_any_rank_signaled(trainer)
    assert asked == [10, 20, 30, 33]


# What of Lightning's own insides the callbacks ask, as it reads in release 2.6.6: the first letters of its sha256.
PRIVATE = {
    _TrainingEpochLoop._should_check_val_fx: "cf0916b12e18",
    _TrainingEpochLoop._should_accumulate: "5482f0c6d473",
    ModelCheckpoint._monitor_candidates: "39e4d1728c2a",
    ModelCheckpoint._save_topk_checkpoint: "8b451ccfc5e4",
    ModelCheckpoint._save_checkpoint: "61bd33e0742c",
}


@pytest.mark.parametrize("method", PRIVATE, ids=lambda method: method.__qualname__)
def test_what_lightning_does_inside_is_as_it_was_read(method):
    digest = hashlib.sha256(inspect.getsource(method).encode()).hexdigest()
    assert digest.startswith(PRIVATE[method]), (
        f"{method.__qualname__} of pytorch-lightning {pytorch_lightning.__version__} is not that of 2.6.6: read it, "
        "see whether callbacks/spot.py and callbacks/validations.py still do what they say, and write its digest here."
    )


def test_what_lightning_keeps_inside_has_the_names_that_are_asked_for(tmp_path):
    trainer = fit(tmp_path, Line(), every_n_train_steps=5)
    (callback,) = trainer.checkpoint_callbacks
    names = {
        callback: ("_every_n_train_steps", "_last_global_step_saved", "best_k_models", "best_model_path"),
        trainer: ("_last_val_time", "val_check_batch", "log_every_n_steps"),
        trainer.fit_loop: ("_data_fetcher", "_can_stop_early"),
        trainer.fit_loop.epoch_loop: ("batch_progress", "total_batch_idx", "batch_idx"),
    }
    missing = [(type(one).__name__, name) for one, asked in names.items() for name in asked if not hasattr(one, name)]
    assert not missing, f"pytorch-lightning {pytorch_lightning.__version__} names them otherwise than 2.6.6 did"
