"""The padding of convolutions and pools."""

from __future__ import annotations

from collections.abc import Sequence

import tflite as schema

from tvm_tinyml.frontend.tflite.context import Node


def pads(node: Node, size: Sequence[int], window: Sequence[int], strides: Sequence[int]) -> tuple[int, int, int, int]:
    """Return (top, left, bottom, right); SAME puts the odd row and column at the end."""
    if node.options["Padding"] == schema.Padding.VALID:
        return 0, 0, 0, 0
    (top, bottom), (left, right) = (
        (total // 2, total - total // 2)
        for extent, span, stride in zip(size, window, strides, strict=True)
        for total in [max((-(-extent // stride) - 1) * stride + span - extent, 0)]
    )
    return top, left, bottom, right
