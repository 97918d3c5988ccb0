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

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from tvm_tinyml.arithmetic import doubling_high_multiply, multiply_by_quantized_multiplier
from tvm_tinyml.targets.cortex_m.microkernels.output import LARGEST_SUM, Ints

CANDIDATES, MORE_BITS = 9, 3
"""Multipliers that are tried, and bits of p beyond those that always leave room for the lower product."""

FAR = 1 << 61
"""Beyond all constants."""

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
    def form(self) -> str:
        """What a guard calls it."""
        return "short, of either sign" if self.signed else "short"

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
    for output, words, found in _attempts(weight, (bias, multiplier, shift, zero_point), (low, high)):
        if found.all():
            return output, words
    return None


def fitting(
    weight: Ints, bias: Ints, multiplier: Ints, shift: Ints, zero_point: Ints, low: int, high: int
) -> NDArray[np.bool_]:
    """Return for which channels there is an epilogue, [O], of the kind that most of them have: see `fit`."""
    found = [found for *_, found in _attempts(weight, (bias, multiplier, shift, zero_point), (low, high))]
    return max(found, key=np.count_nonzero)


def _attempts(
    weight: Ints, scale: Sequence[Ints], clamp: tuple[int, int]
) -> Iterator[tuple[ShortOutput, Ints, NDArray[np.bool_]]]:
    """Return each kind of epilogue with its words and the channels, [O], for which they are exact."""
    bias, multiplier, shift, zero_point = scale
    positive, negative = np.maximum(weight, 0).sum(axis=1), np.minimum(weight, 0).sum(axis=1)
    least, most = bias - 128 * positive + 127 * negative, bias + 127 * positive - 128 * negative
    small = np.maximum(-least, most) < LARGEST_SUM
    sums = np.where(small, least, 0), np.where(small, most, 0)
    key = tuple(np.asarray(each, np.int64).tobytes() for each in (multiplier, shift, zero_point, *sums))
    for signed in (False, True):
        output, words, first, found = _solved(key, clamp, signed)
        words = words.copy()
        words[:, -1] = bias - first
        yield output, words, found & small


