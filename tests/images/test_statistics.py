"""Brightness, sharpness and strap density: against scipy, Pillow, drawn images and real bins at two sizes."""

import io
import json
import os
import pathlib
from dataclasses import replace

import numpy
import pytest
import scipy.ndimage
from PIL import Image, ImageDraw, ImageFilter

from stocktake.images import statistics
from stocktake.images.statistics import (
    REFERENCE_PX,
    ImageStatistics,
    TrainingImages,
    laplacian,
    measure_image,
    unlike_training,
)


def textured(height: int = 200, width: int = 220) -> numpy.ndarray:
    """A box with letters on a noisy wall, and no net."""
    noise = numpy.random.default_rng(0).integers(95, 106, (height, width, 3), dtype=numpy.uint8)
    image = Image.fromarray(noise)
    draw = ImageDraw.Draw(image)
    draw.rectangle((40, 50, 150, 160), fill=(150, 120, 80))
    draw.text((60, 80), "FRAGILE 24 PCS", fill=(20, 20, 20))
    return numpy.asarray(image)


def with_threads(pixels: numpy.ndarray, rows: range, drop_px: int = 0) -> numpy.ndarray:
    image = Image.fromarray(pixels)
    draw = ImageDraw.Draw(image)
    for row in rows:
        draw.line((0, row, image.width, row + drop_px), fill=(200, 200, 195), width=1)
    return numpy.asarray(image)


def blurred(pixels: numpy.ndarray, radius_px: float = 2) -> numpy.ndarray:
    return numpy.asarray(Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(radius_px)))


def read(jpeg: bytes | pathlib.Path) -> numpy.ndarray:
    with Image.open(io.BytesIO(jpeg) if isinstance(jpeg, bytes) else jpeg) as image:
        return numpy.asarray(image.convert("RGB"))


def test_brightness_is_the_mean_luma():
    assert measure_image(numpy.full((20, 30, 3), 255, numpy.uint8)).brightness == pytest.approx(255)
    pixels = textured(300, 500)
    gray = numpy.asarray(Image.fromarray(pixels).convert("L"))  # Pillow's luma is BT.601, rounded to whole numbers
    assert measure_image(pixels).brightness == pytest.approx(gray.mean(), abs=0.5)
    assert (measure_image(pixels).width_px, measure_image(pixels).height_px) == (500, 300)


def test_the_laplacian_is_scipys():
    luma_HW = numpy.random.default_rng(1).uniform(0, 255, (17, 23))
    numpy.testing.assert_allclose(laplacian(luma_HW), scipy.ndimage.laplace(luma_HW))


def test_sharpness_is_the_variance_of_scipys_laplacian():
    pixels = textured()
    luma_HW = pixels.astype(float) @ [0.299, 0.587, 0.114]
    assert measure_image(pixels).sharpness == pytest.approx(scipy.ndimage.laplace(luma_HW).var())


def test_a_blurred_copy_is_less_sharp_and_as_bright():
    sharp, soft = measure_image(textured()), measure_image(blurred(textured()))
    assert soft.sharpness < sharp.sharpness / 10
    assert soft.brightness == pytest.approx(sharp.brightness, abs=1)


def test_threads_raise_the_strap_density_by_their_share_of_the_pixels():
    bare = textured()
    before = measure_image(bare).strap_density
    assert before < 0.02
    one_band, two_bands = (with_threads(bare, rows) for rows in (range(20, 80, 4), range(20, 140, 4)))
    assert measure_image(one_band).strap_density - before == pytest.approx(15 / 198, abs=0.01)
    assert measure_image(two_bands).strap_density - before == pytest.approx(30 / 198, abs=0.02)


@pytest.mark.parametrize("drop_px", [-12, 12])
def test_threads_may_slope_a_little(drop_px):
    sloped = with_threads(textured(), range(20, 140, 4), drop_px)
    assert measure_image(sloped).strap_density > 0.8 * 30 / 198


def test_upright_lines_edges_and_dark_lines_are_no_threads():
    bare = textured()
    before = measure_image(bare).strap_density
    upright = numpy.ascontiguousarray(with_threads(bare.transpose(1, 0, 2), range(20, 140, 4)).transpose(1, 0, 2))
    assert measure_image(upright).strap_density < before + 0.01
    dark = 255 - with_threads(255 - bare, range(20, 140, 8))
    assert measure_image(dark).strap_density < before + 0.01


def test_large_images_are_measured_as_their_area_means():
    small = textured(REFERENCE_PX, REFERENCE_PX)
    large = small.repeat(3, axis=0).repeat(2, axis=1)
    one, other = measure_image(small), measure_image(large)
    assert (other.brightness, other.sharpness) == pytest.approx((one.brightness, one.sharpness))
    assert other.strap_density == pytest.approx(one.strap_density, abs=1e-3)


def test_rows_are_shared_out_by_area_where_sizes_do_not_divide(monkeypatch):
    monkeypatch.setattr(statistics, "REFERENCE_PX", 2)
    # Three rows into two: each takes one whole row and half of the middle one.
    shrunk = statistics._shrink_rows(numpy.array([[0.0], [30], [90]]))
    assert shrunk.ravel() == pytest.approx([(0 + 15) / 1.5, (15 + 90) / 1.5])


@pytest.mark.parametrize(
    "wrong",
    [
        numpy.zeros((20, 20), numpy.uint8),
        numpy.zeros((3, 20, 20), numpy.uint8),
        numpy.zeros((20, 20, 3), numpy.float32),
        numpy.zeros((4, 20, 3), numpy.uint8),
        [[1, 2], [3, 4]],
    ],
)
def test_what_is_no_image_is_refused(wrong):
    with pytest.raises(ValueError, match=r"pixels_HWC is \w+ of shape .*give uint8 of height x width x 3"):
        measure_image(wrong)


