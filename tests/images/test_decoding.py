"""Images whose pixels end before the image does: what Pillow fills up in silence is no image."""

import io
import struct
import zlib

import numpy
import pytest
from PIL import Image

from stocktake.data.ingest.image_checks import BadImage, check_image
from stocktake.images.decoding import UndecodableImage, read_pixels


def png(chunks):
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )


def noise(mode, size):
    """Returns a PNG that hardly packs."""
    pixels = numpy.random.default_rng(0).integers(0, 256, (size[1], size[0], 4), numpy.uint8)
    output = io.BytesIO()
    Image.fromarray(pixels).convert("L" if mode == "I;16" else mode).convert(mode).save(output, "PNG")
    return output.getvalue()


def with_rows(content, share, num_pieces=3):
    """Returns a PNG with the first `share` of its rows alone, all else in it as it should be."""
    offset, packed, others = 8, b"", []
    while offset < len(content):
        length, kind = struct.unpack_from(">I4s", content, offset)
        body = content[offset + 8 : offset + 8 + length]
        packed, others = (packed + body, others) if kind == b"IDAT" else (packed, [*others, (kind, body)])
        offset += length + 12
    height, rows = struct.unpack_from(">I", content, 20)[0], zlib.decompress(packed)
    kept = zlib.compress(rows[: len(rows) // height * round(height * share)])
    step = -(-len(kept) // num_pieces)
    pieces = [(b"IDAT", kept[start : start + step]) for start in range(0, len(kept), step)]
    return png([*others[:-1], *pieces, others[-1]])


@pytest.mark.parametrize("size", [(40, 30), (7, 5), (900, 700)])
@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_a_png_whose_rows_end_early_is_refused(mode, size):
    whole = noise(mode, size)
    assert (read_pixels(with_rows(whole, 1)) == read_pixels(whole)).all()
    with pytest.raises(UndecodableImage, match="damaged or cut off"):
        read_pixels(with_rows(whole, 0.6))


def test_it_does_not_come_into_a_dataset():
    whole = noise("RGB", (80, 70))
    assert check_image(with_rows(whole, 1), ("PNG",)).width == 80
    with pytest.raises(BadImage, match="its rows end before its height"):
        check_image(with_rows(whole, 0.5), ("PNG",))


def test_rows_that_pack_a_thousandfold_are_all_there():
    output = io.BytesIO()
    Image.new("RGB", (3000, 2000)).save(output, "PNG")
    assert read_pixels(output.getvalue()).shape == (2000, 3000, 3)


@pytest.mark.parametrize("size", [(1, 1), (3, 2), (9, 17), (200, 150)])
def test_an_interlaced_png_is_whole_by_its_passes(size):
    columns, rows = (range(length) for length in size)
    passes = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
    unfiltered = b"".join(
        (b"\0" + b"\x80" * 3 * len(columns[left::right])) * len(rows[top::down])
        for left, top, right, down in passes
        if columns[left::right]
    )
    header = struct.pack(">IIBBBBB", *size, 8, 2, 0, 0, 1)
    for kept, is_whole in ((unfiltered, True), (unfiltered[: -(1 + 3 * size[0])], False)):
        content = png([(b"IHDR", header), (b"IDAT", zlib.compress(kept)), (b"IEND", b"")])
        if is_whole:
            assert (read_pixels(content) == 128).all()
        else:
            with pytest.raises(UndecodableImage, match="damaged or cut off"):
                read_pixels(content)
