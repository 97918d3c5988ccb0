"""Recipes: kernels that are built from microkernels, each for the operators whose conditions it meets."""

from tvm_tinyml.passes.apply_recipes import Recipes
from tvm_tinyml.targets.cortex_m.recipes.conv_gemm import ConvGemm
from tvm_tinyml.targets.cortex_m.recipes.dense import DenseGemm, DenseRows


def dsp_recipes(goal: str) -> Recipes:
    """Return the recipes of a build's goal, for cores with the DSP extension and floating-point registers.

    The registers hold what does not change in a loop. A build for small flash has none: the schedules make less code.
    """
    if goal == "flash":
        return {}
    scratch_bytes = 1024 if goal == "ram" else 6144
    product, rows = ConvGemm(scratch_bytes), DenseRows()
    return {"tinyml.conv2d": (product, rows), "tinyml.dense": (DenseGemm(product), rows)}


def no_recipes(_goal: str) -> Recipes:
    """Return none."""
    return {}


__all__ = ["dsp_recipes", "no_recipes"]
