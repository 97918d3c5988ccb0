"""What a way of computing a depthwise convolution has to offer to `depthwise`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray
from tvm import DataType, tirx
from tvm.script.ir_builder import tirx as T

from tvm_tinyml.targets.cortex_m.microkernels.microkernel import Microkernel
from tvm_tinyml.targets.cortex_m.microkernels.scaled_output import Scales
from tvm_tinyml.targets.cortex_m.recipes.depthwise_geometry import Block, Group, Index, Phase


@dataclass(frozen=True)
class Place:
    """The buffers of a kernel, and what a group of channels of a block reads and writes of them.

    Attributes
    ----------
    image, constants, border, output, scratch : buffers.
    x : offset of position 0, 0 of the block's planes in the image, for the first channel that is read.
    y : offset of the block's first output, for the first channel that is computed.
    channel : the first output channel that is computed.
    numbers, channels : where in the constants those of the plan begin, and those of the channels.
    """

    image: tirx.Buffer
    constants: tirx.Buffer
    border: tirx.Buffer
    output: tirx.Buffer
    scratch: tirx.Buffer
    x: Index = 0
    y: Index = 0
    channel: Index = 0
    numbers: int = 0
    channels: int = 0

    def of_channel(self, words: int) -> tirx.Expr:
        """Return a pointer to the constants of the first channel that is computed, if each has so many words."""
        return T.address_of(self.constants[self.channels + self.channel * words])

    def planes(self, offset_bytes: int = 0) -> tirx.Expr:
        """Return a pointer into the scratch, all of which stays in use."""
        return self.scratch.access_ptr("rw", offset=offset_bytes // DataType(str(self.scratch.dtype)).itemsize)


class Plan(Protocol):
    """How the outputs of a phase ``down`` and one ``across`` are computed.

    Attributes
    ----------
    name : what a choice calls the way.
    layout : of the planes, in words.
    """

    name: ClassVar[str]
    layout: ClassVar[str]

    @property
    def down(self) -> Phase:
        """Along the planes."""

    @property
    def across(self) -> Phase:
        """Across the planes."""

    @property
    def rows(self) -> int:
        """Of outputs, made at once."""

    def with_rows(self, rows: int) -> Plan:
        """Return the same with so many rows at once."""

    @property
    def cycles(self) -> float:
        """Roughly, of a channel."""

    @property
    def scratch_dtype(self) -> str:
        """Of the planes, the same for all phases of a layer."""

    @property
    def scratch_bytes(self) -> int:
        """Of the planes of one block."""

    @property
    def numbers(self) -> Sequence[int]:
        """Of the phase, stored in front of all channels' constants."""

    def constants(self, scales: Scales) -> NDArray[np.int32]:
        """Return what is stored of each channel, [O, words]: the same for all phases of a layer."""

    def packing(self, group: Group) -> Sequence[Microkernel]:
        """Return what makes the planes of a group."""

    def microkernel(self) -> Microkernel:
        """Return what convolves them."""

    def fill(self, place: Place, block: Block) -> None:
        """Write the border that no channel overwrites."""

    def compute(self, place: Place, block: Block, group: Group) -> None:
        """Pack a group of channels and convolve them."""
