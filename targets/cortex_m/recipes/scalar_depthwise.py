"""Depthwise convolution on cores without SMLAD: make a plane of two halves of a channel, convolve it, go on."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray
from tvm import relax, tirx
from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as T

from tvm_tinyml.choice import NONE, Knobs, Space, Value
from tvm_tinyml.passes.integer_ops import Attributes
from tvm_tinyml.passes.kernels.kernel import Kernel, Method, Recipe
from tvm_tinyml.targets.cortex_m.microkernels import scalar_depthwise, scalar_depthwise_short, scalar_output_short
from tvm_tinyml.targets.cortex_m.microkernels.microkernel import Microkernel, texts
from tvm_tinyml.targets.cortex_m.microkernels.output import Output, choose_output
from tvm_tinyml.targets.cortex_m.microkernels.scalar_depthwise import Geometry, Window
from tvm_tinyml.targets.cortex_m.microkernels.scalar_output_short import ShortOutput
from tvm_tinyml.targets.cortex_m.microkernels.scalar_planes import Pixels, border_word, pack_plane
from tvm_tinyml.targets.cortex_m.recipes.channels import Channels, all_exact
from tvm_tinyml.targets.cortex_m.recipes.depthwise_geometry import Index, Layer, Phase, is_depthwise, rows_alike
from tvm_tinyml.targets.cortex_m.recipes.scalar_product import LONG

BORDER_BYTES = 4
"""Of a buffer with the border's value; a kernel reads one of them again and again."""

ROWS = (1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 24, 32)
"""Of pairs at once, to choose from."""

PIXEL_CYCLES, ROW_CYCLES = 9, 25
"""Roughly, for packing a word, and for what a row takes beside its words or outputs."""


class DepthwiseForm(Protocol):
    """How a core convolves: see `scalar_depthwise`.

    Attributes
    ----------
    most_outputs : pairs of outputs at once, at most.
    """

    most_outputs: ClassVar[int]

    @property
    def name(self) -> str:
        """For guards."""

    @property
    def narrow(self) -> bool:
        """With instructions of the Armv6-M only."""

    @property
    def constants(self) -> NDArray[np.int32]:
        """Of each channel, [O, words]."""

    def microkernel(self, window: Window, columns: int, outputs: int) -> Microkernel:
        """Return the kernel that makes so many pairs of outputs at once."""

    def numbers(self, window: Window, geometry: Geometry, outputs: int) -> list[int]:
        """Return what it reads of the geometry."""


@dataclass(frozen=True)
class LongDepthwise:
    """For cores with SMULL."""

    output: Output
    constants: NDArray[np.int32]
    narrow: bool = False
    most_outputs: ClassVar[int] = scalar_depthwise.MOST_OUTPUTS
    name: ClassVar[str] = LONG

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

    def microkernel(self, window: Window, columns: int, outputs: int) -> Microkernel:
        """See `DepthwiseForm.microkernel`."""
        return scalar_depthwise.depthwise(window, columns, self.output, outputs)

    def numbers(self, window: Window, geometry: Geometry, outputs: int) -> list[int]:
        """See `DepthwiseForm.numbers`."""
        return scalar_depthwise.numbers(window, geometry, outputs)


@dataclass(frozen=True)
class ShortDepthwise:
    """For the Armv6-M."""

    output: ShortOutput
    constants: NDArray[np.int32]
    narrow: bool = True
    most_outputs: ClassVar[int] = 1

    @property
    def name(self) -> str:
        """See `DepthwiseForm.name`."""
        return self.output.form

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

    def microkernel(self, window: Window, columns: int, outputs: int) -> Microkernel:
        """See `DepthwiseForm.microkernel`."""
        return scalar_depthwise_short.depthwise(window, self.output)

    def numbers(self, window: Window, geometry: Geometry, outputs: int) -> list[int]:
        """See `DepthwiseForm.numbers`."""
        return scalar_depthwise_short.numbers(window, geometry)


