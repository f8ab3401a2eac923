"""What an image may be, and the one way from its bytes to pixels: for prepare, training, predict and the server alike.

Needs Pillow and numpy, and no torch. The limits are checked on the header, before anything is decoded, so that a small
file cannot fill the memory: once decoded, an image has up to 150 MB, and the exported graph takes up to 350 MB beside
it (measured at 224 px, 16,384 x 3,000).
"""

import io
import struct
import warnings
import zlib

import numpy
from numpy import ndarray
from PIL import Image

FORMATS = ("JPEG", "PNG", "GIF", "WEBP")
MAX_BYTES = 32 * 2**20
MAX_PIXELS = 50_000_000  # a phone's largest photos
MAX_SIDE_PX = 16_384  # what WebP can hold; the exported graph weighs side x S numbers of 8 bytes
MAX_ASPECT = 50  # of the longer side to the shorter; a panorama has 10
MAX_STEPS = 4_096  # of a JPEG up to its pixels: segments, and bytes between them; 32 MiB of EXIF and ICC have 512
MAX_SCANS = 100  # of a progressive JPEG, which has 10; each costs time for the whole image, and few bytes

EMPTY = ("The image is empty: 0 bytes came.", "Send a JPEG, PNG, GIF or WebP file.")

DEEP_MODES = ("I;16", "I;16B", "I")  # as which Pillow opens gray PNG of 16 bits, and nothing else of FORMATS
ORIENTATION = 0x0112  # the EXIF tag
UPRIGHT = {  # what brings an orientation (EXIF 2.32, table 6) upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

# Markers of ITU-T T.81, table B.1.
START_OF_IMAGE, START_OF_SCAN, END_OF_IMAGE = b"\xff\xd8", b"\xff\xda", b"\xff\xd9"
BASELINE, PROGRESSIVE, SCAN = 0xC0, 0xC2, 0xDA
# What may stand before the scan of a plain JPEG beside its frame: JFIF's APP0, tables of Huffman and quantisation, the
# interval of restarts, comments. EXIF, Adobe's colors and a phone's second image have segments of their own.
PLAIN_SEGMENTS = frozenset((0xE0, 0xC4, 0xDB, 0xDD, 0xFE))

# Of PNG (ISO/IEC 15948): where the header's numbers begin, the channels of each type of color, and the passes of an
# interlaced image, each with its first column and row and its steps to the right and down.
PNG_HEADER, PNG_CHANNELS = 16, {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))

# This module's own limit, checked right after, says the same in its own message.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


class UndecodableImage(ValueError):
    """Bytes that are no image this project reads; the message says what they are, and what to send instead.

    Attributes:
        reason: A short fixed word: `image-undecodable`, `image-animated` or `image-size`.
        error: What is wrong.
        hint: What to send instead.
    """

    def __init__(self, error: str, hint: str = "", reason: str = "image-undecodable"):
        super().__init__(f"{error} {hint}".rstrip())
        self.error, self.hint, self.reason = error, hint, reason


def read_pixels(content: bytes | bytearray) -> ndarray:
    """Returns the image upright, uint8, H x W x 3 (red, green, blue), from JPEG, PNG, GIF or WebP bytes.

    16 bits a channel become 8 by their upper half, gray becomes three equal channels, transparency is left out.

    Raises:
        UndecodableImage: The bytes are empty, cut off, no such image, an animation, or over a limit.
    """
    try:
        with open_image(content) as image:
            image.load()
            check_end(content, image)
            return numpy.asarray(_in_rgb(_upright(image)))
    except UndecodableImage:
        raise
    except Exception as error:  # Pillow's parsers raise nearly anything: struct.error, IndexError, MemoryError
        raise damaged(content, error) from None


def open_image(content: bytes | bytearray) -> Image.Image:
    """Returns the image with nothing but its header read, within every limit.

    Raises:
        UndecodableImage: The bytes are empty, no such image, an animation, or over a limit.
    """
    if not content:
        raise UndecodableImage(*EMPTY)
    if len(content) > MAX_BYTES:
        raise _too_large(f"The image has {len(content)} bytes, more than the {MAX_BYTES} that are read.")
    _check_steps(content)
    try:
        image = Image.open(io.BytesIO(content), formats=FORMATS)
        _check_size(*image.size)
        _check_frames(image, content)
    except Image.UnidentifiedImageError:
        raise UndecodableImage(
            f"The {len(content)} bytes that start with {bytes(content[:4])!r} are no image that is read here.",
            "Send a JPEG, PNG, GIF or WebP file.",
        ) from None
    except Image.DecompressionBombError:
        raise _too_large(f"The image has more than the {MAX_PIXELS} pixels that are read.") from None
    except UndecodableImage:
        raise
    except Exception as error:
        raise damaged(content, error) from None
    return image


def check_end(content: bytes | bytearray, image: Image.Image) -> None:
    """Checks that an image, once read, had all its rows: Pillow fills up what is missing in silence.

    Of a JPEG that breaks off in its last scan, and of a PNG whose packed rows end early.

    Raises:
        UndecodableImage: It does.
    """
    if image.format in ("JPEG", "MPO") and START_OF_SCAN in content[max(0, content.rfind(END_OF_IMAGE)) :]:
        raise damaged(content, "cut off before the marker that ends a JPEG")
    if image.format == "PNG" and not _has_all_rows(content):
        raise damaged(content, "its rows end before its height")


