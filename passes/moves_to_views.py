"""Concatenations, splits and slices of what lies in memory in one piece cost nothing."""

from __future__ import annotations

import math
from collections.abc import Sequence

import tvm
from tvm import IRModule, relax
from tvm.ir import Op
from tvm.ir.transform import PassContext
from tvm.relax.expr_functor import PyExprMutator, mutator

from tvm_tinyml.passes import integer_ops
from tvm_tinyml.passes.callable_pass import CallablePass
from tvm_tinyml.passes.integer_ops import shape_of


@tvm.transform.module_pass(opt_level=0, name="tinyml.MovesToViews")
class MovesToViews(CallablePass):
    """Rewrite ``concat`` to `join`, ``split`` and ``strided_slice`` to `view`, wherever each part is contiguous.

    So it is along the first axis that is longer than 1: rows of an image, or channels of a single pixel.
    """

    def transform_module(self, mod: IRModule, _ctx: PassContext) -> IRModule:
        """Return a new module; `mod` is untouched."""
        rewriter = _Rewriter(mod)
        rewriter.builder_.update_func(mod.get_global_var("main"), rewriter.visit_expr(mod["main"]))
        return rewriter.builder_.get()


@mutator
class _Rewriter(PyExprMutator):  # type: ignore[misc]
    def visit_call_(self, call: relax.Call) -> relax.Expr:
        call = self.builder_.normalize(self.visit_expr_post_order(call))
        rewrite = {"relax.concat": _concat, "relax.split": _split, "relax.strided_slice": _slice}
        found = rewrite.get(call.op.name) if isinstance(call.op, Op) else None
        return call if found is None else found(call)


def _concat(call: relax.Call) -> relax.Expr:
    parts = call.args[0]
    shape, axis = shape_of(call), int(call.attrs.axis)
    if not isinstance(parts, relax.Tuple) or not _is_first(shape, axis):
        return call
    return integer_ops.join(*parts.fields, shape=shape)


def _split(call: relax.Call) -> relax.Expr:
    shape, axis = shape_of(call.args[0]), int(call.attrs.axis)
    if not _is_first(shape, axis):
        return call
    parts = [[int(extent) for extent in part.shape] for part in call.ty.fields]
    begins = [sum(math.prod(part) for part in parts[:i]) for i in range(len(parts))]
    return relax.Tuple(
        [integer_ops.view(call.args[0], begin=b, shape=part) for b, part in zip(begins, parts, strict=True)]
    )


def _slice(call: relax.Call) -> relax.Expr:
    axes, begin, _, *given = ([int(v.value) for v in field.fields] for field in call.args[1:5])
    strides = given[0] if given else []
    shape, kept = shape_of(call.args[0]), shape_of(call)
    cut = [axis for axis in range(len(shape)) if kept[axis] != shape[axis]]
    if any(stride != 1 for stride in strides) or any(not _is_first(shape, axis, kept) for axis in cut):
        return call
    starts = {a % len(shape): start + shape[a] if start < 0 else start for a, start in zip(axes, begin, strict=True)}
    first = sum(starts.get(axis, 0) * math.prod(shape[axis + 1 :]) for axis in cut)
    return integer_ops.view(call.args[0], begin=first, shape=kept)


def _is_first(shape: Sequence[int], axis: int, kept: Sequence[int] | None = None) -> bool:
    """Return whether nothing is left of an axis but extents of 1: what is cut there is contiguous."""
    return all(extent == 1 for extent in (kept or shape)[: axis % len(shape)])
