"""From the bytes of an image to pixels: decode, resize, augment; one image at a time.

Axes: C 3 channels (red, green, blue), H height, W width, S side of the square that the network sees.
Every image is uint8 from the file to the network's first step, which normalises it.
"""

from collections.abc import Callable, Sequence
from typing import cast

import torch
from torch import Tensor
from torch.nn.functional import interpolate
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

from stocktake.images.decoding import UndecodableImage, is_plain_jpeg, read_pixels
from stocktake.seeding import derive_seed

__all__ = ["Augment", "Resize", "UndecodableImage", "decode"]


def jpeg_decoder() -> Callable[[Tensor], Tensor] | None:
    """Returns torchcodec's decoder from a file's bytes to `image_CHW`, where it can be loaded."""
    try:
        # Documented there, and not in its __all__, for it has none.
        from torchcodec.decoders import decode_jpeg  # pyright: ignore[reportPrivateImportUsage]
    except OSError:  # PyPI's wheel wants CUDA's libraries, which a torch for CPUs alone (AWS's CPU image) lacks
        return None
    return cast(Callable[[Tensor], Tensor], decode_jpeg)  # of a list of files it returns a list


DECODE_JPEG = jpeg_decoder()


def decode(content: bytes | bytearray) -> Tensor:
    """Returns the image upright, uint8, `image_CHW`, from JPEG, PNG, GIF or WebP bytes.

    A plain JPEG, as which bins come, is decoded without Pillow, to the same pixels and in two thirds of the time. torch
    wants memory that it may write to: `bytes` are copied, a bytearray is not, and stays as it is.

    Raises:
        UndecodableImage: The bytes are not such an image, only a part of one, or over a limit.
    """
    if DECODE_JPEG is not None and is_plain_jpeg(content):
        writable = content if isinstance(content, bytearray) else bytearray(content)
        try:
            return DECODE_JPEG(torch.frombuffer(writable, dtype=torch.uint8))
        except RuntimeError:
            pass  # damaged: the error below is the same everywhere
    return torch.from_numpy(read_pixels(content).copy()).permute(2, 0, 1)


class Resize:
    """Brings an image to S x S pixels, antialiased.

    `squash` stretches both sides; `letterbox` keeps the aspect ratio and fills the rest with gray. With several sizes,
    the epoch picks one, and the last holds from then on (progressive resizing).
    """

    MODES = ("squash", "letterbox")
    GRAY = 128

    def __init__(self, size_px: int | Sequence[int], mode: str = "squash"):
        if mode not in self.MODES:
            raise ValueError(f"data.resize={mode!r} is none of {', '.join(self.MODES)}; type data.resize=squash.")
        self.sizes_px = [size_px] if isinstance(size_px, int) else list(size_px)
        self.mode = mode

    def __call__(self, image_CHW: Tensor, epoch: int = 0) -> Tensor:
        """Returns `image_CSS`, uint8."""
        side = self.sizes_px[min(epoch, len(self.sizes_px) - 1)]
        size = [side, side]
        if self.mode == "squash":
            return _resized(image_CHW, size)
        height, width = image_CHW.shape[-2:]
        scale = side / max(height, width)
        size = [max(1, round(height * scale)), max(1, round(width * scale))]
        image_CHW = _resized(image_CHW, size)
        top, left = (side - size[0]) // 2, (side - size[1]) // 2
        padding = [left, top, side - size[1] - left, side - size[0] - top]
        return functional.pad(image_CHW, padding, fill=self.GRAY)


def _resized(image_CHW: Tensor, size: list[int]) -> Tensor:
    """Returns the image at this height and width, by torch's own arithmetic in whole numbers.

    torchvision (0.30) takes the way over floats where a processor has no AVX2, as ARM's have none: one pixel in six
    then differs by a level from what the model is trained on elsewhere, and from the exported graph.
    """
    if list(image_CHW.shape[-2:]) == size:
        return image_CHW
    # With a batch's own stride in front, torch gives back the layout that came: the decoder's, which is stacked faster.
    batch = image_CHW.as_strided((1, *image_CHW.shape), (image_CHW.numel(), *image_CHW.stride()))
    return interpolate(batch, size, mode="bilinear", antialias=True, align_corners=False)[0]


class Augment:
    """Varies an image without taking an item out of it: flips, light, a small turn and shift.

    Crops that zoom in, CutMix and Mixup cut items out, so that the label turns wrong: they are not here.
    """

    def __init__(
        self,
        horizontal_flip: float = 0.5,
        vertical_flip: float = 0.0,
        color: float = 0.2,
        rotate_deg: float = 3.0,
        shift: float = 0.03,
        zoom: float = 0.05,
    ):
        """
        Args:
            horizontal_flip: Probability of mirroring left and right.
            vertical_flip: Probability of mirroring top and bottom.
            color: Largest relative change of brightness, contrast and saturation.
            rotate_deg: Largest turn to either side, degrees.
            shift: Largest shift along each axis, as a share of the side.
            zoom: Largest relative change of scale.
        """
        steps = [v2.RandomHorizontalFlip(horizontal_flip), v2.RandomVerticalFlip(vertical_flip)]
        if color:
            steps.append(v2.ColorJitter(brightness=color, contrast=color, saturation=color))
        if rotate_deg or shift or zoom:
            steps.append(
                v2.RandomAffine(
                    (-rotate_deg, rotate_deg),
                    translate=(shift, shift),
                    scale=(1 - zoom, 1 + zoom),
                    interpolation=v2.InterpolationMode.BILINEAR,
                    fill=Resize.GRAY,
                )
            )
        self.steps = v2.Compose(steps)

    def __call__(self, image_CHW: Tensor, *purpose: str | int) -> Tensor:
        """Returns the image as `purpose` (seed, epoch, image id) draws it; same shape and dtype."""
        # torchvision draws from torch's global generator; what others drew from it must not change.
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(derive_seed("augment", *purpose))  # of the CPU alone
            return self.steps(image_CHW)
