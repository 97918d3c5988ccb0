"""From the sums of a layer with weights to its results: bias, requantization and clamp of each output channel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from tvm import relax, te, tirx
from tvm.ir import Expr

from tvm_tinyml.arithmetic import reduced_multiplier
from tvm_tinyml.passes.integer_ops import Attributes, then_of
from tvm_tinyml.passes.kernels.elementwise import sum_of_two
from tvm_tinyml.passes.kernels.kernel import constant, placeholder
from tvm_tinyml.passes.kernels.requantize import clamp, requantize_helper
from tvm_tinyml.passes.kernels.sums import largest_sum

SHORT = "tinyml_requantize_reduced"
"""The helper of 64-bit sums that are known to fit 32 bits: one SMMULR."""

LONG = "tinyml_requantize_reduced_long"
"""The helper of all other 64-bit sums."""

MOST_RIGHT = 15
"""Bits of a multiplier's lower half that `SHORT` can use: it takes even ones."""


@dataclass(frozen=True)
class Scaling:
    """How sums are scaled, and what of it is stored.

    Attributes
    ----------
    accumulator : type of the sums: int32 where it holds all that inputs can make, or where wrapping is meant.
    helper, takes : what scales, and the type that it does so with.
    left : bits that sums are shifted before, so that every channel's shift is one that the helper takes.
    bias : [O].
    factors : arguments of the helper behind the sum, by name, [O] each.
    """

    accumulator: str
    helper: str
    takes: str
    left: int
    bias: NDArray[np.generic]
    factors: Mapping[str, NDArray[np.generic]]

    @classmethod
    def of(cls, dtype: str, weight: NDArray[np.generic], *values: NDArray[np.generic]) -> Scaling:
        """Choose for inputs of a type, weights [O, ...], biases, multipliers and shifts [O]."""
        bias, multiplier, shift = values
        largest = largest_sum(weight, bias, dtype)
        # Sums of int16 may pass 32 bits; those with a narrow bias wrap to them in the end.
        accumulator = "int32" if dtype == "int8" or largest < 2**31 else "int64"
        if bias.dtype == np.int32:
            factors = {"multiplier": multiplier, "shift": shift.astype(np.int8)}
            return cls(accumulator, requantize_helper(shift, largest), "int32", 0, bias, factors)
        # The upper word of a product with a multiplier of 15 bits in the upper half of a word is 16 bits to the right
        # already. What a channel lacks to that is taken off its multiplier, whose lower half is 0; what it has too
        # much the sum is shifted left.
        upper, right = reduced_multiplier(multiplier) << 16, -1 - shift.astype(np.int32)
        left = max(0, -int(right.min()))
        if largest << left < 2**31 and int(right.max()) + left <= MOST_RIGHT:
            return cls("int32", SHORT, "int32", left, bias.astype(np.int32), {"multiplier": upper >> (right + left)})
        factors = {"multiplier": upper, "shift": right.astype(np.int8)}
        return cls(accumulator, LONG, "int64", 0, bias.astype(accumulator), factors)


class Epilogue:
    """Bias, requantization and clamp of one output channel, and the sum with another tensor where there is one.

    What all channels share is stored once, and not part of the code, so that layers share that, too.

    Parameters
    ----------
    dtype : of inputs and results.
    arguments : weights, biases, multipliers and shifts; behind them the tensor of ``tinyml.conv2d_add``.
    shape : of the result.

    Attributes
    ----------
    accumulator : type of the sums.
    arguments, parameters : what the kernel reads beside inputs and weights, and how it sees it: constants, then that
        tensor.
    """

    def __init__(
        self, dtype: str, arguments: Sequence[relax.Expr], attributes: Attributes, shape: Sequence[int]
    ) -> None:
        self._dtype, self._attributes = dtype, attributes
        numbers, added = arguments[:4], arguments[4:]
        self._scaling = Scaling.of(dtype, *(constant(argument) for argument in numbers))
        self.accumulator = self._scaling.accumulator
        values = {"bias": self._scaling.bias, **self._scaling.factors}
        stored = {name: v[:1] if (v == v[0]).all() else v for name, v in values.items()}
        constants = [relax.const(v, str(v.dtype)) for v in stored.values()]
        self._constants = [placeholder(name, argument) for name, argument in zip(stored, constants, strict=True)]
        self._added = [te.placeholder(shape, dtype, "added") for _ in added]
        self.arguments = [*constants, *(relax.op.reshape(tensor, shape) for tensor in added)]
        self.parameters = [*self._constants, *self._added]

    def product(self, x: Expr, weight: Expr) -> Expr:
        """Return the product of two elements in the type of the sums."""
        x, weight = x.astype("int32"), weight.astype("int32")
        if self.accumulator == "int32":
            return x * weight
        return tirx.call_pure_extern("int64", "tinyml_product_s64", x, weight)

    def __call__(self, accumulator: Expr, channel: tirx.Var, indices: Sequence[tirx.Var]) -> Expr:
        """Return the element of the result with these indices, which is of that channel, from its sum."""
        shared = [int(parameter.shape[0]) == 1 for parameter in self._constants]
        values = [p[0 if once else channel] for p, once in zip(self._constants, shared, strict=True)]
        total = (accumulator + values[0].astype(self.accumulator)).astype(self._scaling.takes)
        if self._scaling.left:
            total = total * (1 << self._scaling.left)
        factors = (value.astype("int32") for value in values[1:])
        scaled = tirx.call_pure_extern("int32", self._scaling.helper, total, *factors)
        result = clamp(scaled, self._attributes, self._dtype)
        for tensor in self._added:
            add = sum_of_two(self._dtype, then_of(self._attributes))
            result = add(result.astype("int32"), tensor[tuple(indices)].astype("int32"))
        return result
