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
