"""The windows of convolutions and pools: kernel, strides, dilation and padding."""

from __future__ import annotations

from collections.abc import Sequence

from tvm_tinyml.frontend.onnx.graph import Node


def window(
    node: Node, default: Sequence[int] | None = None
) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """Return kernel, strides and dilation of a node in two dimensions."""
    kernel = tuple(node.attributes.get("kernel_shape", default))
    strides = tuple(node.attributes.get("strides", (1, 1)))
    return kernel, strides, tuple(node.attributes.get("dilations", (1, 1)))


def pads(
    node: Node, size: Sequence[int], kernel: Sequence[int], strides: Sequence[int], dilation: Sequence[int] = (1, 1)
) -> tuple[int, ...]:
    """Return (top, left, bottom, right)."""
    mode = node.attributes.get("auto_pad", "NOTSET")
    if mode == "NOTSET":
        return tuple(node.attributes.get("pads", (0, 0, 0, 0)))
    if mode == "VALID":
        return 0, 0, 0, 0
    before, after = [], []
    for extent, k, stride, d in zip(size, kernel, strides, dilation, strict=True):
        total = max((-(-extent // stride) - 1) * stride + (k - 1) * d + 1 - extent, 0)
        half = total // 2
        before.append(half if mode == "SAME_UPPER" else total - half)
        after.append(total - before[-1])
    return (*before, *after)


def transposed_pads(
    node: Node, size: Sequence[int], kernel: Sequence[int], strides: Sequence[int], dilation: Sequence[int]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return what a ConvTranspose cuts off its full result, (top, left, bottom, right), and adds at (bottom, right).

    Where the shape of the result is given, or follows from a SAME mode, the pads follow from it as in onnxruntime: what
    is left over goes to the beginning, but for SAME_UPPER.
    """
    mode = node.attributes.get("auto_pad", "NOTSET")
    more = tuple(node.attributes.get("output_padding", (0, 0)))
    if "output_shape" in node.attributes:
        target = node.attributes["output_shape"][-2:]
    elif mode in ("SAME_UPPER", "SAME_LOWER"):
        target = [extent * stride for extent, stride in zip(size, strides, strict=True)]
    else:
        return (0, 0, 0, 0) if mode == "VALID" else tuple(node.attributes.get("pads", (0, 0, 0, 0))), more
    before, after, extra = [], [], []
    for extent, k, stride, d, add, wanted in zip(size, kernel, strides, dilation, more, target, strict=True):
        total = (extent - 1) * stride + (k - 1) * d + 1 + add - wanted
        half = max(total, 0) // 2
        before.append(half if mode == "SAME_UPPER" else max(total, 0) - half)
        after.append(max(total, 0) - before[-1])
        extra.append(add + max(-total, 0) if "output_shape" in node.attributes else add)
    return (*before, *after), tuple(extra)
