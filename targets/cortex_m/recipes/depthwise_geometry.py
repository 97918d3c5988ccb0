"""Where the pixels of a depthwise convolution lie: in the image, in planes that it is cut into, and in the output."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from tvm import relax
from tvm.ir import Expr

from tvm_tinyml.passes.integer_ops import Attributes, shape_of, window_extent
from tvm_tinyml.targets.cortex_m.microkernels.planes import CHANNELS

Index: TypeAlias = "Expr | int"


def is_depthwise(arguments: Sequence[relax.Expr], attributes: Attributes) -> bool:
    """Return whether each output channel of a convolution reads one of several input channels."""
    channels_in, depth = shape_of(arguments[0])[3], shape_of(arguments[1])[3]
    return bool(attributes["groups"] == channels_in > 1 and depth == 1)


@dataclass(frozen=True)
class Phase:
    """Outputs along an axis whose windows have no gaps in a plane that holds every so many-th pixel of the image.

    Attributes
    ----------
    size : of the image, in pixels.
    outputs, kernel, stride : in positions of the plane.
    first : pixel that position 0 of the plane holds; below 0 or from ``size`` on is border.
    every : from one position of the plane to the next, in pixels.
    input_step : from a pixel to the next, in bytes.
    output_offset, output_step : of the first output, and from one to the next, in bytes.
    """

    size: int
    outputs: int
    kernel: int
    stride: int
    first: int
    every: int
    input_step: int
    output_offset: int
    output_step: int

    @property
    def step(self) -> int:
        """From one position to the next in the image, in bytes."""
        return self.every * self.input_step

    def positions(self, outputs: int) -> int:
        """Return how many positions so many outputs read."""
        return (outputs - 1) * self.stride + self.kernel

    def border(self, begin: int, count: int) -> tuple[int, int]:
        """Return how many of ``count`` positions from ``begin`` on are border, in front of the image and behind it."""
        start = self.first + self.every * begin
        front = min(count, max(0, -(start // self.every)))
        inside = min(count, max(front, -((start - self.size) // self.every)))
        return front, count - inside

    def offset(self, position: Index) -> Index:
        """Return where a position lies in the image, in bytes."""
        return self.first * self.input_step + position * self.step


@dataclass(frozen=True)
class Axis:
    """Height or width of a convolution.

    Attributes
    ----------
    size, outputs : of the image.
    kernel, stride, dilation : of the window.
    before : border in front of the image.
    input_step, output_step : from a pixel to the next along this axis, in bytes.
    """

    size: int
    outputs: int
    kernel: int
    stride: int
    dilation: int
    before: int
    input_step: int
    output_step: int

    def phases(self) -> list[Phase]:
        """Cut the outputs into sets that read planes without gaps: without dilation, one."""
        common = math.gcd(self.stride, self.dilation)
        count = self.dilation // common
        return [
            Phase(
                size=self.size,
                outputs=len(range(phase, self.outputs, count)),
                kernel=self.kernel,
                stride=self.stride // common,
                first=self.stride * phase - self.before,
                every=self.dilation,
                input_step=self.input_step,
                output_offset=phase * self.output_step,
                output_step=count * self.output_step,
            )
            for phase in range(min(count, self.outputs))
        ]


@dataclass(frozen=True)
class Layer:
    """A depthwise convolution: down the planes, across them, and its channels.

    Attributes
    ----------
    multiplier : output channels of each input channel.
    input_step, output_step : from a pixel to the next, in bytes.
    sideways : the planes, and so the kernels, are transposed.
    """

    batch: int
    channels_in: int
    multiplier: int
    down: Axis
    across: Axis
    border: int
    input_step: int
    output_step: int
    sideways: bool = False

    @classmethod
    def of(
        cls, arguments: Sequence[relax.Expr], attributes: Attributes, input_step: int = 0, output_step: int = 0
    ) -> Layer:
        """Return the layer with planes as the image lies.

        Parameters
        ----------
        input_step, output_step : bytes from a pixel to the next; 0 where they follow each other.
        """
        batch, height, width, channels_in = shape_of(arguments[0])
        channels, *kernel, _ = shape_of(arguments[1])
        top, left, bottom, right = attributes["padding"]
        input_step, output_step = input_step or channels_in, output_step or channels
        axes = []
        for i, (size, before, behind) in enumerate(((height, top, bottom), (width, left, right))):
            stride, dilation = attributes["strides"][i], attributes["dilation"][i]
            outputs = window_extent(size, kernel[i], stride, before + behind, dilation)
            axes.append(Axis(size, outputs, kernel[i], stride, dilation, before, input_step, output_step))
        down, across = axes
        down = replace(down, input_step=width * input_step, output_step=across.outputs * output_step)
        multiplier, border = channels // channels_in, attributes["input_zero_point"]
        return cls(batch, channels_in, multiplier, down, across, border, input_step, output_step)

    @property
    def turned(self) -> Layer:
        """The same with planes that lie on their side."""
        return replace(self, down=self.across, across=self.down, sideways=not self.sideways)

    @property
    def order(self) -> NDArray[np.int64]:
        """For each product which weight it takes, of those in the order of the model."""
        if not self.sideways:
            return np.arange(self.taps)
        return np.arange(self.taps).reshape(self.across.kernel, self.down.kernel).T.ravel()

    @property
    def taps(self) -> int:
        """Products of one output."""
        return self.down.kernel * self.across.kernel

    @property
    def image_bytes(self) -> int:
        """From one image of the input to the next."""
        return self.down.size * self.across.size * self.input_step

    @property
    def output_bytes(self) -> int:
        """From one image of the output to the next."""
        return self.down.outputs * self.across.outputs * self.output_step

    @property
    def input_span(self) -> int:
        """Bytes from the first one of the input to the last."""
        return self.batch * self.image_bytes - self.input_step + self.channels_in

    @property
    def output_span(self) -> int:
        """Bytes from the first one of the output to the last."""
        return self.batch * self.output_bytes - self.output_step + self.channels_in * self.multiplier

    @property
    def keeps_shape(self) -> bool:
        """Whether each pixel and channel of the output stands where its own stands in the input."""
        same = all(axis.outputs == axis.size and axis.stride == 1 for axis in (self.down, self.across))
        return same and self.multiplier == 1 and self.input_step == self.output_step == self.channels_in

    @property
    def macs(self) -> int:
        """Multiply-accumulates, border included."""
        outputs = self.batch * self.down.outputs * self.across.outputs
        return outputs * self.channels_in * self.multiplier * self.taps


@dataclass(frozen=True)
class Block:
    """Rows of outputs that are made at once: ``rows`` from ``start`` on; and ``count`` such blocks after another.

    front, behind : rows of border at both ends of its planes.
    """

    start: int
    count: int
    rows: int
    front: int
    behind: int


def blocks(down: Phase, rows: int) -> list[Block]:
    """Cut the rows of outputs into blocks of ``rows``; the last one begins early enough to be whole."""
    found: list[Block] = []
    for start in range(0, down.outputs, rows):
        start = min(start, down.outputs - rows)
        block = Block(start, 1, rows, *down.border(start * down.stride, down.positions(rows)))
        before = found[-1] if found else block
        alike = (block.front, block.behind) == (before.front, before.behind)
        if found and alike and start == before.start + before.count * rows:
            found[-1] = replace(before, count=before.count + 1)
        else:
            found.append(block)
    return found


def rows_at_once(down: Phase, row_bytes: int, scratch_bytes: int) -> int:
    """Return how many rows of outputs a block has, if a row of its planes takes ``row_bytes``: one at least."""
    return rows_alike(down.outputs, max(1, (scratch_bytes // row_bytes - down.kernel) // down.stride + 1))


def rows_alike(rows: int, most: int) -> int:
    """Return how many of ``rows`` a block has, if there are as few blocks of at most so many as can be."""
    return -(-rows // -(-rows // most))


@dataclass(frozen=True)
class Group:
    """Input channels whose planes are made at once; and ``count`` such groups after another.

    first, read : channels to read.
    skipped : of those, the first so many were in the group before.
    """

    first: int
    count: int
    read: int
    skipped: int


def groups(channels_in: int) -> list[Group]:
    """Cut the channels into groups; the last one begins early enough to be whole."""
    whole, rest = divmod(channels_in, CHANNELS)
    if not whole:
        return [Group(0, 1, rest, 0)]
    return [Group(0, whole, CHANNELS, 0), *([Group(channels_in - CHANNELS, 1, CHANNELS, CHANNELS - rest)] * bool(rest))]
