"""A network's graph in whole numbers of 8 bits, its ranges taken from real images."""

import tempfile
from collections.abc import Iterable
from pathlib import Path

import onnx
from numpy import ndarray
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static


class Images(CalibrationDataReader):
    """Hands images as the network sees them to ONNX Runtime, one by one."""

    def __init__(self, images: Iterable[ndarray]):
        self._images = iter(images)

    def get_next(self) -> dict[str, ndarray] | None:
        image_1CSS = next(self._images, None)
        return None if image_1CSS is None else {"images": image_1CSS}


def quantized(network: onnx.ModelProto, images: Iterable[ndarray]) -> onnx.ModelProto:
    """Returns the network with 8-bit convolutions and matrix products; what makes P(count) of them stays as it is.

    Args:
        images: uint8, 1 x 3 x S x S each.
    """
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "network.onnx", Path(folder) / "int8.onnx"
        onnx.save(network, source)
        quantize_static(
            source,
            target,
            Images(images),
            op_types_to_quantize=["Conv", "Gemm", "MatMul"],
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
        return onnx.load(target)
