"""A column of outputs of a depthwise 3x3 convolution, sliding down a word a row: what its kernels share.

Two SXTB16 make the factors of a row: a pair of alternate or neighbouring bytes in P, and in a half of Q the byte that
is left of the three. SMLAD and SMLAxy multiply them with a row of the kernel. Each row goes into up to three rows of
outputs, whose sums take turns in three or two registers; the nine weights are in five. Thus multiplier, constant and
pointers keep registers of their own, and the floating-point registers hold the rest. The order within a row suits cores
that wait for results, or issue two instructions at a time: the next row is loaded before this one is done, and an
output is stored a row after its sum is complete.
"""

from __future__ import annotations

from dataclasses import dataclass

from tvm_tinyml.targets.cortex_m.microkernels.microkernel import add
from tvm_tinyml.targets.cortex_m.microkernels.output import Output
from tvm_tinyml.targets.cortex_m.microkernels.scaled_output import ScaledOutput

KERNEL = 3
"""Width and height."""

STRIDES = (1, 2)
"""In both directions."""

FARTHEST_STORE = 4095
"""Largest offset of a store."""

P, Q = "r12", "lr"
TAPS = (("r1", "r4", "b"), ("r2", "r4", "t"), ("r3", "r5", "b"))
"""Of each kernel row: the register of P's weights, and register and half of Q's weight."""
MULTIPLIER, CONSTANT, TO, NEXT_STRIP, STEP_OR_TURNS = "r9", "r10", "r11", "r8", "r5"
"""The input's next row is in r0, sums are in r6 to r8, s0 is the bias, s1 a shift of the channel's own."""


@dataclass(frozen=True)
class OutputRows:
    """The rows of outputs of a column.

    Attributes
    ----------
    stride : 1 or 2.
    step : from one to the next, in bytes; None for an argument.
    loops : whether there are too many to be written out.
    rest : rows behind the turns of the loop.
    """

    stride: int
    step: int | None
    loops: bool
    rest: int

    @classmethod
    def of(cls, stride: int, step: int | None, rows: int, longest: int) -> OutputRows:
        """Return so many rows, of which up to ``longest`` are written out."""
        loops = rows > longest
        return cls(stride, step, loops, rows % rows_of_turn(stride) if loops else rows)

    @property
    def name(self) -> str:
        """Part of a microkernel's name."""
        return f"{self.stride}_{'n' if self.loops else ''}{self.rest}_{'any' if self.step is None else self.step}"

    @property
    def of_turn(self) -> int:
        """Rows in the body of the loop."""
        return rows_of_turn(self.stride)

    @property
    def steps_each(self) -> bool:
        """Whether the pointer goes on after each row of outputs: they are far apart, or nobody knows how far."""
        if self.step is None:
            return True
        rows = max(self.of_turn if self.loops else 1, self.rest)
        return (rows - 1) * self.step > FARTHEST_STORE

    def turns(self, rows: int) -> int:
        """Return the turns of the loop for so many rows."""
        return (rows - self.rest) // self.of_turn


def rows_of_turn(stride: int) -> int:
    """Return the rows of outputs in the body of the loop: then all sums are in their first registers again."""
    return 3 if stride == 1 else 2


