"""Depthwise 3x3 convolution of planes as they lie: rows follow each other, with no border at their sides.

A word of a row has the factors of two columns of outputs where there is no stride, and those of one with a stride of 2:

=======  ===========  ========  ====  ==================
stride   column       P         Q     begins at pixel
=======  ===========  ========  ====  ==================
1        even         (x0, x2)  x1    column
1        odd          (x1, x3)  x2    column - 1
2        even or odd  (x0, x2)  x1    2 * column
=======  ===========  ========  ====  ==================

less the border on the left. Most words are not aligned, which takes a cycle or two more, and saves what it takes to cut
planes into strips. What stands in a border's place is a pixel of the row before or behind: in the first and in the last
column such weights are zeros, and the sums begin with what the border gives, three products a channel.

Outputs go to pixels, or to the tiles of four pixels that matrix products multiply (`tensor_layouts.Tiles`): there the
steps from column to column take turns. Tiles of bytes have the sign of even columns flipped, by a constant and a
saturation without sign; tiles of halves are stored by STRH.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tvm_tinyml.targets.cortex_m.microkernels.depthwise_column import CONSTANT, KERNEL, TO, Column, OutputRows
from tvm_tinyml.targets.cortex_m.microkernels.microkernel import Microkernel
from tvm_tinyml.targets.cortex_m.microkernels.output import Output
from tvm_tinyml.targets.cortex_m.microkernels.scaled_output import ScaledOutput, Scales, portable_output

LONGEST = 3
"""Rows of outputs that are written out without a loop."""

LONGEST_ROW = 255
"""Bytes of a row of the input: an address goes on by so much at most."""

LEAST_COLUMNS = 2
"""Of outputs: no column has a border on both sides."""

_TAKE_TURNS = ("vmov r6, s5", "vmov r8, s6", "vmov s5, r8", "vmov s6, r6")
"""Of the two steps behind odd columns."""


@dataclass(frozen=True)
class PlaneSlide:
    """A kernel for planes of one width.

    Attributes
    ----------
    rows : of outputs.
    row_bytes : from a row of the input to the next: its pixels.
    left, right : whether the first column reads a border in front of its row, the last one behind it.
    tile_bytes : of a value in tiles, 1 or 2; 0 for pixels.
    output : how to round and clamp.
    """

    rows: OutputRows
    row_bytes: int
    left: bool
    right: bool
    tile_bytes: int
    output: Output | ScaledOutput

    def microkernel(self) -> Microkernel:
        """Return the function.

        Its arguments: numbers of the layer (`numbers`), constants of the first channel (`pack_planes`), the pixel that
        its first output's window begins with, where that output goes, and the number of channels. Numbers and constants
        are aligned to 4 bytes, tiles of halves to 2, planes, of which words are loaded, and other outputs to nothing.
        A row and a word behind the last row are loaded for nothing.
        """
        sides = f"{'l' if self.left else ''}{'r' if self.right else ''}{('', 'f', 'h')[self.tile_bytes]}"
        return Microkernel(
            name=f"tinyml_planes_{self.row_bytes}{sides}_{self.rows.name}_{self.output.name}",
            parameters=(
                *("const int32_t *numbers", "const int32_t *constants", "const int8_t *x", "int8_t *y"),
                "int32_t channels",
            ),
            assembly=self._assembly(),
            portable=self._portable(),
        )

    def numbers(
        self,
        rows: int,
        columns: int,
        column_steps: Sequence[int],
        plane_bytes: int,
        channel_step: int,
        border: int,
    ) -> NDArray[np.int32]:
        """Return the numbers of a layer.

        Parameters
        ----------
        rows, columns : of outputs.
        column_steps : in bytes, from an even column of outputs to the next, and from an odd one, by turns.
        plane_bytes, channel_step : from a plane to the next, and from an output channel to the next.
        border : value that stands in its place.
        """
        turns = self.rows.turns(rows) if self.rows.loops else 0
        loaded = self.row_bytes * (self.rows.stride * (rows - 1) + KERNEL + 1)
        even = loaded - (0 if self.rows.stride == 1 else 2)
        steps = [step - self._stored_bytes(turns) for step in column_steps]
        last = max(turns - 1, 0) << 16
        return np.array([even, loaded - 2, *steps, last, border, columns, plane_bytes, channel_step], np.int32)

    def _stored_bytes(self, turns: int) -> int:
        """Return how far the stores of a column go ahead."""
        rows = self.rows
        assert rows.step is not None
        return rows.step * ((turns * rows.of_turn if rows.loops else 0) + (rows.rest if rows.steps_each else 0))

    def _assembly(self) -> list[str]:
        """Return the loops over channels and columns.

        s0 the bias of the column, s1 a shift of the channel's own, s2 and s3 from the end of an even and of an odd
        column back to where the next begins, s4 to s6 the steps between columns of outputs, s7 the turns, above the
        weight in r5, s8 border, s9 columns, s10 and s11 the steps between channels; s12 the bias of the channel, s13
        the constants of the next, s14 columns left, s15 r5 at the begin of a column. On the stack: input and output of
        the channel, and behind what was pushed the number of channels.
        """
        lines = ["push {r2-r11, lr}", "vldmia r0, {s2-s11}", "mov r0, r1", "3:", "vldmia r0!, {s12}"]
        lines += [] if isinstance(self.output, ScaledOutput) else ["vldmia r0!, {s1}"]
        lines += ["ldm r0!, {r1-r5, r9, r10}", "vmov s13, r0", "vmov r6, s7", "pkhbt r5, r5, r6", "vmov s15, r5"]
        lines += ["vmov r6, s9", "vmov s14, r6", "vmov r6, s12", *(self._border("b") if self.left else [])]
        lines += ["vmov s0, r6", "ldr r0, [sp]", f"ldr {TO}, [sp, #4]"]
        lines += [".p2align 2", "2:", *self._column(second=False), *self._next_column(second=False)]
        lines += [*self._column(second=True), *self._next_column(second=True), "b 2b"]
        # Whole tiles have an even number of odd columns: one turn is left behind the last.
        lines += ["7:", *_TAKE_TURNS, "ldr r1, [sp]", "ldr r2, [sp, #4]", "ldr r3, [sp, #44]"]
        lines += ["vmov r4, s10", "vmov r6, s11", "add r1, r4", "add r2, r6", "str r1, [sp]", "str r2, [sp, #4]"]
        return [*lines, "vmov r0, s13", "subs r3, #1", "str r3, [sp, #44]", "bne 3b", "pop {r2-r11, pc}"]

    def _column(self, *, second: bool) -> list[str]:
        wide = second and self.rows.stride == 1
        if second or self.tile_bytes != 1:
            store = "strh" if self.tile_bytes == 2 else "strb"
            column = Column(self.rows, self.output, second=wide, row_bytes=self.row_bytes, store=store)
            return [*column.load(), *column.lines()]
        assert isinstance(self.output, ScaledOutput), "no constant flips the sign of channels with shifts of their own"
        column = Column(self.rows, replace(self.output, flipped=True), second=wide, row_bytes=self.row_bytes)
        flip = f"{CONSTANT}, {CONSTANT}, #{self.output.flip}"
        return [f"add {flip}", *column.load(), *column.lines(), f"sub {flip}"]

    def _next_column(self, *, second: bool) -> list[str]:
        """Go to the next column, or leave if there is none. Behind the first one there is no border any more."""
        back, step = ("s3", "s5") if second else ("s2", "s4")
        lines = ["vmov r7, s14", "subs r7, #1", "beq 7f", "vmov s14, r7", f"vmov r6, {step}", f"add {TO}, r6"]
        lines += [f"vmov r6, {back}", "subs r0, r0, r6", *(["vmov r5, s15"] if self.rows.loops else [])]
        if second:
            lines += _TAKE_TURNS
        elif self.left:
            lines += ["vmov r6, s13", f"sub r6, #{4 * _WORDS}", "ldm r6, {r1-r3}", "vmov r6, s12", "vmov s0, r6"]
        if not self.right:
            return lines
        label = "5" if second else "4"
        last = ["vmov r6, s12", *self._border("t"), "vmov s0, r6"]
        return [*lines, "cmp r7, #1", f"bne {label}f", *last, f"{label}:"]

    def _border(self, side: str) -> list[str]:
        """Add to r6 what the border gives with the weights in one half of each pair, and make these zeros."""
        first = 0 if side == "b" else 16
        products = [f"smla{side}b r6, r{row}, r7, r6" for row in (1, 2, 3)]
        return ["vmov r7, s8", *products, *(f"bfc r{row}, #{first}, #16" for row in (1, 2, 3))]

    def _portable(self) -> str:
        epilogue = "".join(f"        {line}\n" for line in portable_output(self.output))
        shift, head = ("", 1) if isinstance(self.output, ScaledOutput) else (", s = constants[1]", 2)
        turns = f"{self.rows.of_turn} * (numbers[5] / 65536 + 1) + " if self.rows.loops else ""
        sides = {"at >= 0": self.left, f"at < {self.row_bytes}": self.right}
        inside = [condition for condition, tested in sides.items() if tested]
        value = f"x[{self.row_bytes} * (line + k) + {self.rows.stride} * column + i]"
        value = f"{' && '.join(inside)} ? {value} : border" if inside else value
        stored = f"{self.rows.step} * rows" if self.rows.steps_each else f"{self.rows.step} * (rows - {self.rows.rest})"
        result = "(int8_t)(column % 2 ? result : result ^ -128)" if self.tile_bytes == 1 else "result"
        place = f"to[{self.rows.step} * row]"
        place = f"*(int16_t *)(void *)&{place}" if self.tile_bytes == 2 else place
        at = f"          const int32_t at = {self.rows.stride} * column + i - {int(self.left)};\n" if inside else ""
        border = "const int32_t border = numbers[6];\n  " if inside else ""
        return f"""  {border}const int32_t rows = {turns}{self.rows.rest};
  for (; channels > 0; --channels, constants += {head + _WORDS}, x += numbers[8], y += numbers[9]) {{
    const int32_t m = constants[{head + 5}], c = constants[{head + 6}]{shift};
    const int16_t *const w = (const int16_t *)(const void *)(constants + {head});
    int8_t *to = y;
    for (int32_t column = 0; column < numbers[7]; ++column) {{
      for (int32_t row = 0; row < rows; ++row) {{
        const int32_t line = {self.rows.stride} * row;
        int32_t sum = constants[0];
        for (int32_t k = 0; k < {KERNEL}; ++k) for (int32_t i = 0; i < {KERNEL}; ++i) {{
{at}          sum += w[i == 1 ? 6 + k : 2 * k + i / 2] * ({value});
        }}
{epilogue}        {place} = {result};
      }}
      to += numbers[column % 2 ? 3 + column / 2 % 2 : 2] + {stored};
    }}
  }}
"""


_WORDS = 7
"""Of constants of a channel, behind its bias and shift."""


def plane_words(output: Output | ScaledOutput) -> int:
    """Return how many words of constants a channel has."""
    return _WORDS + (1 if isinstance(output, ScaledOutput) else 2)


def pack_planes(scales: Scales, output: Output | ScaledOutput) -> NDArray[np.int32]:
    """Return the constants of channels for a `PlaneSlide`: bias, shift if it has one, weights, scale, [O, words].

    Parameters
    ----------
    scales : weights [O, 9] by rows of the kernel.
    """
    halves = np.pad(scales.weight[:, [0, 2, 3, 5, 6, 8, 1, 4, 7]], ((0, 0), (0, 1)))
    words = np.ascontiguousarray(halves, np.int16).view(np.int32)
    head = [scales.bias] if isinstance(output, ScaledOutput) else [scales.bias, scales.shift]
    tail = [scales.multiplier, scales.constant]
    return np.concatenate([np.stack(head, axis=1), words, np.stack(tail, axis=1)], axis=1).astype(np.int32)
