"""Imports an ONNX model in QDQ form: QuantizeLinear and DequantizeLinear around the operators.

Every float tensor of such a model is quantized somewhere: where it is made, that quantization is looked up, so that
each operator takes and makes int8 tensors and both Linear operators disappear.
"""

from __future__ import annotations

import onnx
from tvm import relax

from tvm_tinyml.errors import ModelError
from tvm_tinyml.frontend import qdq
from tvm_tinyml.frontend.onnx import elementwise, layers, movement, reduction
from tvm_tinyml.frontend.onnx.context import Context, Operator
from tvm_tinyml.frontend.onnx.graph import Graph
from tvm_tinyml.model import Model

__all__ = ["OPERATORS", "load"]


def load(model: onnx.ModelProto, name: str) -> Model:
    """Import an ONNX model.

    Raises
    ------
    ModelError : see :func:`tvm_tinyml.frontend.load`.
    """
    with qdq.importing("The ONNX model"):
        graph = Graph(model)
        _check_supported(graph)
        context = Context(graph)
        for node in graph.nodes:
            if context.needs(node):
                context.note_integers(node)
                with qdq.importing(node):
                    OPERATORS[node.kind](context, node)
        return context.finish(name)


def _check_supported(graph: Graph) -> None:
    unknown = [str(node) for node in graph.nodes if node.kind not in OPERATORS]
    if unknown:
        raise ModelError(f"Operators that are not supported: {', '.join(unknown)}. Supported: {', '.join(OPERATORS)}.")


OPERATORS: dict[str, Operator] = {
    "Abs": elementwise.unary(relax.op.abs),
    "Add": elementwise.binary(relax.op.add),
    "AveragePool": reduction.pool,
    "BatchNormalization": layers.batch_normalization,
    "Clip": elementwise.limit,
    "Concat": movement.concat,
    "Conv": layers.conv,
    "ConvTranspose": layers.conv_transpose,
    "DequantizeLinear": elementwise.dequantize,
    "Div": elementwise.divide,
    "Dropout": movement.alias,
    "Exp": elementwise.unary(relax.op.exp),
    "Flatten": movement.reshape,
    "Gemm": layers.gemm,
    "GlobalAveragePool": reduction.global_average_pool,
    "GlobalMaxPool": reduction.global_max_pool,
    "HardSigmoid": elementwise.hard_sigmoid,
    "HardSwish": elementwise.unary(qdq.hard_swish),
    "Identity": movement.alias,
    "LeakyRelu": elementwise.leaky_relu,
    "MatMul": layers.matmul,
    "MaxPool": reduction.pool,
    "Mul": elementwise.binary(relax.op.multiply),
    "Neg": elementwise.unary(relax.op.negative),
    "PRelu": elementwise.leaky_relu,
    "Pad": movement.pad,
    "QuantizeLinear": elementwise.quantize,
    "ReduceMean": reduction.reduce(relax.op.mean),
    "ReduceSum": reduction.reduce(relax.op.sum),
    "Relu": elementwise.limit,
    "Reshape": movement.reshape,
    "Resize": movement.resize,
    "Sigmoid": elementwise.unary(relax.op.sigmoid, qdq.UNIT_INTERVAL),
    "Slice": movement.slice_,
    "Softmax": reduction.softmax,
    "Split": movement.split,
    "Squeeze": movement.reshape,
    "Sub": elementwise.binary(relax.op.subtract),
    "Tanh": elementwise.unary(relax.op.tanh, qdq.SYMMETRIC_UNIT),
    "Transpose": movement.transpose,
    "Unsqueeze": movement.reshape,
}
