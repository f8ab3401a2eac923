"""Whether an exported graph says what the checkpoint says: ONNX Runtime against PyTorch, on validation images.

Axes: N checked images, K counts that the model tells apart.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy
import onnx
import onnxruntime
import torch
from numpy import ndarray
from rich.console import Console
from rich.progress import track

from stocktake.data.transforms import Resize, decode
from stocktake.images.decoding import read_pixels
from stocktake.metrics.calibration import Calibration
from stocktake.model.counter import BinCounter
from stocktake.model.ensemble import Ensemble
from stocktake.serving.model_folder import INPUT, OUTPUT

Item = TypeVar("Item")


@dataclass(frozen=True)
class Check:
    """How far ONNX Runtime is from PyTorch.

    Attributes:
        num_images: That both counted.
        max_difference: The largest, of any probability of any image.
        accuracy: Share of the images whose most likely count is the record's, by ONNX Runtime.
        accuracy_in_pytorch: Likewise, by PyTorch.
        split: That the images are of.
    """

    num_images: int
    max_difference: float
    accuracy: float
    accuracy_in_pytorch: float
    split: str = "valid"


@dataclass(frozen=True)
class CheckedImages:
    """Validation images with what PyTorch says of them, as scripts/evaluate.py would: decoded, resized, tempered.

    Attributes:
        contents: The bytes of each file.
        labels_N: Positions of the records' counts among the K counts.
        probabilities_NK: PyTorch's.
    """

    contents: list[bytes]
    labels_N: ndarray
    probabilities_NK: ndarray

    def compare(self, graph: onnx.ModelProto) -> Check:
        """Returns how far ONNX Runtime, given the same files, is from PyTorch."""
        session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
        found_NK = numpy.stack(
            [
                numpy.asarray(session.run([OUTPUT], {INPUT: read_pixels(content)})[0])
                for content in tracked(self.contents, "ONNX")
            ]
        )
        return Check(
            num_images=len(self.contents),
            max_difference=float(numpy.abs(found_NK - self.probabilities_NK).max()),
            accuracy=float((found_NK.argmax(1) == self.labels_N).mean()),
            accuracy_in_pytorch=float((self.probabilities_NK.argmax(1) == self.labels_N).mean()),
        )


@torch.inference_mode()
def probabilities_in_pytorch(
    counter: BinCounter | Ensemble, calibration: Calibration, resize: Resize, contents: Sequence[bytes]
) -> ndarray:
    """Returns `probabilities_NK` as an evaluation measures them: predicted, then tempered."""
    found = [
        counter.predict_step({"images": resize(decode(content))[None], "image_ids": [""]})["probabilities"]
        for content in tracked(contents, "PyTorch")
    ]
    return calibration.apply(torch.cat(found).double().numpy())[0]


def tracked(items: Sequence[Item], what: str) -> Iterable[Item]:
    """Returns the items, with a bar where a terminal shows it."""
    bar = Console(stderr=True)
    return track(items, what, console=bar, disable=not bar.is_terminal)
