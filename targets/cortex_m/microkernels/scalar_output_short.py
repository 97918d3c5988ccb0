"""The epilogue of cores without SMULL: two multiplications and a shift, chosen so that every output is exact.

TFLite's scaling to int8 is a staircase of at most 255 steps. Between its lowest and its highest step a sum t, counted
from the lowest one, becomes

    (t * upper + (t * lower >> p) + constant) >> n        with lower < 2**p, t < 2**(32 - p),

which is t times a multiplier of 64 - 2 * (32 - p) bits or so, rounded down, in 32-bit arithmetic. Multiplier and
constant are searched for until all steps are where the reference has them (`fit`); the rounding of halves is in the
constant. Where results of either sign are left by the clamp, TFLite's roundings, once up and once away from zero, shift
the negative steps a little; then a second constant is added behind zero.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tvm_tinyml.arithmetic import doubling_high_multiply, multiply_by_quantized_multiplier
from tvm_tinyml.targets.cortex_m.microkernels.output import LARGEST_SUM, Ints

CANDIDATES = 33
"""Multipliers that are tried."""

LEAST_BITS = 8
"""Of a sum: p and lower share a word."""


@dataclass(frozen=True)
class ShortOutput:
    """How a layer scales: part of a microkernel's code.

    Attributes
    ----------
    signed : results of either sign are left by the clamp.
    """

    signed: bool

    @property
    def name(self) -> str:
        """Part of a microkernel's name."""
        return "s" if self.signed else "u"

    @property
    def words(self) -> int:
        """Number of words of a channel, the bias included."""
        return 7 if self.signed else 5

    @property
    def bits(self) -> int:
        """Shift behind the sum of the products."""
        return 23 if self.signed else 24

    def requantize(
        self, t: str, spare: str, highest: str, *, upper: str, lower: str, p: str, constant: str
    ) -> list[str]:
        """Return the first half of the instructions that turn the sum in ``t`` into the output byte.

        Parameters
        ----------
        t, spare, upper, lower, p : low registers; t and spare are overwritten.
        highest, constant : any registers.
        """
        clamp = [f"cmp {t}, {highest}", "bls 9f", f"asrs {spare}, {t}, #31", f"mov {t}, {highest}"]
        product = [f"movs {spare}, {t}", f"muls {spare}, {lower}, {spare}", f"lsrs {spare}, {p}"]
        product += [f"muls {t}, {upper}, {t}", f"adds {t}, {spare}", f"add {t}, {constant}"]
        return [*clamp, f"bics {t}, {spare}", "9:", *product]

    def finish(self, t: str, spare: str, *, step: str, constant: str, fetch: Sequence[str] = ()) -> list[str]:
        """Return the second half.

        Parameters
        ----------
        step : low register.
        constant : any register, the second constant; with ``step`` used for a sign only.
        fetch : instructions that load the second constant, in front of its use.
        """
        behind = [f"asrs {spare}, {t}, #31", f"ands {spare}, {step}", f"adds {t}, {spare}", *fetch]
        behind += [f"add {t}, {constant}"]
        return [*(behind if self.signed else []), f"lsrs {t}, {t}, #{self.bits}"]

    def portable(self) -> str:
        """Return C code that makes an int8 ``result`` of ``sum`` with ``scale``, the words of `fit`."""
        behind = "bits = (bits >> 31 ? bits + (uint32_t)scale[4] : bits) + (uint32_t)scale[5];\n" if self.signed else ""
        return (
            "const uint32_t t = sum < 0 ? 0 : sum > scale[2] ? (uint32_t)scale[2] : (uint32_t)sum;\n"
            "const uint32_t lower = (uint32_t)scale[0] & 0xFFFFFF, fraction = (uint32_t)scale[0] >> 24;\n"
            "uint32_t bits = t * (uint32_t)scale[1] + (t * lower >> fraction) + (uint32_t)scale[3];\n"
            f"{behind}"
            f"const uint32_t byte = bits >> {self.bits} & 255;\n"
            "const int8_t result = (int8_t)(byte > 127 ? (int32_t)byte - 256 : (int32_t)byte);\n"
        )


def fit(
    weight: Ints, bias: Ints, multiplier: Ints, shift: Ints, zero_point: Ints, low: int, high: int
) -> tuple[ShortOutput, Ints] | None:
    """Return the epilogue and its words for each channel, or None if there is none for a channel.

    The words are [O, words]: lower + p * 2**24, upper, highest, constant; with a sign what is added behind zero, and
    the second constant; last what is added to a sum without its bias.

    Parameters
    ----------
    weight : [O, K], of which the range of the sums follows.
    bias, multiplier, shift, zero_point : [O]; the shift is to the right.
    low, high : clamp.
    """
    positive, negative = np.maximum(weight, 0).sum(axis=1), np.minimum(weight, 0).sum(axis=1)
    least, most = bias - 128 * positive + 127 * negative, bias + 127 * positive - 128 * negative
    if min(least.min(), -most.max()) <= -LARGEST_SUM:
        return None
    stairs = _Staircase.of(multiplier, shift, zero_point, (least, most), (low, high))
    for output in (ShortOutput(signed=False), ShortOutput(signed=True)):
        words = _search(output, stairs, multiplier, shift)
        if words is not None:
            words[:, -1] = bias - stairs.first
            return output, words
    return None


