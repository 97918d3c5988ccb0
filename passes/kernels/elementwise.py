"""Kernels that compute each output element from one element of each input."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tvm import relax, te, tirx
from tvm.ir import Expr

from tvm_tinyml.passes.integer_ops import Attributes, shape_of
from tvm_tinyml.passes.kernels.kernel import Kernel, KernelTraits, placeholder
from tvm_tinyml.passes.kernels.requantize import clamp, largest_offset, largest_scaled, scale


def add(arguments: Sequence[relax.Expr], attributes: Attributes, _traits: KernelTraits) -> Kernel:
    """Lower ``tinyml.add``."""
    return _sum("add", arguments, attributes, 1)


def subtract(arguments: Sequence[relax.Expr], attributes: Attributes, _traits: KernelTraits) -> Kernel:
    """Lower ``tinyml.subtract``."""
    return _sum("subtract", arguments, attributes, -1)


def multiply(arguments: Sequence[relax.Expr], attributes: Attributes, _traits: KernelTraits) -> Kernel:
    """Lower ``tinyml.multiply``."""
    zero_points = attributes["input1_zero_point"], attributes["input2_zero_point"]
    largest = largest_offset(zero_points[0]) * largest_offset(zero_points[1])
    scaling = attributes["output_multiplier"], attributes["output_shift"], largest, attributes["left_shift"]

    def product(x: Expr, y: Expr) -> Expr:
        raw = (x - zero_points[0]) * (y - zero_points[1])
        return clamp(scale(raw, *scaling), attributes)

    return _binary("multiply", arguments, product)


def lookup(arguments: Sequence[relax.Expr], _attributes: Attributes, _traits: KernelTraits) -> Kernel:
    """Lower ``tinyml.lookup``: one load from a table of 256 entries."""
    x, table = placeholder("x", arguments[0]), placeholder("table", arguments[1])
    offset = 128 if x.dtype == "int8" else 0
    result = te.compute(x.shape, lambda *i: table[x[i].astype("int32") + offset], "output")
    in_place = [0] if x.dtype == result.dtype else []
    return Kernel("lookup", te.create_prim_func([x, table, result]), arguments, in_place=in_place)


def _sum(kind: str, arguments: Sequence[relax.Expr], attributes: Attributes, sign: int) -> Kernel:
    def side(name: str) -> tuple[int, int, int]:
        """Return multiplier, shift and the largest magnitude of one raised input."""
        largest = largest_offset(attributes[f"{name}_zero_point"]) << attributes["left_shift"]
        return attributes[f"{name}_multiplier"], attributes[f"{name}_shift"], largest

    def rescaled(value: Expr, name: str) -> Expr:
        raised = (value - attributes[f"{name}_zero_point"]) * (1 << attributes["left_shift"])
        return scale(raised, *side(name))

    largest = sum(largest_scaled(*side(name)) for name in ("input1", "input2"))

    def combine(x: Expr, y: Expr) -> Expr:
        total = rescaled(x, "input1") + sign * rescaled(y, "input2")
        return clamp(scale(total, attributes["output_multiplier"], attributes["output_shift"], largest), attributes)

    return _binary(kind, arguments, combine)


def _binary(kind: str, arguments: Sequence[relax.Expr], combine: Callable[[Expr, Expr], Expr]) -> Kernel:
    """Apply `combine` to two int8 tensors as int32 values, with broadcasting."""
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
