"""Recipes: kernels that are built from microkernels, each for the operators whose conditions it meets."""

from collections.abc import Callable

from tvm_tinyml.passes.apply_recipes import Recipes
from tvm_tinyml.targets.cortex_m.microkernels.product import Product, RawHalves, WholeHalves
from tvm_tinyml.targets.cortex_m.recipes.conv_gemm import ConvGemm
from tvm_tinyml.targets.cortex_m.recipes.dense import DenseGemm, DenseRows
from tvm_tinyml.targets.cortex_m.recipes.depthwise import Depthwise
from tvm_tinyml.targets.cortex_m.recipes.elementwise import Sum
from tvm_tinyml.targets.cortex_m.recipes.pool import AveragePool, LargestPool, Mean
from tvm_tinyml.targets.cortex_m.recipes.winograd import Winograd

WINOGRAD_BYTES = {"time": 48 * 1024, "balanced": 24 * 1024}
"""Scratch that a build's goal allows for Winograd's transforms."""

SHORT_SUM = 24
"""Products up to which the epilogue of whole halves makes up for their loads."""


def single_issue_recipes(goal: str) -> Recipes:
    """Return the recipes of a build's goal, for cores that issue one instruction at a time: see `_dsp`."""
    raw, whole = RawHalves(), WholeHalves(mixed=False)
    return _dsp(goal, lambda products: raw if products > SHORT_SUM else whole, mixed=False)


def dual_issue_recipes(goal: str) -> Recipes:
    """Return the recipes of a build's goal, for cores that issue two instructions at a time: see `_dsp`."""
    whole = WholeHalves(mixed=True)
    return _dsp(goal, lambda _products: whole, mixed=True)


def _dsp(goal: str, products: Callable[[int], Product], *, mixed: bool) -> Recipes:
    """Return recipes for the DSP extension and floating-point registers, which hold what does not change in a loop.

    A build for small flash has none: the schedules make less code.
    """
    if goal == "flash":
        return {}
    scratch_bytes = 1024 if goal == "ram" else 6144
    convolution, rows = ConvGemm(products, scratch_bytes), DenseRows()
    winograd = [Winograd(WINOGRAD_BYTES[goal], mixed=mixed)] if goal in WINOGRAD_BYTES else []
    return {
        "tinyml.conv2d": (Depthwise(2048 if goal == "ram" else 10240), *winograd, convolution, rows),
        "tinyml.dense": (DenseGemm(convolution), rows),
        "tinyml.add": (Sum("add"),),
        "tinyml.subtract": (Sum("subtract"),),
        "tinyml.avg_pool2d": (AveragePool("avg_pool2d"),),
        "tinyml.mean_pool2d": (AveragePool("mean_pool2d"),),
        "tinyml.max_pool2d": (LargestPool(),),
        "tinyml.mean": (Mean(),),
    }


__all__ = ["dual_issue_recipes", "single_issue_recipes"]
