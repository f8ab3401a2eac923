"""From the bytes that somebody sends to pixels, with Pillow, where torch is not."""

import io

import numpy
from numpy import ndarray
from PIL import Image, ImageOps

FORMATS = ("JPEG", "PNG", "GIF", "WEBP")  # what training and evaluation read, too
MAX_PIXELS = 50_000_000  # a phone's largest photos; 150 MB once decoded
# Whole numbers of 16 or 32 bits and floats: what is white in them is not said anywhere.
DEEP_MODES = ("I", "F")


class PictureError(ValueError):
    """Bytes that are no picture to count in; the message says why, and what to send instead."""


def decode_picture(content: bytes, max_pixels: int = MAX_PIXELS) -> ndarray:
    """Returns the picture upright, uint8, H x W x 3 (red, green, blue), from JPEG, PNG, GIF or WebP bytes.

    Args:
        max_pixels: A picture of more is refused before it is decoded, so that a small file cannot fill the memory.

    Raises:
        PictureError: The bytes are empty, cut off, no such picture, an animation, or of too many pixels.
    """
    if not content:
        raise PictureError("The picture is empty: 0 bytes came. Send the bytes of a JPEG, PNG, GIF or WebP file.")
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            _check(image, max_pixels)
            upright = ImageOps.exif_transpose(image)
            return numpy.asarray(upright.convert("RGB"))
    except Image.UnidentifiedImageError:
        raise PictureError(
            f"The {len(content)} bytes, which start with {content[:4]!r}, are no picture that is read here. "
            "Send a JPEG, PNG, GIF or WebP file."
        ) from None
    except Image.DecompressionBombError:
        raise PictureError(
            f"The picture has more than the {max_pixels} pixels that are read. Send a smaller one."
        ) from None
    except PictureError:
        raise
    except Exception as error:  # Pillow's parsers raise nearly anything: struct.error, IndexError
        raise PictureError(
            f"The picture is damaged or cut off ({len(content)} bytes came): {error}. Send it once more, whole."
        ) from None


def _check(image: Image.Image, max_pixels: int) -> None:
    if image.width * image.height > max_pixels:
        raise PictureError(
            f"The picture has {image.width} x {image.height} pixels, more than the {max_pixels} that are read. "
            "Send a smaller one."
        )
    # A phone's MPO is a JPEG with a second one behind it (depth, brightness), no animation: the first is the photo.
    if image.format != "MPO" and getattr(image, "is_animated", False):
        raise PictureError(f"The picture is an animation of {image.n_frames} frames. Send a single one.")
    if image.mode.startswith(DEEP_MODES):
        raise PictureError(f"The picture has more than 8 bits a channel (mode {image.mode}). Send one with 8 bits.")
