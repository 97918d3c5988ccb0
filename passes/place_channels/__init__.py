"""Which channels of wider tensors are computed where they belong and read where they lie, and which are copied."""

from __future__ import annotations

import tvm
from tvm import IRModule, relax
from tvm.ir import Op
from tvm.ir.transform import PassContext
from tvm.relax.expr_functor import PyExprMutator, mutator

from tvm_tinyml.passes import integer_ops
from tvm_tinyml.passes.apply_recipes import Recipes
from tvm_tinyml.passes.callable_pass import CallablePass
from tvm_tinyml.passes.integer_ops import attributes_of, shape_of
from tvm_tinyml.passes.place_channels.decisions import CHANNELS, INTERLEAVE, Decisions, Part, Parts
from tvm_tinyml.passes.steps import operator

__all__ = ["Parts", "PlaceChannels", "interleaves"]


@tvm.transform.module_pass(opt_level=0, name="tinyml.PlaceChannels")
class PlaceChannels(CallablePass):
    """Put a `spread` around each part of an `interleave`, and before each operator that cannot read `channels`.

    A part is spread where it is computed, for its kernel to write it so, if the kernel can and all that read the part
    beside the `interleave` can read it there. Any other part is copied, as soon as it is there and the whole is begun.
    An `interleave` that is a part of another one is no tensor of its own, if all that read it can read channels of the
    other.

    Parameters
    ----------
    recipes : a target's.
    parts : which of the parts that can be computed where they belong are.
    """

    def __init__(self, recipes: Recipes, parts: Parts = Parts.ALL) -> None:
        self._recipes = recipes
        self._parts = parts

    def transform_module(self, mod: IRModule, _ctx: PassContext) -> IRModule:
        """Return a new module; `mod` is untouched, and what has been placed stays where it is."""
        if not _any(mod, INTERLEAVE, CHANNELS) or _any(mod, integer_ops.spread.op):
            return mod
        # Views of a split tensor come as a tuple.
        tidy = [relax.transform.CanonicalizeBindings(), relax.transform.DeadCodeElimination(["main"])]
        mod = tvm.transform.Sequential(tidy)(mod)
        rewriter = _Rewriter(mod, Decisions(mod["main"], self._recipes, self._parts))
        rewriter.builder_.update_func(mod.get_global_var("main"), rewriter.visit_expr(mod["main"]))
        return rewriter.builder_.get()


def interleaves(mod: IRModule) -> bool:
    """Return whether channels of tensors are put together."""
    return _any(mod, INTERLEAVE)


def _any(mod: IRModule, *operators: Op) -> bool:
    bindings = [binding for block in mod["main"].body.blocks for binding in block.bindings]
    return any(operator(binding.value) in operators for binding in bindings)


@mutator
class _Rewriter(PyExprMutator):  # type: ignore[misc]
    """Emits what was decided; what lies in a wider tensor is brought together for all that cannot read it there."""

    def __init__(self, mod: IRModule, decisions: Decisions) -> None:
        super().__init__(mod)
        self._decisions = decisions
        self._spread: dict[relax.Var, tuple[relax.Var, int]] = {}
        self._together: dict[relax.Var, relax.Var] = {}
        self._computed: set[relax.Expr] = set(mod["main"].params)
        self._begun: list[relax.Var] = []
        self._copies: dict[Part, relax.Var] = {}

    def visit_var_binding_(self, binding: relax.VarBinding) -> None:
        var, value = binding.var, binding.value
        if var in self._decisions.homes:
            self._begin(self._decisions.homes[var][0])
        if operator(value) == INTERLEAVE:
            self._begin(var)
            step = self._decisions.step(var)
            parts = [self._part(var, i) for i in range(len(self._decisions.parts[var]))]
            self._emit(binding, integer_ops.interleave(*parts, step=step))
            if step != shape_of(var)[-1]:
                self._spread[var] = self.get_var_remap(var), step
        elif operator(value) == CHANNELS:
            whole, step = self._lies(value.args[0])
            self._emit(binding, integer_ops.channels(whole, **attributes_of(value)))
            self._spread[var] = self.get_var_remap(var), step or shape_of(value.args[0])[-1]
        else:
            self._emit(binding, self._reading(value))
            if var in self._decisions.steps:
                step = self._decisions.steps[var]
                spread = self.builder_.emit(integer_ops.spread(self.get_var_remap(var), step=step, copied=0), var.name)
                self._spread[var] = spread, step
        self._computed.add(var)
        self._copy_parts()

    def visit_var_(self, var: relax.Var) -> relax.Expr:
        return self._brought_together(var) if var in self._spread else super().visit_var_(var)

    def visit_dataflow_var_(self, var: relax.DataflowVar) -> relax.Expr:
        return self._brought_together(var) if var in self._spread else super().visit_dataflow_var_(var)

    def _reading(self, value: relax.Expr) -> relax.Expr:
        """Return an expression that reads its first operand where it lies, if it can."""
        if operator(value) is not None and value.args and value.args[0] in self._spread:
            tensor, step = self._spread[value.args[0]]
            if self._decisions.can_read(value, step):
                others = [self.visit_expr(argument) for argument in value.args[1:]]
                return relax.Call(value.op, [tensor, *others], value.attrs, value.ty_args)
        return self.visit_expr(value)

    def _begin(self, interleave: relax.Var) -> None:
        """Copy what is there of what an `interleave` puts together, and henceforth the rest as soon as it is there."""
        if interleave in self._begun:
            return
        if interleave in self._decisions.homes:
            self._begin(self._decisions.homes[interleave][0])
        self._begun.append(interleave)
        self._copy_parts()

    def _copy_parts(self) -> None:
        for interleave in self._begun:
            for number, part in enumerate(self._decisions.parts[interleave]):
                there = part in self._computed or not isinstance(part, relax.Var)
                if there and (interleave, number) not in {*self._copies, self._decisions.homes.get(part)}:
                    tensor, _ = self._lies(part)
                    copy = integer_ops.spread(tensor, step=self._decisions.step(interleave), copied=1)
                    self._copies[interleave, number] = self.builder_.emit(copy, "copy")

    def _part(self, interleave: relax.Var, number: int) -> relax.Expr:
        if (interleave, number) in self._copies:
            return self._copies[interleave, number]
        return self._lies(self._decisions.parts[interleave][number])[0]

    def _lies(self, tensor: relax.Expr) -> tuple[relax.Expr, int]:
        """Return a tensor where it lies, with its step, or 0."""
        return self._spread[tensor] if tensor in self._spread else (self.visit_expr(tensor), 0)

    def _brought_together(self, var: relax.Var) -> relax.Var:
        if var not in self._together:
            tensor, _ = self._spread[var]
            together = integer_ops.spread(tensor, step=shape_of(var)[-1], copied=1)
            self._together[var] = self.builder_.emit(together, "together")
        return self._together[var]

    def _emit(self, binding: relax.VarBinding, value: relax.Expr) -> None:
        emit = self.builder_.emit if isinstance(binding.var, relax.DataflowVar) else self.builder_.emit_output
        self.set_var_remap(binding.var, emit(self.builder_.normalize(value), binding.var.name))
