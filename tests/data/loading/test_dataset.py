"""Images as they lie in a root, batch by batch."""

import gc
import hashlib
import io
import shutil
import time
import weakref

import numpy
import pytest
import torch
from PIL import Image

from stocktake.data.loading.dataset import ChangedObject, ObjectImages, num_images
from stocktake.data.loading.sampler import BatchPlan
from stocktake.data.manifest import Manifest
from stocktake.data.transforms import Augment, Resize, UndecodableImage
from stocktake.storage import Folder


class CountingFolder(Folder):
    """Keeps which objects were read."""

    def __post_init__(self):
        super().__post_init__()
        self.reads = []

    def read_writable(self, key):
        self.reads.append(key)
        return super().read_writable(key)


@pytest.fixture
def root(synthetic_root):
    return CountingFolder(str(synthetic_root))


@pytest.fixture
def rows(root):
    return Manifest.read(Folder(root.url)).rows("train")


def test_a_batch_is_the_pictures_of_its_rows(root, rows, synthetic_root):
    images = ObjectImages(root, rows, Resize(48))
    batch = images[BatchPlan(0, [5, 0, 2], [])]
    assert batch["image_ids"] == [rows["image_id"][row].as_py() for row in (5, 0, 2)]
    assert batch["counts"] == [rows["count"][row].as_py() for row in (5, 0, 2)]
    assert batch["images"].shape == (3, 3, 48, 48)
    assert batch["images"].dtype == torch.uint8
    assert num_images(batch) == 3
    for image, row in zip(batch["images"], (5, 0, 2), strict=True):
        content = (synthetic_root / rows["key"][row].as_py()).read_bytes()
        expected = Image.open(io.BytesIO(content)).resize((48, 48), Image.Resampling.BILINEAR)
        difference = image.permute(1, 2, 0).numpy().astype(int) - numpy.array(expected).astype(int)
        assert numpy.abs(difference).mean() < 1


def test_what_was_looked_ahead_for_is_not_read_again(root, rows):
    images = ObjectImages(root, rows, Resize(32))
    for plan in (BatchPlan(0, [0, 1], [2, 3]), BatchPlan(0, [2, 3], [4, 5]), BatchPlan(0, [4, 5], [])):
        images[plan]
    assert sorted(root.reads) == sorted(rows["key"][row].as_py() for row in range(6))


def test_an_epoch_that_is_cut_short_leaves_nothing_in_memory(synthetic_root, rows):
    """As with trainer.limit_train_batches: what was looked ahead for is never asked for."""

    class Content(bytearray):
        """Bytes that can be watched."""

    class WatchedFolder(Folder):
        def read_writable(self, key):
            content = Content(super().read_writable(key))
            alive.add(content)
            return content

    alive = WeakValues()
    images = ObjectImages(WatchedFolder(str(synthetic_root)), rows, Resize(32))
    for epoch in range(6):
        first = 8 * epoch
        images[BatchPlan(epoch, list(range(first, first + 4)), list(range(first + 4, first + 8)))]
        alive.wait_for(4)
    assert len(alive) <= 4, "the rows that the last epoch looked ahead for"


class WeakValues:
    """How many of the objects that were added are still there."""

    def __init__(self):
        self.references = []

    def add(self, value):
        self.references.append(weakref.ref(value))

    def __len__(self):
        return sum(reference() is not None for reference in self.references)

    def wait_for(self, number):
        until_s = time.monotonic() + 5
        while len(self) != number and time.monotonic() < until_s:
            gc.collect()
            time.sleep(0.01)


def test_augmentation_depends_on_seed_epoch_and_image_alone(root, rows):
    def image(seed, epoch, plan_rows):
        images = ObjectImages(root, rows, Resize(32), Augment(), seed)
        return images[BatchPlan(epoch, plan_rows, [])]["images"][plan_rows.index(3)]

    first = image(0, 1, [3])
    assert torch.equal(image(0, 1, [7, 3, 9]), first)
    assert not torch.equal(image(0, 2, [3]), first)
    assert not torch.equal(image(1, 1, [3]), first)


def spoiled_root(synthetic_root, tmp_path, spoil) -> tuple[Folder, object, str]:
    folder = Folder(str(tmp_path / "root"))
    shutil.copytree(synthetic_root, tmp_path / "root")
    rows = Manifest.read(folder).rows("train")
    key = rows["key"][1].as_py()
    spoil(tmp_path / "root" / key)
    return folder, rows, key


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: path.write_bytes(path.read_bytes()[:-1]),
        lambda path: path.write_bytes(path.read_bytes() + b"\0"),
        lambda path: path.write_bytes(b""),
    ],
    ids=["cut", "longer", "empty"],
)
def test_a_changed_object_is_named(synthetic_root, tmp_path, spoil):
    folder, rows, key = spoiled_root(synthetic_root, tmp_path, spoil)
    images = ObjectImages(folder, rows, Resize(32))
    with pytest.raises(ChangedObject, match=f"{folder.url}/{key} is not the image that the manifest describes"):
        images[BatchPlan(0, [0, 1, 2], [])]


def test_an_object_that_is_gone_is_named(synthetic_root, tmp_path):
    folder, rows, key = spoiled_root(synthetic_root, tmp_path, lambda path: path.unlink())
    with pytest.raises(FileNotFoundError, match=f"{folder.url}/{key} does not exist"):
        ObjectImages(folder, rows, Resize(32))[BatchPlan(0, [1], [])]


def test_an_object_that_is_no_picture_is_named(synthetic_root, tmp_path, monkeypatch):
    folder, rows, key = spoiled_root(synthetic_root, tmp_path, lambda path: path.write_bytes(b"no picture"))
    images = ObjectImages(folder, rows, Resize(32))
    images.sha256[1] = hashlib.sha256(b"no picture").hexdigest()
    with pytest.raises(UndecodableImage, match=f"{folder.url}/{key}"):
        images[BatchPlan(0, [1], [])]