@lru_cache(maxsize=128)
def _solved(
    key: tuple[bytes, ...], clamp: tuple[int, int], signed: bool
) -> tuple[ShortOutput, Ints, Ints, NDArray[np.bool_]]:
    """Return a kind of epilogue, its words, first sums, and for which channels it is exact.

    A layer is asked about more than once: whether a recipe takes it, which form, for its kernel.

    Parameters
    ----------
    key : bytes of multipliers, shifts, zero points, least and largest sums, int64 [O] each.
    """
    multiplier, shift, zero_point, *sums = (np.frombuffer(each, np.int64) for each in key)
    stairs = _Staircase.of(multiplier, shift, zero_point, (sums[0], sums[1]), clamp)
    output = ShortOutput(signed=signed)
    words, found = _search(output, stairs, multiplier, shift)
    return output, words, stairs.first, found


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
    around_zero : [2, O], the outputs in front of that sum, and there.
    """

    first: Ints
    start: Ints
    highest: Ints
    steps: Ints
    outputs: Ints
    inside: NDArray[np.bool_]
    zero: Ints
    around_zero: Ints

    @classmethod
    def of(
        cls, multiplier: Ints, shift: Ints, zero_point: Ints, sums: tuple[Ints, Ints], clamp: tuple[int, int]
    ) -> _Staircase:
        m, s, (least, most), (low, high) = multiplier[:, None], shift[:, None], sums, clamp

        def scaled(sums: Ints) -> Ints:
            value = multiply_by_quantized_multiplier(sums, m, -s).astype(np.int64) + zero_point[:, None]
            return np.asarray(np.clip(value, low, high), np.int64)

        outputs = np.arange(low + 1, max(high, low + 1) + 1)[None, :]  # one at least, which a clamp may never reach
        steps = _first(lambda sums: scaled(sums) >= outputs, least, most, outputs.size)
        zero = _first(lambda sums: doubling_high_multiply(sums, m) >= 0, least, most, 1)[:, 0]
        first = np.clip(steps[:, 0] - 1, least, most)
        last = np.maximum(np.minimum(steps[:, -1], most), first)
        inside = (steps > first[:, None]) & (steps <= last[:, None])
        start, *around_zero = (scaled(total[:, None])[:, 0] for total in (first, zero - 1, zero))
        steps = steps - first[:, None]
        outputs = np.broadcast_to(outputs, steps.shape)
        return cls(first, start, last - first, steps, outputs, inside, zero - first, np.stack(around_zero))

    def of_channels(self, which: Ints) -> _Staircase:
        """Return the same of some channels only."""
        rows = {name: value[which] for name, value in vars(self).items() if name != "around_zero"}
        return _Staircase(**rows, around_zero=self.around_zero[:, which])


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


def _search(output: ShortOutput, stairs: _Staircase, multiplier: Ints, shift: Ints) -> tuple[Ints, NDArray[np.bool_]]:
    """Try multipliers near the exact one, until all steps are in place; return for which channels they are.

    The larger p, the finer the multipliers, as long as the lower product has no more than 32 bits.
    """
    n = output.bits
    least_p = 32 - np.maximum(np.ceil(np.log2(stairs.highest + 1)).astype(np.int64), LEAST_BITS)
    words = np.zeros((len(multiplier), output.words), np.int64)
    has_room = least_p >= 1
    missing = has_room.copy()
    least_p = np.maximum(least_p, 1)
    for more, candidate in itertools.product(range(MORE_BITS, -1, -1), range(CANDIDATES)):
        left = np.flatnonzero(missing)
        if not left.size:
            break
        some = stairs.of_channels(left)
        p = np.minimum(least_p[left] + more, 32 - LEAST_BITS)
        up = n + p - 31 - shift[left]
        ideal = np.where(up >= 0, multiplier[left] << np.maximum(up, 0), multiplier[left] >> np.maximum(-up, 0))
        factor = np.maximum(ideal + (candidate + 1) // 2 * (1 if candidate % 2 else -1), 0)
        upper, lower = factor >> p, factor & ((1 << p) - 1)
        constants = _constants(n, some, factor, p)
        (before, behind), possible = _two_constants(*constants) if output.signed else _one_constant(*constants)
        use = possible & (lower * some.highest < 1 << 32)
        first = _zero_at_the_sign(some, factor, p) if output.signed else before
        value = [lower + (p << 24), upper, some.highest, first, behind - before, before - first]
        words[left[use], :-1] = np.stack(value[: output.words - 1], axis=1)[use]
        missing[left[use]] = False
    return words, has_room & ~missing


def _product(t: Ints, factor: Ints, p: Ints) -> Ints:
    return np.asarray(t * factor >> p)


def _constants(bits: int, stairs: _Staircase, factor: Ints, p: Ints) -> tuple[Ints, Ints]:
    """Return the least and the largest constants that put every step in its place, [2, O]: before zero, and behind."""
    zero, top = stairs.zero[:, None], stairs.highest[:, None]
    end = np.where(stairs.inside, stairs.outputs, stairs.start[:, None]).max(axis=1, initial=-128)
    outputs, inside = stairs.outputs, (zero > 0) & (zero <= top)
    before, behind = stairs.around_zero[..., None]
    # Sums that give at least, or at most, an output: those of the steps, the one in front of each, zero, both ends.
    at_least = np.hstack([stairs.steps, zero, 0 * top]), np.hstack([outputs, behind, stairs.start[:, None]])
    at_most = np.hstack([stairs.steps - 1, zero - 1, top]), np.hstack([outputs - 1, before, end[:, None]])
    counts = np.hstack([stairs.inside, inside, np.ones_like(inside)])

    def room(sums: Ints, outputs: Ints) -> Ints:
        return (outputs << bits) - _product(np.where(counts, sums, 0), factor[:, None], p[:, None])

    least, most = [], []
    for is_behind in (False, True):
        lower, upper = (counts & ((sums >= zero) == is_behind) for sums, _ in (at_least, at_most))
        least.append(np.where(lower, room(*at_least), -FAR).max(axis=1))
        most.append(np.where(upper, room(at_most[0], at_most[1] + 1) - 1, FAR).min(axis=1))
    return np.stack(least), np.stack(most)


def _one_constant(least: Ints, most: Ints) -> tuple[Ints, NDArray[np.bool_]]:
    """Return a constant for both sides of zero, [2, O], and where it is possible."""
    lower, upper = least.max(axis=0), most.min(axis=0)
    middle = (lower + upper) >> 1
    return np.stack([middle, middle]), np.asarray(lower <= upper)


def _two_constants(least: Ints, most: Ints) -> tuple[Ints, NDArray[np.bool_]]:
    """Return a constant for each side; one without sums has that of the other."""
    middle = (least + most) >> 1
    empty = (least == -FAR) & (most == FAR)
    return np.where(empty, middle[::-1], middle), np.asarray((least <= most).all(axis=0))


def _zero_at_the_sign(stairs: _Staircase, factor: Ints, p: Ints) -> Ints:
    """Return a constant, [O], that puts the first sum behind zero, and no sum in front of it, from 2**31 on."""
    zero = stairs.zero
    before, at = (_product(np.clip(t, 0, stairs.highest), factor, p) for t in (zero - 1, zero))
    return np.where(zero <= 0, 1 << 31, np.where(zero > stairs.highest, 0, (1 << 31) - ((before + at + 1) >> 1)))
