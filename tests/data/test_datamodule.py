"""A root as loaders: the same batches whoever loads them, and plain words for what does not fit."""

import shlex
import shutil

import pytest
import torch

from stocktake.data.datamodule import BinDataModule, SyntheticBinDataModule
from stocktake.data.manifest import Manifest, ManifestError
from stocktake.data.sources.drawn_bins import RootError
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


def drawn(root, **options) -> SyntheticBinDataModule:
    small = {"num_bins": 10, "batch_size": 2, "image_size_px": 32, "num_workers": 0}
    return SyntheticBinDataModule(str(root), **small | options)


@pytest.fixture(scope="module")
def ten_bins(tmp_path_factory):
    """A root of ten drawn bins; nobody may write into it."""
    root = tmp_path_factory.mktemp("roots") / "synthetic-10"
    drawn(root, draw=None).prepare_data()
    return root


def test_bins_are_drawn_unasked_only_where_the_folder_is_named_so(ten_bins, tmp_path):
    """`train.py data.root=<a wrong path>` drew 2,000 bins there and trained on them."""
    drawn(ten_bins, draw=None).prepare_data()  # it is there: nothing to draw
    wrong = tmp_path / "data" / "abdi [1]"
    for draw in (None, False):
        with pytest.raises(RootError, match=r"no dataset in .*abdi \[1\].*draw 10 bins .* data\.draw=true"):
            drawn(wrong, draw=draw).prepare_data()
    assert not wrong.parent.exists()
    with pytest.raises(RootError, match="no dataset"):
        drawn(tmp_path / "synthetic-10", draw=False).prepare_data()
    assert list(tmp_path.iterdir()) == []


def test_bins_are_not_drawn_beside_other_things(tmp_path):
    for name in ("photos", "data"):
        root = tmp_path / f"synthetic-{name}"
        (root / name).mkdir(parents=True)
        with pytest.raises(RootError, match=f"holds other things, such as {name}: no bins are drawn there"):
            drawn(root, draw=True).prepare_data()
        assert [path.name for path in root.iterdir()] == [name]


def test_bins_are_not_drawn_into_a_bucket(s3):
    with pytest.raises(RootError, match=r"data\.root=s3://bins/root, and bins are drawn on this machine's disk only"):
        drawn("s3://bins/root").prepare_data()


def test_an_interrupted_drawing_is_done_again(ten_bins, tmp_path):
    root = tmp_path / "synthetic-10"
    shutil.copytree(ten_bins / "source", root / "source")
    (root / "source" / "file_list.json").unlink()
    drawn(root, draw=None).prepare_data()
    assert (root / "records.parquet").read_bytes() == (ten_bins / "records.parquet").read_bytes()


@pytest.mark.parametrize(
    ("options", "asked"),
    [({"num_bins": 20}, r"20 with \[1, 2, 3, 4, 5\]"), ({"counts": [1, 2, 3]}, r"10 with \[1, 2, 3\]")],
)
def test_drawn_bins_of_another_number_or_counts_are_refused(ten_bins, tmp_path, options, asked):
    """Asked for 200 bins, it took the 60 that were there."""
    moved = tmp_path / "moved [1]"
    shutil.copytree(ten_bins, moved)
    for root in (ten_bins, moved):
        with pytest.raises(RootError, match=rf"holds 10 drawn bins with \[1, 2, 3, 4, 5\] items, and {asked}") as told:
            drawn(root, **options).prepare_data()
        assert "data.num_bins=10 'data.counts=[1,2,3,4,5]'" in str(told.value)
        assert shlex.split(str(told.value).partition(": ")[2])[-3:] == ["rm", "-r", str(root)]


def test_a_root_of_collected_bins_is_trained_on_as_it_is(synthetic_root):
    module = drawn(synthetic_root, draw=None)
    module.prepare_data()
    assert module.manifest.table.num_rows == 120


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"counts": []}, r"data\.counts=\[\]"),
        ({"counts": [1.0, 2.0]}, r"data\.counts=\[1\.0"),
        ({"counts": [1, 1]}, r"data\.counts=\[1, 1\]"),
        ({"limit": 0}, r"data\.limit=0"),
        ({"limit": -1}, r"data\.limit=-1"),
        ({"limit": "abc"}, r"data\.limit='abc'"),
        ({"batch_size": 0}, r"data\.batch_size=0"),
        ({"num_workers": -1}, r"data\.num_workers=-1"),
    ],
)
def test_a_number_out_of_range_is_named(synthetic_root, options, named):
    with pytest.raises(ValueError, match=named):
        module_of(synthetic_root, **options)
