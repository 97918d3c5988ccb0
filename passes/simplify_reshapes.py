"""Reshapes of reshapes."""

from __future__ import annotations

import tvm
from tvm import IRModule, relax
from tvm.ir import Op
from tvm.ir.transform import PassContext

from tvm_tinyml.passes.callable_pass import CallablePass
from tvm_tinyml.passes.integer_ops import shape_of
from tvm_tinyml.passes.rewrite_calls import Graph, rewrite_calls


@tvm.transform.module_pass(opt_level=0, name="tinyml.SimplifyReshapes")
class SimplifyReshapes(CallablePass):
    """Rewrite ``reshape(reshape(x))`` to ``reshape(x)``, and a reshape to the shape that `x` has to `x`."""

    def transform_module(self, mod: IRModule, _ctx: PassContext) -> IRModule:
        """Return a new module, or `mod` where nothing changes."""
        return rewrite_calls(mod, _simplify)


def _simplify(call: relax.Call, graph: Graph) -> relax.Expr:
    if not _is_reshape(call):
        return call
    source = _source(call.args[0], graph)
    if shape_of(source) == shape_of(call):
        return source
    return call if source.same_as(call.args[0]) else relax.op.reshape(source, shape_of(call))


def _source(x: relax.Expr, graph: Graph) -> relax.Expr:
    """Return the tensor of which `x` is a reshape, or a reshape of one, and so on."""
    call = graph.producer(x)
    return _source(call.args[0], graph) if call is not None and _is_reshape(call) else x


def _is_reshape(call: relax.Call) -> bool:
    return isinstance(call.op, Op) and call.op.name == "relax.reshape"
