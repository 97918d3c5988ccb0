"""Pools, means, sums and softmax."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from benchmarks.int8_graph.graph import Graph, window_options
from benchmarks.int8_graph.network import Array, Quantization, Value
from tvm_tinyml import arithmetic, reference


class Reduction(Graph):
    """The operators that combine elements of one tensor."""

    def avg_pool(self, x: Value, kernel: tuple[int, int], **window: Any) -> Value:
        """Add AVERAGE_POOL_2D; ``strides``, ``padding`` and ``activation`` as for `conv`."""
        return self._pool("AVERAGE_POOL_2D", reference.avg_pool2d, x, kernel, **window)

    def max_pool(self, x: Value, kernel: tuple[int, int], **window: Any) -> Value:
        """Add MAX_POOL_2D; ``strides``, ``padding`` and ``activation`` as for `conv`."""
        return self._pool("MAX_POOL_2D", reference.max_pool2d, x, kernel, **window)

    def _pool(
        self,
        name: str,
        function: Callable[..., Array],
        x: Value,
        kernel: tuple[int, int],
        *,
        strides: tuple[int, int] | None = None,
        padding: str = "VALID",
        activation: str = "NONE",
    ) -> Value:
        strides = strides or kernel
        height, top, bottom = arithmetic.window(padding, x.shape[1], kernel[0], strides[0])
        width, left, right = arithmetic.window(padding, x.shape[2], kernel[1], strides[1])
        low, high = arithmetic.activation_range(activation, *x.quantization, x.dtype)
        options = {"FilterHeight": kernel[0], "FilterWidth": kernel[1]}
        options |= window_options(strides, padding, activation)

        def call(value: Array) -> Array:
            pads = (top, left, bottom, right)
            return function(value, kernel, strides=strides, padding=pads, clamp_min=low, clamp_max=high)

        shape = (x.shape[0], height, width, x.shape[3])
        return self._operator(name, [x], shape, x.quantization, call, "Pool2DOptions", options)

    def mean(
        self, x: Value, axes: Sequence[int], *, keep_dims: bool = False, output: Quantization | None = None
    ) -> Value:
        """Add MEAN."""
        count = math.prod(x.shape[axis] for axis in axes)
        output = output or self._fit([r.mean(axis=tuple(axes)) for r in x.real()], "NONE")
        return self._reduce("MEAN", x, axes, keep_dims, output, arithmetic.mean_parameters(x.scale, output[0], count))

    def sum(
        self, x: Value, axes: Sequence[int], *, keep_dims: bool = False, output: Quantization | None = None
    ) -> Value:
        """Add SUM."""
        output = output or self._fit([r.sum(axis=tuple(axes)) for r in x.real()], "NONE")
        return self._reduce("SUM", x, axes, keep_dims, output, arithmetic.sum_parameters(x.scale, output[0]))

    def _reduce(
        self,
        name: str,
        x: Value,
        axes: Sequence[int],
        keep_dims: bool,
        output: Quantization,
        scaling: tuple[int, int],
    ) -> Value:
        multiplier, shift = scaling

        def call(value: Array) -> Array:
            return reference.mean(
                value,
                axes,
                multiplier=multiplier,
                shift=shift,
                input_zero_point=x.zero_point,
                output_zero_point=output[1],
                keep_dims=keep_dims,
            )

        shape = call(x.samples[0]).shape
        options = {"KeepDims": keep_dims}
        return self._operator(name, [x], shape, output, call, "ReducerOptions", options, constants=[axes])

    def softmax(self, x: Value, beta: float = 1.0) -> Value:
        """Add SOFTMAX over the last axis."""
        if x.dtype == "int16":
            return self._softmax_int16(x, beta)
        table = arithmetic.softmax_exp_table(x.scale, beta)
        output = (1 / 256, -128)
        return self._operator(
            "SOFTMAX", [x], x.shape, output, lambda v: reference.softmax(v, table), "SoftmaxOptions", {"Beta": beta}
        )

    def _softmax_int16(self, x: Value, beta: float) -> Value:
        tables = arithmetic.softmax_tables()
        multiplier, shift = arithmetic.softmax_input_parameters(x.scale, beta)

        def call(value: Array) -> Array:
            return reference.softmax_int16(value, *tables, multiplier=multiplier, shift=shift)

        return self._operator("SOFTMAX", [x], x.shape, (1 / 2**15, 0), call, "SoftmaxOptions", {"Beta": beta})
