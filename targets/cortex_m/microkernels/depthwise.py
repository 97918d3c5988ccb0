"""Depthwise 3x3 convolution of strips (see `planes`): one column of outputs after the other, sliding down.

A strip has two columns of outputs. Where their factors are in a row of it, and what they are multiplied with, depends
on the stride (`depthwise_column` has the column itself):

=======  ======  ============  ===================  ====================================
stride   column  P             Q                    weights of P
=======  ======  ============  ===================  ====================================
1        first   (x0, x2)      x1                   (w0, w2)
1        second  (x1, x3)      x2                   (w0, w2)
2        first   (x0, x1)      x2                   (w0, w1)
2        second  (x2, x3)      x4, the next strip's (w0, w1)
=======  ======  ============  ===================  ====================================
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tvm_tinyml.targets.cortex_m.microkernels.depthwise_column import KERNEL, NEXT_STRIP, TO, Column, OutputRows, P
from tvm_tinyml.targets.cortex_m.microkernels.microkernel import Microkernel, add, move
from tvm_tinyml.targets.cortex_m.microkernels.output import Output
from tvm_tinyml.targets.cortex_m.microkernels.planes import ROW_BYTES
from tvm_tinyml.targets.cortex_m.microkernels.scaled_output import ScaledOutput, Scales, portable_output

COLUMNS = 2
"""Of outputs of a strip."""

BEYOND = ROW_BYTES
"""Bytes that are loaded behind the last strip, for nothing."""

LONGEST, LONGEST_SHARED = 3, {1: 6, 2: 3}
"""Rows of outputs that are written out without a loop, at most; the second, by the stride, where layers share the code
whatever the step between their rows. More would hardly fit a flash cache of 1 KiB."""

LARGEST_STEP = 0xFFFF
"""Of rows of outputs, where it is an argument."""


@dataclass(frozen=True)
class Slide:
    """A kernel for strips of one height.

    Attributes
    ----------
    rows : of outputs. A step that is an argument takes a cycle more an output.
    output : how to round and clamp.
    """

    rows: OutputRows
    output: Output | ScaledOutput

    @classmethod
    def of(cls, stride: int, row_step: int | None, rows: int, output: Output | ScaledOutput) -> Slide:
        """Return the kernel for so many rows of outputs."""
        longest = LONGEST_SHARED[stride] if row_step is None else LONGEST
        return cls(OutputRows.of(stride, row_step, rows, longest), output)

    def last_argument(self, rows: int, row_step: int) -> int:
        """Return the turns of the loop, or the step where that is no part of the code."""
        return row_step if self.rows.step is None else self.rows.turns(rows)

    def microkernel(self) -> Microkernel:
        """Return the function.

        Its arguments: constants of the first channel (`pack_slide`), the first channel's first strip, where its first
        output goes, and the number of channels; then that of columns of outputs, bytes from a strip to the next, bytes
        from a column of outputs to the next, and the `last_argument`. Channels are next to each other in the output,
        strips in the input. Constants and strips are aligned to 4 bytes, the output, of which bytes are stored, to
        nothing.
        """
        return Microkernel(
            name=f"tinyml_slide_{self.rows.name}_{self.output.name}",
            parameters=(
                *("const int32_t *constants", "const int8_t *strips", "int8_t *y", "int32_t channels"),
                *("int32_t columns", "int32_t strip_step", "int32_t column_step"),
                "int32_t row_step" if self.rows.step is None else "int32_t turns",
            ),
            assembly=self._assembly(),
            portable=self._portable(),
        )

    def _assembly(self) -> list[str]:
        """Return the loops over channels and strips around the columns.

        s0 and s1 bias and shift, s2 r5 at the begin of a column, s3 columns left, s4 from the end of a column of
        outputs to the begin of the next, s5 from the end of a strip back to its begin, s6 the step to the next plane,
        s7 the constants of the next channel. On the stack: strips and output of a channel, number of channels. r5
        counts turns in its upper half, above a weight. If the step between rows is an argument, it takes that half,
        and the loop ends where the strip does: s8 bytes of a strip that it covers, s9 its end. A column ends with the
        load of what comes behind its strip, which is the first row of the next strip, or nothing.
        """
        head = "s0" if isinstance(self.output, ScaledOutput) else "s0, s1"
        lines = ["push {r1-r11, lr}", "ldr r4, [sp, #52]", "ldr r5, [sp, #56]", "ldr r6, [sp, #60]"]
        lines += [f"adds r4, #{ROW_BYTES}", *self._gap(), "vmov s4, s5, r5, r4"]
        turns = ["subs r6, #1"] if self._counts else []
        lines += [
            "3:",
            f"vldmia r0!, {{{head}}}",
            "ldm r0!, {r1-r5, r9, r10}",
            "ldr r6, [sp, #60]",
            "ldr r7, [sp, #48]",
        ]
        lines += ["ldr r11, [sp, #4]", *turns, "lsrs r8, r5, #16", "pkhbt r5, r5, r6, lsl #16"]
        lines += ["vmov s6, s7, r8, r0", "vmov s2, s3, r5, r7", "ldr r0, [sp]", f"ldr {P}, [r0], #{ROW_BYTES}"]
        lines += [".p2align 2", "2:", *self._column(second=False), *self._next_column(), "vmov r7, s5"]
        lines += [f"sub {NEXT_STRIP}, r0, #{ROW_BYTES}"] if self.rows.stride == 2 else []
        lines += ["subs r0, r0, r7", *self._column(second=True), *self._next_column(), "b 2b"]
        lines += ["7:", "ldr r1, [sp]", "ldr r2, [sp, #4]", "ldr r3, [sp, #8]", "vmov r4, r0, s6, s7"]
        lines += ["adds r1, r1, r4", "adds r2, #1", "str r1, [sp]", "str r2, [sp, #4]", "subs r3, #1"]
        return [*lines, "str r3, [sp, #8]", "bne 3b", "pop {r1-r11, pc}"]

    def _gap(self) -> list[str]:
        """Take off the step between columns, in r5, what the stores of all rows go ahead.

        r6 is the last argument, r4 from the end of a strip to its second row.
        """
        if self.rows.step is None:
            rows = [f"lsrs r7, r4, #{3 + self.rows.stride}", f"subs r7, #{3 if self.rows.stride == 1 else 1}"]
            behind = ROW_BYTES * (self.rows.stride * (self.rows.rest - 1) + KERNEL + 1)
            looped = [*add("r7", "r4", -behind, "r7"), "vmov s8, r7"] if self.rows.loops else []
            return [*rows, "mls r5, r7, r6, r5", *looped]
        beyond = -self.rows.rest * self.rows.step if self.rows.steps_each else 0
        if not self.rows.loops:
            return add("r5", "r5", beyond, "r7")
        step = move("r7", self.rows.of_turn * self.rows.step)
        return [*step, "mls r5, r6, r7, r5", *add("r5", "r5", beyond, "r7")]

    def _next_column(self) -> list[str]:
        """Go to the next column of outputs, or leave if there is none."""
        if not self._counts:
            return ["vmov r7, r6, s3, s4", "subs r7, #1", "beq 7f", "vmov s3, r7", f"add {TO}, r6"]
        lines = ["vmov r5, r7, s2, s3", "subs r7, #1", "beq 7f", "vmov s3, r7", "vmov r6, s4"]
        return [*lines, f"add {TO}, r6"]

    def _column(self, *, second: bool) -> list[str]:
        column = Column(self.rows, self.output, second=second, row_bytes=ROW_BYTES, next_strip=True)
        return [*(column.load() if second else []), *column.lines()]

    @property
    def _counts(self) -> bool:
        """Whether turns of a loop are counted."""
        return self.rows.loops and self.rows.step is not None

    def _portable(self) -> str:
        epilogue = "".join(f"        {line}\n" for line in portable_output(self.output))
        step = "row_step" if self.rows.step is None else self.rows.step
        turns = f"{self.rows.of_turn} * turns + {self.rows.rest}"
        rows = (
            f"strip_step / {ROW_BYTES * self.rows.stride}{' - 2' if self.rows.stride == 1 else ''}"
            if self.rows.step is None
            else turns
        )
        shift, head = ("", 1) if isinstance(self.output, ScaledOutput) else (", s = constants[1]", 2)
        columns = ("i", "i + 2", "i + 1") if self.rows.stride == 1 else ("i", "i + 2", "i ? strip_step : 1")
        weights = ("2 * k", "2 * k + 1", "6 + k")
        products = " + ".join(f"w[{w}] * x[{x}]" for w, x in zip(weights, columns, strict=True))
        return f"""  const int32_t rows = {rows};
  for (; channels > 0; --channels, constants += {head + 7}, ++y) {{
    const int32_t m = constants[{head + 5}], c = constants[{head + 6}]{shift};
    const int16_t *const w = (const int16_t *)(const void *)(constants + {head});
    for (int32_t column = 0; column < columns; ++column)
      for (int32_t row = 0; row < rows; ++row) {{
        const int32_t i = column % {COLUMNS};
        int32_t sum = constants[0];
        for (int32_t k = 0; k < {KERNEL}; ++k) {{
          const int32_t at = {ROW_BYTES} * ({self.rows.stride} * row + k);
          const int8_t *const x = strips + column / {COLUMNS} * strip_step + at;
          sum += {products};
        }}
{epilogue}        y[column * column_step + row * {step}] = result;
      }}
    strips += w[9];
  }}
