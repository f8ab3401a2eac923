"""One definition of an image: by hand, torchcodec's decoder and the EXIF table are the oracles."""

import time

import numpy
import pytest
from odd_images import DEEP, JPEG, JPEGS, LOSSLESS, PHOTO, READ, REFUSED, many_scans, saved, sized_jpeg
from PIL import Image, ImageFile
from torchcodec.decoders import decode_image

from stocktake.data.ingest.image_checks import BadImage, check_image
from stocktake.data.transforms import decode
from stocktake.images import decoding
from stocktake.images.decoding import UndecodableImage, is_plain_jpeg, read_pixels


@pytest.mark.parametrize("name", LOSSLESS)
def test_what_loses_nothing_has_the_pixels_worked_out_by_hand(name):
    content, expected_HW3 = LOSSLESS[name]
    numpy.testing.assert_array_equal(read_pixels(content), expected_HW3)


@pytest.mark.parametrize("name", JPEGS)
def test_a_jpeg_has_the_pixels_of_another_decoder(name):
    expected_CHW = decode_image(JPEGS[name])
    numpy.testing.assert_array_equal(read_pixels(JPEGS[name]), expected_CHW.permute(1, 2, 0).numpy())


@pytest.mark.parametrize("name", READ)
def test_training_sees_the_same_pixels_with_and_without_pillow(name):
    pixels_HW3 = read_pixels(READ[name])
    assert pixels_HW3.dtype == numpy.uint8
    numpy.testing.assert_array_equal(pixels_HW3, decode(READ[name]).permute(1, 2, 0).numpy())
    numpy.testing.assert_array_equal(pixels_HW3, read_pixels(bytearray(READ[name])))


def test_a_image_of_four_inks_comes_out_in_its_colours():
    pixels_HW3 = read_pixels(saved(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG", quality=95))
    assert numpy.abs(pixels_HW3.astype(int) - (255, 0, 0)).max() <= 4


def test_only_what_every_decoder_takes_for_the_same_is_plain():
    plain = {name for name, content in READ.items() if is_plain_jpeg(content)}
    tables = ("progressive", "4:4:4", "4:2:2", "restarts", "optimised", "comment", "without-jfif")
    assert plain == {"jpeg", *(f"jpeg-{name}" for name in tables)}
    assert not any(is_plain_jpeg(content) for content, _ in REFUSED.values())


def test_real_photos_are_plain_and_decoded_bit_for_bit(abid_root):
    for path in sorted((abid_root / "bin-images").glob("*.jpg"))[::600]:
        content = path.read_bytes()
        assert is_plain_jpeg(content)
        numpy.testing.assert_array_equal(read_pixels(content), decode(content).permute(1, 2, 0).numpy())


def outcome(read, content: bytes) -> numpy.ndarray | str:
    try:
        return read(content)
    except UndecodableImage as error:
        return str(error)


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_blocks": 2}], ids=str)
def test_a_damaged_jpeg_gives_the_same_pixels_or_the_same_words_in_both_decoders(options):
    sound, draw, num_read = saved(PHOTO, "JPEG", **options), numpy.random.default_rng(1), 0
    for _ in range(300):
        damaged = bytearray(sound)
        for place in draw.integers(2, len(damaged) - 2, size=draw.integers(1, 4)):
            damaged[place] = draw.integers(256)
        ours = outcome(read_pixels, bytes(damaged))
        trainings = outcome(lambda content: decode(content).permute(1, 2, 0).numpy(), bytes(damaged))
        assert type(ours) is type(trainings)
        numpy.testing.assert_array_equal(ours, trainings)
        num_read += not isinstance(ours, str)
    assert 100 < num_read < 290


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_image_is_refused_with_the_same_words_everywhere(name):
    content, said = REFUSED[name]
    with pytest.raises(UndecodableImage, match=said) as ours:
        read_pixels(content)
    with pytest.raises(UndecodableImage) as trainings:
        decode(content)
    assert str(ours.value) == str(trainings.value)
    assert ours.value.hint and "0x" not in str(ours.value)
    with pytest.raises(BadImage) as prepares:
        check_image(content)
    assert prepares.value.reason == ours.value.reason


def test_what_is_too_large_or_animated_is_refused_before_it_is_decoded(monkeypatch):
    words = {name: outcome(read_pixels, content) for name, (content, _) in REFUSED.items()}
    early = [name for name, said in words.items() if any(word in said for word in ("pixels", "animated", "scans"))]
    assert len(early) == 9
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda self: pytest.fail("decoded"))
    assert [outcome(read_pixels, REFUSED[name][0]) for name in early] == [words[name] for name in early]


def test_the_limits_are_reached_and_not_passed(monkeypatch):
    monkeypatch.setattr(decoding, "MAX_PIXELS", 45 * 70)
    assert read_pixels(JPEG).shape == (45, 70, 3)
    monkeypatch.setattr(decoding, "MAX_PIXELS", 45 * 70 - 1)
    for read in (read_pixels, decode, check_image):
        with pytest.raises(ValueError, match="70 x 45 pixels, more than the 3149 that are read"):
            read(JPEG)
    monkeypatch.undo()
    monkeypatch.setattr(decoding, "MAX_BYTES", len(JPEG) - 1)
    with pytest.raises(UndecodableImage, match=f"has {len(JPEG)} bytes, more than the {len(JPEG) - 1}"):
        decode(JPEG)
    monkeypatch.undo()
    assert read_pixels(many_scans(80)).shape == (45, 70, 3)
    assert read_pixels(saved(Image.new("1", (500, 10)), "PNG")).shape == (10, 500, 3)
    with pytest.raises(UndecodableImage, match="501 x 10 pixels, one side more than 50 times the other"):
        read_pixels(saved(Image.new("1", (501, 10)), "PNG"))
    assert decoding.open_image(sized_jpeg(16_384, 3_000)).size == (16_384, 3_000)
    with pytest.raises(UndecodableImage, match="more than the 16384 a side"):
        decoding.open_image(sized_jpeg(16_385, 2_000))


def test_sixteen_bits_are_what_their_upper_halves_are():
    eight = saved(Image.fromarray((DEEP >> 8).astype(numpy.uint8)), "PNG")
    numpy.testing.assert_array_equal(decode(LOSSLESS["png-16-bit"][0]), decode(eight))


@pytest.mark.parametrize("filling", [b"\xff", b"\0", b"\xff\xfe\0\2"])
def test_a_jpeg_whose_head_has_no_end_is_refused_at_once(filling):
    many, too_many = (JPEG[:20] + filling * number + JPEG[20:] for number in (4_000, 5_000))
    began = time.perf_counter()
    for read in (read_pixels, decode):
        assert read(many) is not None
        with pytest.raises(UndecodableImage, match="more than 4096 segments and bytes of filling"):
            read(too_many)
        with pytest.raises(UndecodableImage, match="more than 4096 segments and bytes of filling"):
            read(JPEG[:20] + filling * (30_000_000 // len(filling)) + JPEG[20:])
    assert time.perf_counter() - began < 2  # 50 s, were it walked to its end
