"""Kernels that compute each output element from one element of each input."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tvm import relax, te, tirx
from tvm.ir import Expr

from tvm_tinyml import arithmetic
from tvm_tinyml.passes.integer_ops import Attributes, shape_of
from tvm_tinyml.passes.kernels.kernel import Kernel, KernelTraits, placeholder
from tvm_tinyml.passes.kernels.requantize import ONE, RIGHT_LIMIT, clamp, largest_offset, largest_scaled, scale

HALF = arithmetic.quantize_multiplier(0.5)
"""Multiplier and shift that halve."""


def add(arguments: Sequence[relax.Expr], attributes: Attributes, _traits: KernelTraits) -> Kernel:
    """Lower ``tinyml.add``."""
    return _sum("add", arguments, attributes, 1)


def subtract(arguments: Sequence[relax.Expr], attributes: Attributes, _traits: KernelTraits) -> Kernel:
    """Lower ``tinyml.subtract``."""
    return _sum("subtract", arguments, attributes, -1)


def multiply(arguments: Sequence[relax.Expr], attributes: Attributes, _traits: KernelTraits) -> Kernel:
    """Lower ``tinyml.multiply``."""
    zero_points = attributes["input1_zero_point"], attributes["input2_zero_point"]
    dtype = str(arguments[0].ty.dtype)
    largest = largest_offset(zero_points[0], dtype) * largest_offset(zero_points[1], dtype)
    scaling = attributes["output_multiplier"], attributes["output_shift"], largest, attributes["left_shift"]

    def product(x: Expr, y: Expr) -> Expr:
        raw = (x - zero_points[0]) * (y - zero_points[1])
        return clamp(scale(raw, *scaling), attributes, dtype)

    return _binary("multiply", arguments, product)


def lookup(arguments: Sequence[relax.Expr], _attributes: Attributes, _traits: KernelTraits) -> Kernel:
    """Lower ``tinyml.lookup``: one load from a table of 256 entries."""
    x, table = placeholder("x", arguments[0]), placeholder("table", arguments[1])
    offset = 128 if x.dtype == "int8" else 0
    result = te.compute(x.shape, lambda *i: table[x[i].astype("int32") + offset], "output")
    in_place = [0] if x.dtype == result.dtype else []
    return Kernel("lookup", te.create_prim_func([x, table, result]), arguments, in_place=in_place)


def requantize(arguments: Sequence[relax.Expr], attributes: Attributes, _traits: KernelTraits) -> Kernel:
    """Lower ``tinyml.requantize``; where the scale stays, it only clamps."""
    x, zero_point = placeholder("x", arguments[0]), attributes["input_zero_point"]
    multiplier, shift, dtype = attributes["multiplier"], attributes["shift"], f"int{attributes['bits']}"
    largest = largest_offset(zero_point, str(x.dtype))

    def element(*i: tirx.Var) -> Expr:
        value = x[i].astype("int32") - zero_point
        scaled = value if (multiplier, shift) == ONE else scale(value, multiplier, shift, largest)
        return clamp(scaled, attributes, dtype)

    result = te.compute(x.shape, element, "output")
    in_place = [0] if x.dtype == result.dtype else []
    return Kernel("requantize", te.create_prim_func([x, result]), arguments, in_place=in_place)


def _sum(kind: str, arguments: Sequence[relax.Expr], attributes: Attributes, sign: int) -> Kernel:
    return _binary(kind, arguments, sum_of_two(str(arguments[0].ty.dtype), attributes, sign))


def sum_of_two(dtype: str, attributes: Attributes, sign: int = 1) -> Callable[[Expr, Expr], Expr]:
    """Return what makes of two numbers of a type, as int32, the element of a sum, or with -1 of a difference."""

    def side(name: str) -> tuple[int, int, int]:
        """Return multiplier, shift and the largest magnitude of one raised input."""
        largest = largest_offset(attributes[f"{name}_zero_point"], dtype) << attributes["left_shift"]
        if dtype == "int16":
            largest -= 1  # that of the least number is one more, and doubles without overflow all the same
        return attributes[f"{name}_multiplier"], attributes[f"{name}_shift"], largest

    def rescaled(value: Expr, name: str) -> Expr:
        value, left_shift = value - attributes[f"{name}_zero_point"], attributes["left_shift"]
        if dtype == "int16" and side(name)[:2] == HALF:  # of the larger scale, or of both: nothing to round
            return value * (1 << left_shift - 1)
        return scale(value * (1 << left_shift), *side(name))

    largest = sum(largest_scaled(*side(name)) for name in ("input1", "input2"))
    if dtype == "int16":
        # Each is half of what was raised at most: the sum is in [-2**30, 2**30), and doubles without overflow.
        largest = min(largest, RIGHT_LIMIT - 1)

    def combine(x: Expr, y: Expr) -> Expr:
        total = rescaled(x, "input1") + sign * rescaled(y, "input2")
        scaled = scale(total, attributes["output_multiplier"], attributes["output_shift"], largest)
        return clamp(scaled, attributes, dtype)

    return combine


def _binary(kind: str, arguments: Sequence[relax.Expr], combine: Callable[[Expr, Expr], Expr]) -> Kernel:
    """Apply `combine` to two tensors as int32 values, with broadcasting."""
    x, y = placeholder("x", arguments[0]), placeholder("y", arguments[1])
    shapes = [shape_of(argument) for argument in arguments]
    rank = max(len(shape) for shape in shapes)
    padded = [[1] * (rank - len(shape)) + shape for shape in shapes]
    shape = [max(extents) for extents in zip(*padded, strict=True)]

    def element(tensor: te.Tensor, own: list[int], indices: tuple[tirx.Var, ...]) -> Expr:
        kept = indices[rank - len(own) :]
        return tensor[tuple(0 if n == 1 else i for i, n in zip(kept, own, strict=True))].astype("int32")

    result = te.compute(shape, lambda *i: combine(element(x, shapes[0], i), element(y, shapes[1], i)), "output")
    in_place = [i for i, own in enumerate(shapes) if own == shape]
    return Kernel(kind, te.create_prim_func([x, y, result]), arguments, in_place=in_place)
