"""Depthwise convolution of any kernel and stride, by rows of planes: see `microkernels.depthwise_rows`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from tvm.script.ir_builder import tirx as T

from tvm_tinyml.targets.cortex_m.microkernels import depthwise_rows
from tvm_tinyml.targets.cortex_m.microkernels.depthwise_rows import MOST_OUTPUTS, Geometry
from tvm_tinyml.targets.cortex_m.microkernels.microkernel import Microkernel
from tvm_tinyml.targets.cortex_m.microkernels.output import Output
from tvm_tinyml.targets.cortex_m.microkernels.planes import CHANNELS
from tvm_tinyml.targets.cortex_m.microkernels.planes_of_halves import fill_halves, pack_halves
from tvm_tinyml.targets.cortex_m.microkernels.scaled_output import ScaledOutput, Scales
from tvm_tinyml.targets.cortex_m.recipes.depthwise_geometry import Block, Group, Phase, rows_at_once
from tvm_tinyml.targets.cortex_m.recipes.depthwise_plan import Place

ROW_CYCLES, CALL_CYCLES = 20, 65
"""What a row of outputs takes beside its blocks, and a channel beside its rows."""


@dataclass(frozen=True)
class Rows:
    """A plan for one phase."""

    down: Phase
    across: Phase
    multiplier: int
    output: Output | ScaledOutput
    rows: int
    name: ClassVar[str] = "rows"
    layout: ClassVar[str] = "planes of halves"

    @classmethod
    def of(cls, down: Phase, across: Phase, multiplier: int, output: Output | ScaledOutput, scratch_bytes: int) -> Rows:
        """Return the plan for any phase."""
        plan = cls(down, across, multiplier, output, 1)
        return replace(plan, rows=rows_at_once(down, CHANNELS * plan._line_bytes, scratch_bytes))

    def with_rows(self, rows: int) -> Rows:
        """See `Plan.with_rows`."""
        return replace(self, rows=rows)

    @property
    def cycles(self) -> float:
        """See `Plan.cycles`."""
        blocks = -(-self.down.outputs // self.rows)
        rows = self.rows * (_row_cycles(self.down, self.across, self._kernel.outputs) + ROW_CYCLES)
        pack = self._positions * (2.4 * self.across.positions(self.across.outputs) + 5)
        return blocks * (rows + pack / self.multiplier + CALL_CYCLES)

    @property
    def scratch_dtype(self) -> str:
        """See `Plan.scratch_dtype`."""
        return "int16"

    @property
    def scratch_bytes(self) -> int:
        """See `Plan.scratch_bytes`."""
        return self._positions * CHANNELS * self._line_bytes

    @property
    def numbers(self) -> list[int]:
        """See `Plan.numbers`."""
        steps = (self.across.output_step, self.down.output_step)
        return self._kernel.geometry(
            Geometry(*steps, self.across.outputs, self.rows, CHANNELS * self._line_bytes, self._line_bytes)
        )

    def constants(self, scales: Scales) -> NDArray[np.int32]:
        """See `Plan.constants`."""
        return self._kernel.pack(scales, self.multiplier)

    def packing(self, group: Group) -> list[Microkernel]:
        """See `Plan.packing`."""
        return [self._pack(group.read), fill_halves()]

    def microkernel(self) -> Microkernel:
        """See `Plan.microkernel`."""
        return self._kernel.microkernel()

    def fill(self, place: Place, block: Block) -> None:
        """See `Plan.fill`."""
        row_bytes, line_words = CHANNELS * self._line_bytes, self._line_bytes // 4
        inside = self._positions - block.front - block.behind
        front, pixels = self._columns
        end = -(-(front + pixels) // 2)
        behind = line_words - end if front + pixels < self.across.positions(self.across.outputs) else 0
        first, last = block.front * row_bytes, (block.front + inside) * row_bytes
        for to, lines, words in (
            (0, 1, block.front * CHANNELS * line_words),
            (last, 1, block.behind * CHANNELS * line_words),
            (first, inside * CHANNELS, front // 2),
            (first + 4 * end, inside * CHANNELS, behind),
        ):
            if lines * words:
                pointers = place.planes(to), T.address_of(place.border[0])
                sizes = (lines, words, self._line_bytes)
                T.evaluate(T.call_extern("int32", fill_halves().name, *pointers, *sizes))

    def compute(self, place: Place, block: Block, group: Group) -> None:
        """See `Plan.compute`."""
        front, pixels = self._columns
        rows = self._positions - block.front - block.behind
        if rows and pixels:
            at = block.front * CHANNELS * self._line_bytes + front // 2 * 4
            to = place.planes(at)
            x = place.x + block.front * self.down.step + front * self.across.step
            sources = T.address_of(place.image[x]), T.address_of(place.border[0])
            sizes = (rows, (pixels - front % 2) // 2, self.across.step, self.down.step, self._line_bytes)
            T.evaluate(T.call_extern("int32", self._pack(group.read).name, to, *sources, *sizes))
        call = (
            place.of_channel(self._kernel.words),
            T.address_of(place.constants[place.numbers]),
            place.planes(group.skipped * self._line_bytes),
            T.address_of(place.output[place.y]),
            (group.read - group.skipped) * self.multiplier,
        )
        T.evaluate(T.call_extern("int32", self._kernel.microkernel().name, *call))

    @property
    def _kernel(self) -> depthwise_rows.Rows:
        return depthwise_rows.Rows(
            outputs=min(_choices(self.across), key=lambda outputs: _row_cycles(self.down, self.across, outputs)),
            kernel_h=self.down.kernel,
            kernel_w=self.across.kernel,
            stride_h=self.down.stride,
            stride_w=self.across.stride,
            output=self.output,
        )

    @property
    def _positions(self) -> int:
        return self.down.positions(self.rows)

    @property
    def _line_bytes(self) -> int:
        """Of a row of one plane: whole words, as many as the kernel loads."""
        loaded = (self.across.outputs - 1) * self.across.stride + 2 * self._kernel.row_words
        return 4 * -(-loaded // 2)

    @property
    def _columns(self) -> tuple[int, int]:
        """Columns of border in front of the image, and of the image."""
        count = self.across.positions(self.across.outputs)
        front, behind = self.across.border(0, count)
        return front, count - front - behind

    def _pack(self, channels: int) -> Microkernel:
        front, pixels = self._columns
        return pack_halves(channels, "zp" if front % 2 else "", "pz" if (front + pixels) % 2 else "")


def _choices(across: Phase) -> range:
    """Outputs that a block may have."""
    return range(min(MOST_OUTPUTS, across.outputs), 0, -1)


def _row_cycles(down: Phase, across: Phase, outputs: int) -> float:
    """Return roughly what a row of outputs takes, in blocks of so many."""
    loads = 1 + min(outputs, {1: 2, 2: 1}.get(across.stride, outputs))
    products = down.kernel * (-(-across.kernel // 2) * (outputs + loads + 1) + 4)
    return -(-across.outputs // outputs) * (products + 6 * outputs + 18)
