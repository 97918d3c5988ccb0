"""The epilogue of a microkernel: from a doubled int32 sum to int8 in three to eight instructions, exactly.

TFLite multiplies with rounding and then shifts with rounding, halves away from zero (gemmlowp). SMMLAR of the doubled
sum is the first, and adds a constant that is the second's half and the zero point. Halves of negative numbers need one
more instruction, a correction by the sign, unless the clamp hides it: a negative number that the zero point does not
lift above the lower clamp ends there with any rounding.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]

LARGEST_SHIFT = 22
"""To the right; the zero point shifted left by more would not fit beside the product."""

LARGEST_SUM = 1 << 30
"""Sums of a magnitude below this can be doubled."""


@dataclass(frozen=True)
class Output:
    """How a layer rounds and clamps: part of a microkernel's code.

    Attributes
    ----------
    corrected : halves of negative numbers are rounded away from zero by an instruction of their own.
    low, high : clamp, int8.
    """

    corrected: bool
    low: int
    high: int

    @property
    def name(self) -> str:
        """Part of a microkernel's name."""
        bounds = "" if (self.low, self.high) == (-128, 127) else f"_{self.low & 0xFF}_{self.high & 0xFF}"
        return ("c" if self.corrected else "r") + bounds

    def requantize(self, register: str, multiplier: str, constant: str, shift: str) -> list[str]:
        """Return the instructions that turn the doubled sum in ``register`` into the output value.

        multiplier, constant, shift : registers; the constant is `rounding_constant` of the channel.
        """
        return [*self.scale(register, multiplier, constant), *self.bound(register, shift)]

    def scale(self, register: str, multiplier: str, constant: str) -> list[str]:
        """Return the first half of `requantize`: all but shift and clamp."""
        if not self.corrected:
            return [f"smmlar {register}, {register}, {multiplier}, {constant}"]
        correct = [f"add {register}, {register}, {register}, asr #31", f"add {register}, {register}, {constant}"]
        return [f"smmulr {register}, {register}, {multiplier}", *correct]

    def bound(self, register: str, shift: str) -> list[str]:
        """Return the second half of `requantize`."""
        lines = [f"asr {register}, {register}, {shift}", f"ssat {register}, #8, {register}"]
        return [*lines, *clamp(register, self.low, self.high)]

    def portable(self) -> str:
        """Return C code that makes an int8 ``result`` of ``sum``, with the channel's ``m``, ``c`` and ``s``."""
        correct = " + (high >> 31)" if self.corrected else ""
        return (
            "const int32_t high = tinyml_multiply_q31(sum, m);\n"
            f"const int32_t value = (high{correct} + c) >> s;\n"
            f"const int8_t result = (int8_t)tinyml_bound(value, {self.low}, {self.high});\n"
        )


def clamp(register: str, low: int, high: int, least: int = -128) -> list[str]:
    """Return the instructions that clamp a value of 8 bits, ``least`` or more; none for a bound that it has anyway."""
    lines = []
    if high < least + 255:
        lines += [f"cmp {register}, #{high}", "it gt", f"movgt {register}, #{high}"]
    if low > least:
        move = f"movlt {register}, #{low}" if low >= 0 else f"mvnlt {register}, #{~low}"
        lines += [f"cmp {register}, #{low}", "it lt", move]
    return lines


def choose_output(zero_point: int, low: int, high: int) -> Output:
    """Return how to round: without the correction where the clamp hides it."""
    return Output(corrected=low < zero_point, low=low, high=high)


def rounding_constant(shift: Ints, zero_point: Ints) -> Ints:
    """Return what is added before a right shift of ``shift`` bits: half a unit, and the zero point."""
    half = np.where(shift > 0, 1 << np.maximum(shift - 1, 0), 0)
    return np.asarray(half + (zero_point << shift), np.int64)


def exact(shift: Ints, largest: Ints, output: Output) -> NDArray[np.bool_]:
    """Return for which channels the epilogue is exact.

    Parameters
    ----------
    shift : to the right, of each channel; below 0 is a shift to the left.
    largest : magnitude of each channel's sum, at most.
    """
    least = 1 if output.corrected else 0  # the correction must not be where nothing is rounded
    return np.asarray((shift >= least) & (shift <= LARGEST_SHIFT) & (largest < LARGEST_SUM))
