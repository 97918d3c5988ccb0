"""Depthwise 3x3 convolution in strips, without a stride or with one of 2: see `microkernels.depthwise`."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from tvm.script.ir_builder import tirx as T

from tvm_tinyml.targets.cortex_m.microkernels import depthwise, planes
from tvm_tinyml.targets.cortex_m.microkernels.depthwise import Slide
from tvm_tinyml.targets.cortex_m.microkernels.depthwise_column import KERNEL, STRIDES
from tvm_tinyml.targets.cortex_m.microkernels.microkernel import Microkernel
from tvm_tinyml.targets.cortex_m.microkernels.output import Output
from tvm_tinyml.targets.cortex_m.microkernels.scaled_output import ScaledOutput, Scales
from tvm_tinyml.targets.cortex_m.recipes.depthwise_geometry import Block, Group, Phase, rows_at_once
from tvm_tinyml.targets.cortex_m.recipes.depthwise_plan import Place

MOST_ENDS = 4
"""Units of columns that are written out beside those in a loop."""

ROW_CYCLES, COLUMN_CYCLES, CHANNEL_CYCLES = {1: 15, 2: 19}, 27, 50
"""What an output takes by the stride, a column of outputs beside them, and a channel beside its columns."""

FEW_OUTPUTS = 64
"""Planes of so few share code whatever the step between their rows: it takes longer, and they are many and different
behind the last strides of a network."""

UNIT_CYCLES = {1: 18, 2: 26}
"""What packing a unit of columns of four channels takes, by the stride."""


@dataclass(frozen=True)
class Strips:
    """A plan for one phase."""

    down: Phase
    across: Phase
    multiplier: int
    output: Output | ScaledOutput
    rows: int
    name: ClassVar[str] = "strips"
    layout: ClassVar[str] = "strips of four columns"

    @classmethod
    def of(
        cls, down: Phase, across: Phase, multiplier: int, output: Output | ScaledOutput, scratch_bytes: int
    ) -> Strips | None:
        """Return the plan for a phase, or None if it has another kernel or stride, or a border for which it is not."""
        if not (down.kernel == across.kernel == KERNEL and down.stride == across.stride in STRIDES):
            return None
        plan = cls(down, across, multiplier, output, 1)
        first, _, last = plan._columns
        if "p" not in plan._pattern or len(first) + len(last) > MOST_ENDS:
            return None
        return replace(plan, rows=rows_at_once(down, plan._strips * planes.ROW_BYTES, scratch_bytes))

    def with_rows(self, rows: int) -> Strips:
        """See `Plan.with_rows`."""
        return replace(self, rows=rows)

    @property
    def cycles(self) -> float:
        """See `Plan.cycles`."""
        columns = self.across.outputs * (ROW_CYCLES[self.across.stride] * self.rows + COLUMN_CYCLES)
        pack = self._positions * (len(self._pattern) / self._unit * UNIT_CYCLES[self.across.stride] + 18)
        blocks = -(-self.down.outputs // self.rows)
        return blocks * (columns + pack / planes.CHANNELS / self.multiplier + CHANNEL_CYCLES)

    @property
    def scratch_dtype(self) -> str:
        """See `Plan.scratch_dtype`."""
        return "int8"

    @property
    def scratch_bytes(self) -> int:
        """See `Plan.scratch_bytes`."""
        return self._strips * self._strip_bytes + depthwise.BEYOND

    @property
    def numbers(self) -> tuple[int, ...]:
        """See `Plan.numbers`: none."""
        return ()

    def constants(self, scales: Scales) -> NDArray[np.int32]:
        """See `Plan.constants`."""
        return depthwise.pack_slide(scales, self.across.stride, self.multiplier, self.output)

    def packing(self, group: Group) -> list[Microkernel]:
        """See `Plan.packing`."""
        has_border = any(self.down.border(0, self.down.positions(self.down.outputs)))
        read = {group.read, planes.CHANNELS} if has_border else {group.read}
        return [self._pack(channels) for channels in sorted(read)]

    def microkernel(self) -> Microkernel:
        """See `Plan.microkernel`."""
        return self._slide.microkernel()

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
        call = (
            place.of_channel(depthwise.slide_words(self.output)),
            place.planes(4 * group.skipped),
            T.address_of(place.output[place.y]),
            (group.read - group.skipped) * self.multiplier,
            *(self.across.outputs, self._strip_bytes, self.across.output_step),
            self._slide.last_argument(self.rows, self.down.output_step),
        )
        T.evaluate(T.call_extern("int32", self._slide.microkernel().name, *call))

    @property
    def _slide(self) -> Slide:
        step = self.down.output_step
        few = self.across.outputs * self.down.outputs <= FEW_OUTPUTS and step <= depthwise.LARGEST_STEP
        return Slide.of(self.across.stride, None if few else step, self.rows, self.output)

    @property
    def _positions(self) -> int:
        return self.down.positions(self.rows)

    @property
    def _strip_bytes(self) -> int:
        return self._positions * planes.ROW_BYTES

    @property
    def _width(self) -> int:
        return self.across.positions(self.across.outputs)

    @property
    def _strips(self) -> int:
        units = -(-self._width // self._unit)
        return units - 1 if self.across.stride == 1 else units

    @property
    def _unit(self) -> int:
        """Columns that are packed at once."""
        return 2 if self.across.stride == 1 else 4

    @property
    def _pattern(self) -> str:
        """Of each column across whether it is a pixel or border, up to the last pixel of strips side by side."""
        front, behind = self.across.border(0, self._width)
        columns = "z" * front + "p" * (self._width - front - behind)
        columns += "z" * behind if self.across.stride == 1 else ""
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
