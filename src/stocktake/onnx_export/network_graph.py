"""A counter as an ONNX graph: from the pixels that the network sees to calibrated P(count).

The graph takes one image, as the exported model does: a batch of any size takes torch's exporter four times as long.

Axes: B images of a batch, here 1, S side of the square that the network sees, K counts that the model tells apart.
"""

import contextlib
import io

import onnx
import torch
from torch import Tensor, nn

from stocktake.model.counter import BinCounter
from stocktake.model.ensemble import Ensemble


class CalibratedCounter(nn.Module):
    """Says tempered P(count), as `stocktake.metrics.calibration.apply_temperature` does, in single precision."""

    def __init__(self, counter: BinCounter | Ensemble, temperature: float):
        super().__init__()
        self.counter, self.temperature = counter, temperature

    def forward(self, images_BCSS: Tensor) -> Tensor:
        """Returns `probabilities_BK` for uint8 pixels."""
        probabilities_BK = self.counter.probabilities(images_BCSS)
        return (probabilities_BK.clamp_min(1e-12).log() / self.temperature).softmax(dim=1)


def network_graph(
    counter: BinCounter | Ensemble, temperature: float, image_size_px: int, opset: int
) -> onnx.ModelProto:
    """Returns the graph from `images`, uint8 1 x 3 x S x S, to `probabilities`, float32 1 x K.

    Args:
        counter: In evaluation mode; it stays as it is.
        temperature: Of its calibration.
        image_size_px: S.
        opset: Version of ONNX's operators.
    """
    networks = [module for module in counter.modules() if isinstance(module, BinCounter)]
    memory_formats = [network.memory_format for network in networks]
    for network in networks:
        network.memory_format = torch.contiguous_format  # ONNX has but one
    example_BCSS = torch.zeros(1, 3, image_size_px, image_size_px, dtype=torch.uint8)
    try:
        with torch.inference_mode(), contextlib.redirect_stdout(io.StringIO()):
            program = torch.onnx.export(
                CalibratedCounter(counter, temperature).eval(),
                (example_BCSS,),
                dynamo=True,
                verbose=False,
                opset_version=opset,
                input_names=["images"],
                output_names=["probabilities"],
            )
    finally:
        for network, memory_format in zip(networks, memory_formats, strict=True):
            network.memory_format = memory_format
    assert program is not None, "with dynamo=True there is one"
    return program.model_proto
