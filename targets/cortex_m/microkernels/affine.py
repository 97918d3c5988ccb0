"""Affine functions of a few int8 values, rounded to int8: one SMLAW for each value, one SSAT, proven at compile time.

Sums of two tensors and averages are, by their definition, several multiplications with roundings of their own. But
their arguments take so few values that all results can be listed. SMLAW multiplies 32 bits by a half and adds, which is
fine enough that one of its functions nearly always has that very list; it is used only if it has.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tvm_tinyml.targets.cortex_m.microkernels.output import Ints, clamp

WORD = 1 << 31
"""Magnitudes of factors and sums stay below."""

MOST_SHIFT = 20
"""Bits behind the point that have been enough for all sums; with the same number layers share a kernel."""

FRACTION_BITS = 16
"""That SMLAW drops of a product."""


@dataclass(frozen=True)
class Rounding:
    """From a sum to int8: part of a microkernel's code.

    Attributes
    ----------
    shift : bits of the sum behind the point.
    corrected : halves of negative sums are rounded away from zero by two more instructions.
    low, high : clamp, int8.
    """

    shift: int
    corrected: bool
    low: int
    high: int

    @property
    def name(self) -> str:
        """Part of a microkernel's name."""
        bounds = "" if (self.low, self.high) == (-128, 127) else f"_{self.low & 0xFF}_{self.high & 0xFF}"
        return f"{self.shift}{'c' if self.corrected else ''}{bounds}"

    def finish(self, register: str, constant: str) -> list[str]:
        """Return the instructions that round the sum in a register; ``constant`` is one, too, for corrected sums."""
        correct = [f"add {register}, {register}, {register}, asr #31", f"add {register}, {register}, {constant}"]
        saturate = f"ssat {register}, #8, {register}, asr #{self.shift}"
        return [*(correct if self.corrected else []), saturate, *clamp(register, self.low, self.high)]

    def portable(self, constant: str) -> str:
        """Return a C expression that rounds ``sum``; ``constant`` is an expression, too."""
        total = f"sum + (sum >> 31) + {constant}" if self.corrected else "sum"
        return f"(int8_t)tinyml_bound(({total}) >> {self.shift}, {self.low}, {self.high})"


@dataclass(frozen=True)
class Affine:
    """``factors[i] * value[i] / 2**16``, each rounded down, plus ``offset``, rounded.

    ``constant`` is added to a corrected sum: half a unit, and the zero point.
    """

    rounding: Rounding
    factors: tuple[int, ...]
    offset: int
    constant: int

    @property
    def words(self) -> NDArray[np.int32]:
        """What a microkernel reads: factors, offset, constant."""
        return np.array([*self.factors, self.offset, self.constant], np.int32)

    def is_exact(self, values: Sequence[Ints], expected: Ints) -> bool:
        """Return whether all combinations of values have the expected results, without an overflow."""
        total = self.offset + _products(self.factors, values)
        if self.rounding.corrected:
            total = total + (total >> 31) + self.constant
        results = np.clip(total >> self.rounding.shift, self.rounding.low, self.rounding.high)
        return bool((results == expected).all() and (np.abs(total) < WORD).all() and abs(self.offset) < WORD)


def fit(
    values: Sequence[Ints],
    slopes: Sequence[float],
    offset: float,
    zero_point: int,
    expected: Ints,
    clamped: tuple[int, int],
) -> Affine | None:
    """Return an affine function that has exactly the expected results, or None if none was found.

    Parameters
    ----------
    values : what each argument can be: halves.
    slopes, offset : of the function before rounding, in units of the result.
    zero_point : added after rounding.
    expected : int64, a result for each combination of values, one axis for each argument.
    clamped : bounds of the result, int8.
    """
    reach = (
        abs(offset) + abs(zero_point) + 1 + sum(abs(s) * np.abs(v).max() for s, v in zip(slopes, values, strict=True))
    )
    shift = min(MOST_SHIFT, _room(reach), *(_room(slope) - FRACTION_BITS for slope in slopes))
    if shift < 1:
        return None
    factors = tuple(int(slope * 2.0 ** (shift + FRACTION_BITS)) for slope in slopes)
    one, half, (low, high) = 1 << shift, 1 << (shift - 1), clamped
    # Every offset from the least to the most has the expected results, whatever is clamped left out.
    products = _products(factors, values)
    least = np.where(expected > low, (expected << shift) - products, -WORD).max()
    most = np.where(expected < high, ((expected + 1) << shift) - 1 - products, WORD).min()
    middle = round((offset + zero_point) * one) + half
    candidates = [Affine(Rounding(shift, False, low, high), factors, int(np.clip(middle, least, most)), 0)]
    for more in (0, 1, 2, -1):
        rounding, start = Rounding(shift, True, low, high), round(offset * one) + more
        candidates.append(Affine(rounding, factors, start, (zero_point << shift) + half))
    return next((affine for affine in candidates if affine.is_exact(values, expected)), None)


def _room(magnitude: float) -> int:
    """Return by how many bits a number can be moved to the left and stays below a word's magnitude."""
    return 31 - math.frexp(magnitude)[1]


def _products(factors: Sequence[int], values: Sequence[Ints]) -> Ints:
    each = [factor * value >> FRACTION_BITS for factor, value in zip(factors, values, strict=True)]
    return np.asarray(functools.reduce(np.add.outer, each), np.int64)
