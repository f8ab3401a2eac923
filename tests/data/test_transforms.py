"""Pixels: against Pillow, and against what an item in the picture may lose."""

import io
import sys
import types

import numpy
import pytest
import torch
from PIL import Image
from torchvision.transforms.v2 import functional

from stocktake.data import transforms
from stocktake.data.transforms import Augment, Resize, UndecodableImage, decode


def to_tensor(image: Image.Image) -> torch.Tensor:
    return torch.from_numpy(numpy.array(image.convert("RGB"))).permute(2, 0, 1)


def to_bytes(image: Image.Image, form: str = "JPEG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def mean_error(one: torch.Tensor, other: torch.Tensor) -> float:
    assert one.shape == other.shape
    return (one.float() - other.float()).abs().mean().item()


@pytest.fixture(scope="module")
def picture(synthetic_source) -> Image.Image:
    """A photo-like picture: three drawn bins side by side."""
    bins = [Image.open(synthetic_source / f"bin-images/{i:05d}.jpg") for i in (1, 2, 3)]
    canvas = Image.new("RGB", (3 * bins[0].width, bins[0].height))
    for i, image in enumerate(bins):
        canvas.paste(image, (i * image.width, 0))
    return canvas.resize((540, 300), Image.Resampling.BICUBIC)


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("options", [{"quality": 95, "subsampling": 0}, {"progressive": True}])
def test_a_jpeg_is_decoded_as_pillow_does(picture, mode, options):
    content = to_bytes(picture.convert(mode), **options)
    image = decode(content)
    assert image.dtype == torch.uint8
    assert mean_error(image, to_tensor(Image.open(io.BytesIO(content)))) < 0.5


def test_where_torchcodec_cannot_be_loaded_pixels_are_the_same(picture, monkeypatch):
    content = to_bytes(picture)
    assert transforms.DECODE_JPEG is not None
    expected_CHW = decode(content)

    class NoLibraries(types.ModuleType):
        def __getattr__(self, name):
            raise OSError("Could not load this library: libtorchcodec_image.so")

    monkeypatch.setitem(sys.modules, "torchcodec.decoders", NoLibraries("torchcodec.decoders"))
    monkeypatch.setattr(transforms, "DECODE_JPEG", transforms.jpeg_decoder())
    assert transforms.DECODE_JPEG is None
    assert torch.equal(decode(content), expected_CHW)


@pytest.mark.parametrize("form", ["PNG", "GIF"])
def test_other_formats_of_a_shop_are_decoded(picture, form):
    content = to_bytes(picture.convert("P") if form == "GIF" else picture, form)
    assert mean_error(decode(content), to_tensor(Image.open(io.BytesIO(content)))) == 0


def test_a_turned_photo_stands_upright(picture):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: the right side of the file is the bottom of the scene
    image = decode(to_bytes(picture, exif=exif, quality=95))
    assert image.shape == (3, picture.width, picture.height)
    upright = picture.transpose(Image.Transpose.ROTATE_270)
    assert mean_error(image, to_tensor(upright)) < 3


@pytest.mark.parametrize("content", [b"", b"not a picture", b"\xff\xd8\xff\xe0"])
def test_what_is_no_picture_is_refused(content):
    with pytest.raises(UndecodableImage):
        decode(content)


def test_half_a_picture_is_refused(picture):
    content = to_bytes(picture)
    with pytest.raises(UndecodableImage, match=r"bytes that start with"):
        decode(content[: len(content) // 2])


def test_an_animation_is_refused(picture):
    frames = [picture.convert("P"), picture.transpose(Image.Transpose.FLIP_TOP_BOTTOM).convert("P")]
    with pytest.raises(UndecodableImage, match="animated"):
        decode(to_bytes(frames[0], "GIF", save_all=True, append_images=frames[1:]))


@pytest.mark.parametrize("size_px", [64, 224, 600])
def test_squash_is_what_pillow_makes(picture, size_px):
    expected = picture.resize((size_px, size_px), Image.Resampling.BILINEAR)
    assert mean_error(Resize(size_px)(to_tensor(picture)), to_tensor(expected)) < 0.5


def test_pixels_stay_as_the_decoder_lays_them_out(picture):
    """Rows, columns, channels: a batch of them is then stacked by plain copies, in 0.1 ms less an image."""
    assert Resize(224)(decode(to_bytes(picture))).permute(1, 2, 0).is_contiguous()


@pytest.mark.parametrize("is_upright", [False, True])
def test_letterbox_keeps_the_aspect_ratio(picture, is_upright):
    if is_upright:
        picture = picture.transpose(Image.Transpose.TRANSPOSE)
    image = Resize(180, "letterbox")(to_tensor(picture))
    assert image.shape == (3, 180, 180)
    inside = image.transpose(1, 2) if is_upright else image
    assert (inside[:, :40] == 128).all()  # 540 x 300 becomes 180 x 100, with 40 above and below
    assert (inside[:, 140:] == 128).all()
    expected = to_tensor(picture.resize((100, 180) if is_upright else (180, 100), Image.Resampling.BILINEAR))
    assert mean_error(image[:, :, 40:140] if is_upright else image[:, 40:140], expected) < 0.5


def test_an_odd_letterbox_fills_the_square():
    image = Resize(33, "letterbox")(torch.zeros(3, 10, 100, dtype=torch.uint8))
    assert image.shape == (3, 33, 33)
    assert (image[:, 15:18] == 0).all()
    assert (image == 0).sum() == 3 * 3 * 33


def test_a_mode_that_is_none_is_refused():
    with pytest.raises(ValueError, match=r"data\.resize='crop' is none of squash, letterbox"):
        Resize(64, "crop")


def test_augmentation_is_a_function_of_its_purpose(picture):
    image, augment = Resize(96)(to_tensor(picture)), Augment()
    first = augment(image, 0, 3, "00001")
    assert first.shape == image.shape
    assert first.dtype == torch.uint8
    torch.manual_seed(99)
    assert torch.equal(Augment()(image, 0, 3, "00001"), first)
    for other in ((0, 4, "00001"), (0, 3, "00002"), (1, 3, "00001")):
        assert not torch.equal(augment(image, *other), first)


def test_augmentation_leaves_torchs_own_generator_alone(picture):
    image = to_tensor(picture)
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    Augment()(image, 0, 0, "00001")
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("corner", [(0.15, 0.15), (0.85, 0.15), (0.15, 0.85), (0.85, 0.85), (0.5, 0.15)])
def test_items_stay_in_the_picture(corner):
    side, radius = 128, 5
    y, x = numpy.mgrid[:side, :side]
    blob = (x - corner[0] * side) ** 2 + (y - corner[1] * side) ** 2 <= radius**2
    image = torch.from_numpy(numpy.where(blob, 250, 60).astype(numpy.uint8)).expand(3, -1, -1)
    augment = Augment()
    for number in range(60):
        varied = augment(image, 0, 0, str(number)).float().mean(0)
        # Brightness and contrast move both levels; the blob is what lies above the middle of them.
        middle = (varied.max() + varied[side // 2, side // 4]) / 2
        assert (varied > max(middle, 140)).sum() >= 0.8 * blob.sum(), number


def test_a_flip_is_a_mirror_image(picture):
    image = to_tensor(picture)
    mirrored = Augment(1.0, 0.0, 0.0, 0.0, 0.0, 0.0)(image, 0)
    assert torch.equal(mirrored, image.flip(2))
    assert torch.equal(Augment(0.0, 1.0, 0.0, 0.0, 0.0, 0.0)(image, 0), image.flip(1))
    assert torch.equal(Augment(0.0, 0.0, 0.0, 0.0, 0.0, 0.0)(image, 0), image)
    flip = Augment(0.5, 0.0, 0.0, 0.0, 0.0, 0.0)
    share = numpy.mean([torch.equal(flip(image, i), image) for i in range(200)])
    assert 0.35 < share < 0.65


def test_the_size_grows_with_the_epochs(picture):
    image = to_tensor(picture)
    resize = Resize([32, 32, 48])
    sides = [resize(image, epoch).shape[-1] for epoch in range(5)]
    assert sides == [32, 32, 48, 48, 48]
    assert torch.equal(resize(image, 7), Resize(48)(image))


@pytest.mark.parametrize("size_px", [(327, 243), (64, 90), (96, 96)])
def test_pixels_are_the_same_on_a_processor_without_avx(monkeypatch, size_px):
    image_CHW = torch.randint(0, 256, (3, *size_px), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    expected = functional.resize(image_CHW, [96, 96], antialias=True)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "DEFAULT")  # what torchvision asks
    assert torch.equal(Resize(96)(image_CHW), expected)
