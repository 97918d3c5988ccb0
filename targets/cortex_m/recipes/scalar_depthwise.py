"""Depthwise convolution on cores without SMLAD: make a plane of two halves of a channel, convolve it, go on."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from tvm import relax, tirx
from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as T

from tvm_tinyml.choice import NONE, Knobs
from tvm_tinyml.passes.integer_ops import Attributes, shape_of
from tvm_tinyml.passes.kernels.kernel import Kernel, Method, Recipe
from tvm_tinyml.targets.cortex_m.microkernels import scalar_depthwise, scalar_depthwise_short, scalar_output_short
from tvm_tinyml.targets.cortex_m.microkernels.microkernel import Microkernel, texts
from tvm_tinyml.targets.cortex_m.microkernels.output import Output, choose_output
from tvm_tinyml.targets.cortex_m.microkernels.scalar_depthwise import Geometry, Window
from tvm_tinyml.targets.cortex_m.microkernels.scalar_output_short import ShortOutput
from tvm_tinyml.targets.cortex_m.microkernels.scalar_planes import Pixels, border_word, pack_plane
from tvm_tinyml.targets.cortex_m.recipes.channels import Channels, all_exact
from tvm_tinyml.targets.cortex_m.recipes.depthwise_geometry import Index, Layer, Phase

BORDER_BYTES = 4
"""Of a buffer with the border's value; a kernel reads one of them again and again."""


PIXEL_CYCLES, ROW_CYCLES = 9, 25
"""Roughly, for packing a word, and for what a row takes beside its words or outputs."""


class DepthwiseForm(Protocol):
    """How a core convolves: see `scalar_depthwise`."""

    @property
    def narrow(self) -> bool:
        """With instructions of the Armv6-M only."""

    @property
    def constants(self) -> NDArray[np.int32]:
        """Of each channel, [O, words]."""

    def microkernel(self, window: Window, columns: int) -> Microkernel:
        """Return the kernel."""

    def numbers(self, window: Window, geometry: Geometry) -> list[int]:
        """Return what it reads of the geometry."""


