"""Element-wise operators: sums, products, functions of one tensor and changes of quantization."""

from __future__ import annotations

from tvm import relax

from tvm_tinyml.frontend.qdq import Function, Tensor
from tvm_tinyml.frontend.tflite.context import Node, Operator


def binary(function: Function) -> Operator:
    """Return what adds a sum or product."""
    return lambda node: node.builder.apply(
        function, node.x(0), node.x(1), activation=node.activation, to=node.to, name=node.name
    )


def unary(function: Function) -> Operator:
    """Return what adds a function of one tensor."""
    return lambda node: node.builder.apply(function, node.x(), to=node.to, name=node.name)


def leaky_relu(node: Node) -> Tensor:
    """Add a LEAKY_RELU."""
    alpha = node.options["Alpha"]
    return node.builder.apply(lambda e: relax.op.nn.leakyrelu(e, alpha), node.x(), to=node.to, name=node.name)


def requantize(node: Node) -> Tensor:
    """Add a QUANTIZE or DEQUANTIZE: nothing where the quantization stays."""
    return node.builder.requantize(node.x(), node.to, node.name)