class ScalarDepthwise(Recipe):
    """``tinyml.conv2d`` of one input channel for each output channel, with its padding.

    Parameters
    ----------
    form : of the core.
    scratch_bytes : of a plane at once, if one row of outputs does not take more.

    Knobs: ``side``, whether the planes lie on it; ``rows`` of pairs of outputs in a plane; ``outputs``, such pairs at
    once: the fewer, the less code.
    """

    def __init__(self, form: type[LongDepthwise] | type[ShortDepthwise], scratch_bytes: int) -> None:
        self._form = form
        self._scratch_bytes = scratch_bytes

    def lower(self, arguments: Sequence[relax.Expr], attributes: Attributes, knobs: Knobs = NONE) -> Kernel | None:
        """Return the kernel, or None where its conditions are not met."""
        if not is_depthwise(arguments, attributes) or not self.allows(arguments, attributes, knobs):
            return None
        every = self._choices(Layer.of(arguments, attributes), knobs.get("rows"), knobs.get("outputs"))
        choices = [choice for choice in every if knobs.items() <= choice.knobs.items()]
        if not choices:
            return None
        choice = min(choices, key=lambda choice: sum(plan.cycles(self._form.tile_cycles) for plan in choice.plans))
        form = self._fit(arguments, attributes, choice)
        return None if form is None else _build(arguments[0], choice, form)

    def space(self, arguments: Sequence[relax.Expr], attributes: Attributes) -> Space:
        """See `Recipe.space`."""
        if not is_depthwise(arguments, attributes):
            return {}
        layer = Layer.of(arguments, attributes)
        every = [choice.knobs for rows in (None, *ROWS) for choice in self._choices(layer, rows, None)]
        of_planes = {name: sorted({knobs[name] for knobs in every}) for name in ("side", "rows")}
        return {**of_planes, "outputs": list(range(1, max(int(knobs["outputs"]) for knobs in every) + 1))}

    def guard(self, arguments: Sequence[relax.Expr], attributes: Attributes) -> str:
        """See `Recipe.guard`."""
        if not is_depthwise(arguments, attributes):
            return ""
        upright, *_ = self._choices(Layer.of(arguments, attributes), None, None)
        form = self._fit(arguments, attributes, upright)
        return "none" if form is None else form.name

    def _fit(self, arguments: Sequence[relax.Expr], attributes: Attributes, choice: _Choice) -> DepthwiseForm | None:
        """Return the form for a layer, or None if it is not exact for a channel."""
        output = choose_output(*(attributes[k] for k in ("output_zero_point", "clamp_min", "clamp_max")))
        channels = Channels.of(arguments, attributes, choice.layer.order, output)
        return self._form.of(channels, choice.plans[0].window, output)

    def _choices(self, upright: Layer, rows: Value | None, outputs: Value | None) -> list[_Choice]:
        """Return the ways to compute a layer: as it lies, and on its side.

        Parameters
        ----------
        rows : of pairs in a plane, about; None: as many as the scratch allows.
        outputs : pairs at once, at most; None: as many as the form has registers for.
        """
        choices = []
        for layer in (upright, upright.turned):
            phases = itertools.product(layer.down.phases(), layer.across.phases())
            plans = [_Plan.of(down, across, self._scratch_bytes) for down, across in phases]
            if rows is not None:
                plans = [replace(p, rows=rows_alike(p.half, min(int(rows), p.rows))) for p in plans]
            most = min(self._form.most_outputs, max(plan.across.outputs for plan in plans))
            choices.append(_Choice(layer, plans, most if outputs is None else min(most, int(outputs))))
        return choices


@dataclass(frozen=True)
class _Choice:
    """A way to compute a layer: the plans of its phases, and the pairs of outputs at once."""

    layer: Layer
    plans: Sequence[_Plan]
    outputs: int

    @property
    def knobs(self) -> dict[str, Value]:
        """What makes it."""
        side = "sideways" if self.layer.sideways else "upright"
        return {"side": side, "rows": max(plan.rows for plan in self.plans), "outputs": self.outputs}


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
        return cls(down, across, half, down.outputs - half, rows_alike(half, most))

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


def _build(x: relax.Expr, choice: _Choice, form: DepthwiseForm) -> Kernel:
    """Return the function: for each image, phase and block of rows, each channel."""
    layer, plans, outputs = choice.layer, choice.plans, choice.outputs
    pack = pack_plane(narrow=form.narrow)
    kernels = [form.microkernel(plan.window, plan.across.outputs, outputs) for plan in plans]
    numbers = _Numbers()
    for plan in plans:
        numbers.place(form.numbers(plan.window, plan.geometry, outputs))
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
                        of_plan = number_at(form.numbers(plan.window, plan.geometry, outputs))
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
    return Kernel("depthwise_conv2d", func, arguments, layer.macs, method, in_place=in_place, knobs=choice.knobs)


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