@dataclass(frozen=True)
class _Staircase:
    """Where the outputs of each channel are. Sums are counted from the first one that is told apart.

    Attributes
    ----------
    first : [O], that sum: in front of the first step, or the least there is.
    start : [O], the output there.
    highest : [O], the first sum of the last step, or the largest there is.
    steps, outputs, inside : [O, N], sums from which on the outputs are at least so large, if they are between the two.
    zero : [O], the first sum whose first rounding is not negative.
    """

    first: Ints
    start: Ints
    highest: Ints
    steps: Ints
    outputs: Ints
    inside: NDArray[np.bool_]
    zero: Ints

    @classmethod
    def of(
        cls, multiplier: Ints, shift: Ints, zero_point: Ints, sums: tuple[Ints, Ints], clamp: tuple[int, int]
    ) -> _Staircase:
        m, s, (least, most), (low, high) = multiplier[:, None], shift[:, None], sums, clamp

        def scaled(sums: Ints) -> Ints:
            value = multiply_by_quantized_multiplier(sums, m, -s).astype(np.int64) + zero_point[:, None]
            return np.asarray(np.clip(value, low, high), np.int64)

        outputs = np.arange(low + 1, high + 1)[None, :]
        steps = _first(lambda sums: scaled(sums) >= outputs, least, most, outputs.size)
        zero = _first(lambda sums: doubling_high_multiply(sums, m) >= 0, least, most, 1)[:, 0]
        first = np.clip(steps[:, 0] - 1, least, most)
        last = np.maximum(np.minimum(steps[:, -1], most), first)
        inside = (steps > first[:, None]) & (steps <= last[:, None])
        start = scaled(first[:, None])[:, 0]
        return cls(first, start, last - first, steps - first[:, None], outputs, inside, zero - first)


def _first(holds: Callable[[Ints], NDArray[np.bool_]], least: Ints, most: Ints, count: int) -> Ints:
    """Return, [O, count], the first sums for which a condition holds that holds for all larger ones, too.

    Parameters
    ----------
    least, most : [O], sums. Where it holds for none, one more.
    """
    low, high = (np.repeat(bound[:, None], count, axis=1) for bound in (least, most + 1))
    while (low < high).any():
        middle = (low + high) >> 1
        found = holds(middle) | (middle >= high)
        low, high = np.where(found, low, middle + 1), np.where(found, np.minimum(middle, high), high)
    return low


def _search(output: ShortOutput, stairs: _Staircase, multiplier: Ints, shift: Ints) -> Ints | None:
    """Try multipliers near the exact one, until all steps are in place for every channel."""
    n = output.bits
    p = 32 - np.maximum(np.ceil(np.log2(stairs.highest + 1)).astype(np.int64), LEAST_BITS)
    if (p < 1).any():
        return None
    up = n + p - 31 - shift
    ideal = np.where(up >= 0, multiplier << np.maximum(up, 0), multiplier >> np.maximum(-up, 0))
    behind = np.where(shift > 0, 1 << np.maximum(n - shift, 0), 0) * output.signed
    words = np.zeros((len(multiplier), output.words), np.int64)
    missing = np.ones(len(multiplier), np.bool_)
    for candidate in range(CANDIDATES):
        factor = ideal + (candidate + 1) // 2 * (1 if candidate % 2 else -1)
        least, most = _constants(output, stairs, factor, p, behind)
        use = missing & (least <= most) & (factor >= 0)
        total = (least + most) >> 1
        first = _zero_at_the_sign(stairs, factor, p) if output.signed else total
        lower = (factor & ((1 << p) - 1)) + (p << 24)
        value = [lower, factor >> p, stairs.highest, first, behind, total - first]
        words[use, :-1] = np.stack(value[: output.words - 1], axis=1)[use]
        missing &= ~use
        if not missing.any():
            return words
    return None


def _product(t: Ints, factor: Ints, p: Ints) -> Ints:
    return np.asarray(t * factor >> p)


def _constants(output: ShortOutput, stairs: _Staircase, factor: Ints, p: Ints, behind: Ints) -> tuple[Ints, Ints]:
    """Return the least and the largest constant, [O], with which every step is in its place."""
    inside, bound, none = stairs.inside, stairs.outputs << output.bits, np.iinfo(np.int64)

    def value(t: Ints) -> Ints:
        return _product(t, factor[:, None], p[:, None]) + behind[:, None] * (t >= stairs.zero[:, None])

    least = np.where(inside, bound - value(np.where(inside, stairs.steps, 0)), none.min).max(axis=1)
    most = np.where(inside, bound - 1 - value(np.where(inside, stairs.steps - 1, 0)), none.max).min(axis=1)
    end = np.where(inside, stairs.outputs, stairs.start[:, None]).max(axis=1, initial=-128)
    of_first = (stairs.start << output.bits) - value(np.zeros((len(p), 1), np.int64))[:, 0]
    of_last = ((end + 1) << output.bits) - 1 - value(stairs.highest[:, None])[:, 0]
    return np.maximum(least, of_first), np.minimum(most, of_last)


def _zero_at_the_sign(stairs: _Staircase, factor: Ints, p: Ints) -> Ints:
    """Return a constant, [O], that puts the first sum behind zero, and no sum in front of it, from 2**31 on."""
    zero = stairs.zero
    before, at = (_product(np.clip(t, 0, stairs.highest), factor, p) for t in (zero - 1, zero))
    return np.where(zero <= 0, 1 << 31, np.where(zero > stairs.highest, 0, (1 << 31) - ((before + at + 1) >> 1)))
