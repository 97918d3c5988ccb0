"""Operators that combine elements of one tensor: pools, means and softmax."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from tvm import relax

from tvm_tinyml.frontend import qdq
from tvm_tinyml.frontend.onnx.context import TO_NCHW, Context, Operator, image_value, plain_value
from tvm_tinyml.frontend.onnx.graph import Node
from tvm_tinyml.frontend.onnx.window import pads, window
from tvm_tinyml.frontend.qdq import Function, Tensor


def pool(context: Context, node: Node) -> None:
    """Add an AveragePool or MaxPool."""
    x = context.image(node)
    kernel, strides, dilation = window(node)
    padding = pads(node, x.shape[1:3], kernel, strides)
    if dilation != (1, 1) or node.attributes.get("storage_order", 0):
        raise node.refuse("dilations and storage_order are not supported.")
    if len(node.outputs) > 1 and node.outputs[1]:
        raise node.refuse("its second output, the indices, is not supported.")
    spans = [x.shape[1 + i] + padding[i] + padding[2 + i] - kernel[i] for i in range(2)]
    if node.attributes.get("ceil_mode", 0) and any(span % s for span, s in zip(spans, strides, strict=True)):
        raise node.refuse("ceil_mode with windows beyond the padded image is not supported. Pad the image instead.")
    if node.attributes.get("count_include_pad", 0) and any(padding):
        raise node.refuse("count_include_pad is not supported. Put a Pad before it.")
    _pool2d(context, node, x, kernel, strides, padding)


def global_max_pool(context: Context, node: Node) -> None:
    """Add a GlobalMaxPool."""
    x = context.image(node)
    _pool2d(context, node, x, x.shape[1:3], (1, 1), (0, 0, 0, 0))


def global_average_pool(context: Context, node: Node) -> None:
    """Add a GlobalAveragePool."""
    result = context.builder.apply(
        lambda e: relax.op.mean(e, [1, 2], True), context.image(node), to=context.target(node), name=node.outputs[0]
    )
    context.define(node.outputs[0], image_value(result))


def reduce(function: Function) -> Operator:
    """Return what adds a ReduceMean or ReduceSum."""
    return lambda context, node: _reduce(context, node, function)


def _reduce(context: Context, node: Node, function: Function) -> None:
    value = context.x(node)
    rank = len(value.shape)
    axes = context.graph.integers(node, 1) if node.has(1) else list(node.attributes.get("axes", ()))
    if not axes and node.attributes.get("noop_with_empty_axes", 0):
        raise node.refuse("a mean or sum over no axes is not supported. Remove it.")
    axes = sorted({axis % rank for axis in axes or range(rank)})
    keep = bool(node.attributes.get("keepdims", 1))
    if value.channels_last and (keep or axes == [2, 3]):
        tensor, value_of = value.tensor, image_value if keep else plain_value
        axes = sorted(TO_NCHW[axis] for axis in axes)
    else:
        tensor, value_of = context.plain(value, node.inputs[0]), plain_value
    result = context.builder.apply(
        lambda e: function(e, axes, keep), tensor, to=context.target(node), name=node.outputs[0]
    )
    context.define(node.outputs[0], value_of(result))


def softmax(context: Context, node: Node) -> None:
    """Add a Softmax; its axis is moved to the end."""
    tensor, axis_of, value_of = context.stored(node)
    last = len(tensor.shape) - 1
    axis = axis_of(node.attributes.get("axis", -1))
    order = [*(i for i in range(last + 1) if i != axis), axis]
    moved = context.builder.permute(tensor, order, f"{node.inputs[0]}_rows")
    to = context.target(node, fixed=qdq.UNIT_INTERVAL)
    name = node.outputs[0]
    result = context.builder.apply(lambda e: relax.op.nn.softmax(e, axis=-1), moved, to=to, name=name)
    context.define(name, value_of(context.builder.permute(result, [int(i) for i in np.argsort(order)], name)))


def _pool2d(
    context: Context, node: Node, x: Tensor, kernel: Sequence[int], strides: Sequence[int], padding: Sequence[int]
) -> None:
    average = node.kind == "AveragePool"
    function = relax.op.nn.avg_pool2d if average else relax.op.nn.max_pool2d
    result = context.builder.apply(
        lambda e: function(e, tuple(kernel), tuple(strides), tuple(padding), layout="NHWC"),
        x,
        to=context.target(node) if average else x.quantization,
        name=node.outputs[0],
    )
    context.define(node.outputs[0], image_value(result))
