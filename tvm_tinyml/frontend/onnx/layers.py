"""Layers with weights: convolutions, dense layers and what is folded into their weights and biases."""

from __future__ import annotations

from dataclasses import replace
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tvm import relax

from tvm_tinyml.frontend.onnx.context import TO_NHWC, Context, image_value, plain_value
from tvm_tinyml.frontend.onnx.fusion import Chain
from tvm_tinyml.frontend.onnx.graph import Constant, Node
from tvm_tinyml.frontend.onnx.window import pads, transposed_pads, window
from tvm_tinyml.frontend.qdq import Tensor, Weight
from tvm_tinyml.frontend.real import REAL


def conv(context: Context, node: Node) -> None:
    """Add a Conv, with a batch normalization and an activation that follow it."""
    x = context.image(node)
    weight = context.weight(node, 1, 0)
    bias = context.bias(node, 2)
    chain = Chain(context, node)
    norm = chain.take("BatchNormalization")
    if norm is not None:
        weight, bias = _normalized(context, node, norm, weight, bias)
    kernel, strides, dilation = window(node, weight.values.shape[2:])
    tensor = context.builder.conv2d(
        x,
        Weight(np.ascontiguousarray(weight.values.transpose(TO_NHWC)), weight.scale),
        _bias(node, x, weight, bias),
        strides=strides,
        padding=pads(node, x.shape[1:3], kernel, strides, dilation),
        dilation=dilation,
        groups=node.attributes.get("group", 1),
        activation=chain.activation(),
        to=chain.to,
        name=chain.name,
    )
    context.define(chain.name, image_value(tensor))


def conv_transpose(context: Context, node: Node) -> None:
    """Add a ConvTranspose, with a batch normalization and an activation that follow it."""
    x = context.image(node)
    groups = node.attributes.get("group", 1)
    weight = context.weight(node, 1, 1)
    weight = Weight(weight.values.transpose(1, 0, 2, 3), weight.scale)
    bias = context.bias(node, 2)
    chain = Chain(context, node)
    norm = chain.take("BatchNormalization")
    if norm is not None:
        if groups > 1:
            raise norm.refuse(f"the {groups} groups of {node} share their scales. Fold it before the export.")
        weight, bias = _normalized(context, node, norm, weight, bias)
    kernel, strides, dilation = window(node, weight.values.shape[2:])
    padding, output_padding = transposed_pads(node, x.shape[1:3], kernel, strides, dilation)
    scale = np.tile(weight.scale, groups) if weight.scale.ndim else weight.scale
    channels = Weight(np.tile(weight.values, (groups, 1, 1, 1)), scale)
    tensor = context.builder.conv2d_transpose(
        x,
        Weight(np.ascontiguousarray(weight.values.transpose(TO_NHWC)), weight.scale),
        _bias(node, x, channels, bias),
        strides=strides,
        padding=padding,
        output_padding=output_padding,
        dilation=dilation,
        groups=groups,
        activation=chain.activation(),
        to=chain.to,
        name=chain.name,
    )
    context.define(chain.name, image_value(tensor))


def gemm(context: Context, node: Node) -> None:
    """Add a Gemm."""
    for attribute, supported in {"alpha": 1.0, "beta": 1.0, "transA": 0}.items():
        if node.attributes.get(attribute, supported) != supported:
            raise node.refuse(f"{attribute} is {node.attributes[attribute]}; {supported} is supported.")
    transposed = bool(node.attributes.get("transB", 0))
    _dense(context, node, transposed, context.bias(node, 2))


def matmul(context: Context, node: Node) -> None:
    """Add a MatMul by constant weights."""
    _dense(context, node, False, None)


def batch_normalization(context: Context, node: Node) -> None:
    """Add a BatchNormalization that no layer took: in a float network a product and a sum."""
    if not context.builder.real:
        raise node.refuse(
            "supported only directly after a Conv or Gemm, as its only consumer. Fold it before the export."
        )
    value = context.x(node)
    factor, offset = _affine(context, node)
    spread = (-1,) if value.channels_last else (-1, *[1] * (len(value.shape) - 2))
    chain = Chain(context, node)
    tensor = value.tensor
    for name, function, array in (("scaled", relax.op.multiply, factor), ("", relax.op.add, offset)):
        constant = context.builder.constant(array.reshape(spread), REAL)
        activation = None if name else chain.activation()
        name = f"{node.outputs[0]}_{name}" if name else chain.name
        tensor = context.builder.apply(function, tensor, constant, activation=activation, to=REAL, name=name)
    context.define(chain.name, replace(value, tensor=tensor))


