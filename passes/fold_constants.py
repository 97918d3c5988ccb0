"""What depends on no input is computed at compile time."""

from __future__ import annotations

import numpy as np
import tvm
from tvm import IRModule, relax
from tvm.ir.transform import PassContext

from tvm_tinyml.passes.callable_pass import CallablePass
from tvm_tinyml.passes.rewrite_calls import Graph, rewrite_calls


@tvm.transform.module_pass(opt_level=0, name="tinyml.FoldConstants")
class FoldConstants(CallablePass):
    """Replace each operator that reads nothing but constants by its result, which the reference computes.

    Relax's ``FoldConstant`` does so for operators that it can lower; it does not know this dialect. Operators with
    several results stay.
    """

    def transform_module(self, mod: IRModule, _ctx: PassContext) -> IRModule:
        """Return a new module, or `mod` where nothing changes."""
        return rewrite_calls(mod, _fold)


def _fold(call: relax.Call, _graph: Graph) -> relax.Expr:
    if not isinstance(call.ty, relax.TensorType) or relax.analysis.free_vars(call):
        return call
    # The reference reads the integer dialect, which belongs to this package.
    from tvm_tinyml.reference.evaluate import evaluate_constant

    return relax.const(np.ascontiguousarray(evaluate_constant(call)))
