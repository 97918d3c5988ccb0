"""Recipes for cores without the DSP extension."""

from tvm_tinyml.passes.apply_recipes import Recipes
from tvm_tinyml.targets.cortex_m.recipes.scalar_conv import ScalarConv
from tvm_tinyml.targets.cortex_m.recipes.scalar_product import LongProduct, ScalarProduct, ShortProduct


def mainline_recipes(goal: str) -> Recipes:
    """Return the recipes of a build's goal, for cores with SMULL: see `_scalar`."""
    return _scalar(goal, LongProduct())


def baseline_recipes(goal: str) -> Recipes:
    """Return the recipes of a build's goal, for the Armv6-M: see `_scalar`."""
    return _scalar(goal, ShortProduct())


def _scalar(goal: str, product: ScalarProduct) -> Recipes:
    """Return recipes that multiply with words of two values. A build for small flash has none."""
    if goal == "flash":
        return {}
    return {"tinyml.conv2d": (ScalarConv(product, 1024 if goal == "ram" else 6144),)}


__all__ = ["baseline_recipes", "mainline_recipes"]
