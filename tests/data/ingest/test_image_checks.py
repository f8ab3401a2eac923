"""Images that can be learnt from, and those that cannot, made by Pillow."""

import hashlib
import io

import numpy
import pytest
from PIL import Image

from stocktake.data.ingest.image_checks import BadImage, check_image
from stocktake.data.transforms import UndecodableImage, decode


def encoded(mode="RGB", size=(100, 80), form="JPEG", **options) -> bytes:
    pixels = numpy.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=numpy.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(buffer, form, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"quality": 20, "subsampling": 0}])
def test_a_sound_jpeg_gives_its_facts(options):
    content = encoded(**options)
    facts = check_image(content)
    assert (facts.width, facts.height, facts.bytes) == (100, 80, len(content))
    assert facts.sha256 == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "image-undecodable"),
        (b"<html>404</html>", "image-undecodable"),
        (encoded()[:-200], "image-undecodable"),
        (encoded()[:40], "image-undecodable"),
        (encoded(progressive=True)[:-200], "image-undecodable"),
        (encoded(form="PNG"), "image-undecodable"),  # a PNG that was named .jpg
        (encoded(mode="L"), "image-color"),
        (encoded(mode="CMYK"), "image-color"),
        (encoded(size=(100, 63)), "image-size"),
        (encoded(size=(63, 100)), "image-size"),
    ],
    ids=["empty", "html", "cut", "header", "progressive-cut", "png", "gray", "cmyk", "flat", "thin"],
)
def test_what_cannot_be_learnt_from_has_a_reason(content, reason):
    with pytest.raises(BadImage) as caught:
        check_image(content)
    assert caught.value.reason == reason
    assert caught.value.detail


def test_the_smallest_side_is_enough():
    assert check_image(encoded(size=(64, 64))).width == 64


def is_refused(read, content: bytes) -> bool:
    try:
        read(content)
    except (BadImage, UndecodableImage):
        return True
    return False


@pytest.mark.parametrize("progressive", [False, True])
def test_of_damaged_files_those_are_refused_that_training_could_not_decode(progressive):
    sound = encoded(progressive=progressive)
    random = numpy.random.default_rng(1)
    refused = []
    for _ in range(300):
        damaged = bytearray(sound[: random.integers(4, len(sound) + 1)] if random.random() < 0.3 else sound)
        for place in random.integers(4, len(damaged), size=random.integers(0, 4)):
            damaged[place] = random.integers(256)
        refused.append(is_refused(check_image, bytes(damaged)))
        assert refused[-1] == is_refused(decode, bytes(damaged))
    assert 60 < sum(refused) < 300
