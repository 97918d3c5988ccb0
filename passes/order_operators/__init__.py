"""The order in which operators run, chosen so that little is alive at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import tvm
from tvm import IRModule, relax
from tvm.ir import Op
from tvm.ir.transform import PassContext

from tvm_tinyml.passes import integer_ops
from tvm_tinyml.passes.callable_pass import CallablePass
from tvm_tinyml.passes.order_operators.graph import Operator, OperatorGraph
from tvm_tinyml.passes.order_operators.search import smallest_peak

__all__ = ["OrderOperators"]

VIEWS = (
    "relax.reshape",
    *(op.op.name for op in (integer_ops.view, integer_ops.join, integer_ops.channels, integer_ops.interleave)),
)
"""Operators whose result is in the memory of their operands."""


@tvm.transform.module_pass(opt_level=0, name="tinyml.OrderOperators")
class OrderOperators(CallablePass):
    """Reorder the bindings of ``main`` so that the most bytes of tensors alive at a time are as few as possible.

    Nothing is reordered unless that makes the peak smaller.

    Parameters
    ----------
    io_in_workspace : inputs and outputs count.
    """

    def __init__(self, io_in_workspace: bool) -> None:
        self._io_in_workspace = io_in_workspace

    def transform_module(self, mod: IRModule, _ctx: PassContext) -> IRModule:
        """Return a new module; `mod` is untouched."""
        main = mod["main"]
        bindings = [binding for block in main.body.blocks for binding in block.bindings]
        tensors = _Tensors(main, bindings)
        operators = [binding for binding in bindings if not _is_view(binding.value)]
        order = smallest_peak(tensors.graph(operators, self._io_in_workspace)).operators
        if order == list(range(len(operators))):
            return mod
        ordered = _with_views([operators[i] for i in order], [b for b in bindings if _is_view(b.value)])
        body = relax.SeqExpr([relax.DataflowBlock(ordered)], main.body.body)
        changed = relax.Function(main.params, body, main.ret_ty, attrs=main.attrs)
        functions = {**dict(mod.functions), mod.get_global_var("main"): changed}
        return relax.transform.Normalize()(IRModule(functions, attrs=mod.attrs))


class _Tensors:
    """The tensors of ``main`` by number, and which of them hold a variable's value."""

    def __init__(self, main: relax.Function, bindings: Sequence[relax.VarBinding]) -> None:
        self._sizes: list[int] = []
        self._of: dict[relax.Var, tuple[int, ...]] = {}
        self._fields: dict[relax.Var, list[tuple[int, ...]]] = {}
        self._inputs = [tensor for parameter in main.params for tensor in self._new(parameter)]
        for binding in bindings:
            if _is_view(binding.value):
                self._of[binding.var] = self.read_by(binding.value)
                if isinstance(binding.value, relax.Tuple):
                    self._fields[binding.var] = [self.read_by(field) for field in binding.value.fields]
            else:
                self._new(binding.var)
        self._outputs = self.read_by(main.body.body)

    def read_by(self, expr: relax.Expr) -> tuple[int, ...]:
        """Return the tensors that an expression reads, each once."""
        if isinstance(expr, relax.TupleGetItem) and expr.tuple_value in self._fields:
            return self._fields[expr.tuple_value][int(expr.index)]
        return tuple(dict.fromkeys(tensor for var in _variables(expr) for tensor in self._of[var]))

    def graph(self, operators: Sequence[relax.VarBinding], io_in_workspace: bool) -> OperatorGraph:
        """Return the operators as a graph; what is in no workspace has no size."""
        sizes = list(self._sizes)
        if not io_in_workspace:
            for tensor in (*self._inputs, *self._outputs):
                sizes[tensor] = 0
        nodes = [Operator(self.read_by(binding.value), self._of[binding.var]) for binding in operators]
        return OperatorGraph(nodes, sizes, frozenset(self._outputs))

    def _new(self, var: relax.Var) -> tuple[int, ...]:
        """Return a tensor for a variable, several for a tuple."""
        types = list(var.ty.fields) if isinstance(var.ty, tvm.ir.TupleType) else [var.ty]
        first = len(self._sizes)
        for tensor in types:
            shape = [int(extent) for extent in tensor.shape]
            self._sizes.append(int(np.prod(shape, dtype=np.int64)) * np.dtype(str(tensor.dtype)).itemsize)
        self._of[var] = tuple(range(first, len(self._sizes)))
        self._fields[var] = [(tensor,) for tensor in self._of[var]]
        return self._of[var]


def _is_view(value: relax.Expr) -> bool:
    """Return whether a binding computes nothing: another name, shape or part of what there is."""
    if isinstance(value, relax.Call):
        return isinstance(value.op, Op) and value.op.name in VIEWS
    return True


def _variables(expr: relax.Expr) -> Iterator[relax.Var]:
    match expr:
        case relax.Var():
            yield expr
        case relax.Tuple():
            for field in expr.fields:
                yield from _variables(field)
        case relax.TupleGetItem():
            yield from _variables(expr.tuple_value)
        case relax.Call():
            for argument in expr.args:
                yield from _variables(argument)


def _with_views(operators: Sequence[relax.VarBinding], views: Sequence[relax.VarBinding]) -> list[relax.VarBinding]:
    """Return all bindings: each view right before the first that reads it."""
    waiting = {view.var: view for view in views}
    ordered: list[relax.VarBinding] = []

    def add(binding: relax.VarBinding) -> None:
        for var in _variables(binding.value):
            if var in waiting:
                add(waiting.pop(var))
        ordered.append(binding)

    for operator in operators:
        add(operator)
    while waiting:
        add(waiting.pop(next(iter(waiting))))
    return ordered
