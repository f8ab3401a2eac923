"""The new last layer is trained before the rest."""

from functools import partial

import pytest
import torch
from pytorch_lightning import Trainer
from torch.utils.data import DataLoader

from stocktake.callbacks.freeze_backbone import FreezeBackbone
from stocktake.model.counter import BinCounter
from stocktake.model.heads import SoftmaxHead

BATCHES = [{"images": torch.randint(0, 255, (4, 3, 32, 32), dtype=torch.uint8), "counts": torch.tensor([1, 2, 1, 2])}]


@pytest.mark.parametrize(("num_epochs", "backbone_moves"), [(1, False), (2, True)])
def test_only_the_head_moves_at_first(num_epochs, backbone_moves, tmp_path):
    model = BinCounter(
        "test_resnet", [1, 2], SoftmaxHead(), partial(torch.optim.AdamW, lr=0.01, weight_decay=0.1), weights="none"
    )
    before = {name: value.detach().clone() for name, value in model.backbone.state_dict().items()}
    trainer = Trainer(
        max_epochs=num_epochs,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
        callbacks=[FreezeBackbone(num_epochs=1)],
    )
    trainer.fit(model, DataLoader(BATCHES, batch_size=None))
    after = model.backbone.state_dict()
    assert not torch.equal(before["fc.weight"], after["fc.weight"])
    moved = {name for name in before if not name.startswith("fc.") and not torch.equal(before[name], after[name])}
    assert bool(moved) == backbone_moves
    statistics = {name for name in before if name.endswith(("running_mean", "running_var", "num_batches_tracked"))}
    assert statistics
    assert statistics & moved == (statistics if backbone_moves else set())
    assert all(layer.training for layer in model.modules()) == backbone_moves
