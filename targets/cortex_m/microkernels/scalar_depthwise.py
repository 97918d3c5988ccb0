"""Depthwise convolution on cores without SMLAD: two outputs at once, from words with a pixel of either.

A word of the plane, x0 + 129 + 65536 x1, times a weight is 65536 x1 w + (x0 + 129) w, the products of two outputs. The
lower one is between -2**16 and 2**16 and has the sign of the weight, since its pixel is positive. So an arithmetic
shift by 16 is x1 w, less one for a negative weight: the sum of the shifted words is that of the second output, and with
it the sum of the words, modulo 2**32, is that of the first one. Three cycles for two products; sums may be any.

Weights are doubled, so that the sums come out as the epilogue wants them; -128 would be too large.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tvm_tinyml.arithmetic import wrap
from tvm_tinyml.targets.cortex_m.microkernels.microkernel import THUMB2, Microkernel
from tvm_tinyml.targets.cortex_m.microkernels.output import Ints, Output, rounding_constant
from tvm_tinyml.targets.cortex_m.microkernels.scalar_output_long import requantize
from tvm_tinyml.targets.cortex_m.microkernels.scalar_planes import OFFSET

MOST_OUTPUTS = 3
"""Pairs of outputs of a tile, at most."""

AT_ONCE = 3
"""Weights in registers."""

STRAIGHT = 3
"""Rows of the window, in pieces of `AT_ONCE` columns, that are written out; more are a loop."""

WORDS = 5
"""Constants of a channel in front of its weights."""

_SUMS = (("r8", "r9"), ("r10", "r11"), ("r12", "lr"))
_WEIGHTS, _PIXELS = ("r2", "r3", "r4"), ("r5", "r6")


@dataclass(frozen=True)
class Geometry:
    """Numbers that a kernel reads from memory, so that layers share its code.

    Attributes
    ----------
    columns, rows : of pairs of outputs.
    column_step, row_step, partner : bytes from an output to the next one in its row, to the next row, and to the second
        output of a pair.
    plane_row : of the plane, in bytes.
    """

    columns: int
    rows: int
    column_step: int
    row_step: int
    partner: int
    plane_row: int


@dataclass(frozen=True)
class Window:
    """What an output reads of a plane: kernel and stride."""

    kernel_h: int
    kernel_w: int
    stride_h: int
    stride_w: int

    @property
    def taps(self) -> int:
        """Products of one output."""
        return self.kernel_h * self.kernel_w


def fits(weight: Ints) -> bool:
    """Return whether doubled weights leave products of 16 bits."""
    return bool((weight > -128).all())


def depthwise(window: Window, columns: int, output: Output, outputs: int = MOST_OUTPUTS) -> Microkernel:
    """Return the kernel for one channel.

    Its arguments: constants of the channel (`pack`), numbers (`numbers`), the plane, and the first output of the first
    pair. All but the output are aligned to 4 bytes.

    Parameters
    ----------
    columns : of pairs of outputs. Only what a last tile has of them is part of the code.
    outputs : pairs of a tile. The fewer, the less code; weights are loaded for each tile.
    """
    size, rest = _tiles(columns, outputs)
    looped = window.kernel_h * -(-window.kernel_w // AT_ONCE) > STRAIGHT
    code = _Code(window, output, looped)
    name = (window.kernel_h, window.kernel_w, window.stride_w, size, rest, output.name)
    return Microkernel(
        name=f"tinyml_depthwise_mul_{'_'.join(map(str, name))}",
        parameters=("const int32_t *constants", "const int32_t *numbers", "const int32_t *plane", "int8_t *y"),
        assembly=code.lines(size, rest),
        portable=_portable(window, size, rest, output),
        condition=THUMB2,
    )


def numbers(window: Window, at: Geometry, outputs: int = MOST_OUTPUTS) -> list[int]:
    """Return the numbers of a kernel with so many outputs in a tile."""
    size, _ = _tiles(at.columns, outputs)
    gap = window.stride_h * at.plane_row - 4 * window.stride_w * at.columns
    row_gap = at.row_step - at.columns * at.column_step
    looped = at.columns // size * size * 4 * window.stride_w
    return [looped, at.rows, at.column_step, row_gap, at.partner, at.plane_row, gap]


def pack(weight: Ints, bias: Ints, multiplier: Ints, shift: Ints, zero_point: Ints) -> NDArray[np.int32]:
    """Return the constants of each channel, [O, words]: initial sums, scale, weights.

    Parameters
    ----------
    weight : [O, K] in the order of the plane.
    bias : [O], the input's offset included: the sum for an input of zeros.
    multiplier, shift : [O]; the shift is to the right.
    """
    doubled, twice = 2 * weight, 2 * bias
    upper = twice + (weight < 0).sum(axis=1)
    lower = (twice << 16) + twice - OFFSET * doubled.sum(axis=1)
    head = np.stack([lower, upper, multiplier, rounding_constant(shift, zero_point), shift], axis=1)
    halves = np.pad(doubled, ((0, 0), (0, weight.shape[1] % 2))).astype(np.int16)
    return np.concatenate([wrap(head), np.ascontiguousarray(halves).view(np.int32)], axis=1)


def _tiles(columns: int, outputs: int) -> tuple[int, int]:
    """Pairs of a tile, and of the last one if it has fewer."""
    size = min(columns, outputs)
    return size, columns % size


_FRAME_BYTES = 76
_LOWER, _UPPER, _MULTIPLIER, _CONSTANT, _SHIFT = (f"[sp, #{4 * i}]" for i in range(5))
_LOOPED, _ROWS, _COLUMN_STEP, _ROW_GAP, _PARTNER, _PLANE_ROW, _GAP = (f"[sp, #{20 + 4 * i}]" for i in range(7))
_WEIGHTS_AT, _Y, _Y_PARTNER, _X, _X_END, _W_END, _SPARE = (f"[sp, #{48 + 4 * i}]" for i in range(7))


@dataclass(frozen=True)
class _Code:
    """What of the window is a loop: its rows, or nothing."""

    window: Window
    output: Output
    looped: bool

    def lines(self, size: int, rest: int) -> list[str]:
        """Return the function."""
        lines = ["push {r4-r11, lr}", f"sub sp, #{_FRAME_BYTES}", "ldm r0!, {r4-r8}", "stm sp, {r4-r8}"]
        lines += ["ldm r1, {r4-r10}", "add r11, sp, #20", "stm r11, {r4-r10}", "adds r8, r8, r3"]
        lines += [f"str r0, {_WEIGHTS_AT}", f"str r3, {_Y}", f"str r8, {_Y_PARTNER}", f"str r2, {_X}"]
        lines += [f"add r0, r0, #{2 * self.window.taps}", f"str r0, {_W_END}"] if self.looped else []
        lines += ["3:", f"ldr r0, {_X}", f"ldr r1, {_LOOPED}", "add r0, r0, r1", f"str r0, {_X_END}"]
        lines += [".p2align 2", "1:", *self._tile(size), f"ldr r2, {_X_END}", "cmp r0, r2", "bne 1b"]
        lines += self._tile(rest) if rest else []
        lines += [
            f"ldr r1, {_GAP}",
            f"ldr r2, {_Y}",
            f"ldr r3, {_Y_PARTNER}",
            f"ldr r4, {_ROW_GAP}",
            f"ldr r5, {_ROWS}",
        ]
        lines += ["add r0, r0, r1", "add r2, r2, r4", "add r3, r3, r4", f"str r0, {_X}", f"str r2, {_Y}"]
        lines += [f"str r3, {_Y_PARTNER}", "subs r5, #1", f"str r5, {_ROWS}", "bne 3b"]
        return [*lines, f"add sp, #{_FRAME_BYTES}", "pop {r4-r11, pc}"]

    def _tile(self, size: int) -> list[str]:
        """Leave in r0 the next tile's pixels."""
        sums, window = _SUMS[:size], self.window
        lines = [f"ldr r8, {_LOWER}", f"ldr r9, {_UPPER}", f"ldr r0, {_X}", f"ldr r1, {_WEIGHTS_AT}"]
        lines += [f"mov {to}, {by}" for pair in sums[1:] for to, by in zip(pair, sums[0], strict=True)]
        if self.looped:
            lines += [".p2align 2", "2:", *self._row(sums, 0, advance=True), f"adds r1, #{2 * window.kernel_w}"]
            lines += [f"ldr r7, {_W_END}", "cmp r1, r7", "bne 2b"]
        else:
            for row in range(window.kernel_h):
                lines += self._row(sums, row * window.kernel_w, advance=row < window.kernel_h - 1)
        lines += [f"ldr r7, {_Y}", f"ldr r1, {_Y_PARTNER}", f"ldr r0, {_COLUMN_STEP}", f"ldr r2, {_MULTIPLIER}"]
        lines += [f"ldr r3, {_CONSTANT}", f"ldr r4, {_SHIFT}"]
        for lower, upper in sums:
            lines += [f"sub {lower}, {lower}, {upper}, lsl #16"]
            for total, to in ((lower, "r7"), (upper, "r1")):
                lines += [*requantize(self.output, total, "r2", "r3", "r4", "r5", "r6"), f"strb r6, [{to}]"]
            lines += ["add r7, r7, r0", "add r1, r1, r0"]
        lines += [f"str r7, {_Y}", f"str r1, {_Y_PARTNER}", f"ldr r0, {_X}"]
        return [*lines, f"add r0, r0, #{4 * window.stride_w * size}", f"str r0, {_X}"]

    def _row(self, sums: Sequence[tuple[str, str]], first_weight: int, *, advance: bool) -> list[str]:
        """Multiply a row of the window; r0 advances to the next one."""
        lines: list[str] = []
        parts = list(pieces(self.window.kernel_w))
        for first, count in parts:
            lines += [f"ldrsh {_WEIGHTS[k]}, [r1, #{2 * (first_weight + first + k)}]" for k in range(count)]
            uses = self._uses(len(sums), count)
            for i in range(0, len(uses), 2):
                held = list(zip(uses[i : i + 2], _PIXELS, strict=False))
                lines += [f"ldr {x}, [r0, #{4 * (first + word)}]" for (word, _), x in held]
                if advance and first == parts[-1][0] and i + 2 >= len(uses):
                    lines += [f"ldr r7, {_PLANE_ROW}", "add r0, r0, r7"]
                for (_, pairs), x in held:
                    for output, tap in pairs:
                        lower, upper = sums[output]
                        lines += [f"mul r7, {x}, {_WEIGHTS[tap]}", f"add {lower}, {lower}, r7"]
                        lines += [f"add {upper}, {upper}, r7, asr #16"]
        return lines

    def _uses(self, outputs: int, taps: int) -> list[tuple[int, list[tuple[int, int]]]]:
        """Return for each word of pixels which output takes it with which weight."""
        uses: dict[int, list[tuple[int, int]]] = {}
        for output in range(outputs):
            for tap in range(taps):
                uses.setdefault(self.window.stride_w * output + tap, []).append((output, tap))
        return sorted(uses.items())