"""


def slide_words(output: Output | ScaledOutput) -> int:
    """Return how many words of constants a channel has."""
    return 8 if isinstance(output, ScaledOutput) else 9


def pack_slide(scales: Scales, stride: int, multiplier: int, output: Output | ScaledOutput) -> NDArray[np.int32]:
    """Return the constants of channels for a `Slide`: bias, shift if it has one, weights, scale, [O, words].

    Parameters
    ----------
    scales : weights [O, 9] by rows of the kernel.
    multiplier : channels with the same input, next to each other.
    """
    pairs = [0, 2, 3, 5, 6, 8] if stride == 1 else [0, 1, 3, 4, 6, 7]
    thirds = [1, 4, 7] if stride == 1 else [2, 5, 8]
    next_plane = np.where(np.arange(1, len(scales.weight) + 1) % multiplier == 0, 4, 0)
    halves = np.concatenate([scales.weight[:, pairs + thirds], next_plane[:, None]], axis=1)
    words = np.ascontiguousarray(halves, np.int16).view(np.int32)
    head = [scales.bias, scales.shift][: slide_words(output) - 7]
    tail = [scales.multiplier, scales.constant]
    parts = (np.stack(head, axis=1), words, np.stack(tail, axis=1))
    return np.concatenate(parts, axis=1).astype(np.int32)
