"""Recipes for cores without the DSP extension."""

from tvm_tinyml.passes.apply_recipes import Recipes
from tvm_tinyml.targets.cortex_m.recipes.dense import DenseGemm
from tvm_tinyml.targets.cortex_m.recipes.scalar_conv import ScalarConv
from tvm_tinyml.targets.cortex_m.recipes.scalar_dense import ScalarDense
from tvm_tinyml.targets.cortex_m.recipes.scalar_depthwise import LongDepthwise, ScalarDepthwise, ShortDepthwise
from tvm_tinyml.targets.cortex_m.recipes.scalar_product import LongProduct, ScalarProduct, ShortProduct
from tvm_tinyml.targets.cortex_m.recipes.scalar_sum import ScalarSum


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
    convolution, rows = ScalarConv(product, scratch_bytes), ScalarDense(product)
    return {
        "tinyml.conv2d": (ScalarDepthwise(form, scratch_bytes), convolution, rows),
        "tinyml.dense": (DenseGemm(convolution), rows),
        **{f"tinyml.{kind}": (ScalarSum(kind, narrow=product.narrow),) for kind in ("add", "subtract")},
    }


__all__ = ["baseline_recipes", "mainline_recipes"]
