"""Convolutions and dense layers of int16 activations: a matrix product on windows, where they lie or as copies."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from tvm import relax, tirx
from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as T

from tvm_tinyml.choice import NONE, Knobs
from tvm_tinyml.passes.integer_ops import Attributes
from tvm_tinyml.passes.kernels.epilogue import SHORT, Scaling
from tvm_tinyml.passes.kernels.kernel import Kernel, Method, Recipe, constant
from tvm_tinyml.targets.cortex_m.microkernels import gemm_int16
from tvm_tinyml.targets.cortex_m.microkernels.gemm_int16 import STEP, Shape, Tile
from tvm_tinyml.targets.cortex_m.microkernels.microkernel import texts
from tvm_tinyml.targets.cortex_m.microkernels.pack import Window
from tvm_tinyml.targets.cortex_m.recipes.conv_gemm import Source, geometry
from tvm_tinyml.targets.cortex_m.recipes.dense import rows_as_pixels

CHANNELS = {1: 4, 2: 2}
"""At once, by the pixels at once."""


class Int16Product(Recipe):
    """``tinyml.conv2d`` without padding and groups, and ``tinyml.dense``, of int16, where sums fit 32 bits.

    Parameters
    ----------
    scratch_bytes : that copies of windows may take; there are two at least.
    """

    def __init__(self, scratch_bytes: int) -> None:
        self._scratch_bytes = scratch_bytes

    @property
    def dtype(self) -> str:
        """See `Recipe.dtype`."""
        return "int16"

    def lower(self, arguments: Sequence[relax.Expr], attributes: Attributes, knobs: Knobs = NONE) -> Kernel | None:
        """Return the kernel, or None where its conditions are not met."""
        if any(attributes.get("padding", ())) or attributes.get("groups", 1) > 1 or knobs:
            return None
        is_dense = "groups" not in attributes
        source, window = rows_as_pixels(arguments) if is_dense else geometry(arguments, attributes)
        weight, *values = (constant(argument) for argument in arguments[1:])
        scaling = Scaling.of("int16", weight, *values)
        products = window.runs * window.run_bytes
        shape = Shape(
            -(-products // STEP), len(weight), scaling.left, attributes["clamp_min"], attributes["clamp_max"]
        )
        if scaling.helper != SHORT or not shape.fits:
            return None
        if source.in_order(window) and products % STEP == 0:
            rows = 0
        else:
            rows = max(2, self._scratch_bytes // shape.row_bytes // 2 * 2)
            if min(rows, source.pixels) * shape.row_bytes > max(self._scratch_bytes, 2048):
                return None
        calls = _calls(weight.reshape(len(weight), -1), scaling, shape, min(source.pixels, 2))
        return _build("dense" if is_dense else "conv2d", arguments[0], source, window, shape, calls, rows)


@dataclass(frozen=True)
class _Call:
    """One call of a microkernel on some rows: channels from ``start`` on, and the constants of them."""

    tile: Tile
    start: int
    constants: NDArray[np.int32]


def _calls(weight: NDArray[np.generic], scaling: Scaling, shape: Shape, pixels: int) -> list[_Call]:
    """Cut the channels into whole tiles and what is left."""
    padded = np.pad(weight, ((0, 0), (0, STEP * shape.steps - weight.shape[1])))
    size = CHANNELS[pixels]
    whole = len(weight) // size * size
    calls = []
    for start, stop, channels in ((0, whole, size), (whole, len(weight), len(weight) - whole)):
        if start < stop:
            values = (padded, scaling.bias, scaling.factors["multiplier"])
            w, bias, multiplier = (v[start:stop].astype(np.int64) for v in values)
            packed = gemm_int16.pack(w, bias, multiplier, channels)
            calls.append(_Call(Tile(pixels, channels), start, packed))
    return calls


def _build(
    kind: str, x: relax.Expr, source: Source, window: Window, shape: Shape, calls: Sequence[_Call], rows: int
) -> Kernel:
    """Return the function that multiplies all pixels, ``rows`` copied windows at a time, or where they lie with 0."""
    pixels, size, channels = source.pixels, source.batch * source.image, shape.step
    length = STEP * shape.steps
    kernels = [gemm_int16.product(call.tile, shape) for call in calls]
    offsets = [0, *itertools.accumulate(call.constants.size for call in calls)]
    at_once = calls[0].tile.pixels
    rows = min(rows, pixels // at_once * at_once)
    with IRBuilder() as builder, T.prim_func(s_tir=True):
        T.func_name("main")
        T.func_attr({"tirx.noalias": True})
        image = T.arg("x", T.Buffer((size,), "int16"))
        packed = T.arg("constants", T.Buffer((offsets[-1],), "int32"))
        y = T.arg("output", T.Buffer((pixels * channels,), "int16"))
        with T.sblock("root"):
            T.reads()
            T.writes()

            def multiply(buffer: tirx.Buffer, begin: tirx.Expr | int, first: tirx.Expr | int, count: int) -> None:
                ends = [buffer.access_ptr("r", offset=begin + n * length) for n in (0, count)]
                for call, kernel, offset in zip(calls, kernels, offsets, strict=False):
                    constants = (packed.access_ptr("r", offset=offset + n) for n in (0, call.constants.size))
                    to = y.access_ptr("w", offset=first * channels + call.start)
                    T.evaluate(T.call_extern("int32", kernel.name, *constants, *ends, to))

            def copied(stream: tirx.Buffer, first: tirx.Expr | int, count: int) -> None:
                with T.grid(count, window.rows, window.columns) as (pixel, row, column):
                    to = pixel * length + (row * window.columns + column) * window.run_bytes
                    run = source.offset(first + pixel) + row * window.row_stride + column * window.column_stride
                    pointers = T.address_of(stream[to]), T.address_of(image[run])
                    T.evaluate(T.call_extern("int32", "tinyml_copy", *pointers, 2 * window.run_bytes))
                multiply(stream, 0, first, count)

            # The last pixels end with the last one: behind an odd number of them one is computed twice.
            if not rows:
                multiply(image, 0, 0, pixels // at_once * at_once)
                if pixels % at_once:
                    multiply(image, (pixels - at_once) * length, pixels - at_once, at_once)
            else:
                stream = T.sblock_alloc_buffer((rows * length,), "int16")
                blocks, rest = divmod(pixels, rows)
                with T.serial(blocks) as block:
                    copied(stream, block * rows, rows)
                if rest:
                    rest += rest % at_once
                    copied(stream, pixels - rest, rest)
    func = builder.get().with_attr({**texts(kernels), "tinyml.schedule": Int16Product.__name__})
    macs = pixels * channels * window.runs * window.run_bytes
    scratch = f"{rows} windows of {length}" if rows else ""
    method = Method(f"matrix product of {at_once} pixels by {calls[0].tile.channels} channels", scratch)
    constants = relax.const(np.concatenate([call.constants for call in calls]))
    return Kernel(kind, func, [relax.op.reshape(x, (size,)), constants], macs, method)
