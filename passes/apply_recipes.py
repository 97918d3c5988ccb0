"""Operators that a target has recipes for become kernels made of its microkernels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import tvm
from tvm import IRModule, relax
from tvm.ir import Op
from tvm.ir.transform import PassContext
from tvm.relax.expr_functor import PyExprMutator, mutator

from tvm_tinyml.choice import KERNEL, Choice, knobs_of
from tvm_tinyml.passes.callable_pass import CallablePass
from tvm_tinyml.passes.choose_kernels import choice_of
from tvm_tinyml.passes.integer_ops import Attributes, attributes_of
from tvm_tinyml.passes.kernels.kernel import Kernel, Recipe, call_kernel
from tvm_tinyml.passes.pack_weights import coding_of_layer, stored_bytes
from tvm_tinyml.passes.split_padding import CONVOLUTIONS, without_padding
from tvm_tinyml.passes.steps import Steps
from tvm_tinyml.passes.tensor_layouts import input_layout, output_layout
from tvm_tinyml.passes.weight_codes import Coding

MORE = 1.5
"""Times the bytes of a layer with weights of four bits that a recipe may store, or `MORE_BYTES` more than they are."""

MORE_BYTES = 1024
"""Small layers have few weights beside what a recipe keeps for each channel."""

Recipes = Mapping[str, Sequence[Recipe]]
"""Name of an operator -> recipes for it, in order of preference."""


@tvm.transform.module_pass(opt_level=0, name="tinyml.ApplyRecipes")
class ApplyRecipes(CallablePass):
    """Replace each call of the integer dialect by `call_tir` of the kernel of the first recipe that takes it.

    What no recipe takes stays as it is. So does a convolution whose padding a recipe leaves to `SplitPadding`, behind
    which this pass runs once more. A call that carries a choice is taken by the recipe named there, or by none.

    Parameters
    ----------
    recipes : a target's.
    """

    def __init__(self, recipes: Recipes) -> None:
        self._recipes = recipes

    def transform_module(self, mod: IRModule, _ctx: PassContext) -> IRModule:
        """Return a new module with the kernels beside ``main``."""
        rewriter = _Rewriter(mod, self._recipes)
        rewriter.builder_.update_func(mod.get_global_var("main"), rewriter.visit_expr(mod["main"]))
        return rewriter.builder_.get()


@mutator
class _Rewriter(PyExprMutator):  # type: ignore[misc]
    def __init__(self, mod: IRModule, recipes: Recipes) -> None:
        super().__init__(mod)
        self._recipes = recipes
        self._steps = Steps(mod["main"])

    def visit_call_(self, call: relax.Call) -> relax.Expr:
        asked = self._steps.asked(call)
        call = self.visit_expr_post_order(call)
        found = first_kernel(self._recipes, call, asked)
        if found is None:
            return call
        kernel, recipe = found
        return call_kernel(self.builder_, kernel, call, {KERNEL: recipe.name, **kernel.knobs})


def first_kernel(recipes: Recipes, call: relax.Call, asked: Attributes) -> tuple[Kernel, Recipe] | None:
    """Return the kernel of the first recipe that takes a call, and follows the choice that it carries; or None.

    Weights of four bits are for small flash: no recipe takes them that would store much more, whatever was found to be
    best for weights of eight.

    Parameters
    ----------
    asked : attributes beside the call's own: see `Recipe.lower`.
    """
    choice, named = choice_of(call) or {}, recipes_for(recipes, call)
    coding = coding_of_layer(call) if "tinyml.unpack" in recipes else None
    found = _first(named, call, asked, choice, coding)
    if found is None and coding and choice.get(KERNEL) in [recipe.name for recipe in named]:
        found = _first(named, call, asked, {}, coding)
    return found


def _first(
    named: Sequence[Recipe], call: relax.Call, asked: Attributes, choice: Choice, coding: Coding | None
) -> tuple[Kernel, Recipe] | None:
    for recipe in named:
        if choice.get(KERNEL, recipe.name) != recipe.name:
            continue
        attributes = {**attributes_of(call), **asked}
        kernel = recipe.lower(call.args, attributes, knobs_of(choice))
        if kernel is not None and not _has_layouts(kernel, asked):
            continue
        if kernel is not None and coding and _takes_more(kernel, call, coding):
            kernel = _smaller(recipe, call, attributes, coding)
        if kernel is not None:
            return kernel, recipe
        if recipe.leaves_padding(call.args, attributes_of(call)):
            return None
    return None


def first_kernel_of_either(recipes: Recipes, call: relax.Call, asked: Attributes) -> tuple[Kernel, Recipe] | None:
    """Return what `first_kernel` finds for a call or, if no recipe takes it so, for what `SplitPadding` makes of it."""
    found = first_kernel(recipes, call, asked)
    if found is None and call.op in CONVOLUTIONS and any(attributes_of(call)["padding"]):
        found = first_kernel(recipes, without_padding(call, relax.BlockBuilder().normalize), asked)
    return found


def _has_layouts(kernel: Kernel, asked: Attributes) -> bool:
    return (kernel.input_layout, kernel.output_layout) == (input_layout(asked), output_layout(asked))


def reads_narrow(recipes: Recipes, call: relax.Call) -> bool:
    """Return whether the kernel that a call will have reads weights of four bits as they are stored."""
    found = first_kernel(recipes, call, {})
    return found is not None and found[0].reads_narrow


def _smaller(recipe: Recipe, call: relax.Call, attributes: Attributes, coding: Coding) -> Kernel | None:
    """Return a recipe's kernel that multiplies in another way, and stores less for it, or None if there is none."""
    for product in recipe.space(call.args, attributes_of(call)).get("product", ()):
        kernel = recipe.lower(call.args, attributes, {"product": product})
        if kernel is not None and not _takes_more(kernel, call, coding):
            return kernel
    return None


def _takes_more(kernel: Kernel, call: relax.Call, coding: Coding) -> bool:
    own = stored_bytes(call.args, coding)
    return stored_bytes(kernel.arguments, coding) > max(MORE * own, own + MORE_BYTES)


def recipes_for(recipes: Recipes, call: relax.Call) -> list[Recipe]:
    """Return the recipes for a call's operator that take activations of its type."""
    named = recipes.get(call.op.name, ()) if isinstance(call.op, Op) else ()
    return [recipe for recipe in named if str(call.args[0].ty.dtype) == recipe.dtype]
