"""Moving data: shapes, orders, parts, borders and resizing."""

from __future__ import annotations

from dataclasses import replace
from math import prod

import numpy as np
from tvm import relax

from tvm_tinyml.frontend.onnx.context import TO_NCHW, TO_NHWC, Context, Value, image_value, plain_value
from tvm_tinyml.frontend.onnx.graph import Node

_RESIZE_MODES = ("asymmetric", "half_pixel", "pytorch_half_pixel", "align_corners")


def alias(context: Context, node: Node) -> None:
    """Follow an Identity or Dropout: the tensor stays as it is."""
    context.define(node.outputs[0], context.lookup(node.inputs[0]))


def reshape(context: Context, node: Node) -> None:
    """Add a Reshape, Flatten, Squeeze or Unsqueeze."""
    name = node.outputs[0]
    constant = context.constant(node.inputs[0])
    if constant is not None and not constant.scale.ndim:
        shape = _new_shape(context, node, constant.values.shape)
        context.define(name, replace(constant, values=constant.values.reshape(shape)))
        return
    value = context.x(node)
    shape = _new_shape(context, node, value.shape)
    image = value.image
    if image is not None and shape == image:
        context.define(name, image_value(context.builder.reshape(value.tensor, [image[i] for i in TO_NHWC], name)))
    elif image is not None and shape == (image[0], prod(image[1:])):
        context.define(name, Value(context.builder.reshape(value.tensor, shape, name), shape, image))
    else:
        tensor = context.plain(value, node.inputs[0])
        context.define(name, plain_value(context.builder.reshape(tensor, shape, name)))


def transpose(context: Context, node: Node) -> None:
    """Add a Transpose."""
    name = node.outputs[0]
    constant = context.constant(node.inputs[0])
    rank = len(context.x(node).shape) if constant is None else constant.values.ndim
    order = [int(i) for i in node.attributes.get("perm", range(rank)[::-1])]
    if constant is not None:
        moved = replace(constant, values=constant.values.transpose(order), axis=order.index(constant.axis))
        context.define(name, moved)
        return
    value = context.x(node)
    if value.channels_last:
        tensor = context.builder.permute(value.tensor, [TO_NCHW[axis] for axis in order], name)
        context.define(name, plain_value(tensor))
    elif value.image is None and tuple(order) == TO_NCHW:
        context.define(name, image_value(value.tensor))
    else:
        tensor = context.plain(value, node.inputs[0])
        context.define(name, plain_value(context.builder.permute(tensor, order, name)))


def concat(context: Context, node: Node) -> None:
    """Add a Concat."""
    values = [context.x(node, i) for i in range(len(node.inputs))]
    tensors, channels_last = context.aligned(values, node.inputs)
    shared = {tensor.quantization for tensor in tensors}
    to = context.target(node, inherit=shared.pop() if len(shared) == 1 else None)
    tensors = [context.builder.requantize(t, to, f"{node.outputs[0]}_{i}") for i, t in enumerate(tensors)]
    axis = node.attributes["axis"] % len(tensors[0].shape)
    axis = TO_NCHW[axis] if channels_last else axis
    result = context.builder.move(lambda *es: relax.op.concat(es, axis), *tensors, name=node.outputs[0])
    context.define(node.outputs[0], image_value(result) if channels_last else plain_value(result))


