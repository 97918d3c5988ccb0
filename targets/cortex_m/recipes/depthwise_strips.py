"""Depthwise 3x3 convolution in strips, without a stride or with one of 2: see `microkernels.depthwise`."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from tvm.script.ir_builder import tirx as T

from tvm_tinyml.targets.cortex_m.microkernels import depthwise, planes
from tvm_tinyml.targets.cortex_m.microkernels.depthwise import OUTPUTS, STRIDES, Slide
from tvm_tinyml.targets.cortex_m.microkernels.microkernel import Microkernel
from tvm_tinyml.targets.cortex_m.microkernels.output import Output
from tvm_tinyml.targets.cortex_m.microkernels.scaled_output import ScaledOutput, Scales
from tvm_tinyml.targets.cortex_m.recipes.depthwise_geometry import Block, Group, Phase, rows_at_once
from tvm_tinyml.targets.cortex_m.recipes.depthwise_plan import Place

MOST_ENDS = 4
"""Units of columns that are written out beside those in a loop."""

CALL_CYCLES = 60
"""What a channel takes beside its strips."""

NARROW_ROWS = 10
"""From so many rows on, an odd column of outputs is worth a kernel of its own."""


@dataclass(frozen=True)
class Strips:
    """A plan for one phase.

    An odd column of outputs is the last strip's only one, with a kernel of its own, or the first strip's second one:
    then ``across`` begins a column earlier, whose outputs are overwritten.

    Attributes
    ----------
    early : ``across`` begins with a column that is no output.
    """

    down: Phase
    across: Phase
    multiplier: int
    output: Output | ScaledOutput
    rows: int
    early: bool

    @classmethod
    def of(
        cls, down: Phase, across: Phase, multiplier: int, output: Output | ScaledOutput, scratch_bytes: int
    ) -> Strips | None:
        """Return the plan for a phase, or None if it has another kernel or stride, or a border for which it is not."""
        if not (down.kernel == across.kernel == depthwise.KERNEL and down.stride == across.stride in STRIDES):
            return None
        strips = -(-across.outputs // OUTPUTS) + (across.stride == 2)
        rows = rows_at_once(down, strips * planes.ROW_BYTES, scratch_bytes)
        early = across.outputs % OUTPUTS > 0 and rows < NARROW_ROWS
        if early:
            first = across.first - across.every * across.stride
            across = replace(across, first=first, outputs=across.outputs + 1)
        plan = cls(down, across, multiplier, output, rows, early)
        first_units, _, last_units = plan._columns
        return plan if "p" in plan._pattern and len(first_units) + len(last_units) <= MOST_ENDS else None

    @property
    def cycles(self) -> float:
        """See `Plan.cycles`."""
        row, strip = (30, 45) if self.across.stride == 1 else (38, 40)
        blocks = -(-self.down.outputs // self.rows)
        slide = sum(count * ((row if outputs > 1 else 20) * self.rows + strip) for outputs, _, count in self._parts)
        unit = 18 if self.across.stride == 1 else 26
        pack = self._positions * (len(self._pattern) / self._unit * unit + 18) / planes.CHANNELS
        calls = CALL_CYCLES * sum(1 for *_, count in self._parts if count)
        return blocks * (slide + pack / self.multiplier + calls)

    @property
    def scratch_dtype(self) -> str:
        """See `Plan.scratch_dtype`."""
        return "int8"

    @property
    def scratch_bytes(self) -> int:
        """See `Plan.scratch_bytes`."""
        return self._strips * self._strip_bytes

    @property
    def numbers(self) -> tuple[int, ...]:
        """See `Plan.numbers`: none."""
        return ()

    def constants(self, scales: Scales) -> NDArray[np.int32]:
        """See `Plan.constants`."""
        return depthwise.pack_slide(scales, self.across.stride, self.multiplier, self.output)

    def microkernels(self, group: Group) -> list[Microkernel]:
        """See `Plan.microkernels`."""
        slides = (self._slide(outputs).microkernel() for outputs, _, count in self._parts if count)
        return [self._pack(group.read), self._pack(planes.CHANNELS), *slides]

    def fill(self, place: Place, block: Block) -> None:
        """See `Plan.fill`: rows of one pixel, read again and again, and strips that are all border."""
        for row, rows in ((0, block.front), (self._positions - block.behind, block.behind)):
            if rows:
                to = place.planes(row * planes.ROW_BYTES)
                pixels = (T.address_of(place.border[0]),) * 2
                sizes = (rows, self._columns[1], 0, 0, self._strip_bytes)
                T.evaluate(T.call_extern("int32", self._pack(planes.CHANNELS).name, to, *pixels, *sizes))
        if self._all_border:
            to = place.planes((self._strips - self._all_border) * self._strip_bytes)
            value = T.cast(place.border[0], "int32")
            T.evaluate(T.call_extern("int32", "tinyml_fill", to, value, self._all_border * self._strip_bytes))

    def compute(self, place: Place, block: Block, group: Group) -> None:
        """See `Plan.compute`."""
        front, _ = self.across.border(0, self._width)
        to = place.planes(block.front * planes.ROW_BYTES)
        x = place.x + block.front * self.down.step + front * self.across.step
        pixels = (T.address_of(place.image[x]), T.address_of(place.border[0]))
        rows = self._positions - block.front - block.behind
        sizes = (rows, self._columns[1], self.across.step, self.down.step, self._strip_bytes)
        if rows:
            T.evaluate(T.call_extern("int32", self._pack(group.read).name, to, *pixels, *sizes))
        step = self.across.output_step
        for outputs, first, count in self._parts:
            if count:
                slide = self._slide(outputs)
                strips = first * self._strip_bytes + 4 * group.skipped
                call = (
                    place.of_channel(depthwise.slide_words(self.output)),
                    place.planes(strips),
                    T.address_of(place.output[place.y + OUTPUTS * first * step]),
                    (group.read - group.skipped) * self.multiplier,
                    *(count, self._strip_bytes, 0 if self.early else step, step, slide.turns(self.rows)),
                )
                T.evaluate(T.call_extern("int32", slide.microkernel().name, *call))

    @property
    def _strips(self) -> int:
        """Packed strips: with a stride, the first byte of one more."""
        return -(-self.across.outputs // OUTPUTS) + (self.across.stride == 2)

    @property
    def _positions(self) -> int:
        return self.down.positions(self.rows)

    @property
    def _strip_bytes(self) -> int:
        return self._positions * planes.ROW_BYTES

    @property
    def _width(self) -> int:
        """Positions across that are read, rounded up to whole strips of outputs."""
        return self.across.positions(-(-self.across.outputs // OUTPUTS) * OUTPUTS)

    @property
    def _parts(self) -> tuple[tuple[int, int, int], ...]:
        """Outputs of a strip, the first such strip and their number."""
        whole, odd = divmod(self.across.outputs, OUTPUTS)
        return (OUTPUTS, 0, whole), (1, whole, odd)

    @property
    def _unit(self) -> int:
        """Columns that are packed at once."""
        return 2 if self.across.stride == 1 else 4

    @property
    def _pattern(self) -> str:
        """Of each column across whether it is a pixel or border, up to the last pixel of strips side by side."""
        front, behind = self.across.border(0, self._width)
        columns = "z" * front + "p" * (self._width - front - behind)
        if self.across.stride == 1:
            return columns + "z" * behind
        return columns + "z" * (-len(columns) % self._unit)

    @property
    def _columns(self) -> tuple[list[str], int, list[str]]:
        """Units of columns before those of pixels alone, the number of these, and units behind them."""
        units = [self._pattern[i : i + self._unit] for i in range(0, len(self._pattern), self._unit)]
        # The first two columns complete no overlapping strip.
        first = 1 if self.across.stride == 1 else -(-self.across.border(0, self._width)[0] // self._unit)
        middle = len(list(itertools.takewhile(lambda columns: "z" not in columns, units[first:])))
        return units[:first], middle, units[first + middle :]

    @property
    def _all_border(self) -> int:
        """Strips side by side at the end that no channel overwrites."""
        return self._strips - len(self._pattern) // self._unit if self.across.stride == 2 else 0

    def _pack(self, channels: int) -> Microkernel:
        first, _, last = self._columns
        if self.across.stride == 1:
            return planes.pack_overlapping(channels, first[0], last)
        return planes.pack_side_by_side(channels, first, last)

    def _slide(self, outputs: int) -> Slide:
        return Slide.of(self.across.stride, outputs, self.down.output_step, self.rows, self.output)
