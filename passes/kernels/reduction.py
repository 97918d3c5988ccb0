"""Kernels that reduce a window or whole axes: pools, mean, softmax."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
from tvm import relax, te, tirx
from tvm.ir import Expr
from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as T

from tvm_tinyml import arithmetic
from tvm_tinyml.passes.integer_ops import Attributes, shape_of, window_extent
from tvm_tinyml.passes.kernels.kernel import Kernel, KernelTraits, placeholder
from tvm_tinyml.passes.kernels.requantize import clamp, largest_offset, saturate, scale


class _Window:
    """The part of a pool's window that lies inside the image, for one output position."""

    def __init__(self, shape: list[int], attributes: Attributes) -> None:
        self.batch, self.height, self.width, self.channels = shape
        (self.pool_h, self.pool_w), (self.stride_h, self.stride_w) = attributes["pool_size"], attributes["strides"]
        self.top, self.left, bottom, right = attributes["padding"]
        self.padded = any(attributes["padding"])
        self.out_h = window_extent(self.height, self.pool_h, self.stride_h, self.top + bottom)
        self.out_w = window_extent(self.width, self.pool_w, self.stride_w, self.left + right)
        self.r, self.s = te.reduce_axis((0, self.pool_h), "r"), te.reduce_axis((0, self.pool_w), "s")

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return self.batch, self.out_h, self.out_w, self.channels

    def element(self, x: te.Tensor, position: Sequence[tirx.Var], outside: int) -> Expr:
        """Return x under tap (r, s) of the window at `position`, or `outside` beyond the image."""
        n, y, v, c = position
        row, column = y * self.stride_h + self.r - self.top, v * self.stride_w + self.s - self.left
        value = x[n, row, column, c].astype("int32")
        if not self.padded:
            return value
        inside = tirx.all(row >= 0, row < self.height, column >= 0, column < self.width)
        return tirx.if_then_else(inside, value, tirx.IntImm("int32", outside))

    def count(self, y: tirx.Var, v: tirx.Var) -> Expr:
        """Return how many taps of the window at (y, v) lie inside the image."""
        if not self.padded:
            return tirx.IntImm("int32", self.pool_h * self.pool_w)
        row, column = y * self.stride_h - self.top, v * self.stride_w - self.left
        rows = te.min(row + self.pool_h, self.height) - te.max(row, 0)
        columns = te.min(column + self.pool_w, self.width) - te.max(column, 0)
        return rows * columns


def avg_pool2d(arguments: Sequence[relax.Expr], attributes: Attributes, _traits: KernelTraits) -> Kernel:
    """Lower ``tinyml.avg_pool2d``: halves round away from zero."""
    x, window = placeholder("x", arguments[0]), _Window(shape_of(arguments[0]), attributes)
    sums = te.compute(
        window.shape, lambda *i: te.sum(window.element(x, i, outside=0), axis=[window.r, window.s]), "sum"
    )

    taps, dtype = window.pool_h * window.pool_w, str(x.dtype)

    def mean(n: tirx.Var, y: tirx.Var, v: tirx.Var, c: tirx.Var) -> Expr:
        total = sums[n, y, v, c]
        if window.padded:
            return saturate(_divided(total, window.count(y, v)), attributes, dtype)
        return average_of(total, taps, attributes, dtype)

    result = te.compute(window.shape, mean, "output")
    return Kernel("avg_pool2d", te.create_prim_func([x, result]), arguments)


