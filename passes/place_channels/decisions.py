"""Which parts of wider tensors are computed where they belong, decided from the last operator to the first."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum

from tvm import relax

from tvm_tinyml.passes import integer_ops
from tvm_tinyml.passes.apply_recipes import Recipes, first_kernel, first_kernel_of_either
from tvm_tinyml.passes.integer_ops import shape_of
from tvm_tinyml.passes.steps import operator

INTERLEAVE, CHANNELS = integer_ops.interleave.op, integer_ops.channels.op

Part = tuple[relax.Var, int]
"""An `interleave` by its variable, and the number of one of its operands."""


class Parts(Enum):
    """Which of the parts that can be computed where they belong are; the whole is alive from the first of them on."""

    ALL = "all"
    LAST = "last"
    NONE = "none"


class Decisions:
    """Which results are spread where they are computed.

    Attributes
    ----------
    parts : operands of each `interleave`; one whose first operands are those of an earlier one takes that instead.
    steps : of the results of operators and of `interleave` that lie in a wider tensor, elements from pixel to pixel.
    homes : where these belong.
    """

    def __init__(self, main: relax.Function, recipes: Recipes, chosen: Parts) -> None:
        bindings = [binding for block in main.body.blocks for binding in block.bindings]
        self._recipes = recipes
        self._chosen = chosen
        self._outputs = set(relax.analysis.free_vars(main.body.body))
        self.parts = _nested(bindings)
        self.steps: dict[relax.Var, int] = {}
        self.homes: dict[relax.Var, Part] = {}
        self._readers: dict[relax.Var, list[relax.VarBinding]] = {}
        for binding in reversed(bindings):  # what reads a result comes first
            self._decide(binding)
            for var in self._reads(binding):
                self._readers.setdefault(var, []).insert(0, binding)

    def can_read(self, call: relax.Expr, step: int) -> bool:
        """Return whether an operator reads its first operand where pixels are so many elements apart."""
        if operator(call) is None or call.args[0] in call.args[1:]:
            return False
        found = first_kernel(self._recipes, call, {"input_step": step})
        return found is not None and found[0].input_step == step

    def _can_write(self, call: relax.Expr, step: int) -> bool:
        if operator(call) is None:
            return False
        found = first_kernel_of_either(self._recipes, call, {"output_step": step})
        return found is not None and found[0].output_step == step

    def _decide(self, binding: relax.VarBinding) -> None:
        readers = self._readers.get(binding.var, [])
        home = next((reader for reader in readers if operator(reader.value) == INTERLEAVE), None)
        if home is None or binding.var in self._outputs or operator(binding.value) == CHANNELS:
            return
        another = any(whole == home.var for whole, _ in self.homes.values())
        if self._chosen is Parts.NONE or (self._chosen is Parts.LAST and another):
            return
        step = self.step(home.var)
        if operator(binding.value) != INTERLEAVE and not self._can_write(binding.value, step):
            return
        if all(self._knows(reader, binding.var, step) for reader in readers):
            self.steps[binding.var] = step
            self.homes[binding.var] = home.var, self.parts[home.var].index(binding.var)

    def step(self, interleave: relax.Var) -> int:
        """Return the step of what an `interleave` puts together."""
        return self.steps.get(interleave, shape_of(interleave)[-1])

    def _knows(self, reader: relax.VarBinding, var: relax.Var, step: int) -> bool:
        """Return whether a reader takes a tensor with that step; two of ours do anyway, if need be as a copy."""
        if operator(reader.value) in (INTERLEAVE, CHANNELS):
            return True
        return operator(reader.value) is not None and reader.value.args[0] == var and self.can_read(reader.value, step)

    def _reads(self, binding: relax.VarBinding) -> set[relax.Var]:
        if binding.var in self.parts:
            return set(self.parts[binding.var])
        return set(relax.analysis.free_vars(binding.value))


def _nested(bindings: Sequence[relax.VarBinding]) -> dict[relax.Var, list[relax.Expr]]:
    """Return the operands of each `interleave`: (a, b, c) behind ab = (a, b) is (ab, c)."""
    known: dict[tuple[relax.Expr, ...], relax.Var] = {}
    found: dict[relax.Var, list[relax.Expr]] = {}
    for binding in bindings:
        if operator(binding.value) == INTERLEAVE:
            given = tuple(binding.value.args)
            sizes = (size for size in range(len(given) - 1, 1, -1) if given[:size] in known)
            size = next(sizes, 0)
            found[binding.var] = [*([known[given[:size]]] if size else []), *given[size:]]
            known.setdefault(given, binding.var)
    return found
