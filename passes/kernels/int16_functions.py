"""Functions of int16 tensors: interpolated between the points of a table, or of two slopes."""

# TVMScript is a language of its own: neither its decorator nor its annotations are Python types.
# mypy: disable-error-code="untyped-decorator, valid-type"

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from tvm import relax, te, tirx
from tvm.ir import Expr
from tvm.script import tirx as T

from tvm_tinyml import script
from tvm_tinyml.passes.integer_ops import Attributes, shape_of
from tvm_tinyml.passes.kernels.kernel import Kernel, KernelTraits, placeholder
from tvm_tinyml.passes.kernels.requantize import ONE, requantize_helper, scale


def interpolate(arguments: Sequence[relax.Expr], _attributes: Attributes, _traits: KernelTraits) -> Kernel:
    """Lower ``tinyml.interpolate``."""
    x, points = (placeholder(name, argument) for name, argument in zip(("x", "points"), arguments, strict=True))

    def element(*i: tirx.Var) -> Expr:
        value = x[i].astype("int32")
        index = (value >> 7) + 256
        here, there = points[index].astype("int32"), points[index + 1].astype("int32")
        return (here + ((there - here) * (value & 127) + 64 >> 7)).astype("int16")

    output = te.compute(x.shape, element, "output")
    return Kernel("interpolate", te.create_prim_func([x, points, output]), arguments, in_place=[0])


def slopes(arguments: Sequence[relax.Expr], attributes: Attributes, _traits: KernelTraits) -> Kernel:
    """Lower ``tinyml.slopes``."""
    x = placeholder("x", arguments[0])
    above, below = zip(attributes["multipliers"], attributes["shifts"], strict=True)

    def scaled(factor: Expr, multiplier: int, shift: int) -> Expr:
        if (abs(multiplier), shift) != ONE:
            factor = scale(factor, abs(multiplier), shift, 2**15)
        return -factor if multiplier < 0 else factor

    def element(*i: tirx.Var) -> Expr:
        value = x[i].astype("int32")
        factor = tirx.Select(value >= 0, value, -value) if attributes["magnitude"] else value
        # Each side with numbers that are known: that is cheaper than one multiplication by a number that is chosen.
        result = scaled(factor, *above)
        if above != below:
            result = tirx.Select(value >= 0, result, scaled(factor, *below))
        return tirx.call_pure_extern("int32", "tinyml_saturate_s16", result).astype("int16")

    output = te.compute(x.shape, element, "output")
    return Kernel("slopes", te.create_prim_func([x, output]), arguments, in_place=[0])


def logistic(arguments: Sequence[relax.Expr], attributes: Attributes, _traits: KernelTraits) -> Kernel:
    """Lower ``tinyml.logistic``."""
    half = 1 << 9

    def result(value: Expr, positive: Expr) -> Expr:
        return tirx.Select(value >= 0, positive + half, (1 << 25) + (half - 1) - positive) >> 10

    return _sigmoid("logistic", arguments, attributes, 9, (2**15 - 1) << 10, result)


def tanh(arguments: Sequence[relax.Expr], attributes: Attributes, _traits: KernelTraits) -> Kernel:
    """Lower ``tinyml.tanh``: 2 / (1 + exp(-2 x)) - 1."""
    half = 1 << 7

    def result(value: Expr, positive: Expr) -> Expr:
        above = positive - (1 << 23)
        return tirx.Select(value >= 0, above + half, (half - 1) - above) >> 8

    return _sigmoid("tanh", arguments, attributes, 8, (2**16 - 1) << 8, result)