def average_of(total: Expr, taps: int, attributes: Attributes, dtype: str = "int8") -> Expr:
    """Return the element of an `avg_pool2d` from the sum of so many numbers of a type."""
    raised = -arithmetic.RANGES[dtype][0]
    reciprocal = exact_reciprocal(taps, 2 * raised * taps)
    if reciprocal is None:
        return saturate(_divided(total, tirx.IntImm("int32", taps)), attributes, dtype)
    # Moved up by 128, or 32768, the sum is not negative, so that rounding is one floor: halves up, and below zero,
    # where only an even count has halves, one less before.
    multiplier, shift = reciprocal
    below = total >> 31 if taps % 2 == 0 else 0
    quotient = (total + below + (taps // 2 + raised * taps)) * multiplier >> shift
    return saturate(quotient - raised, attributes, dtype)


def _divided(total: Expr, count: Expr) -> Expr:
    """Return a quotient, halves rounded away from zero."""
    half = tirx.truncdiv(count, 2)
    return tirx.truncdiv(total + tirx.Select(total > 0, half, -half), count)


def exact_reciprocal(divisor: int, largest: int) -> tuple[int, int] | None:
    """Return (multiplier, shift) so that ``n * multiplier >> shift`` is ``n // divisor`` for every n in 0..`largest`.

    Every product stays below 2**31; None when that leaves no pair. With the multiplier 2**shift / divisor rounded up by
    less than 1, excess / divisor, the quotient is too large by n * excess / (divisor * 2**shift). It is at least
    1 / divisor below the next integer, so n * excess < 2**shift makes it exact.

    >>> exact_reciprocal(9, 2304)
    (1821, 14)
    """
    for shift in range(31):
        multiplier = -(-(1 << shift) // divisor)
        excess = multiplier * divisor - (1 << shift)
        if largest * multiplier < 1 << 31 and largest * excess < 1 << shift:
            return multiplier, shift
    return None


def mean_pool2d(arguments: Sequence[relax.Expr], attributes: Attributes, _traits: KernelTraits) -> Kernel:
    """Lower ``tinyml.mean_pool2d``: elements outside the image count as the zero point, which adds nothing."""
    x, window = placeholder("x", arguments[0]), _Window(shape_of(arguments[0]), attributes)
    zero_point, left_shift = attributes["input_zero_point"], attributes["left_shift"]
    sums = te.compute(
        window.shape, lambda *i: te.sum(window.element(x, i, outside=zero_point), axis=[window.r, window.s]), "sum"
    )
    dtype = str(x.dtype)
    taps, offset = window.pool_h * window.pool_w, largest_offset(zero_point, dtype)

    def mean(n: tirx.Var, y: tirx.Var, v: tirx.Var, c: tirx.Var) -> Expr:
        total = sums[n, y, v, c]
        if not window.padded:
            return scaled_mean_of(total, taps, attributes, dtype)
        average = _divided((total - taps * zero_point) * (1 << left_shift), window.count(y, v))
        scaling = attributes["multiplier"], attributes["shift"], offset << left_shift
        return clamp(scale(average, *scaling), attributes, dtype)

    result = te.compute(window.shape, mean, "output")
    return Kernel("mean_pool2d", te.create_prim_func([x, result]), arguments)


def max_pool2d(arguments: Sequence[relax.Expr], attributes: Attributes, _traits: KernelTraits) -> Kernel:
    """Lower ``tinyml.max_pool2d``."""
    x, window = placeholder("x", arguments[0]), _Window(shape_of(arguments[0]), attributes)
    dtype = str(x.dtype)
    least = arithmetic.RANGES[dtype][0]
    largest = te.compute(
        window.shape, lambda *i: te.max(window.element(x, i, outside=least), axis=[window.r, window.s]), "largest"
    )
    result = te.compute(window.shape, lambda *i: saturate(largest[i], attributes, dtype), "output")
    return Kernel("max_pool2d", te.create_prim_func([x, result]), arguments)


def mean(arguments: Sequence[relax.Expr], attributes: Attributes, _traits: KernelTraits) -> Kernel:
    """Lower ``tinyml.mean``: one int32 sum an output element, the input offset taken off at the end."""
    x, shape = placeholder("x", arguments[0]), shape_of(arguments[0])
    axes: list[int] = attributes["axes"]
    kept = [i for i in range(len(shape)) if i not in axes]
    reduced = {axis: te.reduce_axis((0, shape[axis]), f"k{axis}") for axis in axes}
    count = int(np.prod([shape[axis] for axis in axes]))

    def total(*indices: tirx.Var) -> Expr:
        position = dict(zip(kept, indices, strict=True))
        source = tuple(reduced[i] if i in reduced else position[i] for i in range(len(shape)))
        return te.sum(x[source].astype("int32"), axis=list(reduced.values()))

    sums = te.compute([shape[i] for i in kept] or [1], total if kept else lambda _: total(), "sum")

    def average(*indices: tirx.Var) -> Expr:
        return scaled_mean_of(sums[tuple(indices)], count, attributes, str(x.dtype))

    result = te.compute(sums.shape, average, "output")
    return Kernel("mean", te.create_prim_func([x, result]), arguments)


def scaled_mean_of(total: Expr, count: int, attributes: Attributes, dtype: str = "int8") -> Expr:
    """Return the element of a `mean`, or a `mean_pool2d`, from the sum of so many numbers of a type."""
    zero_point, left_shift = attributes["input_zero_point"], attributes["left_shift"]
    scaling = attributes["multiplier"], attributes["shift"], count * largest_offset(zero_point, dtype), left_shift
    return clamp(scale(total - count * zero_point, *scaling), attributes, dtype)


SUM_INTEGER_BITS = 12
"""The sum of exponentials, each at most 1 and Q0.31 in the table, is held in Q12.19."""
NEWTON_START, NEWTON_SLOPE = round(48 / 17 * 2**29), -round(32 / 17 * 2**29)
"""The best straight line under 1 / d for d in [1/2, 1), in Q2.29."""


def softmax(arguments: Sequence[relax.Expr], attributes: Attributes, _traits: KernelTraits) -> Kernel:
    """Lower ``tinyml.softmax``: exponentials from the table, their sum's reciprocal by three Newton steps.

    Source: the arithmetic of TFLite's int8 softmax; see `softmax` and `reciprocal` in the reference.
    """
    shape = shape_of(arguments[0])
    depth, rows = shape[-1], int(np.prod(shape[:-1]))
    multiplier, zero_point = attributes["multiplier"], attributes["output_zero_point"]
    only_shifted = multiplier == 1 << 30
    right = 31 - attributes["shift"] + only_shifted  # from a quotient in Q0.31 to units of the output
    low, high = attributes["clamp_min"] - zero_point, attributes["clamp_max"] - zero_point

    def bounded(quotient: Expr) -> Expr:
        quotient = te.min(quotient, tirx.IntImm("int32", high))
        return te.max(quotient, tirx.IntImm("int32", low)) if low > 0 else quotient

    def multiplied(a: Expr, b: Expr | int) -> Expr:
        return T.call_pure_extern("int32", "tinyml_multiply_q31", a, b)

    def shifted(value: Expr, bits: Expr | int) -> Expr:
        return T.call_pure_extern("int32", "tinyml_rounding_right_shift", value, bits)

    with IRBuilder() as builder, T.prim_func(s_tir=True):
        T.func_name("func")
        T.func_attr({"tirx.noalias": True})
        x = T.arg("x", T.Buffer((rows, depth), "int8"))
        table = T.arg("table", T.Buffer((256,), "int32"))
        output = T.arg("output", T.Buffer((rows, depth), "int8"))
        with T.sblock("root"):
            # zeros: leading zero bits of the sum; half: half the sum's mantissa, Q0.31
            largest, total, zeros, half, inverse = _numbers("largest", "total", "zeros", "half", "inverse")
            with T.serial(rows) as row, T.sblock("output"):
                i = IRBuilder.name("i", T.axis.spatial(rows, IRBuilder.name("row", row)))
                T.reads(x[i, 0:depth], table[0:256])
                T.writes(output[i, 0:depth], largest[0], total[0], zeros[0], half[0], inverse[0])
                _put(largest, -128)
                with _counted("k", depth) as k:
                    _put(largest, T.max(largest[0], T.Cast("int32", x[i, k])))
                _put(total, 0)
                with _counted("k", depth) as k:
                    exponential = table[largest[0] - T.Cast("int32", x[i, k])]
                    _put(total, total[0] + shifted(exponential, SUM_INTEGER_BITS))
                _put(zeros, T.call_pure_extern("int32", "tinyml_leading_zeros", total[0]))
                _put(half, T.shift_left(total[0], zeros[0] - 1))
                _put(inverse, multiplied(half[0], NEWTON_SLOPE) + NEWTON_START)
                with _counted("_", 3):
                    error = (1 << 29) - multiplied(half[0], inverse[0])
                    _put(inverse, inverse[0] + 4 * multiplied(inverse[0], error))
                _put(inverse, T.Select(inverse[0] >= 1 << 30, 0x7FFFFFFF, inverse[0] * 2))
                if not only_shifted:
                    _put(inverse, multiplied(inverse[0], multiplier))
                # From some sum on (512 for 1/256) nothing reaches half a unit, and the shift would exceed 31.
                _put(inverse, T.Select(zeros[0] < SUM_INTEGER_BITS + right - 31, 0, inverse[0]))
                with _counted("k", depth) as k:
                    exponential = table[largest[0] - T.Cast("int32", x[i, k])]
                    bits = T.min(SUM_INTEGER_BITS + right - zeros[0], 31)
                    quotient = bounded(shifted(multiplied(inverse[0], exponential), bits))
                    T.buffer_store(output, T.Cast("int8", quotient + zero_point), [i, k])

    flat = relax.op.reshape(arguments[0], (rows, depth))
    return Kernel("softmax", builder.get(), [flat, arguments[1]])


@contextmanager
def _counted(name: str, extent: int) -> Iterator[tirx.Var]:
    """Open a loop; its counter is called `name` in C."""
    with T.serial(extent) as counter:
        yield IRBuilder.name(name, counter)


def _numbers(*names: str) -> list[tirx.Buffer]:
    """Return memory for numbers of 32 bits, each of which `_put` changes."""
    return [IRBuilder.name(name, T.sblock_alloc_buffer((1,), "int32")) for name in names]


def _put(number: tirx.Buffer, value: Expr | int) -> None:
    T.buffer_store(number, value, [0])
