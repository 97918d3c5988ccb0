"""The epilogue with one shift for all channels, an immediate, because their sums are scaled.

A sum that comes in 2**up times larger may be shifted right by ``up`` bits more. With ``up`` = shared shift - own shift
folded into its weights and bias, every channel ends with the same shift, which merges with the saturation and leaves no
register to fetch. SMMLA of the sum, doubled and scaled, is exact: the half that SMMLAR would add moves into the
constant as 2**(up - 1), hence ``up`` of 1 at least.

Sums are scaled by their weights, where these are int16, or by a shift that takes the place of the one that doubles them
(`raised`).

A channel with a larger shift of its own loses bits of its multiplier. Its outputs change at 255 sums at most, and every
one of them bounds the bias from both sides: where a bias meets all bounds, the outputs are the same for every sum.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tvm_tinyml.targets.cortex_m.microkernels.output import Ints, Output, clamp, rounding_constant

SHIFTS = (10, 12, 8, 14, 6, 16)
"""Shared shifts in order of preference: the fewer there are, the more layers share their code. Weights of 8 bits leave
room for channels whose own shift is 1 to 7 less."""

MOST_RAISED = 8
"""Bits by which sums are shifted to the left at most: those of odd channels of `gemm` come so far shifted already."""

HALF, WORD = np.iinfo(np.int16), np.iinfo(np.int32)


@dataclass(frozen=True)
class ScaledOutput:
    """As an `Output` without correction, for sums that are doubled and scaled: part of a microkernel's code.

    Attributes
    ----------
    shift : of all channels.
    low, high : clamp, int8.
    flipped : the result has its sign bit flipped, if the channel's constant is larger by `flip`.
    """

    shift: int
    low: int
    high: int
    flipped: bool = False

    @property
    def name(self) -> str:
        """Part of a microkernel's name."""
        return f"s{self.shift}{Output(corrected=False, low=self.low, high=self.high).name.removeprefix('r')}"

    @property
    def flip(self) -> int:
        """What makes results of -128 to 127 such of 0 to 255."""
        return 128 << self.shift

    def scale(self, register: str, multiplier: str, constant: str) -> list[str]:
        """Return the first half of the epilogue: all but shift and clamp."""
        return [f"smmla {register}, {register}, {multiplier}, {constant}"]

    def bound(self, register: str) -> list[str]:
        """Return the second half."""
        if self.flipped:
            lines = [f"usat {register}, #8, {register}, asr #{self.shift}"]
            return [*lines, *clamp(register, self.low + 128, self.high + 128, least=0)]
        return [f"ssat {register}, #8, {register}, asr #{self.shift}", *clamp(register, self.low, self.high)]

    def requantize(self, register: str, multiplier: str, constant: str, _shift: str = "") -> list[str]:
        """Return the whole: see `Output.requantize`."""
        return [*self.scale(register, multiplier, constant), *self.bound(register)]

    def portable(self) -> str:
        """Return C code that makes an int8 ``result`` of ``sum``, with the channel's ``m`` and ``c``."""
        return (
            f"const int32_t value = ((int32_t)(((int64_t)sum * m) >> 32) + c) >> {self.shift};\n"
            f"const int8_t result = (int8_t)tinyml_bound(value, {self.low}, {self.high});\n"
        )


@dataclass(frozen=True)
class Scales:
    """What a depthwise kernel knows of its channels: weights [O, K] and the rest [O], as they are stored.

    A `ScaledOutput` has no use for ``shift``.
    """

    weight: Ints
    bias: Ints
    multiplier: Ints
    constant: Ints
    shift: Ints


def unscaled(weight: Ints, bias: Ints, multiplier: Ints, shift: Ints, zero_point: Ints) -> Scales:
    """Return the constants of channels for an `Output` whose kernel doubles sums."""
    return Scales(weight, bias, multiplier, rounding_constant(shift, zero_point), shift)


def doubled(weight: Ints, bias: Ints, multiplier: Ints, shift: Ints, zero_point: Ints) -> Scales:
    """Return the constants of channels for an `Output`."""
    return Scales(2 * weight, 2 * bias, multiplier, rounding_constant(shift, zero_point), shift)


def portable_output(output: Output | ScaledOutput) -> list[str]:
    """Return the lines in C that round a ``sum`` of constants as they are stored: see `Scales`."""
    single = [] if isinstance(output, ScaledOutput) else ["sum /= 2;"]
    return [*single, *output.portable().splitlines()]


def common_output(
    output: Output, scales_of: Callable[[ScaledOutput], Scales | None]
) -> tuple[ScaledOutput, Scales] | None:
    """Return the epilogue that all channels share, with the first shift that they allow, if there is one.

    Parameters
    ----------
    scales_of : constants of the channels for an epilogue, or None where one of them does not allow it.
    """
    if output.corrected:
        return None
    forms = (ScaledOutput(shift, output.low, output.high) for shift in SHIFTS)
    return next(((form, scales) for form in forms if (scales := scales_of(form)) is not None), None)


