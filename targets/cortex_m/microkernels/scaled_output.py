"""The epilogue where weights are int16: all channels share one shift, an immediate, because their sums are scaled.

A sum that comes in 2**up times larger may be shifted right by ``up`` bits more. With ``up`` = shared shift - own shift
folded into its weights and bias, every channel ends with the same shift, which merges with the saturation and leaves no
register to fetch. SMMLA of the sum, doubled and scaled, is exact: the half that SMMLAR would add moves into the
constant as 2**(up - 1), hence ``up`` of 1 at least.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tvm_tinyml.targets.cortex_m.microkernels.output import Ints, Output, clamp, rounding_constant

SHIFTS = (10, 12, 8, 14, 6, 16)
"""Shared shifts in order of preference: the fewer there are, the more layers share their code. Weights of 8 bits leave
room for channels whose own shift is 1 to 7 less."""

HALF = np.iinfo(np.int16)
LARGEST_SCALED_SUM = 1 << 31


@dataclass(frozen=True)
class ScaledOutput:
    """As an `Output` without correction, for sums that are doubled and scaled: part of a microkernel's code.

    Attributes
    ----------
    shift : of all channels.
    low, high : clamp, int8.
    """

    shift: int
    low: int
    high: int

    @property
    def name(self) -> str:
        """Part of a microkernel's name."""
        return f"s{self.shift}{Output(corrected=False, low=self.low, high=self.high).name.removeprefix('r')}"

    def scale(self, register: str, multiplier: str, constant: str) -> list[str]:
        """Return the first half of the epilogue: all but shift and clamp."""
        return [f"smmla {register}, {register}, {multiplier}, {constant}"]

    def bound(self, register: str) -> list[str]:
        """Return the second half."""
        return [f"ssat {register}, #8, {register}, asr #{self.shift}", *clamp(register, self.low, self.high)]

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


def doubled(weight: Ints, bias: Ints, multiplier: Ints, shift: Ints, zero_point: Ints) -> Scales:
    """Return the constants of channels for an `Output`."""
    return Scales(2 * weight, 2 * bias, multiplier, rounding_constant(shift, zero_point), shift)


def scaled(
    to: int, weight: Ints, bias: Ints, multiplier: Ints, shift: Ints, zero_point: Ints, largest: Ints
) -> Scales | None:
    """Return the constants of channels for a `ScaledOutput` of shift ``to``, or None if one of them does not allow it.

    Parameters
    ----------
    shift : to the right; channels whose multiplier is 0 may have any.
    largest : magnitude of each channel's sum, at most.
    """
    alive = multiplier != 0
    up = np.where(alive, to - shift, 1)
    if (up < 1).any() or (up > to).any():
        return None
    wide, start = weight << (up[:, None] + 1), bias << (up + 1)
    if wide.min() < HALF.min or wide.max() > HALF.max or (largest << (up + 1) >= LARGEST_SCALED_SUM).any():
        return None
    own = np.where(alive, shift, to)
    half = np.where(alive, 1 << (up - 1), 0)
    constant = (rounding_constant(own, zero_point) << (to - own)) + half
    return Scales(wide, start, multiplier, constant, np.full_like(up, to))
