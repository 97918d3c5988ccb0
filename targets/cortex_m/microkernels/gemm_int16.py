"""Matrix product of int16 activations with int8 weights on cores with SMLAD: a few pixels times a few channels at once.

Activations are pairs in their words as they lie in memory. Weights stay bytes in flash: a word is four products of one
channel in the order 0, 2, 1, 3, of which two SXTB16 make the same pairs. Two pixels times two channels take 6 loads, 4
SXTB16 and 8 SMLAD for 16 products.

Sums have 32 bits, as the recipe proves that they may. The epilogue is one SMMULR, by a multiplier that has the
channel's shift in it, and SSAT, or USAT behind a ReLU.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tvm_tinyml.targets.cortex_m.microkernels.microkernel import DSP, Microkernel, add, move

Ints = NDArray[np.int64]

STEP = 4
"""Products of a sum that one turn makes: a word of weights."""

UNROLL = 4
"""Steps in the body of the loop."""

LARGEST_OFFSET = 4000
"""Bytes that offsets of loads and stores reach, with room for the steps of a body."""

LEAST, LARGEST = -(2**15), 2**15 - 1

_SUMS, _PIXELS, _WEIGHTS = ("r3", "r4", "r5", "r6"), ("r7", "r8", "r9", "r10"), ("r9", "r10", "r11", "r12")
_PAIR, _END = "r2", "lr"
_FRAME_BYTES = 24
_X, _X_END, _Y_GROUP, _GROUP, _Y, _CONSTANTS_END = (f"[sp, #{4 * i}]" for i in range(_FRAME_BYTES // 4))


@dataclass(frozen=True)
class Tile:
    """What is computed at once: 2 pixels of up to 2 channels, or 1 pixel of up to 4."""

    pixels: int
    channels: int


@dataclass(frozen=True)
class Shape:
    """Numbers that are part of the code.

    Attributes
    ----------
    steps : of a sum, `STEP` products each; a pixel's activations are as many, and follow those of the pixel before.
    step : elements from a pixel of the result to the next.
    left : bits that sums are shifted before they are scaled.
    low, high : clamp, int16.
    """

    steps: int
    step: int
    left: int
    low: int
    high: int

    @property
    def row_bytes(self) -> int:
        """Of a pixel's activations."""
        return 2 * STEP * self.steps

    @property
    def fits(self) -> bool:
        """Whether offsets reach."""
        return max(self.row_bytes, 4 * self.step) <= LARGEST_OFFSET


def product(tile: Tile, shape: Shape) -> Microkernel:
    """Return the kernel.

    Its arguments: constants (`pack`) and their end, the first pixel's activations and the end of the last one's, the
    output of the first pixel and channel. Pixels are a multiple of the tile's, channels another. Constants are aligned
    to 4 bytes, all else to 2.
    """
    bounds = "" if (shape.low, shape.high) == (LEAST, LARGEST) else f"_{shape.low & 0xFFFF}_{shape.high & 0xFFFF}"
    left = f"_l{shape.left}" if shape.left else ""
    return Microkernel(
        name=f"tinyml_int16_{tile.pixels}x{tile.channels}_{shape.steps}_{shape.step}{left}{bounds}",
        parameters=(
            *("const int32_t *constants", "const int32_t *constants_end", "const int16_t *x", "const int16_t *x_end"),
            "int16_t *y",
        ),
        assembly=_assembly(tile, shape),
        portable=_portable(tile, shape),
        condition=DSP,
    )


def pack(weight: Ints, bias: Ints, multiplier: Ints, channels: int) -> NDArray[np.int32]:
    """Return the constants, [words]: for each tile of channels biases, weights step by step, and multipliers.

    Parameters
    ----------
    weight : [O, K], O a multiple of ``channels`` and K of `STEP`.
    multiplier : [O], of 2**-32 each.
    """
    tiles = len(weight) // channels
    fours = weight.reshape(tiles, channels, -1, STEP)[..., [0, 2, 1, 3]].transpose(0, 2, 1, 3)
    words = np.ascontiguousarray(fours.astype(np.int8)).view(np.int32).reshape(tiles, -1)
    parts = [part.reshape(tiles, -1).astype(np.int32) for part in (bias, words, multiplier)]
    return np.concatenate(parts, axis=1).ravel()