def _has_all_rows(content: bytes | bytearray) -> bool:
    width, height, depth, color, _, _, interlace = struct.unpack_from(">IIBBBBB", content, PNG_HEADER)
    num_bits, num_missing = depth * PNG_CHANNELS[color], 0
    for left, top, right, down in ADAM7 if interlace else ((0, 0, 1, 1),):
        columns, rows = -(-(width - left) // right), -(-(height - top) // down)
        num_missing += rows * (1 + -(-columns * num_bits // 8)) if columns > 0 and rows > 0 else 0
    offset, packed = PNG_HEADER - 8, zlib.decompressobj()
    while num_missing > 0 and offset + 8 <= len(content):
        length, kind = struct.unpack_from(">I4s", content, offset)
        rest = content[offset + 8 : offset + 8 + length] if kind == b"IDAT" else b""
        while rest and num_missing > 0:
            num_missing -= len(packed.decompress(rest, 2**20))  # piece by piece: a few bytes may unpack to gigabytes
            rest = packed.unconsumed_tail
        offset += length + 12
    return num_missing <= len(packed.decompress(b"", 2**20))  # the last few may still be in there


def is_plain_jpeg(content: bytes | bytearray) -> bool:
    """Returns whether the bytes are a JPEG that any decoder takes for the same: three channels of 8 bits, and no EXIF.

    Most images of a dataset are, so training decodes these without Pillow; it has to be told within microseconds.
    """
    if not (content.startswith(START_OF_IMAGE) and content.endswith(END_OF_IMAGE) and len(content) <= MAX_BYTES):
        return False
    offset, frame, is_progressive = 2, None, False
    try:
        for _ in range(MAX_STEPS):
            if content[offset] != 0xFF:
                return False
            marker, length = content[offset + 1], content[offset + 2] << 8 | content[offset + 3]
            if marker in (BASELINE, PROGRESSIVE) and frame is None:
                frame, is_progressive = content[offset + 4 : offset + 2 + length], marker == PROGRESSIVE
            elif marker == SCAN:
                break
            elif marker not in PLAIN_SEGMENTS:
                return False
            offset += 2 + length
        else:
            return False
    except IndexError:
        return False
    # Depth, height, width, number of channels; then each channel's number, sampling and table (ITU-T T.81, B.2.2).
    if frame is None or len(frame) != 15 or frame[0] != 8 or frame[5] != 3 or frame[6::3] != b"\1\2\3":
        return False
    height, width = frame[1] << 8 | frame[2], frame[3] << 8 | frame[4]
    has_few_scans = not is_progressive or content.count(START_OF_SCAN) <= MAX_SCANS
    return has_few_scans and _size_reason(width, height) is None


def damaged(content: bytes | bytearray, reason: object) -> UndecodableImage:
    """Returns the error of bytes that begin as an image and do not go on as one."""
    return UndecodableImage(
        f"The {len(content)} bytes that start with {bytes(content[:4])!r} are damaged or cut off: "
        f"{' '.join(str(reason).split())[:200] or type(reason).__name__}.",
        "Send the image once more, whole.",
    )


def _check_size(width: int, height: int) -> None:
    if (reason := _size_reason(width, height)) is not None:
        raise _too_large(f"The image has {width} x {height} pixels, {reason}.")


def _size_reason(width: int, height: int) -> str | None:
    if min(width, height) < 1:
        return "none at all"
    if max(width, height) > MAX_SIDE_PX:
        return f"more than the {MAX_SIDE_PX} a side that are read"
    if width * height > MAX_PIXELS:
        return f"more than the {MAX_PIXELS} that are read"
    if max(width, height) > MAX_ASPECT * min(width, height):
        return f"one side more than {MAX_ASPECT} times the other"
    return None


def _too_large(error: str) -> UndecodableImage:
    return UndecodableImage(error, "Send another or a smaller one.", "image-size")


def _check_frames(image: Image.Image, content: bytes | bytearray) -> None:
    # A phone's MPO is a JPEG with a second one behind it (depth, brightness), no animation: the first is the photo.
    if image.format != "MPO" and getattr(image, "is_animated", False):
        raise UndecodableImage("The image is animated.", "Send a single frame.", "image-animated")
    if image.info.get("progressive") and content.count(START_OF_SCAN) > MAX_SCANS:
        raise _too_large(f"The image is a JPEG of more than the {MAX_SCANS} scans that are read.")


def _check_steps(content: bytes | bytearray) -> None:
    """Walks a JPEG up to its first scan as Pillow does, byte after byte of filling: 30 MB of it take 50 s."""
    if not content.startswith(START_OF_IMAGE):
        return
    offset = 2
    for _ in range(MAX_STEPS):
        marker = content[offset : offset + 2]
        if len(marker) < 2 or marker == START_OF_SCAN:
            return
        is_segment = marker[0] == 0xFF and marker[1] not in (0x00, 0xFF)
        offset += 2 + int.from_bytes(content[offset + 2 : offset + 4], "big") if is_segment else 1
    raise _too_large(f"The image is a JPEG of more than {MAX_STEPS} segments and bytes of filling before its pixels.")


def _upright(image: Image.Image) -> Image.Image:
    try:
        orientation = image.getexif().get(ORIENTATION)
    except Exception:  # what is written beside the pixels may be damaged; the pixels are not
        orientation = None
    return image.transpose(UPRIGHT[orientation]) if orientation in UPRIGHT else image


def _in_rgb(image: Image.Image) -> Image.Image:
    if image.mode in DEEP_MODES:
        image = Image.fromarray((numpy.asarray(image).astype(numpy.uint16) >> 8).astype(numpy.uint8))
    elif image.mode in ("P", "PA"):
        image = image.convert("RGBA")  # else Pillow warns of a palette with transparency
    return image if image.mode == "RGB" else image.convert("RGB")
