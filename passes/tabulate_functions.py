"""Whatever depends on one 8-bit number for each element is a table of 256 entries."""

from __future__ import annotations

from collections.abc import Sequence

import tvm
from tvm import IRModule, relax
from tvm.ir import GenericConst
from tvm.ir.transform import PassContext

from tvm_tinyml.passes import integer_ops
from tvm_tinyml.passes.callable_pass import CallablePass
from tvm_tinyml.passes.integer_ops import shape_of
from tvm_tinyml.passes.lookup_tables import Table, composed, numbers
from tvm_tinyml.passes.rewrite_calls import Graph, rewrite_calls

BINARY = (integer_ops.add.op, integer_ops.subtract.op, integer_ops.multiply.op)


@tvm.transform.module_pass(opt_level=0, name="tinyml.TabulateFunctions")
class TabulateFunctions(CallablePass):
    """Rewrite sums, differences and products of functions of one tensor to ``lookup(x, table)``.

    Such are ``x * x``, ``x + 3``, and ``x * lookup(x)``, as hard swish and others are often spelled. A constant whose
    elements are all equal is a number. The reference computes the table, so no byte changes.
    """

    def transform_module(self, mod: IRModule, _ctx: PassContext) -> IRModule:
        """Return a new module, or `mod` where nothing changes."""
        return rewrite_calls(mod, _tabulate)


def _tabulate(call: relax.Call, graph: Graph) -> relax.Expr:
    if call.op not in BINARY:
        return call
    x = _shared(call.args, graph)
    if x is None or isinstance(x, GenericConst) or shape_of(x) != shape_of(call) or str(x.ty.dtype) == "int16":
        return call
    # The reference reads the integer dialect, which belongs to this package.
    from tvm_tinyml.reference.evaluate import evaluate_constant

    operands = [relax.const(_function_of(x, operand, graph)) for operand in call.args]
    return integer_ops.lookup(x, relax.const(evaluate_constant(relax.Call(call.op, operands, call.attrs))))


def _shared(operands: Sequence[relax.Expr], graph: Graph) -> relax.Expr | None:
    """Return the nearest tensor that all operands are functions of; None if there is none."""
    variables = [operand for operand in operands if _number(operand) is None]
    if not variables:
        return None
    first, *others = [_sources(operand, graph) for operand in variables]
    return next((x for x in first if all(any(x.same_as(y) for y in other) for other in others)), None)


def _sources(expr: relax.Expr, graph: Graph) -> list[relax.Expr]:
    """Return a tensor, the tensor that it is a look-up of, and so on."""
    call = graph.producer(expr)
    if call is None or call.op != integer_ops.lookup.op:
        return [expr]
    return [expr, *_sources(call.args[0], graph)]


def _function_of(x: relax.Expr, expr: relax.Expr, graph: Graph) -> Table:
    """Return what an operand holds for each number that an element of x can be: 256 entries, or 1 for a constant."""
    number = _number(expr)
    if number is not None:
        return number
    if expr.same_as(x):
        return numbers(str(x.ty.dtype))
    call = graph.producer(expr)
    assert call is not None, "an operand is a function of what both share"
    inner = _function_of(x, call.args[0], graph)
    return composed(call.args[1].value.numpy(), inner)


def _number(expr: relax.Expr) -> Table | None:
    """Return the number that all elements of a constant are equal to; None for what is no such constant."""
    if not isinstance(expr, GenericConst):
        return None
    values: Table = expr.value.numpy().reshape(-1)
    return values[:1] if (values == values[0]).all() else None
