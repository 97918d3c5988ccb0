"""Layers with weights: convolutions and fully connected layers."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
import tflite as schema
from numpy.typing import NDArray

from tvm_tinyml.errors import ModelError
from tvm_tinyml.frontend.qdq import Tensor, Weight
from tvm_tinyml.frontend.tflite.context import Node
from tvm_tinyml.frontend.tflite.window import pads


def conv2d(node: Node) -> Tensor:
    """Add a CONV_2D; the depth of the filter says how many groups there are."""
    weight = node.weight(1, (0, 1, 2, 3), 0)
    x = node.x()
    bias = node.bias(2, x, len(weight.values))
    return _convolution(node, weight, bias, x.shape[-1] // weight.values.shape[3])


def depthwise_conv2d(node: Node) -> Tensor:
    """Add a DEPTHWISE_CONV_2D."""
    weight, x = node.weight(1, (3, 1, 2, 0), 3), node.x()
    return _convolution(node, weight, _long(node.bias(2, x, len(weight.values)), x), x.shape[-1])


def transpose_conv(node: Node) -> Tensor:
    """Add a TRANSPOSE_CONV; its padding is that of the convolution from its result to its input."""
    x, weight = node.x(2), node.weight(1, (0, 1, 2, 3), 0)
    size, kernel = node.integers(0)[1:3], weight.values.shape[1:3]
    strides = node.options["StrideH"], node.options["StrideW"]
    top, left, _, _ = pads(node, size, kernel, strides)
    # What is left of the full result at the end, negative where the result is larger.
    bottom, right = (
        (n - 1) * stride + k - before - extent
        for n, stride, k, before, extent in zip(x.shape[1:3], strides, kernel, (top, left), size, strict=True)
    )
    return node.builder.conv2d_transpose(
        x,
        weight,
        _long(node.bias(3, x, len(weight.values)), x),
        strides=strides,
        padding=(top, left, max(bottom, 0), max(right, 0)),
        output_padding=(max(-bottom, 0), max(-right, 0)),
        activation=node.activation,
        to=node.to,
        name=node.name,
    )


def fully_connected(node: Node) -> Tensor:
    """Add a FULLY_CONNECTED over the last axis."""
    if node.options["WeightsFormat"] != schema.FullyConnectedOptionsWeightsFormat.DEFAULT:
        raise ModelError(f"{node}: shuffled weights are not supported.")
    weight = node.weight(1, (0, 1), 0)
    depth = weight.values.shape[1]
    x = node.x()
    rows = node.builder.reshape(x, (prod(x.shape) // depth, depth), f"{node.name}_rows")
    bias = node.bias(2, x, len(weight.values))
    y = node.builder.dense(rows, weight, bias, activation=node.activation, to=node.to, name=node.name)
    return node.builder.reshape(y, node.shape, node.name)


def _long(bias: NDArray[Any] | None, x: Tensor) -> NDArray[Any] | None:
    """Return a bias for sums that have 64 bits with int16 inputs in any case."""
    return bias.astype(np.int64) if bias is not None and x.quantization.dtype == "int16" else bias


def _convolution(node: Node, weight: Weight, bias: NDArray[Any] | None, groups: int) -> Tensor:
    x = node.x()
    strides = node.options["StrideH"], node.options["StrideW"]
    dilation = node.options["DilationHFactor"], node.options["DilationWFactor"]
    window = [(k - 1) * d + 1 for k, d in zip(weight.values.shape[1:3], dilation, strict=True)]
    return node.builder.conv2d(
        x,
        weight,
        bias,
        strides=strides,
        padding=pads(node, x.shape[1:3], window, strides),
        dilation=dilation,
        groups=groups,
        activation=node.activation,
        to=node.to,
        name=node.name,
    )
