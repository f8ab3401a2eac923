"""`transforms.Resize` once more, as an ONNX graph and bit for bit, so that a server does not need torch for it.

ONNX's own Resize rounds elsewhere, and what comes out a shade brighter or darker moves P(count).

Axes: H height, W width, S side of the square that the network sees, L length of a side before it is resized.
"""

# onnxscript reads these functions and makes a graph of them: Python never runs them, and their types are the graph's.
# pyright: reportArgumentType=false, reportOperatorIssue=false, reportOptionalOperand=false, reportReturnType=false
# pyright: reportGeneralTypeIssues=false, reportOptionalIterable=false, reportOptionalMemberAccess=false

import onnx
from onnx.inliner import inline_local_functions
from onnxscript import DOUBLE, INT32, INT64, UINT8, script
from onnxscript import opset18 as op
from onnxscript.optimizer import optimize

from stocktake.data.transforms import Resize

OPSET = 18  # of ONNX's operators


@script()
def weigh(length: INT64, size: INT64, positions_S: INT64):
    """Returns how much each of L pixels counts in each of S new ones, in steps of 1 / `unit`: step // 256, step % 256.

    A triangle as wide as the scale, in double precision; `unit` is the largest power of 2 that keeps all below 2^15.
    So do torch's kernels for uint8 (compute_index_ranges_int16_weights in aten/src/ATen/native/cpu/UpSampleKernel.cpp),
    after Pillow's.
    """
    scale = op.Cast(length, to=DOUBLE.dtype) / op.Cast(size, to=DOUBLE.dtype)
    # Positions in the frame of a letterbox repeat the image's border here, and are painted over later.
    inside_S = op.Cast(op.Clip(positions_S, 0, size - 1), to=DOUBLE.dtype)
    centres_S1 = op.Unsqueeze(scale * (inside_S + 0.5), [1])
    pixels_L = op.Cast(op.Range(0, length, 1), to=DOUBLE.dtype)
    reach = op.Max(scale, op.CastLike(1.0, scale))
    triangle_SL = op.Relu(1.0 - op.Abs((pixels_L - centres_S1 + 0.5) * (1.0 / reach)))
    weights_SL = triangle_SL / op.ReduceSum(triangle_SL, [1])
    units = op.Pow(op.CastLike(2.0, scale), op.Range(1, 23, 1))
    fits = op.Floor(op.ReduceMax(weights_SL, keepdims=0) * units + 0.5) < 32768.0
    unit = op.Pow(op.CastLike(2.0, scale), op.ReduceSum(op.Cast(fits, to=INT64.dtype), keepdims=0))
    steps_SL = op.Cast(op.Floor(weights_SL * unit + 0.5), to=INT32.dtype)
    high_SL, low_SL = op.Cast(steps_SL / 256, to=UINT8.dtype), op.Cast(steps_SL % 256, to=UINT8.dtype)
    return high_SL, low_SL, op.Cast(unit, to=INT32.dtype)


@script()
def to_pixels(high: INT32, low: INT32, unit: INT32):
    """Returns the rounded pixels of two weighted sums; whole numbers below 2^31 throughout."""
    return op.Cast(op.Min((high * 256 + low + unit / 2) / unit, op.CastLike(255, unit)), to=UINT8.dtype)


@script()
def stretch(pixels_HW3: UINT8, height: INT64, width: INT64, rows_S: INT64, columns_S: INT64):
    """Returns `image_3SS`: first across, then down."""
    length_h, length_w, _ = op.Split(op.Shape(pixels_HW3), num_outputs=3)
    high_SW, low_SW, unit = weigh(op.Squeeze(length_w), width, columns_S)
    image_3HW = op.Transpose(pixels_HW3, perm=[2, 0, 1])
    image_3HS = to_pixels(
        op.MatMulInteger(image_3HW, op.Transpose(high_SW)), op.MatMulInteger(image_3HW, op.Transpose(low_SW)), unit
    )
    high_SH, low_SH, unit = weigh(op.Squeeze(length_h), height, rows_S)
    return to_pixels(op.MatMulInteger(high_SH, image_3HS), op.MatMulInteger(low_SH, image_3HS), unit)


def resize_graph(resize: Resize) -> onnx.ModelProto:
    """Returns the graph from `pixels`, uint8 H x W x 3 of any size, to `images`, uint8 1 x 3 x S x S."""
    side, gray = resize.sizes_px[-1], resize.GRAY

    @script()
    def squash(pixels: UINT8[None, None, 3]) -> UINT8[1, 3, side, side]:
        positions_S = op.Range(0, side, 1)
        size = op.Constant(value_int=side)
        return op.Unsqueeze(stretch(pixels, size, size, positions_S, positions_S), [0])

    @script()
    def letterbox(pixels: UINT8[None, None, 3]) -> UINT8[1, 3, side, side]:
        lengths = op.Cast(op.Slice(op.Shape(pixels), [0], [2]), to=DOUBLE.dtype)
        scale = op.CastLike(side, lengths) / op.ReduceMax(lengths, keepdims=0)
        height, width = op.Split(op.Max(op.Cast(op.Round(lengths * scale), to=INT64.dtype), 1), num_outputs=2)
        rows_S = op.Range(0, side, 1) - (side - height) / 2
        columns_S = op.Range(0, side, 1) - (side - width) / 2
        image_3SS = stretch(pixels, op.Squeeze(height), op.Squeeze(width), rows_S, columns_S)
        is_row_S = op.And(rows_S >= 0, rows_S < height)
        is_column_S = op.And(columns_S >= 0, columns_S < width)
        is_image_SS = op.And(op.Unsqueeze(is_row_S, [1]), is_column_S)
        return op.Unsqueeze(op.Where(is_image_SS, image_3SS, op.CastLike(gray, image_3SS)), [0])

    graph = {"squash": squash, "letterbox": letterbox}[resize.mode].to_model_proto()
    return optimize(inline_local_functions(graph))
