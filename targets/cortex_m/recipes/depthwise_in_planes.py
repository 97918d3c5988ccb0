"""Depthwise 3x3 convolution of a tensor that lies in planes: nothing is cut, each channel slides over its own plane."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from tvm import relax
from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as T

from tvm_tinyml.passes.integer_ops import Attributes
from tvm_tinyml.passes.kernels.kernel import Kernel, Method, flat
from tvm_tinyml.passes.tensor_layouts import Planes, Tiles
from tvm_tinyml.targets.cortex_m.microkernels import depthwise_planes
from tvm_tinyml.targets.cortex_m.microkernels.depthwise_column import KERNEL, STRIDES, OutputRows
from tvm_tinyml.targets.cortex_m.microkernels.depthwise_planes import PlaneSlide
from tvm_tinyml.targets.cortex_m.microkernels.microkernel import texts
from tvm_tinyml.targets.cortex_m.microkernels.output import Output
from tvm_tinyml.targets.cortex_m.microkernels.scaled_output import ScaledOutput, Scales
from tvm_tinyml.targets.cortex_m.recipes.depthwise_geometry import Layer

ROW_CYCLES, COLUMN_CYCLES, CHANNEL_CYCLES = {1: 15, 2: 19}, 45, 70
"""What an output takes by the stride, a column of outputs beside them, and a channel beside its columns; counted on a
Cortex-M4 by the simulator."""

UNALIGNED_CYCLES = {0: 0.5, 1: 1.25}
"""What a word takes more by the parity of a row's bytes, on average: every second one of an even row begins at half of
a word, and each one of an odd row anywhere. Source: Arm 100165_0201, load/store timings."""


FEW_PIXELS = 64
"""Planes of so few pixels are left to strips, whose code layers share whatever their channels: they are many and all
different behind the last strides of a network, and little is saved."""


def planes_of(layer: Layer) -> Planes | None:
    """Return the layout in which a convolution reads its input, or None if it has no kernel for it."""
    down, across = layer.down, layer.across
    axes = (down, across)
    if any(axis.kernel != KERNEL or axis.dilation != 1 for axis in axes) or down.stride != across.stride:
        return None
    if across.stride not in STRIDES or layer.batch > 1 or layer.multiplier > 1 or layer.sideways:
        return None
    (top, bottom), (left, right) = (_border(layer, i) for i in range(2))
    if max(top, bottom, left, right) > 1 or across.size > depthwise_planes.LONGEST_ROW:
        return None
    if down.size * across.size <= FEW_PIXELS:
        return None
    if across.outputs < depthwise_planes.LEAST_COLUMNS or layer.input_step != layer.channels_in:
        return None
    return Planes(down.size, across.size, layer.channels_in, top, bottom, left, layer.border)


def tiles_of(layer: Layer, value_bytes: int) -> Tiles | None:
    """Return its output in tiles, or None if a row of them is no whole number of tiles."""
    tiles = Tiles(layer.down.outputs, layer.across.outputs, layer.channels_in, value_bytes)
    return tiles if tiles.width % tiles.PIXELS == 0 else None


def cycles_in_planes(layer: Layer) -> float:
    """Return what the convolution takes, about."""
    rows, columns, stride = layer.down.outputs, layer.across.outputs, layer.across.stride
    row = ROW_CYCLES[stride] + stride * UNALIGNED_CYCLES[layer.across.size % 2]
    return layer.channels_in * (columns * (row * rows + COLUMN_CYCLES) + CHANNEL_CYCLES)


def depthwise_in_planes(
    arguments: Sequence[relax.Expr],
    attributes: Attributes,
    layer: Layer,
    planes: Planes,
    tiles: Tiles | None,
    output: Output | ScaledOutput,
    scales: Scales,
    schedule: str,
) -> Kernel:
    """Return the kernel.

    Parameters
    ----------
    tiles : in which it writes; None: NHWC.
    scales : of the channels, in the order of the model.
    schedule : name of the recipe.
    """
    stride, rows, columns = layer.across.stride, layer.down.outputs, layer.across.outputs
    left, right = (border > 0 for border in _border(layer, 1))
    row_step = tiles.row_bytes if tiles else columns * layer.output_step
    shape = OutputRows.of(stride, row_step, rows, depthwise_planes.LONGEST)
    slide = PlaneSlide(shape, planes.width, left, right, tiles.value_bytes if tiles else 0, output)
    column_steps = tiles.column_steps if tiles else (layer.output_step,) * 3
    channel_step = tiles.channel_step if tiles else 1
    numbers = slide.numbers(rows, columns, column_steps, planes.plane_bytes, channel_step, planes.border)
    words = depthwise_planes.plane_words(output)
    constants = np.concatenate([numbers, depthwise_planes.pack_planes(scales, output).ravel()])
    half = tiles.half if tiles else planes.channels
    starts = [(0, half, 0), (half, planes.channels - half, Tiles.SECOND)]
    with IRBuilder() as builder, T.prim_func(s_tir=True):
        T.func_name("main")
        T.func_attr({"tirx.noalias": True})
        x = T.arg("x", T.Buffer((planes.size_bytes,), "int8"))
        packed = T.arg("constants", T.Buffer((constants.size,), "int32"))
        y = T.arg("output", T.Buffer((tiles.size_bytes if tiles else layer.output_span,), "int8"))
        with T.sblock("root"):
            T.reads()
            T.writes()
            for first, count, place in starts:
                if count:
                    call = (
                        packed.access_ptr("r"),
                        packed.access_ptr("r", offset=len(numbers) + first * words),
                        T.address_of(x[first * planes.plane_bytes]),
                        T.address_of(y[place]),
                        count,
                    )
                    T.evaluate(T.call_extern("int32", slide.microkernel().name, *call))
    func = builder.get().with_attr({**texts([slide.microkernel()]), "tinyml.schedule": schedule})
    shifts = "one shift" if isinstance(output, ScaledOutput) else "a shift a channel"
    return Kernel(
        "depthwise_conv2d",
        func,
        [flat(arguments[0], layout=planes), relax.const(constants)],
        layer.macs,
        Method(f"depthwise, a channel at once, {shifts}"),
        input_layout=planes,
        output_layout=tiles,
        output_step=0 if tiles else attributes.get("output_step", 0),
    )


def _border(layer: Layer, axis: int) -> tuple[int, int]:
    """Return how much border the first and the last outputs read, down or across."""
    (phase,) = (layer.down, layer.across)[axis].phases()
    return phase.border(0, phase.positions(phase.outputs))