def _sigmoid(
    kind: str,
    arguments: Sequence[relax.Expr],
    attributes: Attributes,
    fraction_bits: int,
    limit: int,
    result: Callable[[Expr, Expr], Expr],
) -> Kernel:
    """Apply `result` to the scaled input and the logistic function of its magnitude.

    Parameters
    ----------
    fraction_bits : of the position between two points of the table.
    limit : what the function is beyond the table.
    """
    x, points = (placeholder(name, argument) for name, argument in zip(("x", "points"), arguments, strict=True))
    multiplier, shift = attributes["multiplier"], attributes["shift"]

    def element(*i: tirx.Var) -> Expr:
        value = x[i].astype("int32") * multiplier
        if shift:
            value = value + (1 << shift - 1) >> shift
        magnitude = tirx.Select(value >= 0, value, -value)
        index = te.min(magnitude >> fraction_bits, tirx.IntImm("int32", 254))
        here, there = points[index].astype("int32"), points[index + 1].astype("int32")
        between = (here << fraction_bits) + (magnitude & ((1 << fraction_bits) - 1)) * (there - here)
        inside = magnitude < 255 << fraction_bits
        return result(value, tirx.Select(inside, between, tirx.IntImm("int32", limit))).astype("int16")

    output = te.compute(x.shape, element, "output")
    return Kernel(kind, te.create_prim_func([x, points, output]), arguments, in_place=[0])


POINTS = 513


def softmax_int16(arguments: Sequence[relax.Expr], attributes: Attributes, _traits: KernelTraits) -> Kernel:
    """Lower ``tinyml.softmax_int16``: the result holds the exponentials until their sum is known.

    Source: the arithmetic of TFLite's int16 softmax; see `softmax_int16` in the reference.
    """
    shape = shape_of(arguments[0])
    depth, rows = shape[-1], int(np.prod(shape[:-1]))
    multiplier, shift = attributes["multiplier"], attributes["shift"]
    helper = requantize_helper(np.asarray([shift]), 2**16)

    @script.prim_func(s_tir=True)
    def func(
        x: T.Buffer((rows, depth), "int16"),
        exponential: T.Buffer((POINTS,), "int16"),
        reciprocal: T.Buffer((POINTS,), "int16"),
        output: T.Buffer((rows, depth), "int16"),
    ) -> None:
        T.func_attr({"tirx.noalias": True})
        with T.sblock("root"):
            largest = T.sblock_alloc_buffer((1,), "int32")
            total = T.sblock_alloc_buffer((1,), "int32")
            zeros = T.sblock_alloc_buffer((1,), "int32")  # leading zero bits of the sum
            position = T.sblock_alloc_buffer((1,), "int32")  # in a table, as an int16 number
            inverse = T.sblock_alloc_buffer((1,), "int32")
            for row in range(rows):
                with T.sblock("output"):
                    i = T.axis.spatial(rows, row)
                    T.reads(x[i, 0:depth], exponential[0:POINTS], reciprocal[0:POINTS])
                    T.writes(output[i, 0:depth], largest[0], total[0], zeros[0], position[0], inverse[0])
                    largest[0] = -32768
                    for k in range(depth):
                        largest[0] = T.max(largest[0], T.Cast("int32", x[i, k]))
                    total[0] = 0
                    for k in range(depth):
                        position[0] = T.call_pure_extern(
                            "int32",
                            "tinyml_saturate_s16",
                            32767
                            + T.call_pure_extern(
                                "int32", helper, T.Cast("int32", x[i, k]) - largest[0], multiplier, shift
                            ),
                        )
                        output[i, k] = T.Cast(
                            "int16",
                            T.call_extern("int32", "tinyml_interpolate", position[0], T.address_of(exponential[0])),
                        )
                        total[0] = total[0] + T.Cast("int32", output[i, k])
                    zeros[0] = T.call_pure_extern("int32", "tinyml_leading_zeros", total[0])
                    # The bits behind the leading one, rounded to 16; in 32 bits the carry of the rounding has room.
                    position[0] = T.shift_left(total[0], zeros[0] - 1)
                    position[0] = T.shift_right(position[0], 14) + T.bitwise_and(T.shift_right(position[0], 13), 1)
                    position[0] = T.call_pure_extern("int32", "tinyml_saturate_s16", position[0] - 3 * 32768)
                    inverse[0] = T.call_extern("int32", "tinyml_interpolate", position[0], T.address_of(reciprocal[0]))
                    for k in range(depth):
                        output[i, k] = T.Cast(
                            "int16",
                            T.min(
                                T.shift_right(
                                    T.Cast("int32", output[i, k]) * inverse[0] + T.shift_left(1, 30 - zeros[0]),
                                    31 - zeros[0],
                                ),
                                32767,
                            ),
                        )

    flat = relax.op.reshape(arguments[0], (rows, depth))
    return Kernel("softmax", func, [flat, *arguments[1:]])
