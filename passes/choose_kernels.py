"""Calls carry what is decided about their kernels: an attribute that the passes behind this one follow."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

import tvm
from tvm import IRModule, relax
from tvm.ir import Op
from tvm.ir.transform import PassContext
from tvm.relax.expr_functor import PyExprMutator, mutator

from tvm_tinyml.choice import Choice
from tvm_tinyml.passes.callable_pass import CallablePass
from tvm_tinyml.passes.integer_ops import CHOICE, attributes_of

Choose = Callable[[Sequence[relax.Call]], "Sequence[Choice | None]"]
"""From all calls of the integer dialect, in order, to their choices; None where nothing is decided."""


def untuned(calls: Sequence[relax.Call]) -> Sequence[Choice | None]:
    """Decide nothing."""
    return [None] * len(calls)


def is_integer(expr: relax.Expr) -> bool:
    """Return whether an expression is a call of an operator of the integer dialect."""
    return isinstance(expr, relax.Call) and isinstance(expr.op, Op) and expr.op.name.startswith("tinyml.")


def choice_of(call: relax.Call) -> Choice | None:
    """Return the choice that a call carries, if any."""
    text = dict(call.attrs.items()).get(CHOICE) if call.attrs and is_integer(call) else None
    choice: Choice | None = None if text is None else json.loads(str(text))
    return choice


def with_choice(call: relax.Call, choice: Choice | None) -> relax.Call:
    """Return a call of the integer dialect that carries a choice."""
    if choice is None:
        return call
    return relax.Call(call.op, call.args, attrs={**attributes_of(call), CHOICE: json.dumps(dict(choice))})


@tvm.transform.module_pass(opt_level=0, name="tinyml.ChooseKernels")
class ChooseKernels(CallablePass):
    """Let calls of the integer dialect carry what is decided about their kernels.

    Parameters
    ----------
    choose : decides.
    """

    def __init__(self, choose: Choose) -> None:
        self._choose = choose

    def transform_module(self, mod: IRModule, _ctx: PassContext) -> IRModule:
        """Return a new module; `mod` is untouched."""
        bindings = (binding for block in mod["main"].body.blocks for binding in block.bindings)
        calls = [binding.value for binding in bindings if is_integer(binding.value)]
        rewriter = _Rewriter(mod, self._choose(calls))
        rewriter.builder_.update_func(mod.get_global_var("main"), rewriter.visit_expr(mod["main"]))
        return rewriter.builder_.get()


@mutator
class _Rewriter(PyExprMutator):  # type: ignore[misc]
    def __init__(self, mod: IRModule, choices: Sequence[Choice | None]) -> None:
        super().__init__(mod)
        self._choices = iter(choices)

    def visit_call_(self, call: relax.Call) -> relax.Expr:
        call = self.visit_expr_post_order(call)
        return with_choice(call, next(self._choices)) if is_integer(call) else call