@dataclass(frozen=True)
class LongDepthwise:
    """For cores with SMULL."""

    output: Output
    constants: NDArray[np.int32]
    narrow: bool = False

    @classmethod
    def of(cls, channels: Channels, window: Window, output: Output) -> LongDepthwise | None:
        """Return the form for the channels of a layer, or None if it is not exact for one."""
        if not all_exact(channels, output) or not scalar_depthwise.fits(channels.weight):
            return None
        scale = (channels.bias, channels.multiplier, channels.shift, channels.zero_point)
        return cls(output, scalar_depthwise.pack(channels.weight, *scale))

    @staticmethod
    def tile_cycles(window: Window, columns: int) -> int:
        """Return roughly what a row of pairs takes."""
        tiles = -(-columns // scalar_depthwise.MOST_OUTPUTS)
        return columns * (4 * window.taps + 22) + tiles * (2 * window.taps + 15)

    def microkernel(self, window: Window, columns: int) -> Microkernel:
        """See `DepthwiseForm.microkernel`."""
        return scalar_depthwise.depthwise(window, columns, self.output)

    def numbers(self, window: Window, geometry: Geometry) -> list[int]:
        """See `DepthwiseForm.numbers`."""
        return scalar_depthwise.numbers(window, geometry)


@dataclass(frozen=True)
class ShortDepthwise:
    """For the Armv6-M."""

    output: ShortOutput
    constants: NDArray[np.int32]
    narrow: bool = True

    @classmethod
    def of(cls, channels: Channels, window: Window, output: Output) -> ShortDepthwise | None:
        """See `LongDepthwise.of`."""
        scale = (channels.bias, channels.multiplier, channels.shift, channels.zero_point)
        fitted = scalar_output_short.fit(channels.weight, *scale, output.low, output.high)
        if fitted is None or window.taps > scalar_depthwise_short.MOST_TAPS:
            return None
        return cls(fitted[0], scalar_depthwise_short.pack(channels.weight, fitted[1]))

    @staticmethod
    def tile_cycles(window: Window, columns: int) -> int:
        """See `LongDepthwise.tile_cycles`."""
        return columns * (7 * window.taps + 55)

    def microkernel(self, window: Window, columns: int) -> Microkernel:
        """See `DepthwiseForm.microkernel`."""
        return scalar_depthwise_short.depthwise(window, self.output)

    def numbers(self, window: Window, geometry: Geometry) -> list[int]:
        """See `DepthwiseForm.numbers`."""
        return scalar_depthwise_short.numbers(window, geometry)


class ScalarDepthwise(Recipe):
    """``tinyml.conv2d`` of one input channel for each output channel, with its padding.

    Parameters
    ----------
    form : of the core.
    scratch_bytes : of a plane at once, if one row of outputs does not take more.
    """

    def __init__(self, form: type[LongDepthwise] | type[ShortDepthwise], scratch_bytes: int) -> None:
        self._form = form
        self._scratch_bytes = scratch_bytes

    def lower(self, arguments: Sequence[relax.Expr], attributes: Attributes, knobs: Knobs = NONE) -> Kernel | None:
        """Return the kernel, or None where its conditions are not met."""
        channels_in, depth = shape_of(arguments[0])[3], shape_of(arguments[1])[3]
        if attributes["groups"] != channels_in or depth != 1 or channels_in == 1:
            return None
        upright = Layer.of(arguments, attributes)
        layer, plans = min(
            ((layer, self._plans(layer)) for layer in (upright, upright.turned)),
            key=lambda choice: sum(plan.cycles(self._form.tile_cycles) for plan in choice[1]),
        )
        output = choose_output(*(attributes[k] for k in ("output_zero_point", "clamp_min", "clamp_max")))
        channels = Channels.of(arguments, attributes, layer.order, output)
        form = self._form.of(channels, plans[0].window, output)
        return None if form is None else _build(arguments[0], layer, plans, form)

    def _plans(self, layer: Layer) -> list[_Plan]:
        phases = itertools.product(layer.down.phases(), layer.across.phases())
        return [_Plan.of(down, across, self._scratch_bytes) for down, across in phases]


@dataclass(frozen=True)
class _Segment:
    """Rows of a plane alike: ``count`` from ``first`` on, of which halves ``inside`` lie in the image."""

    first: int
    count: int
    inside: tuple[bool, bool]


@dataclass(frozen=True)
class _Block:
    """Rows of pairs from ``start`` on; and ``count`` such blocks after another."""

    start: int
    count: int
    segments: tuple[_Segment, ...]


@dataclass(frozen=True)
class _Plan:
    """How a phase is computed.

    Attributes
    ----------
    half : outputs along ``down`` of which each has a partner, ``partner`` outputs further.
    rows : of pairs at once.
    """

    down: Phase
    across: Phase
    half: int
    partner: int
    rows: int

    @classmethod
    def of(cls, down: Phase, across: Phase, scratch_bytes: int) -> _Plan:
        half = -(-down.outputs // 2)
        row_bytes = 4 * across.positions(across.outputs)
        most = max(1, (scratch_bytes // row_bytes - down.kernel) // down.stride + 1)
        return cls(down, across, half, down.outputs - half, -(-half // -(-half // most)))

    @property
    def window(self) -> Window:
        return Window(self.down.kernel, self.across.kernel, self.down.stride, self.across.stride)

    @property
    def row_words(self) -> int:
        return self.across.positions(self.across.outputs)

    @property
    def positions(self) -> int:
        """Rows of the plane."""
        return self.down.positions(self.rows)

    @property
    def geometry(self) -> Geometry:
        steps = self.across.output_step, self.down.output_step, self.partner * self.down.output_step
        return Geometry(self.across.outputs, self.rows, *steps, 4 * self.row_words)

    @property
    def columns(self) -> tuple[int, int]:
        """Columns of border in front of the image, and of the image."""
        front, behind = self.across.border(0, self.row_words)
        return front, self.row_words - front - behind

    def cycles(self, tile_cycles: Callable[[Window, int], int]) -> int:
        """Return roughly what a channel takes."""
        row = tile_cycles(self.window, self.across.outputs) + ROW_CYCLES
        pack = self.positions * (PIXEL_CYCLES * self.row_words + ROW_CYCLES)
        return -(-self.half // self.rows) * (self.rows * row + pack)

    def blocks(self) -> list[_Block]:
        """Cut the rows of pairs; the last block begins early enough to be whole."""
        found: list[_Block] = []
        for start in range(0, self.half, self.rows):
            start = min(start, self.half - self.rows)
            block = _Block(start, 1, self._segments(start))
            last = found[-1] if found else block
            if found and last.segments == block.segments and start == last.start + last.count * self.rows:
                found[-1] = replace(last, count=last.count + 1)
            else:
                found.append(block)
        return found

    def _segments(self, start: int) -> tuple[_Segment, ...]:
        begins = (start * self.down.stride, (start + self.partner) * self.down.stride)
        borders = [self.down.border(begin, self.positions) for begin in begins]
        cuts = sorted({0, self.positions, *(cut for f, b in borders for cut in (f, self.positions - b))})
        return tuple(
            _Segment(first, last - first, (inside[0], inside[1]))
            for first, last in itertools.pairwise(cuts)
            for inside in [[front <= first < self.positions - behind for front, behind in borders]]
        )

    def pixels(self, segment: _Segment) -> Pixels:
        """Return the numbers for packing a segment."""
        _, count = self.columns
        step, gap = self.across.step, self.down.step - count * self.across.step
        steps = [(step, gap) if inside else (0, 0) for inside in segment.inside]
        return Pixels(segment.count, count, *steps[0], *steps[1], 4 * (self.row_words - count))


def _build(x: relax.Expr, layer: Layer, plans: Sequence[_Plan], form: DepthwiseForm) -> Kernel:
    """Return the function: for each image, phase and block of rows, each channel."""
    pack, kernels = pack_plane(narrow=form.narrow), [form.microkernel(p.window, p.across.outputs) for p in plans]
    numbers = _Numbers()
    for plan in plans:
        numbers.place(form.numbers(plan.window, plan.geometry))
        for segment in (segment for block in plan.blocks() for segment in block.segments):
            numbers.place(plan.pixels(segment).numbers())
    constants = np.concatenate([np.array(numbers.all, np.int32), form.constants.ravel()])
    words = form.constants.shape[1]
    with IRBuilder() as builder, T.prim_func(s_tir=True):
        T.func_name("main")
        T.func_attr({"tirx.noalias": True})
        image = T.arg("x", T.Buffer((layer.batch * layer.image_bytes,), "int8"))
        packed = T.arg("constants", T.Buffer((constants.size,), "int32"))
        border = T.arg("border", T.Buffer((BORDER_BYTES,), "int8"))
        y = T.arg("output", T.Buffer((layer.batch * layer.output_bytes,), "int8"))
        with T.sblock("root"):
            T.reads()
            T.writes()
            plane = T.sblock_alloc_buffer((max(plan.positions * plan.row_words for plan in plans),), "int32")

            def number_at(values: list[int]) -> tirx.Expr:
                return T.address_of(packed[numbers.place(values)])

            def compute(plan: _Plan, kernel: Microkernel, block: _Block, number: Index, start: Index) -> None:
                down, across, (front, count) = plan.down, plan.across, plan.columns
                _fill(plane, plan, block, border_word(layer.border))
                with T.serial(layer.channels_in) as channel:
                    for segment in block.segments:
                        if not any(segment.inside) or not count:
                            continue
                        sources = []
                        for inside, partner in zip(segment.inside, (0, plan.partner), strict=True):
                            position = (start + partner) * down.stride + segment.first
                            at = number * layer.image_bytes + down.offset(position) + across.offset(front) + channel
                            sources.append(T.address_of(image[at]) if inside else T.address_of(border[0]))
                        to = plane.access_ptr("rw", offset=segment.first * plan.row_words + front)
                        T.evaluate(
                            T.call_extern("int32", pack.name, to, *sources, number_at(plan.pixels(segment).numbers()))
                        )
                    with T.serial(layer.multiplier) as j:
                        out = channel * layer.multiplier + j
                        of_channel = T.address_of(packed[len(numbers.all) + out * words])
                        at = number * layer.output_bytes + down.output_offset + across.output_offset
                        first = T.address_of(y[at + start * down.output_step + out])
                        of_plan = number_at(form.numbers(plan.window, plan.geometry))
                        call = of_channel, of_plan, plane.access_ptr("r"), first
                        T.evaluate(T.call_extern("int32", kernel.name, *call))

            with T.serial(layer.batch) as number:
                for plan, kernel in zip(plans, kernels, strict=True):
                    for block in plan.blocks():
                        with T.serial(block.count) as i:
                            compute(plan, kernel, block, number, block.start + i * plan.rows)
    func = builder.get().with_attr({**texts([pack, *kernels]), "tinyml.schedule": ScalarDepthwise.__name__})
    flat = relax.op.reshape(x, (layer.batch * layer.image_bytes,))
    filling = relax.const(np.full(BORDER_BYTES, layer.border, np.int8))
    phases = f", {len(plans)} phases of the dilation" if len(plans) > 1 else ""
    side = ", on its side" if layer.sideways else ""
    method = Method(
        f"depthwise, a channel and {plans[0].rows} pairs of rows at once, two products a multiplication{phases}",
        f"a plane of words, each a pixel of the upper and of the lower half{side}",
        [pack.name],
    )
    whole = [block.count for plan in plans for block in plan.blocks()] == [1]
    arguments = [flat, relax.const(constants), filling]
    in_place = [0] if whole and layer.keeps_shape else []
    return Kernel("depthwise_conv2d", func, arguments, layer.macs, method, in_place=in_place)


class _Numbers:
    """Lists of numbers in a row, equal ones once."""

    def __init__(self) -> None:
        self.all: list[int] = []
        self._places: dict[tuple[int, ...], int] = {}

    def place(self, values: Sequence[int]) -> int:
        """Return where these numbers begin; they are added when they are new."""
        key = tuple(values)
        if key not in self._places:
            self._places[key] = len(self.all)
            self.all += key
        return self._places[key]


def _fill(plane: tirx.Buffer, plan: _Plan, block: _Block, word: int) -> None:
    """Write the border that no channel overwrites."""
    front, count = plan.columns
    for segment in block.segments:
        rows = segment.first, segment.first + segment.count
        inside = any(segment.inside) and count
        ranges = [(0, front), (front + count, plan.row_words)] if inside else [(0, plan.row_words)]
        for first, last in ranges:
            if last > first:
                with T.grid(rows[1] - rows[0], last - first) as (row, column):
                    at = (rows[0] + row) * plan.row_words + first + column
                    T.buffer_store(plane, T.int32(word), [at])
