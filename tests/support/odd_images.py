"""Images as shops, phones, scanners and attackers make them, each of a few hundred bytes, with the pixels or the words
that are right for them. Made here, by Pillow where it can write them and by hand where it cannot."""

import io
import struct
import zlib

import numpy
from PIL import Image, PngImagePlugin

DRAW = numpy.random.default_rng(0)
PIXELS = DRAW.integers(0, 256, (9, 14, 3), dtype=numpy.uint8).repeat(5, 0).repeat(5, 1)  # 45 high, 70 wide
PHOTO = Image.fromarray(PIXELS)
GRAY = numpy.asarray(PHOTO.convert("L"))
DEEP = DRAW.integers(0, 2**16, (9, 14, 3), dtype=numpy.uint16).repeat(5, 0).repeat(5, 1)
TURNS = {  # what the camera's orientation makes of the pixels in the file (EXIF 2.32, table 6)
    1: lambda p: p,
    2: lambda p: p[:, ::-1],
    3: lambda p: p[::-1, ::-1],
    4: lambda p: p[::-1],
    5: lambda p: p.swapaxes(0, 1),
    6: lambda p: p[::-1].swapaxes(0, 1),
    7: lambda p: p[::-1, ::-1].swapaxes(0, 1),
    8: lambda p: p.swapaxes(0, 1)[::-1],
}


