"""Every integer operator becomes one PrimFunc, called by `call_tir` with its constants packed."""

from __future__ import annotations

import tvm
from tvm import IRModule, relax
from tvm.ir import Op
from tvm.ir.transform import PassContext
from tvm.relax.expr_functor import PyExprMutator, mutator

from tvm_tinyml.passes import integer_ops
from tvm_tinyml.passes.callable_pass import CallablePass
from tvm_tinyml.passes.choose_kernels import choice_of
from tvm_tinyml.passes.integer_ops import Attributes, attributes_of
from tvm_tinyml.passes.kernels import KernelTraits, contraction, elementwise, int16_functions, movement, reduction
from tvm_tinyml.passes.kernels.kernel import Lowering, call_kernel
from tvm_tinyml.passes.steps import Steps, is_written, own_layout, own_step
from tvm_tinyml.passes.tensor_layouts import INPUT_LAYOUT, OUTPUT_LAYOUT

LOWERINGS: dict[str, Lowering] = {
    "tinyml.conv2d": contraction.conv2d,
    "tinyml.conv2d_add": contraction.conv2d_add,
    "tinyml.dense": contraction.dense,
    "tinyml.add": elementwise.add,
    "tinyml.subtract": elementwise.subtract,
    "tinyml.multiply": elementwise.multiply,
    "tinyml.lookup": elementwise.lookup,
    "tinyml.requantize": elementwise.requantize,
    "tinyml.logistic": int16_functions.logistic,
    "tinyml.tanh": int16_functions.tanh,
    "tinyml.interpolate": int16_functions.interpolate,
    "tinyml.slopes": int16_functions.slopes,
    "tinyml.softmax_int16": int16_functions.softmax_int16,
    "tinyml.avg_pool2d": reduction.avg_pool2d,
    "tinyml.max_pool2d": reduction.max_pool2d,
    "tinyml.mean_pool2d": reduction.mean_pool2d,
    "tinyml.mean": reduction.mean,
    "tinyml.softmax": reduction.softmax,
    "tinyml.pad2d": movement.pad2d,
    "tinyml.gather2d": movement.gather2d,
    "tinyml.spread": movement.spread,
}


@tvm.transform.module_pass(opt_level=0, name="tinyml.LowerToKernels")
class LowerToKernels(CallablePass):
    """Replace each call of the integer dialect by `call_tir` of its kernel.

    Two layers whose kernels are equal share one function. Operators that only move data are left to TVM's
    ``LegalizeOps``.

    Parameters
    ----------
    traits : what the kernels' definitions depend on; a target's.
    """

    def __init__(self, traits: KernelTraits) -> None:
        self._traits = traits

    def transform_module(self, mod: IRModule, _ctx: PassContext) -> IRModule:
        """Return a new module with the kernels beside ``main``; each has ``tinyml.kind`` and ``tinyml.macs``."""
        rewriter = _Rewriter(mod, self._traits)
        rewriter.builder_.update_func(mod.get_global_var("main"), rewriter.visit_expr(mod["main"]))
        return rewriter.builder_.get()


@mutator
class _Rewriter(PyExprMutator):  # type: ignore[misc]
    def __init__(self, mod: IRModule, traits: KernelTraits) -> None:
        super().__init__(mod)
        self._traits = traits
        self._steps = Steps(mod["main"])

    def visit_call_(self, call: relax.Call) -> relax.Expr:
        asked: Attributes = {}
        if call.op == integer_ops.lay_out.op:
            assert self._steps.layout_of(call.args[0]) == own_layout(call), f"not written so: {call.args[0]}"
            return self.visit_expr(call.args[0])
        if call.op == integer_ops.spread.op:
            if is_written(call):
                assert self._steps.of(call.args[0]) == own_step(call), f"not written with its step: {call.args[0]}"
                return self.visit_expr(call.args[0])
            asked = self._steps.asked(call)
        layouts = {INPUT_LAYOUT, OUTPUT_LAYOUT} & self._steps.asked(call).keys()
        call = self.visit_expr_post_order(call)
        lowering = LOWERINGS.get(call.op.name) if isinstance(call.op, Op) else None
        if lowering is None:
            return call
        assert not layouts, f"no recipe takes it: {call}"
        kernel = lowering(call.args, {**attributes_of(call), **asked}, self._traits)
        return call_kernel(self.builder_, kernel, call, choice_of(call))
