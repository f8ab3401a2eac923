"""Whether the bytes of an image are fit to be learnt from, and the facts that the manifest keeps of it."""

import hashlib
from dataclasses import dataclass

import numpy
import torch
from torch import Tensor
from torchvision.io import ImageReadMode, decode_jpeg
from torchvision.transforms.v2 import functional

from stocktake.data.transforms import decoder_reason

SMALLEST_SIDE_PX = 64  # below it items cannot be told apart; the smallest real bin image is 234 px


class BadImage(ValueError):
    """An image that cannot be used; `reason` is a short fixed word for the quarantine."""

    def __init__(self, reason: str, detail: str):
        super().__init__(f"{reason}: {detail}")
        self.reason, self.detail = reason, detail


@dataclass(frozen=True)
class ImageFacts:
    width: int
    height: int
    bytes: int
    sha256: str
    look: int  # two pictures that look alike differ in few of its 64 bits


def check_image(content: bytes) -> ImageFacts:
    """Decodes a JPEG to its last row and returns its facts.

    Raises:
        BadImage: With the reason `image-undecodable`, `image-colour` (not three channels) or `image-size`.
    """
    if not content:
        raise BadImage("image-undecodable", "the file is empty")
    try:
        # A copy, because torch wants memory that it may write to.
        image_CHW = decode_jpeg(torch.frombuffer(bytearray(content), dtype=torch.uint8), ImageReadMode.UNCHANGED)
    except RuntimeError as error:
        raise BadImage("image-undecodable", f"{len(content)} bytes: {decoder_reason(error)}") from None
    channels, height, width = image_CHW.shape
    if channels != 3:
        raise BadImage("image-colour", f"{channels} channels instead of red, green and blue")
    if min(width, height) < SMALLEST_SIDE_PX:
        raise BadImage("image-size", f"{width}x{height} px, the shorter side is under {SMALLEST_SIDE_PX}")
    return ImageFacts(width, height, len(content), hashlib.sha256(content).hexdigest(), _look(image_CHW))


def _look(image_CHW: Tensor) -> int:
    """Returns the difference hash: where brightness rises from left to right, on 8 x 9 pixels, as 64 bits.

    After N. Krawetz, "Kind of Like That", 2013; of the green channel, which is nearly the brightness.
    """
    # All three are resized and one is used: that is quicker than to take one out of the interleaved pixels.
    small_89 = functional.resize(image_CHW, [8, 9], antialias=True)[1].numpy()
    return int.from_bytes(numpy.packbits(small_89[:, 1:] > small_89[:, :-1]).tobytes(), "big")
