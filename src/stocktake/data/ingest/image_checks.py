"""Whether the bytes of an image are fit to be learnt from, and the facts that the manifest keeps of it."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy
from PIL import Image

from stocktake.images.decoding import UndecodableImage, check_end, damaged, open_image

SUFFIXES = {"JPEG": ".jpg", "PNG": ".png"}  # of the formats that a dataset may hold, by Pillow's names
COLOR_MODES = {"JPEG": ("RGB",), "PNG": ("RGB", "RGBA", "P")}  # transparency is left out where pixels are read
SMALLEST_SIDE_PX = 64  # below it items cannot be told apart; the smallest real bin image is 234 px


class BadImage(ValueError):
    """An image that cannot be used; `reason` is a short fixed word for the quarantine."""

    def __init__(self, reason: str, detail: str):
        super().__init__(f"{reason}: {detail}")
        self.reason, self.detail = reason, detail


@dataclass(frozen=True, slots=True)
class ImageFacts:
    width: int
    height: int
    bytes: int
    sha256: str
    look: int  # two images that look alike differ in few of its 64 bits
    suffix: str = ".jpg"  # of its format


def check_image(content: bytes, formats: Sequence[str] = ("JPEG",)) -> ImageFacts:
    """Reads an image to its last row and returns its facts.

    A JPEG is drawn at an eighth of its size: every coefficient is read, so the same files are refused as at full size,
    in two thirds of the time (libjpeg's scaled decoding).

    Args:
        formats: Of `SUFFIXES`: those that are taken.

    Raises:
        BadImage: With the reason of the `UndecodableImage` that it is everywhere, `image-color` (not three channels)
            or `image-size` (too small to learn from).
    """
    try:
        with open_image(content) as image:
            form = "JPEG" if image.format == "MPO" else str(image.format)
            if form not in formats:
                wanted = " or ".join(formats)
                raise BadImage("image-undecodable", f"{len(content)} bytes: {form} instead of {wanted}")
            mode, (width, height) = image.mode, image.size
            image.draft("L", (1, 1))
            image.load()
            check_end(content, image)
    except UndecodableImage as error:
        raise BadImage(error.reason, error.error) from None
    except BadImage:
        raise
    except Exception as error:  # Pillow's parsers raise nearly anything
        raise BadImage("image-undecodable", damaged(content, error).error) from None
    if mode not in COLOR_MODES[form]:
        raise BadImage("image-color", f"{mode} instead of red, green and blue")
    if min(width, height) < SMALLEST_SIDE_PX:
        raise BadImage("image-size", f"{width}x{height} px, the shorter side is under {SMALLEST_SIDE_PX}")
    return ImageFacts(width, height, len(content), hashlib.sha256(content).hexdigest(), _look(image), SUFFIXES[form])


def _look(image: Image.Image) -> int:
    """Returns the difference hash: where brightness rises from left to right, on 8 x 9 pixels, as 64 bits.

    After N. Krawetz, "Kind of Like That", 2013.
    """
    if image.mode == "P":  # else Pillow warns of a palette with transparency
        image = image.convert("RGBA")
    small_89 = numpy.asarray(image.convert("L").resize((9, 8), Image.Resampling.BILINEAR))
    return int.from_bytes(numpy.packbits(small_89[:, 1:] > small_89[:, :-1]).tobytes(), "big")
