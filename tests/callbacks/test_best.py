"""The best checkpoint survives kills, damage and every kind of resumption; a worse one never takes its place."""

import pytest
import torch
from pytorch_lightning import LightningModule, Trainer
from torch.utils.data import DataLoader, TensorDataset

from stocktake.callbacks.best import BestCheckpoint
from stocktake.callbacks.checkpoint_files import CheckpointFiles
from stocktake.callbacks.spot import SpotCheckpoint
from stocktake.callbacks.validations import Validations

NUM_BATCHES = 6


class Scripted(LightningModule):
    """Gets a given accuracy in the validation after each step, and can break off at the begin of a step."""

    def __init__(self, accuracies: dict[int, float], broken_at: int | None = None):
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)
        self.accuracies, self.broken_at = accuracies, broken_at

    def training_step(self, batch, batch_index):
        if self.global_step == self.broken_at:
            raise RuntimeError("gone without notice")
        return self.layer(batch[0]).square().mean()

    def validation_step(self, batch, batch_index):
        self.log("valid/accuracy", self.accuracies[self.global_step])

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.01)


def fit(folder, module, checkpoint=None, every_n_train_steps=100, **options):
    loader = DataLoader(TensorDataset(torch.ones(NUM_BATCHES * 2, 1)), batch_size=2)
    best = BestCheckpoint(str(folder), "valid/accuracy", "max")
    trainer = Trainer(
        accelerator="cpu",
        logger=False,
        callbacks=[Validations(), best, SpotCheckpoint(str(folder), every_n_train_steps)],
        plugins=[CheckpointFiles()],
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
        num_sanity_val_steps=0,
        **({"max_epochs": 1} | options),
    )
    trainer.fit(module, loader, loader, ckpt_path=checkpoint, weights_only=True)
    return best


def step_of(path) -> int:
    return torch.load(path, weights_only=True)["global_step"]


def test_the_best_and_the_one_before_it_are_kept(tmp_path):
    best = fit(tmp_path, Scripted({2: 0.3, 4: 0.5, 6: 0.4}), val_check_interval=2)
    assert best.best_model_score == pytest.approx(0.5)
    assert step_of(tmp_path / "best.ckpt") == 4
    assert step_of(tmp_path / "best-before.ckpt") == 2


def test_a_validation_within_an_epoch_is_not_forgotten(tmp_path):
    with pytest.raises(RuntimeError, match="gone"):
        fit(tmp_path, Scripted({2: 0.9}, broken_at=3), val_check_interval=2, every_n_train_steps=2)
    newest = max(tmp_path.glob("step-*.ckpt"))
    assert step_of(newest) == 2
    states = torch.load(newest, weights_only=True)["callbacks"].values()
    assert any(state.get("best_model_score") == pytest.approx(0.9) for state in states)
    best = fit(tmp_path, Scripted({4: 0.5, 6: 0.4}), newest, val_check_interval=2)  # 2 is not validated again
    assert best.best_model_score == pytest.approx(0.9)
    assert step_of(tmp_path / "best.ckpt") == 2


def test_a_worse_one_does_not_take_its_place_after_an_older_checkpoint(tmp_path):
    """The best is newer than the checkpoint that the run goes on from, and this machine comes to other figures."""
    with pytest.raises(RuntimeError, match="gone"):
        fit(tmp_path, Scripted({4: 0.9}, broken_at=5), val_check_interval=4, every_n_train_steps=2)
    (tmp_path / "step-00000004.ckpt").unlink()
    best = fit(tmp_path, Scripted({4: 0.5}), tmp_path / "step-00000002.ckpt", val_check_interval=4, max_steps=4)
    assert best.best_model_score == pytest.approx(0.9)
    states = torch.load(tmp_path / "best.ckpt", weights_only=True)["callbacks"].values()
    assert any(state.get("best_model_score") == pytest.approx(0.9) for state in states)


@pytest.mark.parametrize("damage", ["empty", "half", "gone"])
def test_a_damaged_best_gives_way_to_the_one_before_it(tmp_path, damage, capsys):
    fit(tmp_path, Scripted({2: 0.3, 4: 0.5}), val_check_interval=2, max_steps=4)
    path = tmp_path / "best.ckpt"
    content = path.read_bytes()
    path.unlink()
    if damage != "gone":
        path.write_bytes(b"" if damage == "empty" else content[: len(content) // 2])
    best = fit(tmp_path, Scripted({6: 0.2}), tmp_path / "step-00000004.ckpt", val_check_interval=2)
    assert step_of(path) == 2
    assert best.best_model_score == pytest.approx(0.3)
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("best.ckpt")]
    assert "best-before.ckpt, valid/accuracy 0.3000, takes its place" in line


def test_where_no_best_is_whole_the_next_validation_makes_one(tmp_path, capsys):
    fit(tmp_path, Scripted({2: 0.3, 4: 0.5}), val_check_interval=2, max_steps=4)
    for name in ("best.ckpt", "best-before.ckpt"):
        (tmp_path / name).write_bytes(b"")
    best = fit(tmp_path, Scripted({6: 0.2}), tmp_path / "step-00000004.ckpt", val_check_interval=2)
    assert (step_of(tmp_path / "best.ckpt"), best.best_model_score) == (6, pytest.approx(0.2))
    assert "the next validation's takes its place" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "last_step"),
    [
        ({"max_steps": 4}, 4),
        ({"max_steps": 9, "max_epochs": -1}, 9),
        ({"val_check_interval": 4}, 6),
        ({"check_val_every_n_epoch": 2, "max_epochs": 3}, 18),
        ({"max_steps": 2, "accumulate_grad_batches": 2}, 2),
    ],
)
def test_the_last_steps_of_a_run_are_validated_and_saved(tmp_path, options, last_step):
    validated = []

    class Rising(Scripted):
        def on_validation_start(self):
            validated.append(self.global_step)

    fit(tmp_path, Rising({step: step / 100 for step in range(30)}), **options)
    assert validated[-1] == last_step
    assert len(validated) == len(set(validated))
    assert step_of(tmp_path / "best.ckpt") == last_step
    assert step_of(max(tmp_path.glob("step-*.ckpt"))) == last_step
    # What was over when it was killed is over when it goes on.
    fit(tmp_path, Rising({}), max(tmp_path.glob("step-*.ckpt")), **options)
    assert validated[-1] == last_step


def test_a_training_without_validation_is_refused_before_its_first_step(tmp_path):
    with pytest.raises(ValueError, match="limit_val_batches=0"):
        fit(tmp_path, Scripted({}), limit_val_batches=0)
