"""What a photo is like, whatever is in it: bright or dark, sharp or blurred, and how much of the net is in the way.

Needs nothing but numpy, so that the report, a monitor and the server's log can ask the same question. Light and shape
are measured on the luma of the picture at REFERENCE_PX, so that a large photo and its small copy say the same.

Axes: H height, W width, C 3 channels (red, green, blue).
"""

from dataclasses import dataclass

import numpy
from numpy import ndarray

LUMA_C = numpy.array([0.299, 0.587, 0.114])  # ITU-R BT.601, which JPEG uses (ITU-T T.871, section 7)
REFERENCE_PX = 224
THREAD_PX = 9  # a thread of the net is straight for so long, and letters and wrinkles are not
THREAD_CONTRAST = 2.0  # of 255; 1 and 3 rank real bins nearly the same (correlation 0.98 and more)


@dataclass(frozen=True)
class ImageStatistics:
    """One picture's figures.

    Attributes:
        brightness: Mean luma, 0 (black) to 255 (white).
        sharpness: Variance of the Laplacian of the luma (Pech-Pacheco et al. 2000, Diatom autofocusing in brightfield
            microscopy: a comparative study, section 2): the lower, the more blurred. What a picture shows counts too,
            so it compares bins that were photographed alike, and says little of a single one.
        strap_density: Share of the pixels on thin, bright, nearly level lines, see `strap_density`.
        width_px: Of the picture as it came.
        height_px: Likewise.
    """

    brightness: float
    sharpness: float
    strap_density: float
    width_px: int
    height_px: int


def measure_image(pixels_HWC: ndarray) -> ImageStatistics:
    """Returns the figures of one picture, uint8.

    Raises:
        ValueError: The array is no such picture, or under 9 pixels wide or high.
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
    """Returns the sum of the four neighbours less four times the pixel; the picture's edge is its own neighbour."""
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
