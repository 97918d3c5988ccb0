"""Recipes for cores with Helium."""

from functools import partial

import numpy as np
from numpy.typing import NDArray

from tvm_tinyml.passes.apply_recipes import Recipes
from tvm_tinyml.targets.cortex_m.microkernels import helium_depthwise
from tvm_tinyml.targets.cortex_m.microkernels.output import Output
from tvm_tinyml.targets.cortex_m.recipes.channels import Channels, exact_channels
from tvm_tinyml.targets.cortex_m.recipes.elementwise import Sum, affine_sum
from tvm_tinyml.targets.cortex_m.recipes.helium_conv import HeliumConv, HeliumDense
from tvm_tinyml.targets.cortex_m.recipes.helium_depthwise import HeliumDepthwise
from tvm_tinyml.targets.cortex_m.recipes.outliers import WithOutliers
from tvm_tinyml.targets.cortex_m.recipes.pad import Pad
from tvm_tinyml.targets.cortex_m.recipes.pool import AveragePool, LargestPool, Mean
from tvm_tinyml.targets.cortex_m.recipes.results import then
from tvm_tinyml.targets.cortex_m.recipes.unpack import BY_DSP, Unpack


def helium_recipes(goal: str) -> Recipes:
    """Return the recipes of a build's goal; one for small flash has few.

    What has no recipe with Helium yet has that of the DSP extension, which every core with Helium comes with.
    """
    moves = {"tinyml.pad2d": (Pad(),), "tinyml.unpack": (Unpack(BY_DSP),)}
    if goal == "flash":
        return moves
    convolution = HeliumConv(1024 if goal == "ram" else 4096)
    return {
        **moves,
        "tinyml.conv2d": (WithOutliers(HeliumDepthwise(), _depthwise_fits), WithOutliers(convolution)),
        **then(convolution, partial(affine_sum, "add"), dsp=True),
        "tinyml.dense": (WithOutliers(HeliumDense()),),
        "tinyml.add": (Sum("add"),),
        "tinyml.subtract": (Sum("subtract"),),
        "tinyml.avg_pool2d": (AveragePool("avg_pool2d"),),
        "tinyml.mean_pool2d": (AveragePool("mean_pool2d"),),
        "tinyml.max_pool2d": (LargestPool(),),
        "tinyml.mean": (Mean(),),
    }


def _depthwise_fits(channels: Channels, output: Output) -> NDArray[np.bool_]:
    return exact_channels(channels, output) & helium_depthwise.fitting(channels.weight)