def split(context: Context, node: Node) -> None:
    """Add a Split."""
    tensor, axis_of, value_of = context.stored(node)
    axis = axis_of(node.attributes.get("axis", 0))
    if node.has(1):
        sizes = context.graph.integers(node, 1)
    else:
        sizes = [-(-tensor.shape[axis] // len(node.outputs))] * len(node.outputs)
    for name, part in zip(node.outputs, context.builder.split(tensor, sizes, axis, node.outputs), strict=True):
        context.define(name, value_of(part))


def slice_(context: Context, node: Node) -> None:
    """Add a Slice."""
    tensor, axis_of, value_of = context.stored(node)
    starts, ends = context.graph.integers(node, 1), context.graph.integers(node, 2)
    axes = [axis_of(i) for i in (context.graph.integers(node, 3) if node.has(3) else range(len(starts)))]
    steps = context.graph.integers(node, 4) if node.has(4) else [1] * len(starts)
    if min(steps) < 1:
        raise node.refuse(f"steps {steps}; steps below 1 are not supported.")
    ranges = [slice(a, b).indices(tensor.shape[axis]) for axis, a, b in zip(axes, starts, ends, strict=True)]
    begin, end = [r[0] for r in ranges], [r[1] for r in ranges]
    result = context.builder.move(
        lambda e: relax.op.strided_slice(e, axes, begin, end, steps), tensor, name=node.outputs[0]
    )
    context.define(node.outputs[0], value_of(result))


def pad(context: Context, node: Node) -> None:
    """Add a Pad with a constant."""
    if node.attributes.get("mode", "constant") != "constant":
        raise node.refuse(f"mode {node.attributes['mode']} is not supported; constant is.")
    tensor, axis_of, value_of = context.stored(node)
    pads = context.graph.integers(node, 1)
    axes = context.graph.integers(node, 3) if node.has(3) else range(len(tensor.shape))
    widths = [0] * (2 * len(tensor.shape))
    for axis, before, after in zip(axes, pads[: len(pads) // 2], pads[len(pads) // 2 :], strict=True):
        widths[2 * axis_of(axis) : 2 * axis_of(axis) + 2] = before, after
    if min(widths) < 0:
        raise node.refuse("negative pads are not supported. Use Slice.")
    to = context.target(node, inherit=tensor.quantization)
    value = context.builder.nearest(context.number(node, 2, 0.0), to)
    tensor = context.builder.requantize(tensor, to, f"{node.outputs[0]}_unpadded")
    result = context.builder.move(lambda e: relax.op.nn.pad(e, widths, pad_value=value), tensor, name=node.outputs[0])
    context.define(node.outputs[0], value_of(result))


def resize(context: Context, node: Node) -> None:
    """Add a Resize to the nearest element."""
    attributes = node.attributes
    mode = attributes.get("coordinate_transformation_mode", "half_pixel")
    if attributes.get("mode", "nearest") != "nearest" or mode not in _RESIZE_MODES:
        raise node.refuse(f"mode {attributes.get('mode', 'nearest')} with {mode} coordinates is not supported.")
    if "axes" in attributes or attributes.get("antialias", 0):
        raise node.refuse("axes and antialias are not supported.")
    x = context.image(node)
    source = x.shape[0], x.shape[3], x.shape[1], x.shape[2]
    if node.has(3):
        size = context.graph.integers(node, 3)
    else:
        exact = [extent * float(scale) for extent, scale in zip(source, context.graph.constant(node, 2), strict=True)]
        size = [round(extent) for extent in exact]
        if not np.allclose(size, exact):
            raise node.refuse(
                f"scales that give height and width {exact[2]:.6g} and {exact[3]:.6g} are not supported. Give sizes."
            )
    if tuple(size[:2]) != source[:2]:
        raise node.refuse("it changes batch or channels; height and width are supported.")
    result = context.builder.move(
        lambda e: relax.op.image.resize2d(
            e,
            relax.ShapeExpr(size[2:]),
            layout="NHWC",
            method="nearest_neighbor",
            coordinate_transformation_mode=mode,
            rounding_method=attributes.get("nearest_mode", "round_prefer_floor"),
        ),
        x,
        name=node.outputs[0],
    )
    context.define(node.outputs[0], image_value(result))


def _new_shape(context: Context, node: Node, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape that a Reshape, Flatten, Squeeze or Unsqueeze gives to a tensor of `shape`."""
    rank = len(shape)
    if node.kind == "Flatten":
        axis = node.attributes.get("axis", 1)
        axis = axis + rank if axis < 0 else axis
        return prod(shape[:axis]), prod(shape[axis:])
    if node.kind == "Squeeze":
        axes = [i % rank for i in context.graph.integers(node, 1)] if node.has(1) else None
        return tuple(n for i, n in enumerate(shape) if (n != 1 if axes is None else i not in axes))
    if node.kind == "Unsqueeze":
        given = context.graph.integers(node, 1)
        axes = [axis % (rank + len(given)) for axis in given]
        rest = iter(shape)
        return tuple(1 if i in axes else next(rest) for i in range(rank + len(given)))
    wanted = context.graph.integers(node, 1)
    if not node.attributes.get("allowzero", 0):
        wanted = [shape[i] if extent == 0 else extent for i, extent in enumerate(wanted)]
    known = prod(extent for extent in wanted if extent != -1)
    return tuple(prod(shape) // known if extent == -1 else extent for extent in wanted)
