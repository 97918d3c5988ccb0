"""Moving data: shapes, orders, parts, borders and resizing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from benchmarks.int8_graph.graph import Graph
from benchmarks.int8_graph.network import Array, Step, Value
from tvm_tinyml import reference


class Movement(Graph):
    """The operators that only move elements."""

    def pad(self, x: Value, paddings: Sequence[tuple[int, int]], value: int | None = None) -> Value:
        """Add PAD, or PADV2 with a fill value (of the same quantization)."""
        shape = tuple(n + before + after for n, (before, after) in zip(x.shape, paddings, strict=True))
        fill = x.zero_point if value is None else value
        extra = []
        if value is not None:
            data = np.array(value, x.dtype)
            extra = [self._model.tensor("fill", (), x.dtype, scales=x.scale, zero_point=x.zero_point, data=data)]
        return self._operator(
            "PAD" if value is None else "PADV2",
            [x],
            shape,
            x.quantization,
            lambda v: reference.pad(v, paddings, fill),
            constants=[paddings],
            extra=extra,
        )

    def reshape(self, x: Value, shape: Sequence[int]) -> Value:
        """Add RESHAPE."""
        return self._operator(
            "RESHAPE", [x], shape, x.quantization, lambda v: reference.reshape(v, shape), constants=[shape]
        )

    def transpose(self, x: Value, order: Sequence[int]) -> Value:
        """Add TRANSPOSE."""
        shape = tuple(x.shape[i] for i in order)
        return self._operator(
            "TRANSPOSE", [x], shape, x.quantization, lambda v: reference.transpose(v, order), constants=[order]
        )

    def concat(self, xs: Sequence[Value], axis: int) -> Value:
        """Add CONCATENATION of values with the same quantization."""
        shape = list(xs[0].shape)
        shape[axis] = sum(x.shape[axis] for x in xs)
        return self._operator(
            "CONCATENATION",
            xs,
            shape,
            xs[0].quantization,
            lambda *vs: reference.concat(vs, axis),
            "ConcatenationOptions",
            {"Axis": axis},
        )

    def split(self, x: Value, parts: int, axis: int) -> list[Value]:
        """Add SPLIT into equal parts."""
        sizes = [x.shape[axis] // parts] * parts
        shape = (*x.shape[:axis], sizes[0], *x.shape[axis + 1 :])
        axis_tensor = self._model.tensor("axis", (), "int32", data=np.array(axis, np.int32))
        samples = [reference.split(v, sizes, axis) for v in x.samples]
        values = [
            self._value("split", shape, x.dtype, x.quantization, tuple(s[i] for s in samples)) for i in range(parts)
        ]
        outputs = tuple(v.index for v in values)
        self._model.operator("SPLIT", [axis_tensor, x.index], outputs, "SplitOptions", NumSplits=parts)
        self._steps.append(Step((x.index,), outputs, lambda v: reference.split(v, sizes, axis)))
        return values

    def slice(self, x: Value, begin: Sequence[int], size: Sequence[int]) -> Value:
        """Add SLICE."""
        end = [b + s for b, s in zip(begin, size, strict=True)]
        steps = [1] * len(end)
        return self._operator(
            "SLICE",
            [x],
            size,
            x.quantization,
            lambda v: reference.strided_slice(v, begin, end, steps),
            constants=[begin, size],
        )

    def strided_slice(
        self,
        x: Value,
        begin: Sequence[int],
        end: Sequence[int],
        strides: Sequence[int],
        *,
        begin_mask: int = 0,
        end_mask: int = 0,
        shrink_axis_mask: int = 0,
    ) -> Value:
        """Add STRIDED_SLICE."""

        def call(value: Array) -> Array:
            return reference.strided_slice(value, begin, end, strides, begin_mask, end_mask, shrink_axis_mask)

        options = {"BeginMask": begin_mask, "EndMask": end_mask, "ShrinkAxisMask": shrink_axis_mask}
        shape = call(x.samples[0]).shape
        return self._operator(
            "STRIDED_SLICE",
            [x],
            shape,
            x.quantization,
            call,
            "StridedSliceOptions",
            options,
            constants=[begin, end, strides],
        )

    def resize_nearest(
        self, x: Value, size: tuple[int, int], *, align_corners: bool = False, half_pixel_centers: bool = False
    ) -> Value:
        """Add RESIZE_NEAREST_NEIGHBOR."""
        options = {"AlignCorners": align_corners, "HalfPixelCenters": half_pixel_centers}
        return self._operator(
            "RESIZE_NEAREST_NEIGHBOR",
            [x],
            (x.shape[0], *size, x.shape[3]),
            x.quantization,
            lambda v: reference.resize_nearest(v, size, align_corners, half_pixel_centers),
            "ResizeNearestNeighborOptions",
            options,
            constants=[size],
        )
