"""What a photo is like, whatever is in it: bright or dark, sharp or blurred, and how much of the net is in the way.

Needs nothing but numpy, so that the report, a monitor and the server's log can ask the same question. Light and shape
are measured on the luma of the image at REFERENCE_PX, so that a large photo and its small copy have the same figures.

Axes: H height, W width, C 3 channels (red, green, blue).
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Self

import numpy
from numpy import ndarray

LUMA_C = numpy.array([0.299, 0.587, 0.114])  # ITU-R BT.601, which JPEG uses (ITU-T T.871, section 7)
REFERENCE_PX = 224
THREAD_PX = 9  # a thread of the net is straight for so long, and letters and wrinkles are not
NUM_BARS = 20  # of a histogram
MARGIN = 0.1  # share of a histogram's width by which an image may lie outside it and still be like the others
THREAD_CONTRAST = 2.0  # of 255; 1 and 3 rank real bins nearly the same (correlation 0.98 and more)


@dataclass(frozen=True)
class ImageStatistics:
    """One image's figures.

    Attributes:
        brightness: Mean luma, 0 (black) to 255 (white).
        sharpness: Variance of the Laplacian of the luma (Pech-Pacheco et al. 2000, Diatom autofocusing in brightfield
            microscopy: a comparative study, section 2): the lower, the more blurred. What an image shows counts too,
            so it compares bins that were photographed alike, and says little of a single one.
        strap_density: Share of the pixels on thin, bright, nearly level lines, see `strap_density`.
        width_px: Of the image as it came.
        height_px: Likewise.
    """

    brightness: float
    sharpness: float
    strap_density: float
    width_px: int
    height_px: int


@dataclass(frozen=True)
class TrainingImages:
    """What the images that a model learned from are like; kept beside it, to recognize what it has never seen.

    Attributes:
        are_drawn: They are drawings, not photos.
        num_images: So many of them were measured.
        histograms: For each of HISTOGRAMS `edges`, NUM_BARS + 1 rising numbers from the least to the greatest value,
            and `num_images` between each two; empty where none was measured.
    """

    are_drawn: bool
    num_images: int = 0
    histograms: Mapping[str, Mapping[str, Sequence[float]]] = field(default_factory=dict)

    @classmethod
    def of(cls, measured: Sequence[ImageStatistics], are_drawn: bool) -> Self:
        histograms = {}
        for name in HISTOGRAMS if measured else ():
            num_images, edges = numpy.histogram([getattr(image, name) for image in measured], NUM_BARS)
            histograms[name] = {"edges": edges.tolist(), "num_images": num_images.tolist()}
        return cls(are_drawn, len(measured), histograms)

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields as JSON knows them."""
        return asdict(self) | {"histograms": dict(self.histograms)}

    @classmethod
    def from_dict(cls, plain: Any) -> Self:
        """Returns what `to_dict` gave, read back.

        Raises:
            ValueError: It is something else.
        """
        try:
            training = cls(bool(plain["are_drawn"]), int(plain["num_images"]), plain["histograms"])
            edges = [bars["edges"] for bars in training.histograms.values()]
            is_ours = training.histograms.keys() <= HISTOGRAMS.keys() and numpy.isfinite(edges).all()
            is_ours &= all(len(bars["edges"]) == NUM_BARS + 1 for bars in training.histograms.values())
        except (AttributeError, KeyError, TypeError, ValueError):
            training, is_ours = None, False
        if training is None or not is_ours:
            raise ValueError("training_images is not what this project writes: export again.")
        return training


# What is compared with the training images; and what an image is beside them if it has less, or more, of it.
HISTOGRAMS = {
    "brightness": ("darker", "brighter"),
    "sharpness": ("more blurred", "sharper"),
    "strap_density": ("with fewer threads of a net", "with more threads of a net"),
    "width_px": ("narrower", "wider"),
    "height_px": ("lower", "higher"),
}
PHOTOS_DIFFER_BY = ("brightness", "sharpness", "strap_density")  # the network sees photos of any size in one


