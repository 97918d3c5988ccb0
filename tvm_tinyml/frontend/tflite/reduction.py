"""Operators that combine elements of one tensor: pools, means and softmax."""

from __future__ import annotations

from tvm import relax

from tvm_tinyml.errors import ModelError
from tvm_tinyml.frontend.qdq import Function, Tensor
from tvm_tinyml.frontend.tflite.context import Node, Operator
from tvm_tinyml.frontend.tflite.window import pads


def pool(function: Function) -> Operator:
    """Return what adds a pool."""

    def add(node: Node) -> Tensor:
        x = node.x()
        strides = node.options["StrideH"], node.options["StrideW"]
        window = node.options["FilterHeight"], node.options["FilterWidth"]
        padding = pads(node, x.shape[1:3], window, strides)
        return node.builder.apply(
            lambda e: function(e, window, strides, padding, layout="NHWC"),
            x,
            activation=node.activation,
            to=node.to,
            name=node.name,
        )

    return add


def mean(node: Node) -> Tensor:
    """Add a MEAN."""
    x = node.x()
    axes = sorted({axis % len(x.shape) for axis in node.integers(1)})
    keep = bool(node.options["KeepDims"])
    return node.builder.apply(lambda e: relax.op.mean(e, axes, keep), x, to=node.to, name=node.name)


def softmax(node: Node) -> Tensor:
    """Add a SOFTMAX over the last axis."""
    if node.options["Beta"] != 1.0:
        raise ModelError(f"{node}: beta is {node.options['Beta']}, 1 is supported.")
    return node.builder.apply(lambda e: relax.op.nn.softmax(e, axis=-1), node.x(), to=node.to, name=node.name)
