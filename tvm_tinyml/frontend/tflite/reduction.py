"""Operators that combine elements of one tensor: pools, means, sums and softmax."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from tvm import relax

from tvm_tinyml import arithmetic
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


def reduce(function: Function) -> Operator:
    """Return what adds a mean or sum over axes."""

    def add(node: Node) -> Tensor:
        x = node.x()
        axes = sorted({axis % len(x.shape) for axis in node.integers(1)})
        keep = bool(node.options["KeepDims"])
        return node.builder.apply(lambda e: function(e, axes, keep), x, to=node.to, name=node.name)

    return add


def softmax(node: Node) -> Tensor:
    """Add a SOFTMAX over the last axis; its beta becomes a factor of the operand's scale."""
    x, beta = node.x(), node.options["Beta"]
    if beta != 1.0 and node.builder.real:
        factor = node.builder.constant(np.array(beta), node.to)
        x = node.builder.apply(relax.op.multiply, x, factor, to=node.to, name=f"{node.name}_scaled")
    elif beta != 1.0:
        x = _times(node, x, beta)
    return node.builder.apply(lambda e: relax.op.nn.softmax(e, axis=-1), x, to=node.to, name=node.name)


def _times(node: Node, x: Tensor, beta: float) -> Tensor:
    """Return `x` with a scale of beta * scale, if that gives the exponentials which TFLite computes with beta."""
    scale = x.quantization.scale
    product = float(np.float32(beta) * np.float32(scale))
    if x.quantization.dtype == "int16":
        same = arithmetic.softmax_input_parameters(product) == arithmetic.softmax_input_parameters(scale, beta)
    else:
        same = np.array_equal(arithmetic.softmax_exp_table(product), arithmetic.softmax_exp_table(scale, beta))
    if not same:
        raise ModelError(
            f"{node}: beta is {beta}, whose product with the input's scale {scale} is no float32 number. Use a power "
            "of two, or scale the input."
        )
    return Tensor(x.expr, replace(x.quantization, scale=product))
