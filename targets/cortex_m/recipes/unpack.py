"""Weights of four bits, made bytes before the layer that reads them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

from tvm import relax
from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as T

from tvm_tinyml.choice import NONE, Knobs
from tvm_tinyml.passes.integer_ops import Attributes, shape_of
from tvm_tinyml.passes.kernels.kernel import Kernel, Method, Recipe
from tvm_tinyml.passes.weight_codes import Form
from tvm_tinyml.targets.cortex_m.microkernels.microkernel import Microkernel, texts
from tvm_tinyml.targets.cortex_m.microkernels.unpack import unpack
from tvm_tinyml.targets.cortex_m.microkernels.unpack_short import unpack_short

Unpacking = Callable[..., Microkernel]
"""From a form of code, and whether it has pairs, to what unpacks it."""

BY_DSP: Unpacking = partial(unpack, dsp=True)
BY_THUMB2: Unpacking = partial(unpack, dsp=False)
BY_THUMB1: Unpacking = unpack_short


class Unpack(Recipe):
    """``tinyml.unpack``: one function for all layers whose weights have the same form of code.

    Parameters
    ----------
    unpacking : the core's.
    """

    dtype = "int32"

    def __init__(self, unpacking: Unpacking) -> None:
        self._unpacking = unpacking

    def lower(self, arguments: Sequence[relax.Expr], attributes: Attributes, knobs: Knobs = NONE) -> Kernel | None:
        """Return the kernel; it has no knobs."""
        if knobs:
            return None
        (words,), count = shape_of(arguments[0]), math.prod(attributes["shape"])
        kernel = self._unpacking(Form(attributes["form"]), pairs=bool(attributes["pairs"]))
        with IRBuilder() as builder, T.prim_func(s_tir=True):
            T.func_name("main")
            packed = T.arg("packed", T.Buffer((words,), "int32"))
            weights = T.arg("output", T.Buffer((count,), f"int{attributes['bits']}"))
            with T.sblock("root"):
                T.reads()
                T.writes()
                T.evaluate(T.call_extern("int32", kernel.name, weights.access_ptr("w"), packed.access_ptr("r")))
        func = builder.get().with_attr({**texts([kernel]), "tinyml.schedule": Unpack.__name__})
        return Kernel("unpack", func, [arguments[0]], method=Method("four bits become eight"))
