"""Recipes: kernels that are built from microkernels, each for the operators whose conditions it meets."""

from tvm_tinyml.passes.apply_recipes import Recipes
from tvm_tinyml.targets.cortex_m.recipes.conv_gemm import ConvGemm

DSP_RECIPES: Recipes = {"tinyml.conv2d": (ConvGemm(),)}
"""For cores with the DSP extension and floating-point registers, which hold what does not change in a loop."""

__all__ = ["DSP_RECIPES"]
