"""Look-ups that follow each other are one, and those that only clamp belong to the operator before them."""

from __future__ import annotations

import numpy as np
import tvm
from tvm import IRModule, relax
from tvm.ir.transform import PassContext

from tvm_tinyml.passes import integer_ops
from tvm_tinyml.passes.callable_pass import CallablePass
from tvm_tinyml.passes.lookup_tables import Table, composed, numbers
from tvm_tinyml.passes.rewrite_calls import Graph, rewrite_calls

Bounds = tuple[int, int]

BOUNDED = (
    integer_ops.conv2d.op,
    integer_ops.conv2d_transpose.op,
    integer_ops.dense.op,
    integer_ops.add.op,
    integer_ops.subtract.op,
    integer_ops.multiply.op,
    integer_ops.avg_pool2d.op,
    integer_ops.mean_pool2d.op,
    integer_ops.max_pool2d.op,
    integer_ops.mean.op,
    integer_ops.softmax.op,
)
"""Operators whose results are clamped."""


@tvm.transform.module_pass(opt_level=0, name="tinyml.FuseLookups")
class FuseLookups(CallablePass):
    """Remove look-ups, where that takes nothing but another table or other bounds.

    - ``lookup(lookup(x, t), u)`` becomes ``lookup(x, u[t])``, if nothing else reads the first.
    - A look-up that gives every number that its input can be back as it is vanishes.
    - One that only clamps becomes `clamp_min` and `clamp_max` of the operator that computes its input, if nothing else
      reads that.
    """

    def transform_module(self, mod: IRModule, _ctx: PassContext) -> IRModule:
        """Return a new module, or `mod` where nothing changes."""
        return rewrite_calls(mod, _fuse)


def _fuse(call: relax.Call, graph: Graph) -> relax.Expr:
    if call.op != integer_ops.lookup.op:
        return call
    x, table = call.args[0], call.args[1].value.numpy()
    source = graph.producer(x)
    dtype = str(x.ty.dtype)
    own = bounds_of(source) or (int(numbers(dtype)[0]), int(numbers(dtype)[-1]))
    bounds = clamped(table, dtype, own)
    if bounds == own:
        return x
    if source is None or not graph.is_read_once(x):
        return call
    if source.op == integer_ops.lookup.op:
        both = composed(table, source.args[1].value.numpy())
        return integer_ops.lookup(source.args[0], relax.const(both))
    if bounds is None or bounds_of(source) is None:
        return call
    attributes = integer_ops.attributes_of(source)
    low, high = bounds
    return relax.Call(source.op, source.args, {**attributes, "clamp_min": low, "clamp_max": high})


def bounds_of(call: relax.Call | None) -> Bounds | None:
    """Return the bounds that an operator's epilogue keeps to; None where it has none."""
    if call is None or call.op not in BOUNDED:
        return None
    return int(call.attrs["clamp_min"]), int(call.attrs["clamp_max"])


def clamped(table: Table, dtype: str, own: Bounds) -> Bounds | None:
    """Return the bounds that a table clamps numbers of a type within the bounds `own` to; None where it does not.

    >>> clamped(np.maximum(numbers("int8"), 3), "int8", (-128, 100))
    (3, 100)
    >>> clamped(-numbers("int8"), "int8", (-128, 127)) is None
    True
    """
    if str(table.dtype) != dtype:
        return None
    first = int(numbers(dtype)[0])
    met = slice(own[0] - first, own[1] - first + 1)
    low, high = int(table[met][0]), int(table[met][-1])
    is_clamp = low <= high and (table[met] == np.clip(numbers(dtype)[met], low, high)).all()
    return (low, high) if is_clamp else None
