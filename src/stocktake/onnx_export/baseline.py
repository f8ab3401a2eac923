"""What an exported graph answers on validation images, for scripts/monitor.py to compare later answers with.

Axes: M images, K counts that the model tells apart.
"""

from collections.abc import Sequence

import numpy
import onnx
import onnxruntime
import pyarrow

from stocktake.images.decoding import read_pixels
from stocktake.onnx_export.check import tracked
from stocktake.serving.baseline import Baseline
from stocktake.serving.logged_answer import IMAGE_FIGURES, measure_reduced, reduced
from stocktake.serving.model_folder import INPUT, OUTPUT
from stocktake.storage import Folder


def measure_baseline(graph: onnx.ModelProto, root: Folder, rows: pyarrow.Table, counts: Sequence[int]) -> Baseline:
    """Returns what the graph answers on the images of a manifest's rows, and what those are like, as the server has it.

    Raises:
        UndecodableImage: A file is no image any more.
        StorageError: A file could not be read within the retry budget.
    """
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    probabilities, measured = [], []
    for key in tracked(rows["key"].to_pylist(), "Baseline"):
        pixels_HW3 = read_pixels(root.read(key))
        probabilities.append(numpy.asarray(session.run([OUTPUT], {INPUT: pixels_HW3})[0], float))
        height_px, width_px, _ = pixels_HW3.shape
        measured.append(measure_reduced(reduced(pixels_HW3), width_px, height_px))
    return Baseline.measured(
        counts=list(counts),
        probabilities_MK=numpy.stack(probabilities),
        images={name: numpy.array([image.get(name, numpy.nan) for image in measured]) for name in IMAGE_FIGURES},
        labels_M=numpy.searchsorted(counts, rows["count"].to_numpy()),
        groups_M=numpy.unique(rows["group"].to_numpy(zero_copy_only=False), return_inverse=True)[1],
    )
