"""Recipes: kernels that are built from microkernels, each for the operators whose conditions it meets."""

from tvm_tinyml.passes.apply_recipes import Recipes
from tvm_tinyml.targets.cortex_m.microkernels.product import Product, RawHalves, WholeHalves
from tvm_tinyml.targets.cortex_m.recipes.conv_gemm import ConvGemm
from tvm_tinyml.targets.cortex_m.recipes.dense import DenseGemm, DenseRows


def single_issue_recipes(goal: str) -> Recipes:
    """Return the recipes of a build's goal, for cores that issue one instruction at a time: see `_dsp`."""
    return _dsp(goal, RawHalves())


def dual_issue_recipes(goal: str) -> Recipes:
    """Return the recipes of a build's goal, for cores that issue two instructions at a time: see `_dsp`."""
    return _dsp(goal, WholeHalves())


def _dsp(goal: str, product: Product) -> Recipes:
    """Return recipes for the DSP extension and floating-point registers, which hold what does not change in a loop.

    A build for small flash has none: the schedules make less code.
    """
    if goal == "flash":
        return {}
    scratch_bytes = 1024 if goal == "ram" else 6144
    convolution, rows = ConvGemm(product, scratch_bytes), DenseRows()
    return {"tinyml.conv2d": (convolution, rows), "tinyml.dense": (DenseGemm(convolution), rows)}


def no_recipes(_goal: str) -> Recipes:
    """Return none."""
    return {}


__all__ = ["dual_issue_recipes", "no_recipes", "single_issue_recipes"]
