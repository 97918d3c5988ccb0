"""Affine functions of a few int8 values, rounded to int8: one SMLAW for each value, one SSAT, proven at compile time.

Sums of two tensors and averages are, by their definition, several multiplications with roundings of their own. But
their arguments take so few values that all results can be listed. SMLAW multiplies 32 bits by a half and adds, which is
fine enough that one of its functions nearly always has that very list; it is used only if it has.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Sequence
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


@dataclass(frozen=True)
class Function:
    """A function of a few values and all its results.

    Attributes
    ----------
    values : what each argument can be: halves.
    slopes, offset : of the function before rounding, in units of the result.
    zero_point : added after rounding.
    low, high : clamp, int8.
    expected : int64, a result for each combination of values, one axis for each argument.
    """

    values: Sequence[Ints]
    slopes: Sequence[float]
    offset: float
    zero_point: int
    low: int
    high: int
    expected: Ints

    @property
    def reach(self) -> float:
        """A bound of the magnitude of all sums, in units of the result."""
        terms = (abs(slope) * np.abs(value).max() for slope, value in zip(self.slopes, self.values, strict=True))
        return float(abs(self.offset) + abs(self.zero_point) + 1 + sum(terms))


def fit(function: Function) -> Affine | None:
    """Return an affine function that has exactly the expected results, or None if none was found."""
    room = (_room(function.reach), *(_room(slope) - FRACTION_BITS for slope in function.slopes))
    shift = min(MOST_SHIFT, *room)
    if shift < 1:
        return None
    for more in (1, 0):
        # A factor that is a little too large takes halves away from zero, on both sides.
        exact = [slope * 2.0 ** (shift + FRACTION_BITS) for slope in function.slopes]
        factors = tuple(int(factor) + int(math.copysign(more, factor)) for factor in exact)
        if max(map(abs, factors)) < WORD:
            for affine in (_plain(function, factors, shift), *_corrected(function, factors, shift)):
                if _is_exact(affine, function):
                    return affine
    return None


def _plain(function: Function, factors: tuple[int, ...], shift: int) -> Affine:
    """Return the function with the offset nearest to the given one that has the expected results, if there is any."""
    products, expected = _products(factors, function.values), function.expected
    least = np.where(expected > function.low, (expected << shift) - products, -WORD).max()
    most = np.where(expected < function.high, ((expected + 1) << shift) - 1 - products, WORD).min()
    middle = round((function.offset + function.zero_point + 0.5) * (1 << shift))
    rounding = Rounding(shift, False, function.low, function.high)
    return Affine(rounding, factors, int(np.clip(middle, least, most)), 0)


def _corrected(function: Function, factors: tuple[int, ...], shift: int) -> Iterator[Affine]:
    rounding = Rounding(shift, True, function.low, function.high)
    offset, constant = round(function.offset * (1 << shift)), (2 * function.zero_point + 1) << (shift - 1)
    for near in (0, 1, 2, -1):
        yield Affine(rounding, factors, offset + near, constant)


def _is_exact(affine: Affine, function: Function) -> bool:
    total = affine.offset + _products(affine.factors, function.values)
    if affine.rounding.corrected:
        total = total + (total >> 31) + affine.constant
    inside = abs(affine.offset) < WORD and (np.abs(total) < WORD).all()
    results = np.clip(total >> affine.rounding.shift, function.low, function.high)
    return bool(inside and (results == function.expected).all())


def _room(magnitude: float) -> int:
    """Return by how many bits a number can be moved to the left and stays below a word's magnitude."""
    return 31 - math.frexp(magnitude)[1]


def _products(factors: Sequence[int], values: Sequence[Ints]) -> Ints:
    each = [factor * value >> FRACTION_BITS for factor, value in zip(factors, values, strict=True)]
    return np.asarray(functools.reduce(np.add.outer, each), np.int64)
