"""Moving data: shapes, orders, parts, borders and resizing."""

from __future__ import annotations

from tvm import relax

from tvm_tinyml.errors import ModelError
from tvm_tinyml.frontend.qdq import Tensor
from tvm_tinyml.frontend.tflite.context import Node


def reshape(node: Node) -> Tensor:
    """Add a RESHAPE, EXPAND_DIMS or SQUEEZE."""
    return _moved(node, node.builder.reshape(node.x(), node.shape, node.name))


def transpose(node: Node) -> Tensor:
    """Add a TRANSPOSE."""
    return _moved(node, node.builder.permute(node.x(), node.integers(1), node.name))


def pad(node: Node) -> Tensor:
    """Add a PAD or PADV2."""
    x = node.x()
    value = node.stored(2) if node.has(2) else node.to.zero_point
    widths = node.integers(1)
    return _moved(node, node.builder.move(lambda e: relax.op.nn.pad(e, widths, pad_value=value), x, name=node.name))


def concatenation(node: Node) -> Tensor:
    """Add a CONCATENATION."""
    if node.activation is not None:
        raise ModelError(f"{node}: a fused activation is not supported. Make it an operator of its own.")
    return node.builder.move(lambda *es: relax.op.concat(es, node.options["Axis"]), *node.xs(), name=node.name)


def split(node: Node) -> list[Tensor]:
    """Add a SPLIT into equal parts."""
    x = node.x(1)
    axis = node.integers(0)[0] % len(x.shape)
    count = len(node.names)
    return node.builder.split(x, [x.shape[axis] // count] * count, axis, node.names)


def split_v(node: Node) -> list[Tensor]:
    """Add a SPLIT_V."""
    x, sizes = node.x(), node.integers(1)
    axis = node.integers(2)[0] % len(x.shape)
    if -1 in sizes:
        sizes[sizes.index(-1)] = x.shape[axis] - sum(size for size in sizes if size != -1)
    return node.builder.split(x, sizes, axis, node.names)


def slice_(node: Node) -> Tensor:
    """Add a SLICE."""
    x, begin, size = node.x(), node.integers(1), node.integers(2)
    end = [full if n == -1 else b + n for full, b, n in zip(x.shape, begin, size, strict=True)]
    return _moved(node, _strided(node, x, begin, end, [1] * len(begin)))


def strided_slice(node: Node) -> Tensor:
    """Add a STRIDED_SLICE."""
    for mask in ("EllipsisMask", "NewAxisMask", "Offset"):
        if node.options[mask]:
            raise ModelError(f"{node}: {mask} is not supported. Write the slice with one range for each dimension.")
    x, begins, ends, strides = node.x(), node.integers(1), node.integers(2), node.integers(3)
    begin, end = [], []
    for axis, (extent, first, last, stride) in enumerate(zip(x.shape, begins, ends, strides, strict=False)):
        bit = 1 << axis
        first, last, _ = slice(
            None if node.options["BeginMask"] & bit else first, None if node.options["EndMask"] & bit else last, stride
        ).indices(extent)
        begin.append(first)
        end.append(first + 1 if node.options["ShrinkAxisMask"] & bit else last if last >= 0 else last - extent)
    cut = _strided(node, x, begin, end, strides)
    return _moved(node, node.builder.reshape(cut, node.shape, node.name))


def resize_nearest(node: Node) -> Tensor:
    """Add a RESIZE_NEAREST_NEIGHBOR."""
    if node.options["AlignCorners"] and node.options["HalfPixelCenters"]:
        raise ModelError(f"{node}: align_corners and half_pixel_centers exclude each other.")
    mode, rounding = "asymmetric", "floor"
    if node.options["HalfPixelCenters"]:
        mode, rounding = "half_pixel", "round_prefer_ceil"
    elif node.options["AlignCorners"]:
        mode, rounding = "align_corners", "round_prefer_ceil"
    size = relax.ShapeExpr(node.integers(1))
    resized = node.builder.move(
        lambda e: relax.op.image.resize2d(
            e,
            size,
            layout="NHWC",
            method="nearest_neighbor",
            coordinate_transformation_mode=mode,
            rounding_method=rounding,
        ),
        node.x(),
        name=node.name,
    )
    return _moved(node, resized)


def _strided(node: Node, x: Tensor, begin: list[int], end: list[int], strides: list[int]) -> Tensor:
    axes = list(range(len(begin)))
    return node.builder.move(lambda e: relax.op.strided_slice(e, axes, begin, end, strides), x, name=node.name)


def _moved(node: Node, x: Tensor) -> Tensor:
    """Return what a kernel that only copies integers makes of `x`: they mean what the file says."""
    return Tensor(x.expr, node.to)
