"""Predictor: an exported model folder, asked for P(count) of one image at a time, by ONNX Runtime and without torch.

The folder is what scripts/export.py writes: `model.onnx` (input `pixels`, uint8 H x W x 3; output `probabilities`,
float32 K, tempered) and `model.json`, which names its counts, its calibration and its version.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Self

import numpy
import onnxruntime
from numpy import ndarray

from stocktake.images.decoding import read_pixels
from stocktake.images.statistics import (
    THREAD_PX,
    ImageStatistics,
    TrainingImages,
    measure_image,
    unlike_training,
)
from stocktake.metrics.calibration import Calibration, conformal_sets, mismatch_score
from stocktake.serving.logged_answer import reduced
from stocktake.serving.model_folder import (
    INPUT,
    OUTPUT,
    TRAINING_IMAGES,
    ModelFolderError,
    check_fit,
    open_session,
    read_graph,
    read_model,
)
from stocktake.serving.response import Prediction, verdict
from stocktake.storage import is_s3, local_path

LARGE = 3 * 4_000_000  # numbers of an image after which ONNX Runtime gives its memory back: 400 MB after 50 megapixels


class Predictor:
    """An exported model, ready to be asked; several threads may ask at once."""

    def __init__(self, session: onnxruntime.InferenceSession, model: dict[str, Any]):
        """
        Args:
            session: Of the folder's model.onnx.
            model: What its model.json holds.
        """
        self.session, self.model = session, model
        self.counts: list[int] = model["counts"]
        self.version: str = model["version"]
        self.calibration = Calibration.from_dict(model["calibration"])
        training_images = model.get(TRAINING_IMAGES)
        self.training_images = None if training_images is None else TrainingImages.from_dict(training_images)

    @classmethod
    def open(cls, folder: str, num_threads: int | None = None) -> Self:
        """Opens the local folder of an exported model.

        Args:
            num_threads: Cores that one image is counted on; `None` for all that this process may use.

        Raises:
            ModelFolderError: A file is missing, damaged or of another version.
        """
        return cls.open_each(folder, [num_threads])[0]

    @classmethod
    def open_each(cls, folder: str, num_threads: Sequence[int | None]) -> list[Self]:
        """As `open`, once for each number of threads; the files are read and checked once."""
        if is_s3(folder):
            raise ModelFolderError(f"model={folder} is not on this machine. Copy it first: aws s3 sync {folder} model")
        path = local_path(folder)
        model = read_model(path)
        graph = read_graph(path, model)
        sessions = [open_session(path, graph, number) for number in num_threads]
        check_fit(path, sessions[0], model["counts"])
        return [cls(session, model) for session in sessions]

    def predict(
        self, image: bytes, expected_count: int | None = None, on_pixels: Callable[[ndarray], None] | None = None
    ) -> Prediction:
        """Counts the items in an image.

        Args:
            image: The bytes of a JPEG, PNG, GIF or WebP file.
            expected_count: The record's count, to have it compared with the photo.
            on_pixels: Is shown the decoded image, uint8 H x W x 3.

        Raises:
            UndecodableImage: The bytes are no image to count in.
            ValueError: The model does not know `expected_count`.
        """
        start = time.perf_counter()
        if expected_count is not None and expected_count not in self.counts:
            raise ValueError(
                f"expected_count={expected_count!r} is none of the counts that this model tells apart: {self.counts}. "
                "Leave it out to have the image counted alone."
            )
        pixels_HW3 = read_pixels(image)
        if on_pixels is not None:
            on_pixels(pixels_HW3)
        probabilities_K = self.probabilities(pixels_HW3)
        in_set_K = conformal_sets(probabilities_K[None], self.calibration.threshold)[0]
        conformal_set = [count for count, is_in in zip(self.counts, in_set_K, strict=True) if is_in]
        count = self.counts[int(probabilities_K.argmax())]
        score = None
        if expected_count is not None:
            labels_N = numpy.array([self.counts.index(expected_count)])
            score = float(mismatch_score(probabilities_K[None], labels_N)[0])
        by_count = dict(zip(self.counts, probabilities_K.tolist(), strict=True))
        return Prediction(
            count=count,
            probabilities=by_count,
            conformal_set=conformal_set,
            mismatch_score=score,
            verdict=verdict(count, by_count, conformal_set, expected_count),
            model_version=self.version,
            warning=_distribution_warning(pixels_HW3, self.training_images),
            milliseconds=(time.perf_counter() - start) * 1000,
        )

    def probabilities(self, pixels_HW3: ndarray) -> ndarray:
        """Returns P(count) of a decoded image, `probabilities_K`, float32, tempered; `pixels_HW3` are uint8."""
        options = None
        if pixels_HW3.size > LARGE:
            options = onnxruntime.RunOptions()
            options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
        return numpy.asarray(self.session.run([OUTPUT], {INPUT: pixels_HW3}, options)[0])


def _distribution_warning(pixels_HW3: ndarray, training: TrainingImages | None) -> str | None:
    """Returns in what an image is unlike all that the model has seen, `None` for nothing.

    Only of a model of drawn bins: to measure an image takes as long as to count it. A model of photos is watched by
    the statistics that an evaluation writes down.
    """
    if training is None or not training.are_drawn:
        return None
    height, width, _ = pixels_HW3.shape
    if min(height, width) < THREAD_PX:
        return unlike_training(ImageStatistics(0.0, 0.0, 0.0, width, height), training)
    measured = replace(measure_image(reduced(pixels_HW3)), width_px=width, height_px=height)
    return unlike_training(measured, training)
