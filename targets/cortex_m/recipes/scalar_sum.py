"""Sums of two tensors of one shape on cores without SMLAD."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tvm import relax
from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as T

from tvm_tinyml.passes.integer_ops import Attributes, shape_of
from tvm_tinyml.passes.kernels.kernel import Kernel
from tvm_tinyml.targets.cortex_m.microkernels import scalar_add
from tvm_tinyml.targets.cortex_m.microkernels.microkernel import texts
from tvm_tinyml.targets.cortex_m.recipes.elementwise import sum_function


class ScalarSum:
    """``tinyml.add`` or ``tinyml.subtract`` without broadcasting.

    Parameters
    ----------
    kind : "add" or "subtract".
    narrow : with instructions of the Armv6-M only.
    """

    def __init__(self, kind: str, *, narrow: bool) -> None:
        self._kind = kind
        self._narrow = narrow

    def lower(self, arguments: Sequence[relax.Expr], attributes: Attributes) -> Kernel | None:
        """Return the kernel, or None where its conditions are not met."""
        if shape_of(arguments[0]) != shape_of(arguments[1]):
            return None
        form = scalar_add.fit(sum_function(self._kind, attributes))
        if form is None:
            return None
        size, kernel = math.prod(shape_of(arguments[0])), scalar_add.add(form, narrow=self._narrow)
        with IRBuilder() as builder, T.prim_func(s_tir=True):
            T.func_name("main")
            T.func_attr({"tirx.noalias": True})
            a, b = (T.arg(name, T.Buffer((size,), "int8")) for name in "ab")
            words = T.arg("constants", T.Buffer((len(form.words),), "int32"))
            y = T.arg("output", T.Buffer((size,), "int8"))
            with T.sblock("root"):
                T.reads()
                T.writes()
                inputs = (buffer.access_ptr("r") for buffer in (words, a, b))
                T.evaluate(T.call_extern("int32", kernel.name, *inputs, y.access_ptr("w"), size))
        func = builder.get().with_attr({**texts([kernel]), "tinyml.schedule": ScalarSum.__name__})
        flat = [relax.op.reshape(argument, (size,)) for argument in arguments]
        return Kernel(self._kind, func, [*flat, relax.const(form.words)])
