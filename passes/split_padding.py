"""Take the padding out of convolutions: a bordered copy of the input first, then a convolution without edges."""

from __future__ import annotations

from collections.abc import Callable

import tvm
from tvm import IRModule, relax
from tvm.ir.transform import PassContext
from tvm.relax.expr_functor import PyExprMutator, mutator

from tvm_tinyml.passes import integer_ops
from tvm_tinyml.passes.callable_pass import CallablePass
from tvm_tinyml.passes.choose_kernels import choice_of, with_choice
from tvm_tinyml.passes.integer_ops import attributes_of

CONVOLUTIONS = (integer_ops.conv2d.op, *(fused.op for fused in integer_ops.CONV2D_THEN.values()))
"""Operators whose ``padding`` is that of a convolution."""


@tvm.transform.module_pass(opt_level=0, name="tinyml.SplitPadding")
class SplitPadding(CallablePass):
    """Rewrite ``conv2d(x, padding=p)`` to ``conv2d(pad2d(x, p), padding=0)``.

    The border holds the input's zero point, which the folded bias takes off again, so no byte changes and the inner
    loops need no test for the edge.
    """

    def transform_module(self, mod: IRModule, _ctx: PassContext) -> IRModule:
        """Return a new module; `mod` is untouched."""
        rewriter = _Rewriter(mod)
        rewriter.builder_.update_func(mod.get_global_var("main"), rewriter.visit_expr(mod["main"]))
        return rewriter.builder_.get()


@mutator
class _Rewriter(PyExprMutator):  # type: ignore[misc]
    def visit_call_(self, call: relax.Call) -> relax.Expr:
        call = self.visit_expr_post_order(call)
        if call.op not in CONVOLUTIONS or not any(attributes_of(call)["padding"]):
            return call
        return without_padding(call, lambda border: self.builder_.emit(border, "padded"))


def without_padding(call: relax.Call, emit: Callable[[relax.Call], relax.Expr]) -> relax.Call:
    """Return a convolution of a bordered copy of its input, which is what ``emit`` makes of the `pad2d`."""
    attributes = attributes_of(call)
    border = integer_ops.pad2d(call.args[0], padding=attributes["padding"], value=attributes["input_zero_point"])
    inner = relax.Call(call.op, [emit(border), *call.args[1:]], attrs={**attributes, "padding": [0, 0, 0, 0]})
    return with_choice(inner, choice_of(call))
