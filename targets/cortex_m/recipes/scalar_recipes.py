"""Recipes for cores without the DSP extension."""

from functools import partial

import numpy as np
from numpy.typing import NDArray

from tvm_tinyml.passes.apply_recipes import Recipes
from tvm_tinyml.targets.cortex_m.microkernels import scalar_output_short
from tvm_tinyml.targets.cortex_m.microkernels.output import Output
from tvm_tinyml.targets.cortex_m.recipes.channels import Channels, exact_channels
from tvm_tinyml.targets.cortex_m.recipes.dense import DenseGemm
from tvm_tinyml.targets.cortex_m.recipes.outliers import Fits, WithOutliers
from tvm_tinyml.targets.cortex_m.recipes.pad import Pad
from tvm_tinyml.targets.cortex_m.recipes.results import then
from tvm_tinyml.targets.cortex_m.recipes.scalar_conv import ScalarConv
from tvm_tinyml.targets.cortex_m.recipes.scalar_dense import ScalarDense
from tvm_tinyml.targets.cortex_m.recipes.scalar_depthwise import LongDepthwise, ScalarDepthwise, ShortDepthwise
from tvm_tinyml.targets.cortex_m.recipes.scalar_product import LongProduct, ScalarProduct, ShortProduct
from tvm_tinyml.targets.cortex_m.recipes.scalar_sum import ScalarSum, scalar_sum
from tvm_tinyml.targets.cortex_m.recipes.unpack import BY_THUMB1, BY_THUMB2, Unpack

INT8 = np.iinfo(np.int8)


def mainline_recipes(goal: str) -> Recipes:
    """Return the recipes of a build's goal, for cores with SMULL: see `_scalar`."""
    recipes = _scalar(goal, LongProduct(), LongDepthwise, exact_channels, _without_least_weight)
    return {**recipes, "tinyml.pad2d": (Pad(),), "tinyml.unpack": (Unpack(BY_THUMB2),)}


def baseline_recipes(goal: str) -> Recipes:
    """Return the recipes of a build's goal, for the Armv6-M: see `_scalar`."""
    recipes = _scalar(goal, ShortProduct(), ShortDepthwise, _short, _short)
    return {**recipes, "tinyml.unpack": (Unpack(BY_THUMB1),)}


def _scalar(
    goal: str,
    product: ScalarProduct,
    form: type[LongDepthwise] | type[ShortDepthwise],
    fits: Fits,
    fits_depthwise: Fits,
) -> Recipes:
    """Return recipes that multiply with words of two values. A build for small flash has none.

    Parameters
    ----------
    fits, fits_depthwise : which channels their epilogues can scale, and which weights a depthwise kernel takes.
    """
    if goal == "flash":
        return {}
    scratch_bytes = 1024 if goal == "ram" else 6144
    convolution, rows = ScalarConv(product, scratch_bytes), WithOutliers(ScalarDense(product), fits)

    def fits_products(channels: Channels, output: Output) -> NDArray[np.bool_]:
        """Two weights of -128 may stand side by side; whether they do, this order does not tell."""
        return np.asarray(fits(channels, output) & ((channels.weight == INT8.min).sum(axis=1) < 2))

    return {
        "tinyml.conv2d": (
            WithOutliers(ScalarDepthwise(form, scratch_bytes), fits_depthwise),
            WithOutliers(convolution, fits_products),
            rows,
        ),
        **then(convolution, partial(scalar_sum, "add", narrow=product.narrow), dsp=False),
        "tinyml.dense": (WithOutliers(DenseGemm(convolution), fits_products), rows),
        **{f"tinyml.{kind}": (ScalarSum(kind, narrow=product.narrow),) for kind in ("add", "subtract")},
    }


def _without_least_weight(channels: Channels, output: Output) -> NDArray[np.bool_]:
    return exact_channels(channels, output) & (channels.weight > INT8.min).all(axis=1)


def _short(channels: Channels, output: Output) -> NDArray[np.bool_]:
    scale = (channels.bias, channels.multiplier, channels.shift, channels.zero_point)
    return scalar_output_short.fitting(channels.weight, *scale, output.low, output.high)


__all__ = ["baseline_recipes", "mainline_recipes"]
