"""The epilogue on vectors of four sums, exact where that of `output` is: from int32 to bytes in five to nine steps.

VQRDMULH rounds a product as TFLite does: it is the first rounding. What is added before the second, a plain shift,
is half a unit and the zero point; halves of negative numbers are corrected by the sign where no clamp hides them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tvm_tinyml.targets.cortex_m.microkernels.output import Ints, Output, rounding_constant

MVE = "defined(__ARM_FEATURE_MVE)"
"""When the C form takes the assembly."""

LANES = 4
"""Sums of a vector."""

_WHOLE = (-128, 127)


def scale(output: Output, sums: Sequence[str], multiplier: str, constant: str, shift: str, spare: str) -> list[str]:
    """Return the steps from sums to values that are not yet clamped; all are vectors. ``shift`` is to the left."""
    lines = [f"vqrdmulh.s32 {q}, {q}, {multiplier}" for q in sums]
    if output.corrected:
        for q in sums:
            lines += [f"vshr.s32 {spare}, {q}, #31", f"vadd.i32 {q}, {q}, {spare}"]
    lines += [f"vadd.i32 {q}, {q}, {constant}" for q in sums]
    return [*lines, *(f"vshl.s32 {q}, {q}, {shift}" for q in sums)]


def clamp(output: Output, values: Sequence[str], low: str, high: str) -> list[str]:
    """Return the steps that leave a clamped byte at the bottom of each word; ``low`` and ``high`` are overwritten."""
    if (output.low, output.high) == _WHOLE:
        words = [f"vqmovnb.s32 {q}, {q}" for q in values]
        return [*words, *(f"vqmovnb.s16 {q}, {q}" for q in values)]
    lines = [_immediate(low, output.low, "i32"), _immediate(high, output.high, "i32")]
    for q in values:
        lines += [f"vmax.s32 {q}, {q}, {low}", f"vmin.s32 {q}, {q}, {high}"]
    return lines


def clamp_halves(output: Output, values: str, low: str, high: str) -> list[str]:
    """Return the steps that leave a clamped byte at the bottom of each half; ``low`` and ``high`` are overwritten."""
    if (output.low, output.high) == _WHOLE:
        return [f"vqmovnb.s16 {values}, {values}"]
    bounds = [_immediate(low, output.low, "i16"), _immediate(high, output.high, "i16")]
    return [*bounds, f"vmax.s16 {values}, {values}, {low}", f"vmin.s16 {values}, {values}, {high}"]


def _immediate(vector: str, value: int, lane: str) -> str:
    return f"vmov.{lane} {vector}, #{value}" if value >= 0 else f"vmvn.{lane} {vector}, #{~value}"


def scale_words(bias: Ints, multiplier: Ints, shift: Ints, zero_point: Ints) -> NDArray[np.int32]:
    """Return the constants of groups of channels, [..., 4, channels]: bias, multiplier, constant, shift to the left."""
    rows = [bias, multiplier, rounding_constant(shift, zero_point), -shift]
    return np.stack(rows, axis=-2).astype(np.int32)
