"""A root as loaders: the same batches whoever loads them, and plain words for what does not fit."""

import pytest
import torch

from stocktake.data.datamodule import BinDataModule, SyntheticBinDataModule
from stocktake.data.manifest import Manifest, ManifestError
from stocktake.data.transforms import Augment
from stocktake.storage import Folder


def module_of(root, **options) -> BinDataModule:
    return BinDataModule(str(root), **{"batch_size": 8, "image_size_px": 32, "num_workers": 0} | options)


def test_workers_change_nothing(synthetic_root):
    def batches(num_workers):
        module = module_of(synthetic_root, augment=Augment(), num_workers=num_workers, limit=40)
        loader = module.train_dataloader()
        both_epochs = []
        for epoch in range(2):
            loader.sampler.set_epoch(epoch)
            both_epochs += list(loader)
        return both_epochs

    alone, together = batches(0), batches(2)
    assert len(alone) == len(together) == 10
    for one, other in zip(alone, together, strict=True):
        assert one["image_ids"] == other["image_ids"]
        assert torch.equal(one["images"], other["images"])
        assert torch.equal(one["counts"], other["counts"])
        assert one["counts"].dtype == other["counts"].dtype == torch.int64
    assert not torch.equal(alone[0]["images"], alone[5]["images"])


def test_training_varies_and_evaluation_does_not(synthetic_root):
    module = module_of(synthetic_root, augment=Augment())
    table = Manifest.read(Folder(str(synthetic_root))).table
    for split, loader in (("valid", module.val_dataloader()), ("test", module.test_dataloader())):
        ids = [image_id for batch in loader for image_id in batch["image_ids"]]
        assert ids == [row["image_id"] for row in table.to_pylist() if row["split"] == split]
    plain = {}
    for batch in module.loader("train"):
        plain |= zip(batch["image_ids"], batch["images"], strict=True)
    varied = next(iter(module.train_dataloader()))
    assert not torch.equal(varied["images"][0], plain[varied["image_ids"][0]])


def test_a_resumed_module_goes_on_where_it_was(synthetic_root):
    whole = [batch["image_ids"] for batch in module_of(synthetic_root).train_dataloader()]
    for asks_early in (False, True):
        module = module_of(synthetic_root)
        if asks_early:
            loader = module.train_dataloader()
        module.load_state_dict({"epoch": 0, "batches_done": 3, "batch_size": 8})
        if not asks_early:
            loader = module.train_dataloader()
        assert len(loader) == len(whole)
        assert [batch["image_ids"] for batch in loader] == whole[3:]


def test_a_checkpoint_of_another_batch_size_is_refused(synthetic_root):
    with pytest.raises(ValueError, match=r"data\.batch_size=16, now it is 8"):
        module_of(synthetic_root).load_state_dict({"epoch": 0, "batches_done": 3, "batch_size": 16})


def test_a_limit_is_kept_in_every_split(synthetic_root):
    module = module_of(synthetic_root, limit=9)
    for loader in (module.loader("train"), module.val_dataloader()):
        assert sum(len(batch["counts"]) for batch in loader) == 9


def test_a_root_that_is_not_prepared_says_how(tmp_path):
    with pytest.raises(ManifestError, match=r"scripts/prepare\.py"):
        module_of(tmp_path).setup("fit")


def test_a_label_outside_the_classes_is_named(synthetic_root):
    with pytest.raises(ManifestError, match=r"\[4, 5\] items, and the model knows data\.counts=\[1, 2, 3\]"):
        module_of(synthetic_root, counts=[1, 2, 3]).train_dataloader()


def test_too_large_a_batch_is_named(synthetic_root):
    with pytest.raises(ValueError, match=r"data\.batch_size=500"):
        module_of(synthetic_root, batch_size=500).train_dataloader()


def test_drawn_bins_are_made_once(tmp_path):
    module = SyntheticBinDataModule(str(tmp_path), num_bins=24, batch_size=4, image_size_px=32, num_workers=0)
    module.prepare_data()
    manifest = (tmp_path / "manifest.parquet").stat().st_mtime_ns
    table = Manifest.read(Folder(str(tmp_path))).table
    assert table.num_rows == 24
    assert set(table["count"].to_pylist()) == {1, 2, 3, 4, 5}
    assert "guard" not in table["split"].to_pylist()
    module.prepare_data()
    assert (tmp_path / "manifest.parquet").stat().st_mtime_ns == manifest