def _assembly(tile: Tile, shape: Shape) -> list[str]:
    """All pixels of a tile of channels, then the next channels: what a tile reads of flash is read again and again."""
    channels, sums = tile.channels, _SUMS[: tile.pixels * tile.channels]
    turns, rest = divmod(shape.steps, UNROLL)
    if turns == 1:
        turns, rest = 0, shape.steps
    multipliers = 4 * channels * rest  # bytes from where the pointer to the weights is then
    lines = ["push {r4-r11, lr}", "ldr r4, [sp, #36]", f"sub sp, #{_FRAME_BYTES}"]
    lines += [f"str r2, {_X}", f"str r3, {_X_END}", f"str r4, {_Y_GROUP}", f"str r1, {_CONSTANTS_END}"]
    lines += [".p2align 2", "1:", f"str r0, {_GROUP}", f"ldr r1, {_X}", f"ldr r2, {_Y_GROUP}", f"str r2, {_Y}"]
    lines += [".p2align 2", "2:", f"ldr r0, {_GROUP}", f"ldm r0!, {{{', '.join(sums[:channels])}}}"]
    lines += [f"mov {total}, {first}" for total, first in zip(sums[channels:], sums, strict=False)]
    if turns:
        lines += add(_END, "r0", 4 * channels * UNROLL * turns, _END)
        lines += [".p2align 2", "3:", *_steps(tile, shape, UNROLL)]
        lines += [f"adds r0, #{4 * channels * UNROLL}", f"adds r1, #{2 * STEP * UNROLL}", f"cmp r0, {_END}", "bne 3b"]
    lines += [*_steps(tile, shape, rest), f"ldr r7, {_Y}", *_results(tile, shape, sums, multipliers)]
    lines += [f"addw r7, r7, #{2 * shape.step * tile.pixels}", f"str r7, {_Y}"]
    lines += [f"addw r1, r1, #{2 * STEP * rest + (tile.pixels - 1) * shape.row_bytes}"]
    lines += [f"ldr r2, {_X_END}", "cmp r1, r2", "bne 2b"]
    lines += [f"addw r0, r0, #{multipliers + 4 * channels}"]
    lines += [f"ldr r2, {_Y_GROUP}", f"adds r2, #{2 * channels}", f"str r2, {_Y_GROUP}"]
    return [*lines, f"ldr r2, {_CONSTANTS_END}", "cmp r0, r2", "bne 1b", f"add sp, #{_FRAME_BYTES}", "pop {r4-r11, pc}"]


def _steps(tile: Tile, shape: Shape, steps: int) -> list[str]:
    """Some steps from where the pointers are; loads stand together, so that only the first one waits."""
    lines: list[str] = []
    x, weights = _PIXELS[: 2 * tile.pixels], _WEIGHTS[-tile.channels :]
    for step in range(steps):
        for pixel, half in itertools.product(range(tile.pixels), range(2)):
            lines += [f"ldr {x[2 * pixel + half]}, [r1, #{pixel * shape.row_bytes + 8 * step + 4 * half}]"]
        lines += [f"ldr {w}, [r0, #{4 * (tile.channels * step + c)}]" for c, w in enumerate(weights)]
        for channel, half in itertools.product(range(tile.channels), range(2)):
            lines += [f"sxtb16 {_PAIR}, {weights[channel]}{', ror #8' if half else ''}"]
            for pixel in range(tile.pixels):
                total = _SUMS[tile.channels * pixel + channel]
                lines += [f"smlad {total}, {x[2 * pixel + half]}, {_PAIR}, {total}"]
    return lines


def _results(tile: Tile, shape: Shape, sums: Sequence[str], multipliers: int) -> list[str]:
    """Scale, clamp and store sums."""
    registers = _WEIGHTS[: tile.channels]
    lines = [f"ldr {m}, [r0, #{multipliers + 4 * channel}]" for channel, m in enumerate(registers)]
    for pixel, channel in itertools.product(range(tile.pixels), range(tile.channels)):
        total = sums[tile.channels * pixel + channel]
        lines += [f"lsl {total}, {total}, #{shape.left}"] if shape.left else []
        lines += [f"smmulr {total}, {total}, {registers[channel]}", *_bound(total, shape)]
        lines += [f"strh {total}, [r7, #{2 * (shape.step * pixel + channel)}]"]
    return lines


def _bound(register: str, shape: Shape) -> list[str]:
    positive = shape.low == 0
    lines = [f"usat {register}, #15, {register}" if positive else f"ssat {register}, #16, {register}"]
    for bound, none, condition in ((shape.low, (LEAST, 0), "lt"), (shape.high, (LARGEST,), "gt")):
        if bound not in none:
            lines += [*move(_PAIR, bound & 0xFFFF_FFFF), f"cmp {register}, {_PAIR}"]
            lines += [f"it {condition}", f"mov{condition} {register}, {_PAIR}"]
    return lines


def _portable(tile: Tile, shape: Shape) -> str:
    channels, steps = tile.channels, shape.steps
    return f"""  for (; constants != constants_end; constants += {channels * (steps + 2)}, y += {channels}) {{
    const int32_t *const weights = constants + {channels}, *const multipliers = weights + {channels * steps};
    int16_t *to = y;
    for (const int16_t *row = x; row != x_end; row += {STEP * steps}, to += {shape.step}) {{
      for (int32_t c = 0; c < {channels}; ++c) {{
        int32_t sum = constants[c];
        for (int32_t k = 0; k < {STEP * steps}; ++k)
          sum += ((const int8_t *)(weights + k / 4 * {channels} + c))[k % 2 * 2 + k / 2 % 2] * row[k];
        sum = tinyml_requantize_reduced(sum * {1 << shape.left}, multipliers[c]);
        to[c] = (int16_t)tinyml_bound(sum, {shape.low}, {shape.high});
      }}
    }}
  }}
"""
