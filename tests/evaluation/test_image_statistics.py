"""The pictures of a split, measured: in the order of their rows, from the files in the root."""

import io

import numpy
import pytest
from PIL import Image

from stocktake.data.datamodule import SyntheticBinDataModule
from stocktake.data.manifest import Manifest
from stocktake.data.transforms import UndecodableImage
from stocktake.evaluation import image_statistics
from stocktake.evaluation.image_statistics import are_drawn, measure_images, measure_training_images
from stocktake.images.statistics import measure_image
from stocktake.storage import Folder


def test_rows_are_measured_in_their_order(synthetic_root, monkeypatch, capsys):
    monkeypatch.setattr(image_statistics, "CHUNK", 7)
    root = Folder(str(synthetic_root))
    rows = Manifest.read(root).rows("all", limit=20)
    measured = measure_images(root, rows)
    assert measured.num_rows == 20
    assert measured["width_px"].to_pylist() == rows["width"].to_pylist()
    for row, key in zip(measured.to_pylist(), rows["key"].to_pylist(), strict=True):
        with Image.open(io.BytesIO(root.read(key))) as picture:
            expected = measure_image(numpy.asarray(picture.convert("RGB")))
        assert row["brightness"] == pytest.approx(expected.brightness, abs=0.5)  # two JPEG decoders
        assert row["sharpness"] == pytest.approx(expected.sharpness, rel=0.05)
    assert capsys.readouterr().out == ""  # the bar is not among the results


def test_a_file_that_is_no_picture_any_more_is_told(tmp_path, synthetic_root):
    rows = Manifest.read(Folder(str(synthetic_root))).rows("all", limit=1)
    path = tmp_path / rows["key"][0].as_py()
    path.parent.mkdir(parents=True)
    path.write_bytes(b"no picture")
    with pytest.raises(UndecodableImage, match=f"{path.name}.*10 bytes"):
        measure_images(Folder(str(tmp_path)), rows)


def test_training_pictures_are_measured_all_over_the_split(synthetic_root, monkeypatch):
    monkeypatch.setattr(image_statistics, "NUM_SAMPLED", 10)
    root = Folder(str(synthetic_root))
    rows = Manifest.read(root).rows("train")
    training = measure_training_images(root, rows, are_drawn=True)
    assert (training.num_images, training.are_drawn) == (10, True)
    first_and_last = measure_images(root, rows.take([0, rows.num_rows - 1]))["brightness"].to_pylist()
    low, *_, high = training.histograms["brightness"]["edges"]
    assert low <= min(first_and_last)
    assert max(first_and_last) <= high


def test_bins_that_the_data_module_drew_are_known(synthetic_root, tmp_path):
    module = SyntheticBinDataModule(str(tmp_path / "drawn"), 8, batch_size=4, num_workers=0)
    module.prepare_data()
    assert are_drawn(module.manifest, module.root)
    root = Folder(str(synthetic_root))  # collected from a source elsewhere
    assert not are_drawn(Manifest.read(root), root)
