"""The one graph of an exported model: resize and network joined, from the pixels of an image to P(count).

Axes: K counts that the model tells apart.
"""

import onnx

from stocktake.serving.model_folder import OUTPUT


def joined(preprocessing: onnx.ModelProto, network: onnx.ModelProto) -> onnx.ModelProto:
    """Returns one graph from `pixels` to `probabilities`, K of them, without traces of the machine that made it.

    Args:
        preprocessing: As `resize_graph` gives it.
        network: As `network_graph` gives it, or `quantized` makes of that.
    """
    whole = onnx.compose.merge_models(
        preprocessing,
        onnx.compose.add_prefix(network, "network/", inplace=False),
        io_map=[(preprocessing.graph.output[0].name, "network/images")],
        producer_name="stocktake",
    )
    graph = whole.graph
    graph.node.append(onnx.helper.make_node("Squeeze", [graph.output[0].name, "first_axis"], [OUTPUT]))
    graph.initializer.append(onnx.helper.make_tensor("first_axis", onnx.TensorProto.INT64, [1], [0]))
    num_counts = graph.output[0].type.tensor_type.shape.dim[1].dim_value
    del graph.output[:], graph.value_info[:], whole.metadata_props[:], graph.metadata_props[:]
    graph.output.append(onnx.helper.make_tensor_value_info(OUTPUT, onnx.TensorProto.FLOAT, [num_counts]))
    for part in (*graph.node, *graph.input, *graph.output, *graph.initializer):
        del part.metadata_props[:]  # torch keeps lines of source with their paths there
        part.doc_string = ""
    onnx.checker.check_model(whole)
    return whole