def pieces(kernel_w: int) -> Iterator[tuple[int, int]]:
    """First column and number of columns of the pieces of a row of the window."""
    for first in range(0, kernel_w, AT_ONCE):
        yield first, min(AT_ONCE, kernel_w - first)


def _portable(window: Window, size: int, rest: int, output: Output) -> str:
    epilogue = "".join(f"        {line}\n" for line in output.portable().splitlines())
    row_end = f"numbers[0] / {4 * window.stride_w * size} * {size} + {rest}"
    return f"""  const int16_t *const weights = (const int16_t *)(const void *)(constants + {WORDS});
  const int32_t m = constants[2], c = constants[3], s = constants[4], columns = {row_end};
  int32_t bias = constants[1];
  for (int32_t k = 0; k < {window.taps}; ++k) bias -= weights[k] < 0;
  for (int32_t row = 0; row < numbers[1]; ++row) {{
    for (int32_t column = 0; column < columns; ++column, y += numbers[2], plane += {window.stride_w})
      for (int32_t half = 0; half < 2; ++half) {{
        int32_t sum = bias;
        for (int32_t k = 0; k < {window.taps}; ++k) {{
          const int32_t word = plane[k / {window.kernel_w} * (numbers[5] / 4) + k % {window.kernel_w}];
          const int32_t lower = word & 0xFFFF;
          sum += (half ? (word - lower) / 65536 : lower - {OFFSET}) * weights[k];
        }}
        sum /= 2;
{epilogue}        y[half ? numbers[4] : 0] = result;
      }}
    y += numbers[3];
    plane += numbers[6] / 4;
  }}
"""
