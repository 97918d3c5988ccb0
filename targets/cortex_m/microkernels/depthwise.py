"""Depthwise 3x3 convolution of strips (see `planes`): two adjacent outputs at once, sliding down.

Two SXTB16 make two pairs of a row of a strip. Without a stride they are E = (x0, x2) and O = (x1, x3): output 0 of a
kernel row w is E . (w0, w2) + x1 w1, output 1 is O . (w0, w2) + x2 w1. With a stride of 2 they are E = (x0, x1) and
O = (x2, x3): output 0 is E . (w0, w1) + x2 w2, output 1 is O . (w0, w1) + x4 w2, and x4 is the next strip's first byte.
Four multiply instructions for six products in either case.

Each row goes into up to three rows of outputs, whose sums take turns in four or six registers; the nine weights are in
five. All else that does not change lives in the floating-point registers: one cycle to fetch, no address needed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tvm_tinyml.targets.cortex_m.microkernels.microkernel import Microkernel, add
from tvm_tinyml.targets.cortex_m.microkernels.output import Output
from tvm_tinyml.targets.cortex_m.microkernels.planes import ROW_BYTES
from tvm_tinyml.targets.cortex_m.microkernels.scaled_output import ScaledOutput, Scales

KERNEL = 3
"""Width and height."""

STRIDES = (1, 2)
"""In both directions."""

OUTPUTS = 2
"""Of one row of a strip."""

LONGEST = 3
"""Rows of outputs that are written out without a loop, at most."""

FARTHEST_STORE = 4095
"""Largest offset of a store."""

_SUMS = (("r6", "r7"), ("r8", "r9"), ("r10", "r11"))
_EVEN, _ODD = "r12", "lr"
_TAPS = (("r1", "r4", "b"), ("r2", "r4", "t"), ("r3", "r5", "b"))
"""Of each kernel row: the register of two weights, and register and half of the third one."""


@dataclass(frozen=True)
class Slide:
    """A kernel for strips of one height, whose rows of outputs are ``row_step`` bytes apart.

    Attributes
    ----------
    stride : 1 or 2.
    outputs : of a row of a strip: 2, or 1, for the last strip of an odd width.
    row_step : from a row of outputs to the next, in bytes.
    loops : whether there are more than `LONGEST` rows.
    rest : rows behind the turns of the loop.
    output : how to round and clamp.
    """

    stride: int
    outputs: int
    row_step: int
    loops: bool
    rest: int
    output: Output | ScaledOutput

    @classmethod
    def of(cls, stride: int, outputs: int, row_step: int, rows: int, output: Output | ScaledOutput) -> Slide:
        """Return the kernel for so many rows of outputs."""
        loops = rows > LONGEST
        return cls(stride, outputs, row_step, loops, rows % rows_of_turn(stride) if loops else rows, output)

    def turns(self, rows: int) -> int:
        """Return how often the loop runs."""
        return (rows - self.rest) // rows_of_turn(self.stride)

    def microkernel(self) -> Microkernel:
        """Return the function.

        Its arguments: constants of the first channel (`pack_slide`), the first channel's first strip, where its first
        output goes, and the number of channels; then that of strips, bytes from a strip to the next, bytes from the
        first to the second output of the first strip, bytes from an output to the next one otherwise, and turns of the
        loop. Channels are next to each other in the output, strips in the input; words of them are aligned.

        A first strip may have one output only, its second, to whose place the first one is written before: the step
        between them is 0.
        """
        rows = f"{'n' if self.loops else ''}{self.rest}"
        return Microkernel(
            name=f"tinyml_slide_{self.stride}_{self.outputs}_{rows}_{self.row_step}_{self.output.name}",
            parameters=(
                *("const int32_t *constants", "const int8_t *strips", "int8_t *y", "int32_t channels"),
                *("int32_t count", "int32_t strip_step", "int32_t first_step", "int32_t column_step", "int32_t turns"),
            ),
            assembly=self._assembly(),
            portable=self._portable(),
        )

    def _assembly(self) -> list[str]:
        """Return the loops over channels and strips around the rows.

        s0 to s3 bias and scale of a channel, s4 the step between the outputs of a strip, s5 the step to the next plane,
        s8 a weight and the number of turns, s10 and s11 where the two outputs go, s12 where the first one of the next
        strip goes, s13 the column step, s14 strips left, s15 the constants of the next channel. On the stack: strips
        and output of a channel, number of channels. r5 counts turns in its upper half, above a weight.
        """
        lines = ["push {r1-r11, lr}", "3:"]
        scaled = isinstance(self.output, ScaledOutput)
        lines += ["vldmia r0!, {s0-s2}", "vldmia r0!, {s4-s8}"] if scaled else ["vldmia r0!, {s0-s8}"]
        lines += ["vmov s15, r0", *(f"vmov r{1 + i}, s{4 + i}" for i in range(5))]
        lines += ["ldr r0, [sp]", "ldr r6, [sp, #4]", "ldr r7, [sp, #60]", "ldr r8, [sp, #48]", "ldr r9, [sp, #56]"]
        lines += ["ldr r10, [sp, #64]", "vmov s12, s13, r6, r7", "lsrs r6, r5, #16", "subs r10, #1", "vmov s14, r8"]
        lines += ["pkhbt r5, r5, r10, lsl #16", "vmov s4, s5, r9, r6", "vmov s8, r5"]
        lines += ["ldr r11, [sp, #52]", "add r11, r0"] if self.stride == 2 else []
        lines += [".p2align 2", "2:", "vmov r6, r7, s12, s13", "vmov r8, s4", "vmov r5, s8", "vmov s4, r7"]
        lines += ["add r8, r6", "add r7, r8", "vmov s10, s11, r6, r8", "vmov s12, r7", *self._strip()]
        lines += ["vmov r6, s14", "subs r6, #1", "vmov s14, r6", "bne 2b"]
        lines += ["ldr r1, [sp]", "ldr r2, [sp, #4]", "ldr r3, [sp, #8]", "vmov r4, s5", "vmov r0, s15"]
        lines += ["adds r1, r1, r4", "adds r2, #1", "str r1, [sp]", "str r2, [sp, #4]", "subs r3, #1"]
        return [*lines, "str r3, [sp, #8]", "bne 3b", "pop {r1-r11, pc}"]

    def _strip(self) -> list[str]:
        """Return the rows of one strip; the first ones fill the sums, later ones end a row of outputs each.

        The loop does not know its last turn: it begins rows of outputs that are not there.
        """
        fills = KERNEL - self.stride
        last = None if self.loops else self.rest - 1
        lines = [line for row in range(fills) for line in self._row(row, last)]
        first = 0
        if self.loops:
            first = rows_of_turn(self.stride)
            lines += [".p2align 2", "1:"]
            for y in range(first):
                lines += self._rows_of(y, None) + self._store(y, ends=y == first - 1)
            lines += ["subs r5, r5, #0x10000", "bpl 1b"]
        for y in range(first, first + self.rest):
            lines += self._rows_of(y, first + self.rest - 1) + self._store(y - first, ends=False)
        return lines

    def _rows_of(self, y: int, last: int | None) -> list[str]:
        """Return the products of the rows that end the y-th row of outputs."""
        end = self.stride * y + KERNEL
        return [line for row in range(end - self.stride, end) for line in self._row(row, last)]

    def _row(self, row: int, last: int | None) -> list[str]:
        """Return the products of a row, for the rows of outputs up to ``last``."""
        fifth = "r10"
        lines = [f"ldrsb {fifth}, [r11], #{ROW_BYTES}"] if self.stride == 2 and self.outputs == 2 else []
        lines += [f"ldr {_ODD}, [r0], #{ROW_BYTES}", f"sxtb16 {_EVEN}, {_ODD}", f"sxtb16 {_ODD}, {_ODD}, ror #8"]
        singles = (("b", _ODD), ("t", _EVEN) if self.stride == 1 else ("b", fifth))
        for tap, (pair, third, half) in enumerate(_TAPS):
            y, between = divmod(row - tap, self.stride)
            if between or y < 0 or (last is not None and y > last):
                continue
            sums = self._sums(y)
            lines += [f"vmov {total}, s0" for total in sums] if tap == 0 else []
            for total, two, (side, one) in zip(sums, (_EVEN, _ODD), singles, strict=False):
                lines += [
                    f"smlad {total}, {two}, {pair}, {total}",
                    f"smla{side}{half} {total}, {one}, {third}, {total}",
                ]
        return lines

    def _store(self, y: int, *, ends: bool) -> list[str]:
        """Round and store a row of outputs, the y-th of its turn; after the last one of a turn the pointers go on."""
        sums = self._sums(y)
        lines = [f"vmov {_EVEN}, {_ODD}, s1, s2"]
        lines += [line for total in sums for line in self.output.scale(total, _EVEN, _ODD)]
        if isinstance(self.output, ScaledOutput):
            lines += [line for total in sums for line in self.output.bound(total)]
        else:
            lines += [f"vmov {_ODD}, s3", *(line for total in sums for line in self.output.bound(total, _ODD))]
        pointers, homes = (", ".join(names[: self.outputs]) for names in ((_EVEN, _ODD), ("s10", "s11")))
        lines += [f"vmov {pointers}, {homes}"]
        turn = rows_of_turn(self.stride)
        each = (turn - 1) * self.row_step > FARTHEST_STORE
        offset = 0 if each else y * self.row_step
        lines += [f"strb {total}, [{to}, #{offset}]" for total, to in zip(sums, (_EVEN, _ODD), strict=False)]
        if each or ends:
            step = self.row_step * (1 if each else turn)
            lines += [line for to in (_EVEN, _ODD)[: self.outputs] for line in add(to, to, step, sums[0])]
            lines += [f"vmov {homes}, {pointers}"]
        return lines

    def _sums(self, y: int) -> tuple[str, ...]:
        return _SUMS[y % rows_of_turn(self.stride)][: self.outputs]

    def _portable(self) -> str:
        epilogue = "".join(f"          {line}\n" for line in portable_output(self.output))
        shift, head = ("", 3) if isinstance(self.output, ScaledOutput) else (", s = constants[3]", 4)
        if self.stride == 1:
            columns = [f"x[{i}]" for i in ("i", "i + 2", "i + 1")]
        else:
            columns = [f"x[{i}]" for i in ("i", "i + 2", "i ? strip_step : 1")]
        products = " + ".join(f"w[{w}] * {x}" for w, x in zip(("2 * k", "2 * k + 1", "6 + k"), columns, strict=True))
        return f"""  const int32_t rows = {rows_of_turn(self.stride)} * turns + {self.rest};
  for (; channels > 0; --channels, constants += {head + 5}, ++y) {{
    const int32_t m = constants[1], c = constants[2]{shift};
    const int16_t *const w = (const int16_t *)(const void *)(constants + {head});
    for (int32_t strip = 0; strip < count; ++strip)
      for (int32_t row = 0; row < rows; ++row)
        for (int32_t i = 0; i < {self.outputs}; ++i) {{
          const int32_t column = strip ? first_step + ({OUTPUTS} * strip - 1 + i) * column_step : i * first_step;
          int32_t sum = constants[0];
          for (int32_t k = 0; k < {KERNEL}; ++k) {{
            const int8_t *const x = strips + strip * strip_step + {ROW_BYTES} * ({self.stride} * row + k);
            sum += {products};
          }}
{epilogue}          y[column + row * {self.row_step}] = result;
        }}
    strips += w[9];
  }}
"""


def rows_of_turn(stride: int) -> int:
    """Return the rows of outputs in the body of the loop: then all sums are in their first registers again."""
    return 3 if stride == 1 else 2


def portable_output(output: Output | ScaledOutput) -> list[str]:
    """Return the lines in C that round a ``sum`` of constants as they are stored: see `scaled_output.Scales`."""
    single = [] if isinstance(output, ScaledOutput) else ["sum /= 2;"]
    return [*single, *output.portable().splitlines()]


def slide_words(output: Output | ScaledOutput) -> int:
    """Return how many words of constants a channel has."""
    return 8 if isinstance(output, ScaledOutput) else 9


def pack_slide(scales: Scales, stride: int, multiplier: int, output: Output | ScaledOutput) -> NDArray[np.int32]:
    """Return the constants of channels for a `Slide`: bias, scale and weights, [O, words].

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
    head = [scales.bias, scales.multiplier, scales.constant, scales.shift][: slide_words(output) - 5]
    return np.concatenate([np.stack(head, axis=1).astype(np.int32), words], axis=1)
