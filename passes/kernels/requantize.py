"""The epilogue of every kernel that accumulates: from int32 to int8 or int16, rounded as TFLite does."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from tvm import te, tirx
from tvm.ir import Expr

from tvm_tinyml.arithmetic import RANGES, quantize_multiplier
from tvm_tinyml.passes.integer_ops import Attributes

RIGHT_LIMIT = 1 << 30
"""``tinyml_requantize_right`` is exact for numbers in [-RIGHT_LIMIT, RIGHT_LIMIT): it doubles them in 32 bits."""

ONE = quantize_multiplier(1.0)
"""Multiplier and shift that change nothing."""


def requantize_helper(shift: NDArray[np.generic], largest: int) -> str:
    """Return the cheapest helper that is exact for all these shifts and for numbers of that magnitude.

    A scale below one half (every shift at most -1) needs no left shift and no test for a shift of zero: three
    instructions on a core with SMMULR.

    Parameters
    ----------
    largest : bound of the magnitude of what is scaled.
    """
    right = int(shift.max()) <= -1 and largest < RIGHT_LIMIT
    return "tinyml_requantize_right" if right else "tinyml_requantize"


def scale(value: Expr, multiplier: int, shift: int, largest: int, left_shift: int = 0) -> Expr:
    """Return `value`, of magnitude `largest` at most, scaled by ``2**left_shift * multiplier * 2**(shift - 31)``.

    The left shift comes before the multiplication and must not overflow.
    """
    helper = requantize_helper(np.asarray([shift]), largest << left_shift)
    if left_shift:
        value = value * (1 << left_shift)
    return tirx.call_pure_extern("int32", helper, value, tirx.IntImm("int32", multiplier), tirx.IntImm("int32", shift))


def largest_scaled(multiplier: int, shift: int, largest: int) -> int:
    """Return a bound of the magnitude of `scale`'s result, both roundings included."""
    return (largest * abs(multiplier) >> (31 - shift)) + 2


def largest_offset(zero_point: int, dtype: str = "int8") -> int:
    """Return the largest magnitude of a number of a type less `zero_point`."""
    least, largest = RANGES[dtype]
    return max(largest - zero_point, zero_point - least)


def clamp(value: Expr, attributes: Attributes, dtype: str = "int8") -> Expr:
    """Return `value` plus the output zero point, clamped, as int8 or int16."""
    return saturate(value + attributes["output_zero_point"], attributes, dtype)


def saturate(value: Expr, attributes: Attributes, dtype: str = "int8") -> Expr:
    """Return an int32 `value` clamped to the activation's range, as int8 or int16."""
    # The helper is one SSAT; written as min and max, LLVM moves the zero point past it and needs six instructions.
    bounded = tirx.call_pure_extern("int32", f"tinyml_saturate_s{dtype.removeprefix('int')}", value)
    low, high = attributes["clamp_min"], attributes["clamp_max"]
    least, largest = RANGES[dtype]
    if low > least:
        bounded = te.max(bounded, tirx.IntImm("int32", low))
    if high < largest:
        bounded = te.min(bounded, tirx.IntImm("int32", high))
    return bounded.astype(dtype)
