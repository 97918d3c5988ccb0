"""Kernels that only move bytes where Relax's own lowering would be slow or would need floats."""

# TVMScript is a language of its own: neither its decorator nor its annotations are Python types.
# mypy: disable-error-code="untyped-decorator, valid-type"

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from tvm import relax, te
from tvm.script import tirx as T

from tvm_tinyml import script
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

    @script.prim_func(s_tir=True)
    def func(
        x: T.Buffer((batch, height, row), dtype), output: T.Buffer((batch, padded_height, padded_row), dtype)
    ) -> None:
        T.func_attr({"tirx.noalias": False})
        for n, y in T.grid(batch, padded_height):
            with T.sblock("output"):
                i, j = T.axis.remap("SS", [n, y])
                T.reads(x[i, 0:height, 0:row])
                T.writes(output[i, j, 0:padded_row])
                if j < top or j >= top + height:
                    T.evaluate(
                        T.call_extern(
                            "int32", "tinyml_fill", T.address_of(output[i, j, 0]), T.int32(value), T.int32(padded_bytes)
                        )
                    )
                else:
                    T.evaluate(
                        T.call_extern(
                            "int32", "tinyml_fill", T.address_of(output[i, j, 0]), T.int32(value), T.int32(before_bytes)
                        )
                    )
                    T.evaluate(
                        T.call_extern(
                            "int32",
                            "tinyml_copy",
                            T.address_of(output[i, j, before]),
                            T.address_of(x[i, j - top, 0]),
                            T.int32(row_bytes),
                        )
                    )
                    T.evaluate(
                        T.call_extern(
                            "int32",
                            "tinyml_fill",
                            T.address_of(output[i, j, before + row]),
                            T.int32(value),
                            T.int32(after_bytes),
                        )
                    )

    x = relax.op.reshape(arguments[0], (batch, height, row))
    return Kernel("pad2d", func, [x], overlaps=[bytes_ahead(shape_of(arguments[0]), attributes["padding"], size)])


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

    @script.prim_func(s_tir=True)
    def func(x: T.Buffer((read,), "int8"), output: T.Buffer((written,), "int8")) -> None:
        T.func_attr({"tirx.noalias": False})
        for pixel in range(pixels):
            with T.sblock("output"):
                i = T.axis.remap("S", [pixel])
                T.reads(x[i * read_step : i * read_step + channels])
                T.writes(output[i * step : i * step + channels])
                T.evaluate(
                    T.call_extern(
                        "int32",
                        "tinyml_copy",
                        T.address_of(output[i * step]),
                        T.address_of(x[i * read_step]),
                        T.int32(channels),
                    )
                )

    x = flat(arguments[0], attributes.get("input_step", 0))
    # Nothing of a pixel may lie where it is copied to.
    ahead = channels + max(0, (pixels - 1) * (step - read_step))
    return Kernel(
        "copy_channels",
        func,
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
