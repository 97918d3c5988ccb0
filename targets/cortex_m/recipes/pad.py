"""A border around an image, where a kernel wants one in memory, on cores with Thumb-2."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from tvm import relax
from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as T

from tvm_tinyml.choice import NONE, Knobs
from tvm_tinyml.passes.integer_ops import Attributes, shape_of
from tvm_tinyml.passes.kernels.kernel import Kernel, Method, Recipe
from tvm_tinyml.passes.kernels.movement import bytes_ahead
from tvm_tinyml.targets.cortex_m.microkernels.microkernel import texts
from tvm_tinyml.targets.cortex_m.microkernels.pad import pad


class Pad(Recipe):
    """``tinyml.pad2d``: one function for all of them."""

    def lower(self, arguments: Sequence[relax.Expr], attributes: Attributes, knobs: Knobs = NONE) -> Kernel | None:
        """Return the kernel; it has no knobs."""
        if knobs:
            return None
        batch, height, width, channels = shape_of(arguments[0])
        top, left, bottom, right = attributes["padding"]
        between, row = (left + right) * channels, width * channels
        rows, row_bytes = (height, row) if between else (1, height * row)
        border = attributes["value"] & 0xFF
        outside = (top * (row + between) + left * channels, bottom * (row + between) + right * channels)
        word = np.array([border * 0x01010101], np.uint32).view(np.int32)
        numbers = np.array([rows, outside[0], row_bytes, between, outside[1], *word], np.int32)
        image, padded = height * row, (top + height + bottom) * (row + between)
        kernel = pad()
        with IRBuilder() as builder, T.prim_func(s_tir=True):
            T.func_name("main")
            T.func_attr({"tirx.noalias": False})
            x = T.arg("x", T.Buffer((batch * image,), "int8"))
            constants = T.arg("numbers", T.Buffer((len(numbers),), "int32"))
            y = T.arg("output", T.Buffer((batch * padded,), "int8"))
            with T.sblock("root"):
                T.reads()
                T.writes()
                with T.serial(batch) as number:
                    pointers = T.address_of(y[number * padded]), T.address_of(x[number * image])
                    T.evaluate(T.call_extern("int32", kernel.name, *pointers, constants.access_ptr("r")))
        func = builder.get().with_attr({**texts([kernel]), "tinyml.schedule": Pad.__name__})
        flat = relax.op.reshape(arguments[0], (batch * image,))
        overlaps = [bytes_ahead(shape_of(arguments[0]), attributes["padding"])]
        return Kernel("pad2d", func, [flat, relax.const(numbers)], method=Method("rows are copied"), overlaps=overlaps)
