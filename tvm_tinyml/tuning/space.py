"""What there is to choose for one operator: kernels of the target, and the knobs of each."""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace

import tvm_ffi
from tvm import relax
from tvm.ir import StringImm

from tvm_tinyml.choice import KERNEL, Choice, Space, allowed, knobs_of
from tvm_tinyml.passes import integer_ops
from tvm_tinyml.passes.apply_recipes import recipes_for
from tvm_tinyml.passes.integer_ops import Attributes, attributes_of
from tvm_tinyml.passes.kernels.kernel import Kernel
from tvm_tinyml.passes.lower_to_kernels import LOWERINGS
from tvm_tinyml.passes.split_padding import without_padding
from tvm_tinyml.targets.target import Target

GOAL = "time"
"""The one that allows kernels most: what is tuned, and what keys are made with."""

SCHEDULES = "schedules"
"""Name of the guard that is of no recipe."""

HELPER = "tinyml_"


@dataclass(frozen=True)
class Choices:
    """All choices for one operator.

    Attributes
    ----------
    spaces : knobs and their values of each kernel that takes the operator.
    """

    spaces: Mapping[str, Space]

    @property
    def size(self) -> int:
        """Choices in all; some may turn out not to be possible."""
        return sum(math.prod(len(values) for values in space.values()) for space in self.spaces.values())

    def every(self) -> Iterator[Choice]:
        """Yield all choices."""
        for kernel, space in self.spaces.items():
            for values in itertools.product(*space.values()):
                yield {KERNEL: kernel, **dict(zip(space, values, strict=True))}

    def has(self, choice: Choice) -> bool:
        """Return whether a choice is one of them, or leaves a knob of one to its kernel."""
        space = self.spaces.get(str(choice.get(KERNEL)))
        return space is not None and allowed(knobs_of(choice), space)

    def common(self, other: Choices) -> Choices:
        """Return the choices that another operator has as well."""
        found: dict[str, Space] = {}
        for kernel, space in self.spaces.items():
            others = other.spaces.get(kernel)
            if others is not None:
                values = {name: [v for v in own if v in others.get(name, ())] for name, own in space.items()}
                if all(values.values()):
                    found[kernel] = values
        return Choices(found)


class Kernels:
    """What a target has for an operator, with a goal.

    Parameters
    ----------
    goal : of a build: it limits scratch.
    """

    def __init__(self, target: Target, goal: str) -> None:
        self._target = target
        self._recipes = target.recipes(goal)

    @property
    def operators(self) -> frozenset[str]:
        """Names of all operators that become kernels."""
        return frozenset({*self._recipes, *LOWERINGS})

    def choices(self, call: relax.Call, kernels: Collection[str] | None = None) -> Choices:
        """Return the choices for a call.

        Parameters
        ----------
        kernels : names of those that are of interest; None: all.
        """
        found: dict[str, Space] = {}
        recipes = recipes_for(self._recipes, call)
        if kernels is not None and {recipe.name for recipe in recipes} >= set(kernels):
            recipes = [recipe for recipe in recipes if recipe.name in kernels]
            kernel = None
        else:
            kernel = self._unscheduled(call)
        for form in forms(call):
            arguments, attributes = form.args, attributes_of(form)
            for recipe in recipes:
                if recipe.name not in found and recipe.lower(arguments, attributes) is not None:
                    found[recipe.name] = recipe.space(arguments, attributes)
        if kernel is not None:
            for rule in self._target.rules:
                if rule.apply(kernel.func) is not None:
                    space = rule.space(kernel.func)
                    if space or not found:
                        found[rule.name] = space
        return Choices(found)

    def lower(self, call: relax.Call, choice: Choice) -> Kernel | None:
        """Return the kernel of one of a call's `choices`, a schedule not yet applied; None if it is not possible.

        With less scratch a recipe may do less at once than it is told: that is another choice.
        """
        name, knobs, recipes = choice.get(KERNEL), knobs_of(choice), recipes_for(self._recipes, call)
        for form in forms(call):
            for recipe in recipes:
                kernel = recipe.lower(form.args, attributes_of(form), knobs) if recipe.name == name else None
                if kernel is not None and knobs.items() <= kernel.knobs.items():
                    return kernel
        kernel = self._unscheduled(call)
        rules = [rule for rule in self._target.rules if rule.name == name]
        if kernel is None or not rules:
            return None
        scheduled = rules[0].apply(kernel.func, knobs)
        return replace(kernel, knobs=scheduled.knobs) if scheduled else None

    def guards(self, call: relax.Call) -> dict[str, str]:
        """Return which forms of each recipe the constants of a call allow, and how schedules have to scale sums."""
        recipes = recipes_for(self._recipes, call)
        guards = {recipe.name: recipe.guard(call.args, attributes_of(call)) for recipe in recipes}
        kernel = self._unscheduled(call)
        guards[SCHEDULES] = _scaling(kernel, attributes_of(call)) if kernel else ""
        return {name: guard for name, guard in guards.items() if guard}

    def _unscheduled(self, call: relax.Call) -> Kernel | None:
        lowering = LOWERINGS.get(str(call.op.name))
        form = forms(call)[-1]
        return lowering(form.args, attributes_of(form), self._target.traits) if lowering else None


def _scaling(kernel: Kernel, attributes: Attributes) -> str:
    """Return which helpers a kernel calls, of how many channels the constants of its epilogue are, and what it adds."""
    called: list[str] = []
    tvm_ffi.structural_walk(kernel.func.body, (StringImm, lambda text: called.append(str(text.value))))
    helpers = [name.removeprefix(HELPER) for name in called if name.startswith(HELPER)]
    sizes = [str(int(parameter.shape[0])) for parameter in kernel.func.params[2:-1] if len(parameter.shape) == 1]
    nothing = ["plus 0"] if helpers and attributes.get("output_zero_point") == 0 else []
    return " ".join([*helpers, *(["of", *sizes] if sizes else []), *nothing])


def forms(call: relax.Call) -> list[relax.Call]:
    """Return a call, and what is left of it when its padding has become an operator of its own."""
    if call.op != integer_ops.conv2d.op or not any(attributes_of(call)["padding"]):
        return [call]
    builder = relax.BlockBuilder()
    inner = without_padding(call, lambda border: relax.Var("padded", builder.normalize(border).ty))
    return [call, builder.normalize(inner)]
