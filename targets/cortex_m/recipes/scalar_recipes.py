"""Recipes for cores without the DSP extension."""

from tvm_tinyml.passes.apply_recipes import Recipes
from tvm_tinyml.targets.cortex_m.recipes.scalar_conv import ScalarConv
from tvm_tinyml.targets.cortex_m.recipes.scalar_depthwise import LongDepthwise, ScalarDepthwise, ShortDepthwise
from tvm_tinyml.targets.cortex_m.recipes.scalar_product import LongProduct, ScalarProduct, ShortProduct


def mainline_recipes(goal: str) -> Recipes:
    """Return the recipes of a build's goal, for cores with SMULL: see `_scalar`."""
    return _scalar(goal, LongProduct(), LongDepthwise)


def baseline_recipes(goal: str) -> Recipes:
    """Return the recipes of a build's goal, for the Armv6-M: see `_scalar`."""
    return _scalar(goal, ShortProduct(), ShortDepthwise)


def _scalar(goal: str, product: ScalarProduct, form: type[LongDepthwise] | type[ShortDepthwise]) -> Recipes:
    """Return recipes that multiply with words of two values. A build for small flash has none."""
    if goal == "flash":
        return {}
    scratch_bytes = 1024 if goal == "ram" else 6144
    return {"tinyml.conv2d": (ScalarDepthwise(form, scratch_bytes), ScalarConv(product, scratch_bytes))}


__all__ = ["baseline_recipes", "mainline_recipes"]