def _dense(context: Context, node: Node, transposed: bool, bias: Constant | NDArray[Any] | None) -> None:
    builder = context.builder
    value = context.x(node)
    weight = context.weight(node, 1, 0 if transposed else 1)
    if weight.values.ndim != 2:
        raise node.refuse(f"weights of {weight.values.ndim} dimensions; 2 are supported.")
    matrix = weight.values if transposed else weight.values.T
    units, depth = matrix.shape
    tensor = value.tensor
    if value.flat and value.image is not None:
        _, c, h, w = value.image
        matrix = matrix.reshape(units, c, h, w).transpose(TO_NHWC).reshape(units, depth)
    else:
        tensor = context.plain(value, node.inputs[0])
    weight = Weight(np.ascontiguousarray(matrix), weight.scale)
    chain = Chain(context, node)
    bias = chain.bias(units) if bias is None else bias
    norm = chain.take("BatchNormalization") if len(value.shape) == 2 else None
    if norm is not None:
        weight, bias = _normalized(context, node, norm, weight, bias)
    result = builder.dense(
        builder.reshape(tensor, (prod(value.shape) // depth, depth), f"{node.inputs[0]}_rows"),
        weight,
        _bias(node, tensor, weight, bias),
        activation=chain.activation(),
        to=chain.to,
        name=chain.name,
    )
    context.define(chain.name, plain_value(builder.reshape(result, (*value.shape[:-1], units), chain.name)))


def _bias(
    node: Node, x: Tensor, weight: Weight, bias: Constant | NDArray[Any] | None
) -> NDArray[Any] | None:
    """Return `bias` in units of input scale * weight scale, or as it is in a float network.

    Beside int16 it has 64 bits, as sums then have.
    """
    if bias is None:
        return None
    if x.quantization == REAL:
        real = bias.real if isinstance(bias, Constant) else bias
        return np.broadcast_to(real.ravel().astype(np.float32), weight.values.shape[:1])
    scale = np.float64(x.quantization.scale) * weight.scale
    if isinstance(bias, Constant) and bias.values.dtype == np.int32 and np.allclose(bias.scale, scale, 1e-3, 0.0):
        integers = bias.centered.ravel()
    else:
        real = bias.real if isinstance(bias, Constant) else bias.astype(np.float64)
        integers = np.round(real.ravel() / scale)
    integers = np.broadcast_to(integers, weight.values.shape[:1])
    if np.any(np.abs(integers) >= 2**31):
        raise node.refuse("its bias exceeds int32 in units of input scale * weight scale.")
    if x.quantization.dtype == "int16":
        return np.ascontiguousarray(integers, np.int64)
    return np.ascontiguousarray(integers, np.int32)


def _normalized(
    context: Context, node: Node, norm: Node, weight: Weight, bias: Constant | NDArray[Any] | None
) -> tuple[Weight, NDArray[np.float64]]:
    """Fold a batch normalization into the scales of the weights, float weights themselves, and into the bias."""
    factor, offset = _affine(context, norm)
    real = bias.real if isinstance(bias, Constant) else 0.0 if bias is None else bias
    if context.builder.real:
        values = weight.values * factor.reshape(-1, *[1] * (weight.values.ndim - 1))
        return Weight(values.astype(np.float32), weight.scale), real * factor + offset
    sign = np.sign(factor).astype(np.int16).reshape(-1, *[1] * (weight.values.ndim - 1))
    values = weight.values * sign
    if values.max() > 127:
        raise node.refuse(
            f"the negative factor of {norm} makes 128 of a weight of -128. Quantize weights to -127...127."
        )
    scale = np.where(factor == 0.0, 1.0, np.abs(factor)) * weight.scale
    return Weight(values.astype(np.int8), scale.astype(np.float32)), real * factor + offset


def _affine(context: Context, norm: Node) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return what a batch normalization multiplies each channel by, and what it adds."""
    gamma, beta, mean, variance = (context.graph.constant(norm, i).astype(np.float64) for i in range(1, 5))
    factor = gamma / np.sqrt(variance + norm.attributes.get("epsilon", 1e-5))
    return factor, beta - mean * factor
