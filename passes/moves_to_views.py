"""Concatenations, splits and slices of what lies in memory in one piece, or in channels of each pixel, are views."""

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

    So it is along the first axis that is longer than 1: rows of an image, or channels of a single pixel. Along the last
    axis of int8, the channels of several pixels, they become `interleave` and `channels`.
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
    if not isinstance(parts, relax.Tuple):
        return call
    if len(parts.fields) == 1:
        return parts.fields[0]
    if _is_first(shape, axis):
        return integer_ops.join(*parts.fields, shape=shape)
    return integer_ops.interleave(*parts.fields, step=shape[-1]) if _is_channels(call, axis) else call


def _split(call: relax.Call) -> relax.Expr:
    shape, axis = shape_of(call.args[0]), int(call.attrs.axis)
    first = _is_first(shape, axis)
    if not first and not _is_channels(call.args[0], axis):
        return call
    parts = [[int(extent) for extent in part.shape] for part in call.ty.fields]
    sizes = [math.prod(part) if first else part[-1] for part in parts]
    cut = [(sum(sizes[:i]), part) for i, part in enumerate(parts)]
    if first:
        return relax.Tuple([integer_ops.view(call.args[0], begin=begin, shape=part) for begin, part in cut])
    step = shape[-1]
    return relax.Tuple([integer_ops.channels(call.args[0], begin=begin, step=step, shape=part) for begin, part in cut])


def _slice(call: relax.Call) -> relax.Expr:
    axes, begin, _, *given = ([int(v.value) for v in field.fields] for field in call.args[1:5])
    strides = given[0] if given else []
    shape, kept = shape_of(call.args[0]), shape_of(call)
    cut = [axis for axis in range(len(shape)) if kept[axis] != shape[axis]]
    if any(stride != 1 for stride in strides):
        return call
    starts = {a % len(shape): start + shape[a] if start < 0 else start for a, start in zip(axes, begin, strict=True)}
    if all(_is_first(shape, axis, kept) for axis in cut):
        first = sum(starts.get(axis, 0) * math.prod(shape[axis + 1 :]) for axis in cut)
        return integer_ops.view(call.args[0], begin=first, shape=kept)
    if all(_is_channels(call, axis) for axis in cut):
        return integer_ops.channels(call.args[0], begin=starts[len(shape) - 1], step=shape[-1], shape=kept)
    return call


def _is_first(shape: Sequence[int], axis: int, kept: Sequence[int] | None = None) -> bool:
    """Return whether nothing is left of an axis but extents of 1: what is cut there is contiguous."""
    return all(extent == 1 for extent in (kept or shape)[: axis % len(shape)])


def _is_channels(tensor: relax.Expr, axis: int) -> bool:
    """Return whether an axis is the last one of an int8 tensor."""
    return axis % len(shape_of(tensor)) == len(shape_of(tensor)) - 1 and str(tensor.ty.dtype) == "int8"