def unlike_training(image: ImageStatistics, training: TrainingImages) -> str | None:
    """Returns one sentence that says in what an image is unlike all that the model has seen; None if it is like them.

    An image that is like them may still show something else: this warns, and vouches for nothing.
    """
    found = []
    for name, (less, more) in HISTOGRAMS.items():
        if name not in training.histograms or not (training.are_drawn or name in PHOTOS_DIFFER_BY):
            continue
        low, *_, high = training.histograms[name]["edges"]
        margin, value = MARGIN * (high - low), getattr(image, name)
        if not low - margin <= value <= high + margin:
            found.append(less if value < low else more)
    if training.are_drawn:
        if training.histograms and not found:
            return None
        unlike = f", and this image is {_listed(found)} than all of them" if found else ""
        return f"This model has only ever seen drawn bins{unlike}: its count of a photo means nothing."
    if not found:
        return None
    return (
        f"This image is {_listed(found)} than all of the {training.num_images:,} training images that were measured: "
        "the model's count of it may mean little."
    )


def _listed(adjectives: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(adjectives[:-1]), adjectives[-1]]))


def measure_image(pixels_HWC: ndarray) -> ImageStatistics:
    """Returns the figures of one image, uint8.

    Raises:
        ValueError: The array is no such image, or under 9 pixels wide or high.
    """
    shape, dtype = numpy.shape(pixels_HWC), getattr(pixels_HWC, "dtype", type(pixels_HWC).__name__)
    if len(shape) != 3 or shape[2] != 3 or dtype != numpy.uint8 or min(shape[:2]) < THREAD_PX:
        raise ValueError(
            f"pixels_HWC is {dtype} of shape {shape}; give uint8 of height x width x 3, "
            f"at least {THREAD_PX} x {THREAD_PX} pixels."
        )
    height_px, width_px, _ = shape
    luma_HW = _shrink_rows(_shrink_rows(pixels_HWC @ LUMA_C).T).T
    return ImageStatistics(
        brightness=float(luma_HW.mean()),
        sharpness=float(laplacian(luma_HW).var()),
        strap_density=strap_density(luma_HW),
        width_px=width_px,
        height_px=height_px,
    )


def laplacian(luma_HW: ndarray) -> ndarray:
    """Returns the sum of the four neighbors less four times the pixel; the image's edge is its own neighbor."""
    padded = numpy.pad(luma_HW, 1, mode="edge")
    return padded[:-2, 1:-1] + padded[2:, 1:-1] + padded[1:-1, :-2] + padded[1:-1, 2:] - 4 * luma_HW


def strap_density(luma_HW: ndarray) -> float:
    """Returns the share of the pixels on thin, bright, nearly level lines: what the threads of a bin's net look like.

    Averaged along 9 pixels of its row, such a pixel is brighter than the ones above and below. The average wipes out
    most letters, wrinkles and noise; an edge between a bright and a dark area is no line and does not count, nor does
    a steep, thick or dark one, such as a hook or a cord that hangs down. Real bins have 0 to 0.22, half of them 0.09
    to 0.13: behind the net about every fifth pixel lies on a thread.

    It is a density of lines and not a detector of straps: a striped box adds to it, and where a photo is too blurred to
    show the threads they are not found, so a low value means few threads or none that can be seen.
    """
    sums = numpy.pad(luma_HW.cumsum(1), ((0, 0), (1, 0)))
    along_rows = (sums[:, THREAD_PX:] - sums[:, :-THREAD_PX]) / THREAD_PX
    above, middle, below = along_rows[:-2], along_rows[1:-1], along_rows[2:]
    return float((middle - numpy.maximum(above, below) > THREAD_CONTRAST).mean())


def _shrink_rows(luma_HW: ndarray) -> ndarray:
    """Returns as many rows as REFERENCE_PX at most, each the mean of the area that it stands for."""
    num_rows = len(luma_HW)
    if num_rows <= REFERENCE_PX:
        return luma_HW
    # The integral from the top down to a border between new rows; borders fall inside old rows.
    integral = numpy.pad(luma_HW.cumsum(0), ((1, 0), (0, 0)))
    borders = numpy.linspace(0, num_rows, REFERENCE_PX + 1)
    row = numpy.minimum(borders.astype(int), num_rows - 1)
    part = (borders - row)[:, None]
    at_borders = (1 - part) * integral[row] + part * integral[row + 1]
    return numpy.diff(at_borders, axis=0) * (REFERENCE_PX / num_rows)
