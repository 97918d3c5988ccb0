"""Recipes for cores with the DSP extension but without floating-point registers, or where they must not be used."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from tvm import relax

from tvm_tinyml.choice import NONE, Knobs, Space
from tvm_tinyml.passes.apply_recipes import Recipes
from tvm_tinyml.passes.integer_ops import Attributes
from tvm_tinyml.passes.kernels.kernel import Kernel, Recipe
from tvm_tinyml.passes.tensor_layouts import Layout
from tvm_tinyml.targets.assembly import assembly_of, c_of
from tvm_tinyml.targets.cortex_m.microkernels.on_the_stack import assembly_on_the_stack, c_on_the_stack


def on_the_stack(recipes: Recipes) -> Recipes:
    """Return the same recipes, with what their microkernels hold in floating-point registers on the stack."""
    return {operator: [_OnTheStack(recipe) for recipe in of_operator] for operator, of_operator in recipes.items()}


class _OnTheStack(Recipe):
    def __init__(self, recipe: Recipe) -> None:
        self._recipe = recipe

    @property
    def dtype(self) -> str:
        return self._recipe.dtype

    @property
    def name(self) -> str:
        return self._recipe.name

    def space(self, arguments: Sequence[relax.Expr], attributes: Attributes) -> Space:
        """See `Recipe.space`."""
        return self._recipe.space(arguments, attributes)

    def guard(self, arguments: Sequence[relax.Expr], attributes: Attributes) -> str:
        """See `Recipe.guard`."""
        return self._recipe.guard(arguments, attributes)

    def leaves_padding(self, arguments: Sequence[relax.Expr], attributes: Attributes) -> bool:
        """See `Recipe.leaves_padding`."""
        return self._recipe.leaves_padding(arguments, attributes)

    def reads(
        self, arguments: Sequence[relax.Expr], attributes: Attributes, knobs: Knobs = NONE
    ) -> tuple[Layout, int] | None:
        """See `Recipe.reads`."""
        return self._recipe.reads(arguments, attributes, knobs)

    def writes(
        self, arguments: Sequence[relax.Expr], attributes: Attributes, layout: Layout, knobs: Knobs = NONE
    ) -> int | None:
        """See `Recipe.writes`."""
        return self._recipe.writes(arguments, attributes, layout, knobs)

    def lower(self, arguments: Sequence[relax.Expr], attributes: Attributes, knobs: Knobs = NONE) -> Kernel | None:
        """See `Recipe.lower`."""
        kernel = self._recipe.lower(arguments, attributes, knobs)
        if kernel is None:
            return None
        texts = {
            "tinyml.assembly": {name: assembly_on_the_stack(text) for name, text in assembly_of(kernel.func).items()},
            "tinyml.c": {name: c_on_the_stack(text) for name, text in c_of(kernel.func).items()},
        }
        return dataclasses.replace(kernel, func=kernel.func.with_attr(texts))
