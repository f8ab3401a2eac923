"""The resize as a graph: `Resize` itself is the oracle, bit for bit."""

import numpy
import onnxruntime
import pytest
import torch

from stocktake.data.transforms import Resize
from stocktake.onnx_export.resize_graph import resize_graph

SIZES = [(37, 501), (501, 37), (1, 1), (1, 300), (32, 32), (96, 96), (5, 3), (64, 32), (250, 333)]


@pytest.mark.parametrize("mode", Resize.MODES)
@pytest.mark.parametrize("side", [32, 45])
def test_it_gives_the_pixels_that_training_sees(mode, side):
    resize = Resize(side, mode)
    session = onnxruntime.InferenceSession(resize_graph(resize).SerializeToString())
    draw = numpy.random.default_rng(side)
    for height, width in SIZES:
        # Black and white alone, every other time: the sharpest edges.
        pixels = draw.integers(0, 256, (height, width, 3), dtype=numpy.uint8)
        for pixels_HW3 in (pixels, (pixels > 127).astype(numpy.uint8) * 255):
            (images_1CSS,) = session.run(None, {"pixels": pixels_HW3})
            expected_CSS = resize(torch.from_numpy(pixels_HW3).permute(2, 0, 1)).numpy()
            assert images_1CSS.dtype == numpy.uint8
            numpy.testing.assert_array_equal(images_1CSS[0], expected_CSS, err_msg=f"{height} x {width}")
