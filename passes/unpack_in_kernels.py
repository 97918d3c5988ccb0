"""Weights of four bits are unpacked by the kernel that reads them, into scratch of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import tvm
import tvm_ffi
from tvm import IRModule, relax, tirx
from tvm.ir import GlobalVar, Op, Var
from tvm.ir.transform import PassContext
from tvm.relax.expr_functor import PyExprMutator, mutator
from tvm.s_tir import SBlock, SBlockRealize, renew_defs

from tvm_tinyml.passes.callable_pass import CallablePass

UNPACK = "unpack"
"""Kind of the kernels that only unpack."""

_TEXTS = ("tinyml.assembly", "tinyml.c")


@tvm.transform.module_pass(opt_level=0, name="tinyml.UnpackInKernels")
class UnpackInKernels(CallablePass):
    """Put kernels that unpack weights into the kernels that read what they make.

    It works on scheduled functions: they have their loops, and one block around everything.
    """

    def transform_module(self, mod: IRModule, _ctx: PassContext) -> IRModule:
        """Return a new module; equal functions that it makes are one."""
        rewriter = _Rewriter(mod)
        rewriter.builder_.update_func(mod.get_global_var("main"), rewriter.visit_expr(mod["main"]))
        return relax.transform.DeadCodeElimination(["main"])(rewriter.builder_.get())


@mutator
class _Rewriter(PyExprMutator):  # type: ignore[misc]
    def __init__(self, mod: IRModule) -> None:
        super().__init__(mod)
        self._mod = mod
        bindings = [binding for block in mod["main"].body.blocks for binding in block.bindings]
        self._values: Mapping[relax.Var, relax.Expr] = {binding.var: binding.value for binding in bindings}

    def visit_call_(self, call: relax.Call) -> relax.Expr:
        if self._callee(call) is None:
            return super().visit_call_(call)
        func, arguments = self._mod[call.args[0]], list(call.args[1].fields)
        made = [self._unpacked(argument) for argument in arguments]
        if all(unpacks is None for unpacks in made):
            return super().visit_call_(call)
        for i, unpacks in enumerate(made):
            if unpacks is not None:
                func = with_unpacking(func, i, renew_defs(self._mod[unpacks.args[0]]))
                arguments[i] = unpacks.args[1].fields[0]
        name = str(call.args[0].name_hint)
        callee = self.builder_.add_func(func, name)
        return super().visit_call_(relax.Call(call.op, [callee, relax.Tuple(arguments)], call.attrs, call.ty_args))

    def _unpacked(self, argument: relax.Expr) -> relax.Call | None:
        """Return the call of the kernel that unpacks an argument, whatever its shape, or None if none does."""
        while isinstance(argument, relax.Var) and argument in self._values:
            argument = self._values[argument]
            if isinstance(argument, relax.Call) and argument.op == Op.get("relax.reshape"):
                argument = argument.args[0]
        callee = self._callee(argument)
        return argument if callee is not None and self._mod[callee].attrs.get("tinyml.kind") == UNPACK else None

    @staticmethod
    def _callee(expr: relax.Expr) -> GlobalVar | None:
        is_kernel = isinstance(expr, relax.Call) and isinstance(expr.op, Op) and expr.op.name == "relax.call_tir"
        return expr.args[0] if is_kernel else None


def with_unpacking(func: tirx.PrimFunc, index: int, unpack: tirx.PrimFunc) -> tirx.PrimFunc:
    """Return a kernel that makes one of its arguments in scratch before it does what it did.

    Parameters
    ----------
    index : of the argument.
    unpack : a kernel of codes and what they stand for; the latter may have another shape.
    """
    weights, (codes, own) = func.params[index], unpack.params
    inner, first = func.body.block, unpack.body.block
    made = tvm_ffi.structural_map(first.body, (Var, lambda var: weights if var.same_as(own) else var))
    body = tirx.SeqStmt([*_statements(made), *_statements(inner.body)])
    buffers = [weights, *first.alloc_buffers, *inner.alloc_buffers]
    block = SBlock([], [], [], inner.name_hint, body, alloc_buffers=buffers)
    params = [*func.params[:index], codes, *func.params[index + 1 :]]
    attrs = func.attrs
    texts = {name: {**(attrs.get(name) or {}), **(unpack.attrs.get(name) or {})} for name in _TEXTS}
    # Leave for scratch to lie over an argument is for the scratch that the kernel had.
    overlaps = [overlap for overlap in attrs.get("tinyml.overlaps") or () if not overlap[2]]
    schedule = str(attrs["tinyml.schedule"])
    if not schedule.endswith(_SUFFIX):
        schedule += _SUFFIX
    changed = {**texts, "tinyml.overlaps": overlaps, "tinyml.schedule": schedule}
    return tirx.PrimFunc(params, SBlockRealize([], True, block), attrs=attrs).with_attr(changed)


_SUFFIX = " + Unpack"


def _statements(body: tirx.Stmt) -> Sequence[tirx.Stmt]:
    return list(body.seq) if isinstance(body, tirx.SeqStmt) else [body]
