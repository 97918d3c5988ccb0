"""Depthwise convolution of few taps, where planes cost more than they save: see `microkernels.depthwise_words`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from tvm import relax
from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as T

from tvm_tinyml.choice import NONE, Knobs, Space
from tvm_tinyml.passes.integer_ops import Attributes, shape_of, window_extent
from tvm_tinyml.passes.kernels.kernel import Kernel, Method, Recipe, flat
from tvm_tinyml.targets.cortex_m.microkernels.depthwise_words import MOST_TAPS, Geometry, Words
from tvm_tinyml.targets.cortex_m.microkernels.microkernel import texts
from tvm_tinyml.targets.cortex_m.microkernels.output import Output, choose_output
from tvm_tinyml.targets.cortex_m.microkernels.scaled_output import ScaledOutput, Scales
from tvm_tinyml.targets.cortex_m.microkernels.words_code import CHANNELS
from tvm_tinyml.targets.cortex_m.recipes.channels import Channels, all_exact
from tvm_tinyml.targets.cortex_m.recipes.depthwise_geometry import is_depthwise, rows_alike
from tvm_tinyml.targets.cortex_m.recipes.depthwise_scales import COMMON, OWN, choose_scales, shift_of
from tvm_tinyml.targets.cortex_m.recipes.overlap import overlap

PIXELS = 64
"""Of a block, about: the constants of a group, which are fetched once for each, then cost two or three percent. The
fewer, the more of the input the output may lie over."""

MOST_PADDED_TAPS = 5
"""Beyond which planes are as fast where a border is missing, on cores that issue one instruction at a time."""

TAP_CYCLES, PAIR_CYCLES, ROW_CYCLES, GROUP_CYCLES, CALL_CYCLES = 18, 49, 30, 60, 80
"""Of two pixels of a group for each tap and beside, of a row, of a group, of a block. In the mixed order they are about
two thirds as many, which changes no choice."""

ROWS = (1, 2, 3, 4, 6, 8, 12, 16, 32)
"""Of outputs at once, to choose from."""


@dataclass(frozen=True)
class _Layer:
    """A depthwise convolution without padding.

    Attributes
    ----------
    offsets : of each tap from the first, in bytes.
    x_image, x_row, x_column : from an output's window to the next one's in that direction, in bytes.
    x_pixel, y_pixel : from a pixel of input or output to the next, in bytes.
    """

    batch: int
    channels_in: int
    multiplier: int
    out_h: int
    out_w: int
    offsets: Sequence[int]
    x_image: int
    x_row: int
    x_column: int
    x_pixel: int
    y_pixel: int

    @classmethod
    def of(
        cls, arguments: Sequence[relax.Expr], attributes: Attributes, input_step: int = 0, output_step: int = 0
    ) -> _Layer:
        batch, height, width, channels_in = shape_of(arguments[0])
        channels, kernel_h, kernel_w, _ = shape_of(arguments[1])
        (stride_h, stride_w), (dilation_h, dilation_w) = attributes["strides"], attributes["dilation"]
        pixel = input_step or channels_in
        row, column = width * pixel, dilation_w * pixel
        return cls(
            batch=batch,
            channels_in=channels_in,
            multiplier=channels // channels_in,
            out_h=window_extent(height, kernel_h, stride_h, 0, dilation_h),
            out_w=window_extent(width, kernel_w, stride_w, 0, dilation_w),
            offsets=[r * dilation_h * row + s * column for r in range(kernel_h) for s in range(kernel_w)],
            x_image=height * row,
            x_row=stride_h * row,
            x_column=stride_w * pixel,
            x_pixel=pixel,
            y_pixel=output_step or channels,
        )

    @property
    def channels(self) -> int:
        """Of the output."""
        return self.channels_in * self.multiplier

    @property
    def row_bytes(self) -> int:
        """From a row of the output to the next."""
        return self.out_w * self.y_pixel

    @property
    def shared(self) -> int:
        """Outputs of a group that have the same input channel; 0 where that differs within a group."""
        if self.channels < CHANNELS:
            return 0
        return self.multiplier if self.multiplier in (1, 2) else CHANNELS if self.multiplier % CHANNELS == 0 else 0

    def geometry(self, rows: int) -> Geometry:
        """Return the cheaper way through so many rows of outputs: along them, or across.

        Where rows follow each other as pixels do, they are one.
        """
        along = Geometry(self.offsets, self.out_w, rows, self.x_column, self.y_pixel, self.x_row, self.row_bytes)
        if self.x_column * self.out_w == self.x_row:
            return replace(along, columns=self.out_w * rows, rows=1)
        across = Geometry(self.offsets, rows, self.out_w, self.x_row, self.row_bytes, self.x_column, self.y_pixel)
        return min(along, across, key=lambda way: _row_cycles(way, len(self.offsets)))

    def cycles(self, rows: int) -> float:
        """Return roughly what an image takes, if a block has so many rows."""
        groups = -(-self.channels // CHANNELS)
        blocks = [rows] * (self.out_h // rows) + [self.out_h % rows] * (self.out_h % rows > 0)
        each = (_row_cycles(self.geometry(size), len(self.offsets)) for size in blocks)
        return sum(CALL_CYCLES + groups * (GROUP_CYCLES + cycles) for cycles in each)


def _row_cycles(way: Geometry, taps: int) -> float:
    """Return roughly what the rows of a group take."""
    return way.rows * (-(-way.columns // 2) * (PAIR_CYCLES + TAP_CYCLES * taps) + ROW_CYCLES)


class DepthwiseWords(Recipe):
    """``tinyml.conv2d`` of one input channel for each output channel, of a few taps, without padding.

    Parameters
    ----------
    mixed : for cores that issue two instructions at a time.
    pixels : that a block has, about.

    Knobs: ``rows`` of outputs at once; ``shift``, one that is ``common`` to all channels or each its ``own``.
    """

    def __init__(self, *, mixed: bool, pixels: int = PIXELS) -> None:
        self._mixed = mixed
        self._pixels = pixels

    def lower(self, arguments: Sequence[relax.Expr], attributes: Attributes, knobs: Knobs = NONE) -> Kernel | None:
        """Return the kernel, or None where its conditions are not met."""
        if not self._takes(arguments, attributes) or not self.allows(arguments, attributes, knobs):
            return None
        steps = attributes.get("input_step", 0), attributes.get("output_step", 0)
        layer = _Layer.of(arguments, attributes, *steps)
        output, channels = _channels(arguments, attributes)
        if not all_exact(channels, output):
            return None
        form, scales = choose_scales(channels, output, own_shifts=knobs.get("shift") == OWN)
        rows = int(knobs.get("rows", self._rows(layer)))
        kernel = Words(len(layer.offsets), layer.shared, form, self._mixed)
        built = _build(flat(arguments[0], steps[0]), layer, kernel, scales, rows)
        return replace(built, input_step=steps[0], output_step=steps[1])

    def space(self, arguments: Sequence[relax.Expr], attributes: Attributes) -> Space:
        """See `Recipe.space`."""
        if not self._takes(arguments, attributes):
            return {}
        layer = _Layer.of(arguments, attributes)
        rows = sorted({rows_alike(layer.out_h, most) for most in (*ROWS, layer.out_h)} | {self._rows(layer)})
        output, channels = _channels(arguments, attributes)
        form, _ = choose_scales(channels, output, own_shifts=False)
        return {"rows": rows, "shift": [COMMON, OWN] if isinstance(form, ScaledOutput) else [OWN]}

    def guard(self, arguments: Sequence[relax.Expr], attributes: Attributes) -> str:
        """See `Recipe.guard`."""
        if not self._takes(arguments, attributes):
            return ""
        output, channels = _channels(arguments, attributes)
        if not all_exact(channels, output):
            return "none"
        return shift_of(choose_scales(channels, output, own_shifts=False)[0])

    def leaves_padding(self, arguments: Sequence[relax.Expr], attributes: Attributes) -> bool:
        """See `Recipe.leaves_padding`."""
        top, left, bottom, right = attributes["padding"]
        most_taps = MOST_TAPS if self._mixed else MOST_PADDED_TAPS
        if not any(attributes["padding"]) or math.prod(shape_of(arguments[1])[1:]) > most_taps:
            return False
        batch, height, width, channels = shape_of(arguments[0])
        shape = (batch, top + height + bottom, left + width + right, channels)
        padded = relax.Var("padded", relax.TensorType(shape, "int8"))
        return self.lower([padded, *arguments[1:]], {**attributes, "padding": [0, 0, 0, 0]}) is not None

    def _takes(self, arguments: Sequence[relax.Expr], attributes: Attributes) -> bool:
        """Return whether the shape is one that it takes."""
        few_taps = math.prod(shape_of(arguments[1])[1:]) <= MOST_TAPS
        if not few_taps or any(attributes["padding"]) or not is_depthwise(arguments, attributes):
            return False
        return _Layer.of(arguments, attributes).shared > 0

    def _rows(self, layer: _Layer) -> int:
        """Return the rows of a block without a choice."""
        most = max(1, self._pixels // layer.out_w) + 1
        return min({rows_alike(layer.out_h, rows) for rows in range(1, most + 1)}, key=layer.cycles)


def _channels(arguments: Sequence[relax.Expr], attributes: Attributes) -> tuple[Output, Channels]:
    """Return the epilogue and the channels of a layer, with weights in the order of the model."""
    output = choose_output(*(attributes[k] for k in ("output_zero_point", "clamp_min", "clamp_max")))
    return output, Channels.of(arguments, attributes, np.arange(math.prod(shape_of(arguments[1])[1:])), output)


def _build(x: relax.Expr, layer: _Layer, kernel: Words, scales: Scales, rows: int) -> Kernel:
    """Return the function: blocks of rows of each image, a call for all channels of a block."""
    constants = kernel.pack(scales, layer.multiplier)
    blocks, rest = divmod(layer.out_h, rows)
    sizes = [rows, *([rest] if rest else [])]
    geometry = [kernel.geometry(layer.geometry(size), len(constants)) for size in sizes]
    # Numbers of the shape are a constant of their own, so that stripes of one layer share the weights.
    numbers = np.array(geometry, np.int32).ravel()
    microkernel = kernel.microkernel()
    image_bytes = layer.out_h * layer.row_bytes
    x_bytes = layer.batch * layer.x_image - layer.x_pixel + layer.channels_in
    gap = layer.y_pixel - layer.channels
    with IRBuilder() as builder, T.prim_func(s_tir=True):
        T.func_name("main")
        T.func_attr({"tirx.noalias": True})
        image = T.arg("x", T.Buffer((x_bytes,), "int8"))
        packed = T.arg("constants", T.Buffer((constants.size,), "int32"))
        shape = T.arg("geometry", T.Buffer((numbers.size,), "int32"))
        y = T.arg("output", T.Buffer((layer.batch * image_bytes - gap,), "int8"))
        with T.sblock("root"):
            T.reads()
            T.writes()
            with T.serial(layer.batch) as number:
                for first, count, start in ((0, blocks, 0), (rows * blocks, int(rest > 0), len(geometry[0]))):
                    with T.serial(count) as i:
                        row = first + i * rows
                        window = T.address_of(image[number * layer.x_image + row * layer.x_row])
                        to = T.address_of(y[number * image_bytes + row * layer.row_bytes])
                        call = (packed.access_ptr("r"), T.address_of(shape[start]), window, to)
                        T.evaluate(T.call_extern("int32", microkernel.name, *call))
    func = builder.get().with_attr({**texts([microkernel]), "tinyml.schedule": DepthwiseWords.__name__})
    starts = [(number, row) for number in range(layer.batch) for row in range(0, layer.out_h, rows)]
    spans = [
        (n * layer.x_image + row * layer.x_row, n * image_bytes + min(row + rows, layer.out_h) * layer.row_bytes - gap)
        for n, row in starts
    ]
    macs = layer.batch * layer.out_h * layer.out_w * layer.channels * len(layer.offsets)
    shifts = "one shift" if isinstance(kernel.output, ScaledOutput) else "a shift a channel"
    return Kernel(
        "depthwise_conv2d",
        func,
        [x, *map(relax.const, (constants.ravel(), numbers))],
        macs,
        Method(f"depthwise, {CHANNELS} channels of 2 pixels at once, {rows} rows, {shifts}"),
        overlaps=[overlap(spans, read_first=False)],
        knobs={"rows": rows, "shift": shift_of(kernel.output)},
    )
