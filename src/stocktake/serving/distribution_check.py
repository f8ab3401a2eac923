"""Whether a picture is unlike all that the model has seen, told in time for an answer."""

import dataclasses

import numpy
from numpy import ndarray
from PIL import Image

from stocktake.images.statistics import (
    REFERENCE_PX,
    THREAD_PX,
    ImageStatistics,
    TrainingImages,
    measure_image,
    unlike_training,
)


def warning(pixels_HW3: ndarray, training: TrainingImages | None) -> str | None:
    """Returns what to say beside the count, `None` for nothing.

    Only of a model of drawn bins: to measure a picture takes as long as to count it. A model of photos is watched by
    the statistics that an evaluation writes down.
    """
    if training is None or not training.are_drawn:
        return None
    height, width, _ = pixels_HW3.shape
    if min(height, width) < THREAD_PX:
        return unlike_training(ImageStatistics(0.0, 0.0, 0.0, width, height), training)
    factor = max(1, max(height, width) // (2 * REFERENCE_PX))  # a phone's photo would take half a second
    small = numpy.asarray(Image.fromarray(pixels_HW3).reduce(factor))
    return unlike_training(dataclasses.replace(measure_image(small), width_px=width, height_px=height), training)
