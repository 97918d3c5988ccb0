"""Rewriting calls of ``main`` until nothing changes any more: what the passes that simplify a graph share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import tvm
from tvm import IRModule, relax

Rewrite = Callable[[relax.Call, "Graph"], relax.Expr]
"""From a call and the graph around it to what computes the same tensor, or the call itself where it is to stay."""


class Graph:
    """What surrounds a call of ``main``: where its operands come from, and how many read them."""

    def __init__(self, main: relax.Function) -> None:
        self.main = main
        self._values: dict[relax.Var, relax.Expr] = {}
        self._reads: Counter[relax.Var] = Counter()
        for block in main.body.blocks:
            for binding in block.bindings:
                self._values[binding.var] = binding.value
                self._count(binding.value)
        self._count(main.body.body)

    def producer(self, expr: relax.Expr) -> relax.Call | None:
        """Return the call that computes a tensor; None for inputs, constants and parts of tuples."""
        value = self._values.get(expr)
        return value if isinstance(value, relax.Call) else None

    def is_read_once(self, expr: relax.Expr) -> bool:
        """Return whether a tensor is read in one place of the network only; being an output counts as one."""
        return self._reads[expr] == 1

    def position(self, expr: relax.Expr) -> int:
        """Return the number of the binding that a tensor is; -1 for inputs and constants."""
        return next((i for i, var in enumerate(self._values) if var == expr), -1)

    def _count(self, expr: relax.Expr) -> None:
        match expr:
            case relax.Var():
                self._reads[expr] += 1
            case relax.Tuple():
                for field in expr.fields:
                    self._count(field)
            case relax.TupleGetItem():
                self._count(expr.tuple_value)
            case relax.Call():
                for argument in expr.args:
                    self._count(argument)


def rewrite_calls(mod: IRModule, rewrite: Rewrite) -> IRModule:
    """Return the module with all calls of ``main`` rewritten, again and again until none changes.

    What nothing reads any more leaves. Each rewrite must make something smaller, so that there is an end.
    """
    while (rewritten := _rewritten_once(mod, rewrite)) is not mod:
        mod = rewritten
    return mod


def _rewritten_once(mod: IRModule, rewrite: Rewrite) -> IRModule:
    main, changed = mod["main"], False
    graph, bindings = Graph(main), []
    for block in main.body.blocks:
        for binding in block.bindings:
            call = binding.value
            if isinstance(call, relax.Call) and (value := rewrite(call, graph)) is not call:
                binding, changed = relax.VarBinding(binding.var, value), True
            bindings.append(binding)
    if not changed:
        return mod
    body = relax.SeqExpr([relax.DataflowBlock(bindings)], main.body.body)
    simpler = relax.Function(main.params, body, main.ret_ty, attrs=main.attrs)
    tidy = [
        relax.transform.Normalize(),
        relax.transform.CanonicalizeBindings(),
        relax.transform.DeadCodeElimination(["main"]),
    ]
    functions = {**dict(mod.functions), mod.get_global_var("main"): simpler}
    return tvm.transform.Sequential(tidy)(IRModule(functions, attrs=mod.attrs))
