"""Float models, made of seeded quantized ones: the same network with the numbers that its integers stand for."""

from __future__ import annotations

import numpy as np
import onnx

from benchmarks.tflite_builder import TFLiteBuilder
from tvm_tinyml.frontend.tflite.file import OPTIONS, FileTensor, read

QUANTIZERS = ("QuantizeLinear", "DequantizeLinear")


def float_tflite(content: bytes) -> bytes:
    """Return a TFLite model with float32 for every tensor that has a scale."""
    graph = read(content)
    builder = TFLiteBuilder()

    def add(tensor: FileTensor) -> int:
        if not tensor.scale.size:
            return builder.tensor(tensor.name, tensor.shape, tensor.dtype, data=tensor.values)
        data = None if tensor.values is None else tensor.real
        return builder.tensor(tensor.name, tensor.shape, "float32", data=data)

    numbers = [add(tensor) for tensor in graph.tensors]
    for operator in graph.operators:
        kind, options = operator.kind, dict(operator.options)
        name = OPTIONS[kind][0].__name__ if kind in OPTIONS else ""
        if kind == "DEPTHWISE_CONV_2D":  # the importer reads it off the shapes
            options["DepthMultiplier"] = (
                graph.tensors[operator.outputs[0]].shape[3] // graph.tensors[operator.inputs[0]].shape[3]
            )
        inputs, outputs = ([numbers[i] if i >= 0 else -1 for i in ends] for ends in (operator.inputs, operator.outputs))
        builder.operator(kind, inputs, outputs, name, **options)
    return builder.finish([numbers[i] for i in graph.inputs], [numbers[i] for i in graph.outputs])


def float_onnx(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return an ONNX model whose quantizers of computed tensors are left out, and those of constants computed."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    constants = {each.name: onnx.numpy_helper.to_array(each) for each in graph.initializer}
    nodes, outputs, alias = list(graph.node), {output.name for output in graph.output}, dict[str, str]()
    del graph.node[:]
    for node in nodes:
        inputs = [alias.get(name, name) for name in node.input]
        if node.op_type not in QUANTIZERS:
            del node.input[:]
            node.input.extend(inputs)
            graph.node.append(node)
        elif node.input[0] not in constants and node.output[0] not in outputs:
            alias[node.output[0]] = inputs[0]
        elif node.input[0] not in constants:
            graph.node.append(onnx.helper.make_node("Identity", inputs[:1], list(node.output)))
        else:
            axis = next((attribute.i for attribute in node.attribute if attribute.name == "axis"), 1)
            values, scale, zero = (constants[name] for name in node.input)
            spread = [-1 if i == axis % values.ndim and scale.ndim else 1 for i in range(values.ndim)]
            real = (values.astype(np.float64) - zero.reshape(spread)) * scale.reshape(spread)
            graph.initializer.append(onnx.numpy_helper.from_array(real.astype(np.float32), node.output[0]))
    return result
