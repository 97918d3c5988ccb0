"""Recipes for cores with Helium."""

from tvm_tinyml.passes.apply_recipes import Recipes
from tvm_tinyml.targets.cortex_m.recipes.elementwise import Sum
from tvm_tinyml.targets.cortex_m.recipes.helium_conv import HeliumConv, HeliumDense
from tvm_tinyml.targets.cortex_m.recipes.helium_depthwise import HeliumDepthwise
from tvm_tinyml.targets.cortex_m.recipes.pool import AveragePool, LargestPool, Mean


def helium_recipes(goal: str) -> Recipes:
    """Return the recipes of a build's goal; one for small flash has none.

    What has no recipe with Helium yet has that of the DSP extension, which every core with Helium comes with.
    """
    if goal == "flash":
        return {}
    return {
        "tinyml.conv2d": (HeliumDepthwise(), HeliumConv(1024 if goal == "ram" else 4096)),
        "tinyml.dense": (HeliumDense(),),
        "tinyml.add": (Sum("add"),),
        "tinyml.subtract": (Sum("subtract"),),
        "tinyml.avg_pool2d": (AveragePool("avg_pool2d"),),
        "tinyml.mean_pool2d": (AveragePool("mean_pool2d"),),
        "tinyml.max_pool2d": (LargestPool(),),
        "tinyml.mean": (Mean(),),
    }
