"""Pictures without torch: torchvision's decoder, through which training reads, is the oracle."""

import io

import numpy
import pytest
from PIL import Image

from stocktake.data.transforms import decode
from stocktake.serving.pictures import PictureError, decode_picture

BLOCKS = numpy.random.default_rng(0).integers(0, 256, (9, 14, 3), dtype=numpy.uint8)
PICTURE = Image.fromarray(BLOCKS.repeat(5, 0).repeat(5, 1))


def saved(image: Image.Image, form: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def turned(form: str, orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return saved(PICTURE, form, exif=exif)


SAME = {
    "jpeg": saved(PICTURE, "JPEG", quality=80),
    "progressive": saved(PICTURE, "JPEG", progressive=True),
    "4:4:4": saved(PICTURE, "JPEG", subsampling=0),
    "grey": saved(PICTURE.convert("L"), "JPEG"),
    "png": saved(PICTURE, "PNG"),
    "alpha": saved(PICTURE.convert("RGBA"), "PNG"),
    "palette": saved(PICTURE.quantize(16), "PNG"),
    "grey-png": saved(PICTURE.convert("L"), "PNG"),
    "bilevel": saved(PICTURE.convert("1"), "PNG"),
    "webp": saved(PICTURE, "WEBP", lossless=True),
    "gif": saved(PICTURE.quantize(16), "GIF"),
    **{f"turned-{orientation}": turned("JPEG", orientation) for orientation in range(1, 9)},
}


@pytest.mark.parametrize("name", SAME)
def test_the_pixels_are_those_of_training(name):
    numpy.testing.assert_array_equal(decode_picture(SAME[name]), decode(SAME[name]).permute(1, 2, 0).numpy())


def test_real_photos_are_decoded_bit_for_bit(abid_root):
    for path in sorted((abid_root / "bin-images").glob("*.jpg"))[::600]:
        content = path.read_bytes()
        numpy.testing.assert_array_equal(decode_picture(content), decode(content).permute(1, 2, 0).numpy())


def test_a_picture_of_four_inks_comes_out_in_its_colours():
    pixels_HW3 = decode_picture(saved(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG", quality=95))
    assert numpy.abs(pixels_HW3.astype(int) - (255, 0, 0)).max() <= 4


def test_a_phones_photo_with_a_second_one_behind_it_is_no_animation():
    content = saved(PICTURE, "MPO", save_all=True, append_images=[PICTURE.rotate(180)])
    numpy.testing.assert_array_equal(decode_picture(content), decode(content).permute(1, 2, 0).numpy())


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty: 0 bytes"),
        (b"hello", "start with b'hell', are no picture"),
        (saved(PICTURE, "BMP"), "no picture that is read here"),
        (SAME["jpeg"][:-200], "damaged or cut off"),
        (SAME["png"][:-200], "damaged or cut off"),
        (SAME["webp"][:-200], "damaged or cut off|no picture"),
        (saved(PICTURE, "GIF", save_all=True, append_images=[PICTURE.rotate(180)]), "animation of 2 frames"),
        (saved(Image.new("I;16", (8, 8), 40_000), "PNG"), "more than 8 bits"),
    ],
    ids=["empty", "text", "bmp", "cut-jpeg", "cut-png", "cut-webp", "animated", "deep"],
)
def test_what_is_no_single_picture_is_refused_with_its_reason(content, reason):
    with pytest.raises(PictureError, match=reason):
        decode_picture(content)


def test_a_small_file_of_many_pixels_is_refused_before_it_is_decoded():
    assert decode_picture(SAME["png"], max_pixels=45 * 70).shape == (45, 70, 3)
    with pytest.raises(PictureError, match="70 x 45 pixels, more than the 3149"):
        decode_picture(SAME["png"], max_pixels=45 * 70 - 1)
    bomb = saved(Image.new("1", (7_500, 7_500)), "PNG")
    assert len(bomb) < 100_000
    with pytest.raises(PictureError, match="more than the 50000000"):
        decode_picture(bomb)