def raised(
    output: ScaledOutput, weight: Ints, bias: Ints, multiplier: Ints, shift: Ints, zero_point: Ints
) -> Scales | None:
    """Return the constants of channels whose whole sums are shifted to the left, or None if one does not allow it.

    The parameters are those of `scaled`. ``shift`` of the result is how far, 1 to `MOST_RAISED`; weights and biases
    stay as they are.
    """
    channels = [
        _Channel(values[0], *(int(value) for value in values[1:])).scaled(output.shift)
        for values in zip(weight, bias, multiplier, shift, zero_point, strict=True)
    ]
    found = [channel for channel in channels if channel is not None and channel[0] <= MOST_RAISED]
    if len(found) < len(weight):
        return None
    ups, _, multipliers, constants = (np.array(values, np.int64) for values in zip(*found, strict=True))
    return Scales(weight, bias, multipliers, constants, ups)


def scaled(
    output: ScaledOutput, weight: Ints, bias: Ints, multiplier: Ints, shift: Ints, zero_point: Ints
) -> Scales | None:
    """Return the constants of channels for a `ScaledOutput`, or None if one of them does not allow it.

    Parameters
    ----------
    weight, bias : [O, K], [O] for sums that are not doubled.
    multiplier : 0 for a channel that is its zero point everywhere.
    shift : to the right.
    """
    channels = []
    for values in zip(weight, bias, multiplier, shift, zero_point, strict=True):
        channel = _Channel(values[0], *(int(value) for value in values[1:]))
        found = channel.scaled(output.shift) or channel.fitted(output)
        if found is None:
            return None
        channels.append(found)
    ups, biases, multipliers, constants = (np.array(values, np.int64) for values in zip(*channels, strict=True))
    return Scales(weight << ups[:, None], biases, multipliers, constants, np.full_like(ups, output.shift))


Constants = tuple[int, int, int, int]
"""Bits by which weights are shifted to the left, then bias, multiplier and constant as they are stored."""


@dataclass(frozen=True)
class _Channel:
    """One output channel: see `scaled`."""

    weight: Ints
    bias: int
    multiplier: int
    shift: int
    zero_point: int

    def scaled(self, to: int) -> Constants | None:
        """Return the constants that are exact whatever the sum."""
        if self.multiplier == 0:
            return 1, 0, 0, self.zero_point << to
        up = to - self.shift
        if not 1 <= up <= to or not self._fits(up + 1, self.bias << (up + 1)):
            return None
        half = 1 << (self.shift - 1) if self.shift else 0
        constant = ((half + (self.zero_point << self.shift)) << up) + (1 << (up - 1))
        return up + 1, self.bias << (up + 1), self.multiplier, constant

    def fitted(self, output: ScaledOutput) -> Constants | None:
        """Return constants that are exact for all sums of int8 inputs, if there are any."""
        if self.shift < 1:
            return None
        first, last = self._range()
        outputs = np.arange(output.low + 1, output.high + 1)
        # From which sum of products on each output or a larger one comes: of the model's epilogue ...
        half = 1 << (self.shift - 1)
        wanted = ((((outputs - self.zero_point) << self.shift) - half) << 32) - (1 << 31)
        steps = _ceiling(wanted, 2 * self.multiplier) - self.bias
        for up in range(HALF.bits // 2, 0, -1):
            lost = self.shift - output.shift + up - 1
            multiplier = (self.multiplier + (1 << lost >> 1)) >> lost if lost >= 0 else WORD.max + 1
            if not 0 < multiplier <= WORD.max:
                continue
            # ... and of this one, which it reaches with a bias between bounds: it must not be reached one sum earlier.
            reached = _ceiling((outputs - self.zero_point) << (output.shift + 32), multiplier)
            least = (reached - (np.maximum(steps, first) << up))[steps <= last]
            most = (reached - 1 - (np.minimum(steps - 1, last) << up))[steps > first]
            low = int(least.max()) if len(least) else int(most.min()) if len(most) else 0
            high = int(most.min()) if len(most) else low
            if low <= high and self._fits(up, bias := (low + high) // 2):
                return up, bias, multiplier, self.zero_point << output.shift
        return None

    def _fits(self, up: int, bias: int) -> bool:
        """Return whether weights that are shifted by ``up`` fit 16 bits, and sums with this bias 32."""
        weight = self.weight << up
        largest = max(abs(bound) for bound in self._range()) << up
        return bool(weight.min() >= HALF.min and weight.max() <= HALF.max) and largest + abs(bias) <= WORD.max

    def _range(self) -> tuple[int, int]:
        """Return the least and the largest sum of products."""
        positive, negative = int(self.weight[self.weight > 0].sum()), int(self.weight[self.weight < 0].sum())
        return 127 * negative - 128 * positive, 127 * positive - 128 * negative


def _ceiling(dividend: Ints, divisor: int) -> Ints:
    return np.asarray(-(-dividend // divisor))