class Column:
    """The instructions of a column of outputs, and the output that is still to be stored.

    Parameters
    ----------
    rows : how the outputs follow each other.
    second : the column is the second one of a word: see above.
    row_bytes : from a row of the input to the next.
    next_strip : with a stride, the third factor of a second column lies in the next strip.
    store : instruction that stores an output.
    """

    def __init__(
        self,
        rows: OutputRows,
        output: Output | ScaledOutput,
        *,
        second: bool,
        row_bytes: int,
        next_strip: bool = False,
        store: str = "strb",
    ) -> None:
        self._rows = rows
        self._output = output
        self._second = second
        self._row_bytes = row_bytes
        self._instruction = store
        self._loads_q = next_strip and rows.stride == 2 and second
        self._waiting: tuple[str, int] | None = None
        self._turn = rows.of_turn

    def lines(self) -> list[str]:
        """Return all rows, once the first one is loaded; the first ones fill the sums, later ones end an output each.

        The loop does not know its last turn: it begins outputs that are not there. At the end one row more is loaded.
        """
        rows, first = self._rows, 0
        last = None if rows.loops else rows.rest - 1
        lines = [line for row in range(KERNEL - rows.stride) for line in self._join(row, last, [], [])]
        if rows.loops:
            first = self._turn
            lines += [*self._begin_loop(), ".p2align 2", "1:"]
            lines += [line for y in range(first) for line in self._output_of(y, None)]
            lines += [*self._store(), *self._end_loop()]
        for y in range(first, first + rows.rest):
            lines += self._output_of(y, first + rows.rest - 1, first)
        return [*lines, *self._store()]

    def load(self) -> list[str]:
        """Return the loads of the next row."""
        lines = [f"ldr {P}, [r0], #{self._row_bytes}"]
        return [*lines, f"ldrsb {Q}, [{NEXT_STRIP}], #{self._row_bytes}"] if self._loads_q else lines

    def _output_of(self, y: int, last: int | None, stored: int = 0) -> list[str]:
        """Return the products of the rows that end an output, and its rounding; it is stored with the next one.

        stored : outputs behind which the pointer stands.
        """
        end = self._rows.stride * y + KERNEL
        lines = [line for row in range(end - self._rows.stride, end - 1) for line in self._join(row, last, [], [])]
        total, form = self._sum(y), self._output
        scale = form.scale(total, MULTIPLIER, CONSTANT)
        bound = form.bound(total) if isinstance(form, ScaledOutput) else [f"vmov {Q}, s1", *form.bound(total, Q)]
        lines += self._join(end - 1, last, scale, bound)
        self._waiting = total, y - stored
        return lines

    def _store(self) -> list[str]:
        """Return the store of the output that waits for it, if one does."""
        if self._waiting is None:
            return []
        (total, row), self._waiting = self._waiting, None
        step = self._rows.step
        if step is None:
            return [f"{self._instruction} {total}, [{TO}]", f"add {TO}, {TO}, {STEP_OR_TURNS}, lsr #16"]
        if self._rows.steps_each:
            return [f"{self._instruction} {total}, [{TO}]", *add(TO, TO, step, total)]
        return [f"{self._instruction} {total}, [{TO}, #{row * step}]"]

    def _begin_loop(self) -> list[str]:
        """Return what finds out where the loop will end, if it does not count."""
        spare = self._sum(self._turn - 1)
        return [] if self._rows.step else [f"vmov {spare}, s8", f"add {spare}, r0", f"vmov s9, {spare}"]

    def _end_loop(self) -> list[str]:
        """Return the end of a turn: the next one stores behind this one."""
        step, spare = self._rows.step, self._sum(self._turn - 1)
        if step is None:
            return [f"vmov {spare}, s9", f"cmp r0, {spare}", "bne 1b"]
        advance = [] if self._rows.steps_each else add(TO, TO, self._turn * step, spare)
        return [*advance, f"subs {STEP_OR_TURNS}, {STEP_OR_TURNS}, #0x10000", "bpl 1b"]

    def _join(self, row: int, last: int | None, scale: list[str], bound: list[str]) -> list[str]:
        """Return a row in its order; ``scale`` and ``bound`` are of the output that it ends."""
        (p0, q0), (p1, q1), (p2, q2) = (self._products(row, tap, last) for tap in range(KERNEL))
        lines = self._store() if self._loads_q else [*self._factor(Q), *self._store()]
        lines += [*self._factor(P), *q2, *p2]
        late = self._loads_q or not isinstance(self._output, ScaledOutput)  # Q is busy up to the end
        load = [] if late else self.load()
        if self._rows.stride == 1:
            lines += [*self._begin(row, last), *p1, *scale, *p0, *load, *q1]
            lines += [*q0, *bound] if late else [*bound, *q0]
        else:
            begin = self._begin((row + 1) // 2, last) if row % 2 or row == 0 else []
            lines += [*begin, *p0, *scale, *p1, *load, *q1, *q0, *bound]
        return [*lines, *self.load()] if late else lines

    def _products(self, row: int, tap: int, last: int | None) -> tuple[list[str], list[str]]:
        """Return the products of P and of Q with a row of the kernel, if they go into an output up to ``last``."""
        y, between = divmod(row - tap, self._rows.stride)
        if between or y < 0 or (last is not None and y > last):
            return [], []
        pair, third, half = TAPS[tap]
        total, side = self._sum(y), "t" if self._second and self._rows.stride == 1 else "b"
        return [f"smlad {total}, {P}, {pair}, {total}"], [f"smla{side}{half} {total}, {Q}, {third}, {total}"]

    def _begin(self, y: int, last: int | None) -> list[str]:
        """Return the begin of an output, if it is one up to ``last``."""
        return [f"vmov {self._sum(y)}, s0"] if last is None or y <= last else []

    def _factor(self, to: str) -> list[str]:
        """Return how a factor comes out of the loaded word, which is in P."""
        rotated = (to == P) == self._second
        return [f"sxtb16 {to}, {P}{', ror #8' if rotated else ''}"]

    def _sum(self, y: int) -> str:
        return ("r6", "r7", "r8")[y % self._turn]
