"""Depthwise 3x3 convolution of strips (see `planes`): one column of outputs after the other, sliding down.

A strip has two columns of outputs. Two SXTB16 make the factors of a row: a pair of neighbouring or alternate bytes in
P, and in a half of Q the byte that is left of the three. SMLAD and SMLAxy multiply them with a row of the kernel.

=======  ======  ============  ===================  ====================================
stride   column  P             Q                    weights of P
=======  ======  ============  ===================  ====================================
1        first   (x0, x2)      x1                   (w0, w2)
1        second  (x1, x3)      x2                   (w0, w2)
2        first   (x0, x1)      x2                   (w0, w1)
2        second  (x2, x3)      x4, the next strip's (w0, w1)
=======  ======  ============  ===================  ====================================

Each row goes into up to three rows of outputs, whose sums take turns in three or two registers; the nine weights are
in five. Thus multiplier, constant and pointers keep registers of their own, and the floating-point registers hold the
rest. The order within a row suits cores that wait for results, or issue two instructions at a time: the next row is
loaded before this one is done, and an output is stored a row after its sum is complete.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tvm_tinyml.targets.cortex_m.microkernels.microkernel import Microkernel, add, move
from tvm_tinyml.targets.cortex_m.microkernels.output import Output
from tvm_tinyml.targets.cortex_m.microkernels.planes import ROW_BYTES
from tvm_tinyml.targets.cortex_m.microkernels.scaled_output import ScaledOutput, Scales

KERNEL = 3
"""Width and height."""

STRIDES = (1, 2)
"""In both directions."""

COLUMNS = 2
"""Of outputs of a strip."""

BEYOND = ROW_BYTES
"""Bytes that are loaded behind the last strip, for nothing."""

LONGEST, LONGEST_SHARED = 3, {1: 6, 2: 3}
"""Rows of outputs that are written out without a loop, at most; the second, by the stride, where layers share the code
whatever the step between their rows. More would hardly fit a flash cache of 1 KiB."""

FARTHEST_STORE = 4095
"""Largest offset of a store."""

LARGEST_STEP = 0xFFFF
"""Of rows of outputs, where it is an argument."""

_P, _Q = "r12", "lr"
_TAPS = (("r1", "r4", "b"), ("r2", "r4", "t"), ("r3", "r5", "b"))
"""Of each kernel row: the register of P's weights, and register and half of Q's weight."""
_MULTIPLIER, _CONSTANT, _TO, _NEXT_STRIP, _STEP_OR_TURNS = "r9", "r10", "r11", "r8", "r5"


@dataclass(frozen=True)
class Slide:
    """A kernel for strips of one height, whose rows of outputs are ``row_step`` bytes apart.

    Attributes
    ----------
    stride : 1 or 2.
    row_step : from a row of outputs to the next, in bytes; None for an argument, which takes a cycle more an output.
    loops : whether there are too many rows to be written out.
    rest : rows behind the turns of the loop.
    output : how to round and clamp.
    """

    stride: int
    row_step: int | None
    loops: bool
    rest: int
    output: Output | ScaledOutput

    @classmethod
    def of(cls, stride: int, row_step: int | None, rows: int, output: Output | ScaledOutput) -> Slide:
        """Return the kernel for so many rows of outputs."""
        loops = rows > (LONGEST_SHARED[stride] if row_step is None else LONGEST)
        return cls(stride, row_step, loops, rows % rows_of_turn(stride) if loops else rows, output)

    def last_argument(self, rows: int, row_step: int) -> int:
        """Return the turns of the loop, or the step where that is no part of the code."""
        return row_step if self.row_step is None else (rows - self.rest) // rows_of_turn(self.stride)

    def microkernel(self) -> Microkernel:
        """Return the function.

        Its arguments: constants of the first channel (`pack_slide`), the first channel's first strip, where its first
        output goes, and the number of channels; then that of columns of outputs, bytes from a strip to the next, bytes
        from a column of outputs to the next, and the `last_argument`. Channels are next to each other in the output,
        strips in the input. Constants and strips are aligned to 4 bytes, the output, of which bytes are stored, to
        nothing.
        """
        rows = f"{'n' if self.loops else ''}{self.rest}"
        step = "any" if self.row_step is None else self.row_step
        return Microkernel(
            name=f"tinyml_slide_{self.stride}_{rows}_{step}_{self.output.name}",
            parameters=(
                *("const int32_t *constants", "const int8_t *strips", "int8_t *y", "int32_t channels"),
                *("int32_t columns", "int32_t strip_step", "int32_t column_step"),
                "int32_t row_step" if self.row_step is None else "int32_t turns",
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
        lines += ["vmov s6, s7, r8, r0", "vmov s2, s3, r5, r7", "ldr r0, [sp]", f"ldr {_P}, [r0], #{ROW_BYTES}"]
        lines += [".p2align 2", "2:", *self._column(second=False), *self._next_column(), "vmov r7, s5"]
        lines += [f"sub {_NEXT_STRIP}, r0, #{ROW_BYTES}"] if self.stride == 2 else []
        lines += ["subs r0, r0, r7", *self._column(second=True), *self._next_column(), "b 2b"]
        lines += ["7:", "ldr r1, [sp]", "ldr r2, [sp, #4]", "ldr r3, [sp, #8]", "vmov r4, r0, s6, s7"]
        lines += ["adds r1, r1, r4", "adds r2, #1", "str r1, [sp]", "str r2, [sp, #4]", "subs r3, #1"]
        return [*lines, "str r3, [sp, #8]", "bne 3b", "pop {r1-r11, pc}"]

    def _gap(self) -> list[str]:
        """Take off the step between columns, in r5, what the stores of all rows go ahead.

        r6 is the last argument, r4 from the end of a strip to its second row.
        """
        if self.row_step is None:
            rows = [f"lsrs r7, r4, #{3 + self.stride}", f"subs r7, #{3 if self.stride == 1 else 1}"]
            behind = ROW_BYTES * (self.stride * (self.rest - 1) + KERNEL + 1)
            looped = [*add("r7", "r4", -behind, "r7"), "vmov s8, r7"] if self.loops else []
            return [*rows, "mls r5, r7, r6, r5", *looped]
        beyond = -self.rest * self.row_step if self._steps_each else 0
        if not self.loops:
            return add("r5", "r5", beyond, "r7")
        step = move("r7", rows_of_turn(self.stride) * self.row_step)
        return [*step, "mls r5, r6, r7, r5", *add("r5", "r5", beyond, "r7")]

    def _next_column(self) -> list[str]:
        """Go to the next column of outputs, or leave if there is none."""
        if not self._counts:
            return ["vmov r7, r6, s3, s4", "subs r7, #1", "beq 7f", "vmov s3, r7", f"add {_TO}, r6"]
        lines = ["vmov r5, r7, s2, s3", "subs r7, #1", "beq 7f", "vmov s3, r7", "vmov r6, s4"]
        return [*lines, f"add {_TO}, r6"]

    def _column(self, *, second: bool) -> list[str]:
        """Return the rows of one column; the first ones fill the sums, later ones end an output each.

        The loop does not know its last turn: it begins outputs that are not there.
        """
        column = _Column(self, second=second)
        last = None if self.loops else self.rest - 1
        lines = column.load() if second else []
        for row in range(KERNEL - self.stride):
            lines += column.row(row, last)
        first = 0
        if self.loops:
            first = rows_of_turn(self.stride)
            lines += column.begin_loop()
            lines += [".p2align 2", "1:"]
            lines += [line for y in range(first) for line in column.output(y, None)]
            lines += [*column.store(), *column.end_loop()]
        for y in range(first, first + self.rest):
            lines += column.output(y, first + self.rest - 1, first)
        return [*lines, *column.store()]

    @property
    def _counts(self) -> bool:
        """Whether turns of a loop are counted."""
        return self.loops and self.row_step is not None

    @property
    def _steps_each(self) -> bool:
        """Whether the pointer goes on after each row of outputs: they are far apart, or nobody knows how far."""
        if self.row_step is None:
            return True
        rows = max(rows_of_turn(self.stride) if self.loops else 1, self.rest)
        return (rows - 1) * self.row_step > FARTHEST_STORE

    def _portable(self) -> str:
        epilogue = "".join(f"        {line}\n" for line in portable_output(self.output))
        step = "row_step" if self.row_step is None else self.row_step
        turns = f"{rows_of_turn(self.stride)} * turns + {self.rest}"
        rows = (
            f"strip_step / {ROW_BYTES * self.stride}{' - 2' if self.stride == 1 else ''}"
            if self.row_step is None
            else turns
        )
        shift, head = ("", 1) if isinstance(self.output, ScaledOutput) else (", s = constants[1]", 2)
        columns = ("i", "i + 2", "i + 1") if self.stride == 1 else ("i", "i + 2", "i ? strip_step : 1")
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
          const int8_t *const x = strips + column / {COLUMNS} * strip_step + {ROW_BYTES} * ({self.stride} * row + k);
          sum += {products};
        }}
{epilogue}        y[column * column_step + row * {step}] = result;
      }}
    strips += w[9];
  }}
"""