def test_real_bins_have_a_net_until_they_are_blurred(abid_root):
    bins = [read(path) for path in sorted((abid_root / "bin-images").iterdir())[:20]]
    densities = [measure_image(pixels).strap_density for pixels in bins]
    # Half of a real bin or more lies behind the net, and about every third or fourth pixel there on a thread.
    assert 0.06 < numpy.median(densities) < 0.25
    assert all(measure_image(blurred(pixels)).strap_density < 0.05 for pixels in bins)


def test_a_photo_and_its_small_copy_say_the_same(abid_root):
    if not os.environ.get("ABID_ORIGINAL_ROOT"):
        pytest.skip("ABID_ORIGINAL_ROOT is not set: it is the path of a folder of real bins in full size")
    originals = pathlib.Path(os.environ["ABID_ORIGINAL_ROOT"]) / "bin-images"
    pairs = [(path, abid_root / "bin-images" / path.name) for path in sorted(originals.iterdir())[:60]]
    measured = [[measure_image(read(path)) for path in pair] for pair in pairs if pair[1].exists()]
    assert len(measured) > 20
    for name in ("brightness", "sharpness", "strap_density"):
        large, small = ([getattr(statistics, name) for statistics in column] for column in zip(*measured, strict=True))
        assert numpy.corrcoef(large, small)[0, 1] > 0.95, name
        assert numpy.mean(large) == pytest.approx(numpy.mean(small), rel=0.15), name


# What a model has seen.


def images(**ranges) -> list[ImageStatistics]:
    """Eleven images, from the least to the greatest of each range."""
    usual = {"brightness": (80, 140), "sharpness": (100, 600), "strap_density": (0.05, 0.15)}
    usual |= {"width_px": (300, 500), "height_px": (300, 500)}
    columns = {name: numpy.linspace(low, high, 11) for name, (low, high) in (usual | ranges).items()}
    return [ImageStatistics(**{name: values[row].item() for name, values in columns.items()}) for row in range(11)]


def one(**values) -> ImageStatistics:
    return replace(images()[5], **values)


def test_training_images_are_counted_in_bars():
    training = TrainingImages.of(images(), are_drawn=False)
    bars = training.histograms["brightness"]
    assert (bars["edges"][0], bars["edges"][-1], len(bars["edges"])) == (80, 140, 21)
    assert sum(bars["num_images"]) == training.num_images == 11
    assert TrainingImages.from_dict(json.loads(json.dumps(training.to_dict()))) == training


@pytest.mark.parametrize(
    ("image", "warning"),
    [
        ({}, None),
        ({"brightness": 145}, None),  # within a tenth of the histogram's width
        ({"brightness": 147}, "This image is brighter than all of the 11 training images"),
        ({"brightness": 3, "sharpness": 2}, "This image is darker and more blurred than all of the 11"),
        ({"brightness": 3, "sharpness": 2, "strap_density": 0.4}, "is darker, more blurred and with more threads"),
        ({"width_px": 4000, "height_px": 3000}, None),  # the network sees all in one size
    ],
)
def test_a_photo_unlike_the_training_photos_is_told(image, warning):
    found = unlike_training(one(**image), TrainingImages.of(images(), are_drawn=False))
    assert found is None if warning is None else warning in str(found)


def test_a_model_of_drawings_says_so_of_a_photo():
    drawn = TrainingImages.of(images(width_px=(144, 144), height_px=(112, 112)), are_drawn=True)
    assert unlike_training(one(width_px=144, height_px=112), drawn) is None
    warning = "This model has only ever seen drawn bins, and this image is wider and higher than all of them: "
    assert str(unlike_training(one(), drawn)).startswith(warning)
    warning = "This model has only ever seen drawn bins:"
    assert str(unlike_training(one(), TrainingImages(are_drawn=True))).startswith(warning)
    assert unlike_training(one(), TrainingImages(are_drawn=False)) is None


@pytest.mark.parametrize(
    "plain",
    [
        None,
        {},
        {"are_drawn": True, "num_images": 3, "histograms": {"brightness": {"edges": ["a"]}}},
        {"are_drawn": True, "num_images": 3, "histograms": {"__class__": {"edges": [1, 2]}}},
        {"are_drawn": True, "num_images": 3, "histograms": {"brightness": {"edges": [1, float("nan")]}}},
        {"are_drawn": True, "num_images": 3, "histograms": {"brightness": {"edges": [2]}}},
        {"are_drawn": True, "num_images": 3, "histograms": []},
    ],
)
def test_what_is_no_description_of_training_images_is_refused(plain):
    with pytest.raises(ValueError, match="export again"):
        TrainingImages.from_dict(plain)


def test_real_bins_are_unlike_drawn_ones_and_like_each_other(abid_root, synthetic_source):
    def measured(folder, number):
        files = sorted(folder.glob("bin-images/*.jpg"))[:number]
        return [measure_image(numpy.asarray(Image.open(path).convert("RGB"))) for path in files]

    real, drawn = measured(abid_root, 400), measured(synthetic_source, 60)
    of_drawn, of_real = TrainingImages.of(drawn[:40], True), TrainingImages.of(real[:200], False)
    assert all(unlike_training(image, of_drawn) for image in real)
    assert not any(unlike_training(image, of_drawn) for image in drawn[:40])
    assert sum(unlike_training(image, of_real) is not None for image in real[200:]) <= 10, "one in twenty at most"
