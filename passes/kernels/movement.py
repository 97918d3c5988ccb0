"""Kernels that only move bytes where Relax's own lowering would be slow or would need floats."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from tvm import relax, te, tirx
from tvm.ir import Expr
from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as T

from tvm_tinyml.passes.integer_ops import Attributes, shape_of, span
from tvm_tinyml.passes.kernels.kernel import Kernel, KernelTraits, Overlap, flat, placeholder


def pad2d(arguments: Sequence[relax.Expr], attributes: Attributes, _traits: KernelTraits) -> Kernel:
    """Lower ``tinyml.pad2d``: whole rows are filled and copied."""
    batch, height, width, channels = shape_of(arguments[0])
    top, left, bottom, right = attributes["padding"]
    value: int = attributes["value"]
    dtype = str(arguments[0].ty.dtype)
    size = np.dtype(dtype).itemsize
    assert size == 1 or value == 0, "bytes are filled"
    row, before, after = width * channels, left * channels, right * channels
    padded_height, padded_row = top + height + bottom, before + row + after
    row_bytes, before_bytes, after_bytes, padded_bytes = (size * n for n in (row, before, after, padded_row))

    def fill(to: Expr, count: int) -> Expr:
        return T.call_extern("int32", "tinyml_fill", T.address_of(to), T.int32(value), T.int32(count))

    with IRBuilder() as builder, T.prim_func(s_tir=True):
        T.func_name("func")
        T.func_attr({"tirx.noalias": False})
        image = T.arg("x", T.Buffer((batch, height, row), dtype))
        output = T.arg("output", T.Buffer((batch, padded_height, padded_row), dtype))
        with T.grid(batch, padded_height) as loops, T.sblock("output"):
            i, j = IRBuilder.name_many("ij", T.axis.remap("SS", IRBuilder.name_many("ny", loops)))
            T.reads(image[i, 0:height, 0:row])
            T.writes(output[i, j, 0:padded_row])
            with T.If(tirx.any(j < top, j >= top + height)):
                with T.Then():
                    T.evaluate(fill(output[i, j, 0], padded_bytes))
                with T.Else():
                    T.evaluate(fill(output[i, j, 0], before_bytes))
                    places = T.address_of(output[i, j, before]), T.address_of(image[i, j - top, 0])
                    T.evaluate(T.call_extern("int32", "tinyml_copy", *places, T.int32(row_bytes)))
                    T.evaluate(fill(output[i, j, before + row], after_bytes))

    x = relax.op.reshape(arguments[0], (batch, height, row))
    overlaps = [bytes_ahead(shape_of(arguments[0]), attributes["padding"], size)]
    return Kernel("pad2d", builder.get(), [x], overlaps=overlaps)


def bytes_ahead(shape: Sequence[int], padding: Sequence[int], size: int = 1) -> Overlap:
    """Return how far a bordered copy is ahead of its input when a row is about to be copied, and that row.

    The row then shares no byte with what it is copied to.

    Parameters
    ----------
    shape : of the input, NHWC.
    padding : top, left, bottom, right, in pixels.
    size : bytes of an element.
    """
    (batch, height, width, channels), (top, left, bottom, right) = shape, padding
    row, padded_row = width * channels, (left + width + right) * channels
    ahead = (top + 1) * padded_row + max(0, (batch * height - 1) * (padded_row - row))
    return Overlap(0, size * (ahead + (batch - 1) * (top + bottom) * padded_row))


def spread(arguments: Sequence[relax.Expr], attributes: Attributes, _traits: KernelTraits) -> Kernel:
    """Lower ``tinyml.spread``: pixels are copied one by one."""
    *outer, channels = shape_of(arguments[0])
    pixels, step = math.prod(outer), attributes["step"]
    read_step: int = attributes.get("input_step", channels)
    read, written = span([pixels, channels], read_step), span([pixels, channels], step)

    with IRBuilder() as builder, T.prim_func(s_tir=True):
        T.func_name("func")
        T.func_attr({"tirx.noalias": False})
        source = T.arg("x", T.Buffer((read,), "int8"))
        output = T.arg("output", T.Buffer((written,), "int8"))
        with T.serial(pixels) as pixel, T.sblock("output"):
            i = IRBuilder.name("i", T.axis.remap("S", [IRBuilder.name("pixel", pixel)]))
            T.reads(source[i * read_step : i * read_step + channels])
            T.writes(output[i * step : i * step + channels])
            places = T.address_of(output[i * step]), T.address_of(source[i * read_step])
            T.evaluate(T.call_extern("int32", "tinyml_copy", *places, T.int32(channels)))

    x = flat(arguments[0], attributes.get("input_step", 0))
    # Nothing of a pixel may lie where it is copied to.
    ahead = channels + max(0, (pixels - 1) * (step - read_step))
    return Kernel(
        "copy_channels",
        builder.get(),
        [x],
        overlaps=[Overlap(0, ahead)],
        input_step=attributes.get("input_step", 0),
        output_step=0 if step == channels else step,
    )


def gather2d(arguments: Sequence[relax.Expr], _attributes: Attributes, _traits: KernelTraits) -> Kernel:
    """Lower ``tinyml.gather2d``: pixel (rows[y], columns[v])."""
    x, rows, columns = (placeholder(n, a) for n, a in zip(("x", "rows", "columns"), arguments, strict=True))
    shape = (x.shape[0], rows.shape[0], columns.shape[0], x.shape[3])
    result = te.compute(shape, lambda n, y, v, c: x[n, rows[y], columns[v], c], "output")
    return Kernel("gather2d", te.create_prim_func([x, rows, columns, result]), arguments)