def saved(image: Image.Image, form: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def turned(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png(width, height, depth, color, rows: bytes, *before: bytes, interlaced=0, behind: bytes = b"") -> bytes:
    """A PNG of filtered rows; `color` 0 gray, 2 RGB, 3 palette, 4 gray and alpha, 6 RGBA."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, interlaced))
    body = b"".join(before) + chunk(b"IDAT", zlib.compress(rows)) + behind
    return b"\x89PNG\r\n\x1a\n" + header + body + chunk(b"IEND", b"")


def unfiltered(samples: numpy.ndarray) -> bytes:
    rows = samples.reshape(len(samples), -1)
    return b"".join(b"\0" + row.astype(rows.dtype.newbyteorder(">")).tobytes() for row in rows)


def deep(samples: numpy.ndarray, color: int) -> bytes:
    return png(samples.shape[1], samples.shape[0], 16, color, unfiltered(samples))


def interlaced_png() -> bytes:
    """Adam7, seven passes over ever finer grids (PNG specification, 8.2)."""
    starts = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
    passes = [PIXELS[top::down, left::right] for left, top, right, down in starts]
    return png(70, 45, 8, 2, b"".join(unfiltered(part) for part in passes), interlaced=1)


def packed_png(bits: int) -> tuple[bytes, numpy.ndarray]:
    """Gray of fewer than 8 bits, several to the byte."""
    steps = GRAY >> (8 - bits)
    per_byte = 8 // bits
    padded = numpy.pad(steps, ((0, 0), (0, -steps.shape[1] % per_byte)))
    parts = padded.reshape(len(padded), -1, per_byte).astype(int) << (numpy.arange(per_byte)[::-1] * bits)
    return png(70, 45, bits, 0, unfiltered(parts.sum(2).astype(numpy.uint8))), steps * (255 // (2**bits - 1))


def in_colors(gray: numpy.ndarray) -> numpy.ndarray:
    return numpy.repeat(gray[..., None], 3, 2).astype(numpy.uint8)


def without_segment(jpeg: bytes, marker: int) -> bytes:
    start = jpeg.index(bytes((0xFF, marker)))
    return jpeg[:start] + jpeg[start + 2 + int.from_bytes(jpeg[start + 2 : start + 4]) :]


def with_segment(jpeg: bytes, marker: int, content: bytes) -> bytes:
    return jpeg[:2] + bytes((0xFF, marker)) + struct.pack(">H", len(content) + 2) + content + jpeg[2:]


JPEG = saved(PHOTO, "JPEG", quality=90)
PNG = saved(PHOTO, "PNG")
WEBP = saved(PHOTO, "WEBP", lossless=True)
PALETTE = PHOTO.quantize(16)
IN_PALETTE = numpy.asarray(PALETTE.convert("RGB"))
ALPHA = Image.fromarray(numpy.dstack([PIXELS, GRAY]))
INKS = Image.merge("CMYK", [Image.fromarray(255 - PIXELS[..., 0]), *PHOTO.split()[1:], Image.fromarray(GRAY // 4)])
ADOBE = saved(INKS, "JPEG", quality=95)
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><a b:Orientation="1"/></x:xmpmeta>'
TEXT = PngImagePlugin.PngInfo()
TEXT.add_text("Comment", "from the scanner", zip=True)

# Without loss: the pixels are known. By name: the file and what has to come out of it.
LOSSLESS = {
    "png": (PNG, PIXELS),
    "png-interlaced": (interlaced_png(), PIXELS),
    "png-text": (saved(PHOTO, "PNG", pnginfo=TEXT), PIXELS),
    "png-gamma": (png(70, 45, 8, 2, unfiltered(PIXELS), chunk(b"gAMA", struct.pack(">I", 45455))), PIXELS),
    "png-resolution": (saved(PHOTO, "PNG", dpi=(300, 150)), PIXELS),
    "png-alpha": (saved(ALPHA, "PNG"), PIXELS),
    "png-gray": (saved(Image.fromarray(GRAY), "PNG"), in_colors(GRAY)),
    "png-gray-alpha": (saved(Image.fromarray(GRAY).convert("LA"), "PNG"), in_colors(GRAY)),
    "png-gray-transparent": (saved(Image.fromarray(GRAY), "PNG", transparency=int(GRAY[0, 0])), in_colors(GRAY)),
    "png-color-transparent": (saved(PHOTO, "PNG", transparency=tuple(map(int, PIXELS[0, 0]))), PIXELS),
    "png-1-bit": (packed_png(1)[0], in_colors(packed_png(1)[1])),
    "png-2-bit": (packed_png(2)[0], in_colors(packed_png(2)[1])),
    "png-4-bit": (packed_png(4)[0], in_colors(packed_png(4)[1])),
    "png-16-bit": (deep(DEEP, 2), DEEP >> 8),
    "png-16-bit-alpha": (deep(numpy.dstack([DEEP, DEEP[..., 0]]), 6), DEEP >> 8),
    "png-16-bit-gray": (deep(DEEP[..., 0], 0), in_colors(DEEP[..., 0] >> 8)),
    "png-16-bit-gray-alpha": (deep(DEEP[..., :2], 4), in_colors(DEEP[..., 0] >> 8)),
    "png-palette": (saved(PALETTE, "PNG"), IN_PALETTE),
    "png-palette-transparent": (saved(PALETTE, "PNG", transparency=3), IN_PALETTE),
    "png-palette-half-transparent": (saved(PALETTE, "PNG", transparency=bytes(range(0, 160, 10))), IN_PALETTE),
    "png-palette-2-bit": (saved(PHOTO.quantize(4), "PNG", bits=2), numpy.asarray(PHOTO.quantize(4).convert("RGB"))),
    "png-turned-behind": (
        png(70, 45, 8, 2, unfiltered(PIXELS), behind=chunk(b"eXIf", turned(6).tobytes()[6:])),
        TURNS[6](PIXELS),
    ),
    "gif": (saved(PALETTE, "GIF", interlace=0), IN_PALETTE),
    "gif-interlaced": (saved(PALETTE, "GIF", interlace=1), IN_PALETTE),
    "gif-transparent": (saved(PALETTE, "GIF", transparency=3), IN_PALETTE),
    "gif-gray": (saved(Image.fromarray(GRAY & 0xF0), "GIF"), in_colors(GRAY & 0xF0)),
    "webp-lossless": (WEBP, PIXELS),
    "webp-alpha": (saved(ALPHA, "WEBP", lossless=True, exact=True), PIXELS),
    "webp-damaged-exif": (saved(PHOTO, "WEBP", lossless=True, exif=b"Exif\0\0nonsense"), PIXELS),
    **{f"png-turned-{n}": (saved(PHOTO, "PNG", exif=turned(n)), TURNS[n](PIXELS)) for n in (2, 6, 8)},
    **{f"webp-turned-{n}": (saved(PHOTO, "WEBP", lossless=True, exif=turned(n)), TURNS[n](PIXELS)) for n in (3, 6)},
}
# JPEG loses something: torchvision's decoder is the oracle where it reads the same kind.
JPEGS = {
    "jpeg": JPEG,
    "jpeg-progressive": saved(PHOTO, "JPEG", progressive=True),
    "jpeg-4:4:4": saved(PHOTO, "JPEG", subsampling=0),
    "jpeg-4:2:2": saved(PHOTO, "JPEG", subsampling=1),
    "jpeg-gray": saved(PHOTO.convert("L"), "JPEG"),
    "jpeg-restarts": saved(PHOTO, "JPEG", restart_marker_blocks=2),
    "jpeg-optimised": saved(PHOTO, "JPEG", optimize=True),
    "jpeg-comment": saved(PHOTO, "JPEG", comment="bin 7"),
    "jpeg-profile": saved(PHOTO, "JPEG", icc_profile=b"no profile" * 20),
    "jpeg-without-jfif": without_segment(JPEG, 0xE0),
    "jpeg-rgb": saved(PHOTO, "JPEG", keep_rgb=True),
    "jpeg-xmp": with_segment(JPEG, 0xE1, b"http://ns.adobe.com/xap/1.0/\0" + XMP),
    "jpeg-damaged-exif": with_segment(JPEG, 0xE1, b"Exif\0\0nonsense"),
    "jpeg-nonsense-behind": JPEG + b"nonsense",
    "jpeg-two-photos": saved(PHOTO, "MPO", save_all=True, append_images=[PHOTO.rotate(180)]),
    **{f"jpeg-turned-{n}": saved(PHOTO, "JPEG", exif=turned(n)) for n in range(1, 10)},
}
# Four inks, which torchvision reads in other shades, and lossy WebP.
OTHERS = {
    "jpeg-cmyk": ADOBE,
    "jpeg-ycck": ADOBE.replace(b"Adobe\0d\0\0\0\0\0", b"Adobe\0d\0\0\0\0\2", 1),
    "webp-lossy": saved(PHOTO, "WEBP", quality=80),
}
READ = {name: content for name, (content, _) in LOSSLESS.items()} | JPEGS | OTHERS


def many_scans(num_scans: int) -> bytes:
    """A progressive JPEG whose last scan comes again and again: few bytes, and each costs the whole image's time."""
    once = saved(PHOTO, "JPEG", progressive=True)
    last = once.rindex(b"\xff\xda")
    return once[:last] + once[last:-2] * num_scans + once[-2:]


def frames(form: str) -> bytes:
    return saved(PHOTO, form, save_all=True, append_images=[PHOTO.rotate(180)])


def sized_jpeg(width: int, height: int) -> bytes:
    start = JPEG.index(b"\xff\xc0") + 5
    return JPEG[:start] + struct.pack(">HH", height, width) + JPEG[start + 4 :]


BOMB = zlib.compress(bytes(5 * 2**20))
# By name: the file and what is said of it, wherever it comes.
REFUSED = {
    "empty": (b"", "empty: 0 bytes"),
    "text": (b"hello", "start with b'hell' are no image"),
    "page": (b"<!doctype html><p>404", "are no image"),
    "bmp": (saved(PHOTO, "BMP"), "no image that is read here"),
    "tiff": (saved(PHOTO, "TIFF"), "no image that is read here"),
    "jpeg-header-alone": (JPEG[:2], "no image that is read here"),
    "jpeg-cut": (JPEG[:-200], "damaged or cut off"),
    "jpeg-progressive-cut": (JPEGS["jpeg-progressive"][:-200], "damaged or cut off"),
    "png-cut": (PNG[:-200], "damaged or cut off"),
    "png-header-alone": (PNG[:40], "damaged or cut off|no image"),
    "png-of-nothing": (png(0, 5, 8, 2, b""), "0 x 5 pixels|no image"),
    "webp-cut": (WEBP[:-200], "damaged or cut off|no image"),
    "gif-cut": (saved(PALETTE, "GIF")[:100], "damaged or cut off"),
    "gif-animated": (frames("GIF"), "animated"),
    "png-animated": (frames("PNG"), "animated"),
    "webp-animated": (frames("WEBP"), "animated"),
    "png-25,000,000-x-1": (png(25_000_000, 1, 1, 0, b"\0" + bytes(3_125_000)), "25000000 x 1 pixels, more than"),
    "png-1-x-1,000,000": (png(1, 1_000_000, 8, 0, bytes(2_000_000)), "1 x 1000000 pixels, more than the 16384 a side"),
    "png-7,500-x-7,500": (saved(Image.new("1", (7_500, 7_500)), "PNG"), "7500 x 7500 pixels, more than the 50000000"),
    "jpeg-65,500-x-65,500": (sized_jpeg(65_500, 65_500), "more than the 50000000"),
    "jpeg-thin": (saved(Image.new("RGB", (3_000, 50)), "JPEG"), "one side more than 50 times the other"),
    "jpeg-many-scans": (many_scans(101), "more than the 100 scans"),
    "png-text-bomb": (png(70, 45, 8, 2, unfiltered(PIXELS), chunk(b"zTXt", b"a\0\0" + BOMB)), "damaged or cut off"),
}
