"""Transposes that another one undoes, or that move nothing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tvm
from tvm import IRModule, relax
from tvm.ir import GenericConst, Op
from tvm.ir.transform import PassContext

from tvm_tinyml.passes import integer_ops
from tvm_tinyml.passes.callable_pass import CallablePass
from tvm_tinyml.passes.integer_ops import shape_of
from tvm_tinyml.passes.rewrite_calls import Graph, rewrite_calls

FUNCTIONS = tuple(function.op for function in integer_ops.FUNCTIONS)
ELEMENTWISE = (*FUNCTIONS, integer_ops.add.op, integer_ops.subtract.op, integer_ops.multiply.op)


@tvm.transform.module_pass(opt_level=0, name="tinyml.SimplifyTransposes")
class SimplifyTransposes(CallablePass):
    """Remove ``permute_dims``, wherever no other of its kind takes its place.

    - One that only moves axes of extent 1 becomes a reshape.
    - Two that follow each other become one, or none.
    - One moves before an element-wise operator if it meets another one there, for every operand.
    """

    def transform_module(self, mod: IRModule, _ctx: PassContext) -> IRModule:
        """Return a new module, or `mod` where nothing changes."""
        return rewrite_calls(mod, _simplify)


def _simplify(call: relax.Call, graph: Graph) -> relax.Expr:
    if not _is_transpose(call):
        return call
    moved = _moved(call.args[0], _order(call), graph)
    return call if moved is None else moved


def _moved(x: relax.Expr, order: Sequence[int], graph: Graph) -> relax.Expr | None:
    """Return a tensor with its axes in another order; None if that takes more transposes than there were."""
    if isinstance(x, GenericConst):
        return relax.const(np.ascontiguousarray(x.value.numpy().transpose(order)))
    shape = shape_of(x)
    longer = [axis for axis in order if shape[axis] > 1]
    if longer == sorted(longer):
        result = [shape[axis] for axis in order]
        return x if result == shape else relax.op.reshape(x, result)
    call = graph.producer(x)
    if call is None:
        return None
    if _is_transpose(call):
        inner = _order(call)
        both = [inner[axis] for axis in order]
        moved = _moved(call.args[0], both, graph)
        return relax.op.permute_dims(call.args[0], both) if moved is None and graph.is_read_once(x) else moved
    if call.op not in ELEMENTWISE or not graph.is_read_once(x):
        return None
    count = 1 if call.op in FUNCTIONS else len(call.args)
    operands = [_moved_operand(operand, order, graph) for operand in call.args[:count]]
    if any(operand is None for operand in operands):
        return None
    return relax.Call(call.op, [*operands, *call.args[count:]], call.attrs)


def _moved_operand(x: relax.Expr, order: Sequence[int], graph: Graph) -> relax.Expr | None:
    """Return an operand as `_moved` does; one of fewer axes, which broadcasts, only if it is a single number."""
    if len(shape_of(x)) == len(order):
        return _moved(x, order, graph)
    return x if isinstance(x, GenericConst) and x.value.numpy().size == 1 else None


def _is_transpose(call: relax.Call) -> bool:
    return isinstance(call.op, Op) and call.op.name == "relax.permute_dims"


def _order(call: relax.Call) -> list[int]:
    rank = len(shape_of(call.args[0]))
    axes = call.attrs.axes
    return [int(axis) % rank for axis in axes] if axes is not None else list(range(rank))[::-1]
