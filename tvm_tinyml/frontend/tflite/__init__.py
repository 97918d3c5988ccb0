"""Imports an int8 or 16x8 TFLite model."""

from __future__ import annotations

from tvm import relax

from tvm_tinyml.errors import ModelError
from tvm_tinyml.frontend import qdq
from tvm_tinyml.frontend.tflite import elementwise, layers, movement, reduction
from tvm_tinyml.frontend.tflite.context import Context, Node, Operator
from tvm_tinyml.frontend.tflite.file import FileGraph, read
from tvm_tinyml.model import Model

__all__ = ["OPERATORS", "load"]


def load(content: bytes, name: str) -> Model:
    """Import the bytes of a TFLite file.

    Raises
    ------
    ModelError : see :func:`tvm_tinyml.frontend.load`.
    """
    with qdq.importing("The TFLite model"):
        graph = read(content)
        context = Context(graph)
        _check_supported(graph)
        for i in graph.inputs:
            context.input(i)
        for operator in graph.operators:
            node = Node(context, operator)
            with qdq.importing(node):
                context.define(node, OPERATORS[operator.kind](node))
        return context.finish(name)


def _check_supported(graph: FileGraph) -> None:
    unknown = [
        f"{operator.kind} '{graph.tensors[operator.outputs[0]].name}'"
        for operator in graph.operators
        if operator.kind not in OPERATORS
    ]
    if unknown:
        raise ModelError(f"Operators that are not supported: {', '.join(unknown)}. Supported: {', '.join(OPERATORS)}.")


OPERATORS: dict[str, Operator] = {
    "ABS": elementwise.unary(relax.op.abs),
    "ADD": elementwise.binary(relax.op.add),
    "AVERAGE_POOL_2D": reduction.pool(relax.op.nn.avg_pool2d),
    "CONCATENATION": movement.concatenation,
    "CONV_2D": layers.conv2d,
    "DEPTHWISE_CONV_2D": layers.depthwise_conv2d,
    "DEQUANTIZE": elementwise.requantize,
    "EXP": elementwise.unary(relax.op.exp),
    "EXPAND_DIMS": movement.reshape,
    "FULLY_CONNECTED": layers.fully_connected,
    "HARD_SWISH": elementwise.unary(qdq.hard_swish),
    "LEAKY_RELU": elementwise.leaky_relu,
    "LOGISTIC": elementwise.unary(relax.op.sigmoid),
    "MAX_POOL_2D": reduction.pool(relax.op.nn.max_pool2d),
    "MEAN": reduction.reduce(relax.op.mean),
    "MUL": elementwise.binary(relax.op.multiply),
    "NEG": elementwise.unary(relax.op.negative),
    "PAD": movement.pad,
    "PADV2": movement.pad,
    "QUANTIZE": elementwise.requantize,
    "RELU": elementwise.unary(qdq.RELU),
    "RELU6": elementwise.unary(qdq.clip(0.0, 6.0)),
    "RELU_0_TO_1": elementwise.unary(qdq.clip(0.0, 1.0)),
    "RELU_N1_TO_1": elementwise.unary(qdq.clip(-1.0, 1.0)),
    "RESHAPE": movement.reshape,
    "RESIZE_NEAREST_NEIGHBOR": movement.resize_nearest,
    "SLICE": movement.slice_,
    "SOFTMAX": reduction.softmax,
    "SPLIT": movement.split,
    "SPLIT_V": movement.split_v,
    "SQUEEZE": movement.reshape,
    "STRIDED_SLICE": movement.strided_slice,
    "SUB": elementwise.binary(relax.op.subtract),
    "SUM": reduction.reduce(relax.op.sum),
    "TANH": elementwise.unary(relax.op.tanh),
    "TRANSPOSE": movement.transpose,
    "TRANSPOSE_CONV": layers.transpose_conv,
}