class _Column:
    """The instructions of a column of outputs, and the output that is still to be stored."""

    def __init__(self, slide: Slide, *, second: bool) -> None:
        self._slide = slide
        self._second = second
        self._loads_q = slide.stride == 2 and second
        self._waiting: tuple[str, int] | None = None
        self._turn = rows_of_turn(slide.stride)
        self._each = slide._steps_each

    def row(self, row: int, last: int | None) -> list[str]:
        """Return the products of a row for the outputs up to ``last``, without the rounding of the one it ends."""
        return self._join(row, last, [], [])

    def output(self, y: int, last: int | None, stored: int = 0) -> list[str]:
        """Return the products of the rows that end an output, and its rounding; it is stored with the next one.

        stored : outputs behind which the pointer stands.
        """
        end = self._slide.stride * y + KERNEL
        lines = [line for row in range(end - self._slide.stride, end - 1) for line in self._join(row, last, [], [])]
        total, form = self._sum(y), self._slide.output
        scale = form.scale(total, _MULTIPLIER, _CONSTANT)
        bound = form.bound(total) if isinstance(form, ScaledOutput) else [f"vmov {_Q}, s1", *form.bound(total, _Q)]
        lines += self._join(end - 1, last, scale, bound)
        self._waiting = total, y - stored
        return lines

    def store(self) -> list[str]:
        """Return the store of the output that waits for it, if one does."""
        if self._waiting is None:
            return []
        (total, row), self._waiting = self._waiting, None
        step = self._slide.row_step
        if step is None:
            return [f"strb {total}, [{_TO}]", f"add {_TO}, {_TO}, {_STEP_OR_TURNS}, lsr #16"]
        if self._each:
            return [f"strb {total}, [{_TO}]", *add(_TO, _TO, step, total)]
        return [f"strb {total}, [{_TO}, #{row * step}]"]

    def begin_loop(self) -> list[str]:
        """Return what finds out where the loop will end, if it does not count."""
        spare = self._sum(self._turn - 1)
        return [] if self._slide.row_step else [f"vmov {spare}, s8", f"add {spare}, r0", f"vmov s9, {spare}"]

    def end_loop(self) -> list[str]:
        """Return the end of a turn: the next one stores behind this one."""
        step, spare = self._slide.row_step, self._sum(self._turn - 1)
        if step is None:
            return [f"vmov {spare}, s9", f"cmp r0, {spare}", "bne 1b"]
        advance = [] if self._each else add(_TO, _TO, self._turn * step, spare)
        return [*advance, f"subs {_STEP_OR_TURNS}, {_STEP_OR_TURNS}, #0x10000", "bpl 1b"]

    def _join(self, row: int, last: int | None, scale: list[str], bound: list[str]) -> list[str]:
        """Return a row in its order; ``scale`` and ``bound`` are of the output that it ends."""
        (p0, q0), (p1, q1), (p2, q2) = (self._products(row, tap, last) for tap in range(KERNEL))
        lines = self.store() if self._loads_q else [*self._factor(_Q), *self.store()]
        lines += [*self._factor(_P), *q2, *p2]
        late = self._loads_q or not isinstance(self._slide.output, ScaledOutput)  # Q is busy up to the end
        load = [] if late else self.load()
        if self._slide.stride == 1:
            lines += [*self._begin(row, last), *p1, *scale, *p0, *load, *q1]
            lines += [*q0, *bound] if late else [*bound, *q0]
        else:
            begin = self._begin((row + 1) // 2, last) if row % 2 or row == 0 else []
            lines += [*begin, *p0, *scale, *p1, *load, *q1, *q0, *bound]
        return [*lines, *self.load()] if late else lines

    def _products(self, row: int, tap: int, last: int | None) -> tuple[list[str], list[str]]:
        """Return the products of P and of Q with a row of the kernel, if they go into an output up to ``last``."""
        y, between = divmod(row - tap, self._slide.stride)
        if between or y < 0 or (last is not None and y > last):
            return [], []
        pair, third, half = _TAPS[tap]
        total, side = self._sum(y), "t" if self._second and self._slide.stride == 1 else "b"
        return [f"smlad {total}, {_P}, {pair}, {total}"], [f"smla{side}{half} {total}, {_Q}, {third}, {total}"]

    def _begin(self, y: int, last: int | None) -> list[str]:
        """Return the begin of an output, if it is one up to ``last``."""
        return [f"vmov {self._sum(y)}, s0"] if last is None or y <= last else []

    def _factor(self, to: str) -> list[str]:
        """Return how a factor comes out of the loaded word, which is in P."""
        rotated = (to == _P) == self._second
        return [f"sxtb16 {to}, {_P}{', ror #8' if rotated else ''}"]

    def load(self) -> list[str]:
        """Return the loads of the next row."""
        lines = [f"ldr {_P}, [r0], #{ROW_BYTES}"]
        return [*lines, f"ldrsb {_Q}, [{_NEXT_STRIP}], #{ROW_BYTES}"] if self._loads_q else lines

    def _sum(self, y: int) -> str:
        return ("r6", "r7", "r8")[y % self._turn]


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
