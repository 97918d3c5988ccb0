"""Averages and largest elements over windows of an image, and means over axes that lie next to each other."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from tvm import relax
from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as T

from tvm_tinyml import arithmetic
from tvm_tinyml.choice import NONE, Knobs
from tvm_tinyml.passes.integer_ops import Attributes, shape_of, span, window_extent
from tvm_tinyml.passes.kernels.kernel import Kernel, Method, Recipe
from tvm_tinyml.targets.cortex_m.microkernels import pool
from tvm_tinyml.targets.cortex_m.microkernels.affine import Function, fit
from tvm_tinyml.targets.cortex_m.microkernels.microkernel import Microkernel, texts
from tvm_tinyml.targets.cortex_m.microkernels.output import choose_output, exact, rounding_constant
from tvm_tinyml.targets.cortex_m.microkernels.pool import Taps
from tvm_tinyml.targets.cortex_m.recipes.conv_gemm import Source
from tvm_tinyml.targets.cortex_m.recipes.overlap import overlap


class AveragePool(Recipe):
    """``tinyml.avg_pool2d`` or ``tinyml.mean_pool2d`` without padding.

    Parameters
    ----------
    kind : the operator's name without the dialect's prefix.
    """

    def __init__(self, kind: str) -> None:
        self._kind = kind

    def lower(self, arguments: Sequence[relax.Expr], attributes: Attributes, knobs: Knobs = NONE) -> Kernel | None:
        """Return the kernel, or None where its conditions are not met."""
        if knobs or any(attributes["padding"]):
            return None
        source, taps = _windows(shape_of(arguments[0]), attributes)
        return _average(self._kind, arguments[0], attributes, source, taps, attributes.get("output_step", 0))


class Mean(Recipe):
    """``tinyml.mean`` over axes that lie next to each other."""

    def lower(self, arguments: Sequence[relax.Expr], attributes: Attributes, knobs: Knobs = NONE) -> Kernel | None:
        """Return the kernel, or None where its conditions are not met."""
        shape, axes = shape_of(arguments[0]), sorted(attributes["axes"])
        first, end = axes[0], axes[-1] + 1
        if knobs or axes != list(range(first, end)):
            return None
        outer, number, inner = (math.prod(part) for part in (shape[:first], shape[first:end], shape[end:]))
        source = Source(batch=outer, out_h=1, out_w=1, image=number * inner, row=number * inner, column=number * inner)
        return _average("mean", arguments[0], attributes, source, Taps.of(1, number, number * inner, inner))


class LargestPool(Recipe):
    """``tinyml.max_pool2d`` without padding."""

    def lower(self, arguments: Sequence[relax.Expr], attributes: Attributes, knobs: Knobs = NONE) -> Kernel | None:
        """Return the kernel, or None where its conditions are not met."""
        source, taps = _windows(shape_of(arguments[0]), attributes)
        if knobs or any(attributes["padding"]) or taps.channels > pool.FARTHEST_CHANNEL:
            return None
        kernel = pool.largest(taps, attributes["clamp_min"], attributes["clamp_max"])
        step = attributes.get("output_step", 0)
        return _build("max_pool2d", arguments[0], source, taps, kernel, None, step)


def _windows(shape: Sequence[int], attributes: Attributes) -> tuple[Source, Taps]:
    batch, height, width, channels = shape
    (pool_h, pool_w), (stride_h, stride_w) = attributes["pool_size"], attributes["strides"]
    row = width * channels
    source = Source(
        batch=batch,
        out_h=window_extent(height, pool_h, stride_h, 0),
        out_w=window_extent(width, pool_w, stride_w, 0),
        image=height * row,
        row=stride_h * row,
        column=stride_w * channels,
    )
    return source, Taps.of(pool_h, pool_w, row, channels)


def _average(
    kind: str, x: relax.Expr, attributes: Attributes, source: Source, taps: Taps, step: int = 0
) -> Kernel | None:
    if taps.number > pool.MOST_TAPS or taps.channels > pool.FARTHEST_CHANNEL:
        return None
    affine = fit((_rescaled if "multiplier" in attributes else _same_scale)(taps.number, attributes))
    if affine is not None:
        kernel = pool.average(taps, pool.AffineSum(affine.rounding), short=source.pixels == 1)
        return _build(kind, x, source, taps, kernel, np.append(affine.words, np.int32(0)), step)
    return _scaled(kind, x, attributes, source, taps, step) if "multiplier" in attributes else None


def _scaled(
    kind: str, x: relax.Expr, attributes: Attributes, source: Source, taps: Taps, step: int
) -> Kernel | None:
    """Return the kernel that scales sums in two roundings, which show where the sums are small."""
    output = choose_output(*(attributes[key] for key in ("output_zero_point", "clamp_min", "clamp_max")))
    left_shift, offset = attributes["left_shift"], -taps.number * attributes["input_zero_point"]
    shift = np.array([-attributes["shift"]], np.int64)
    largest = np.abs(_sums(taps.number) + offset).max() << left_shift
    if not exact(shift, largest, output).all():
        return None
    constant = rounding_constant(shift, np.array([attributes["output_zero_point"]]))
    constants = np.array([offset, attributes["multiplier"], *constant, *shift], np.int32)
    kernel = pool.average(taps, pool.ScaledSum(output, left_shift), short=source.pixels == 1)
    return _build(kind, x, source, taps, kernel, constants, step)


def _same_scale(number: int, attributes: Attributes) -> Function:
    """Return the average, halves rounded away from zero, of every sum of so many elements."""
    sums, low, high = _sums(number), attributes["clamp_min"], attributes["clamp_max"]
    average = np.sign(sums) * ((np.abs(sums) + number // 2) // number)
    return Function([sums], [1 / number], 0.0, 0, low, high, np.clip(average, low, high))


def _rescaled(number: int, attributes: Attributes) -> Function:
    """Return every such sum less the zero points, scaled as TFLite does."""
    sums, low, high = _sums(number), attributes["clamp_min"], attributes["clamp_max"]
    zero_point, left_shift, shift = attributes["output_zero_point"], attributes["left_shift"], attributes["shift"]
    offset = -number * attributes["input_zero_point"]
    raised = arithmetic.wrap((sums + offset) << left_shift)
    scaled = arithmetic.multiply_by_quantized_multiplier(raised, attributes["multiplier"], shift).astype(np.int64)
    slope = attributes["multiplier"] * 2.0 ** (shift - 31 + left_shift)
    return Function([sums], [slope], slope * offset, zero_point, low, high, np.clip(scaled + zero_point, low, high))


def _sums(number: int) -> NDArray[np.int64]:
    return np.arange(-128 * number, 127 * number + 1)


def _build(
    kind: str,
    x: relax.Expr,
    source: Source,
    taps: Taps,
    kernel: Microkernel,
    constants: NDArray[np.int32] | None,
    output_step: int,
) -> Kernel:
    """Return the function that calls a microkernel for each output pixel."""
    size, step = source.batch * source.image, output_step or taps.channels
    with IRBuilder() as builder, T.prim_func(s_tir=True):
        T.func_name("main")
        T.func_attr({"tirx.noalias": True})
        image = T.arg("x", T.Buffer((size,), "int8"))
        words = None if constants is None else T.arg("constants", T.Buffer((len(constants),), "int32"))
        y = T.arg("output", T.Buffer((span([source.pixels, taps.channels], step),), "int8"))
        with T.sblock("root"):
            T.reads()
            T.writes()
            with T.serial(source.pixels) as pixel:
                call = [T.address_of(image[source.offset(pixel)]), T.address_of(y[pixel * step])]
                head = [] if words is None else [words.access_ptr("r")]
                T.evaluate(T.call_extern("int32", kernel.name, *head, *call))
    func = builder.get().with_attr({**texts([kernel]), "tinyml.schedule": "Pool"})
    flat = relax.op.reshape(x, (size,))
    arguments = [flat] if constants is None else [flat, relax.const(constants)]
    order = ((int(source.offset(pixel)), pixel * step + taps.channels) for pixel in range(source.pixels))
    method, overlaps = Method("window by window, up to 16 channels at once"), [overlap(order, read_first=False)]
    return Kernel(kind, func, arguments, method=method, overlaps=overlaps, output_step=output_step)
