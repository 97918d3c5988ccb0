"""Recipes: kernels that are built from microkernels, each for the operators whose conditions it meets."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from tvm_tinyml.passes.apply_recipes import Recipes
from tvm_tinyml.passes.kernels.kernel import Recipe
from tvm_tinyml.targets.cortex_m.microkernels.product import Product, RawHalves, WholeHalves
from tvm_tinyml.targets.cortex_m.recipes.conv_gemm import ConvGemm
from tvm_tinyml.targets.cortex_m.recipes.dense import DenseGemm, DenseRows
from tvm_tinyml.targets.cortex_m.recipes.dense_narrow import DenseNarrow
from tvm_tinyml.targets.cortex_m.recipes.depthwise import Depthwise
from tvm_tinyml.targets.cortex_m.recipes.depthwise_words import DepthwiseWords
from tvm_tinyml.targets.cortex_m.recipes.elementwise import Sum, affine_sum
from tvm_tinyml.targets.cortex_m.recipes.int16_product import Int16Product
from tvm_tinyml.targets.cortex_m.recipes.outliers import WithOutliers
from tvm_tinyml.targets.cortex_m.recipes.pad import Pad
from tvm_tinyml.targets.cortex_m.recipes.pool import AveragePool, LargestPool, Mean
from tvm_tinyml.targets.cortex_m.recipes.results import then
from tvm_tinyml.targets.cortex_m.recipes.unpack import BY_DSP, Unpack
from tvm_tinyml.targets.cortex_m.recipes.winograd import Winograd


@dataclass(frozen=True)
class ScratchBytes:
    """What a build's goal allows kernels beside tensors, in bytes.

    Attributes
    ----------
    winograd : for transforms; 0 for none.
    windows : packed windows of convolutions.
    planes : of depthwise convolutions.
    row : a row of a dense layer, widened.
    """

    winograd: int
    windows: int
    planes: int
    row: int


SCRATCH_BYTES = {
    "time": ScratchBytes(48 * 1024, 6144, 10240, 1 << 30),
    "balanced": ScratchBytes(16 * 1024, 6144, 4096, 1 << 30),
    "ram": ScratchBytes(0, 1024, 2048, 1024),
}
"""By goal."""

Products = Mapping[str, Product]
"""Ways to multiply by name."""

SHORT_SUM = 24
"""Products up to which the epilogue of whole halves makes up for their loads, where these take two cycles."""


def single_issue_recipes(goal: str) -> Recipes:
    """Return the recipes of a build's goal, for cores that issue one instruction at a time: see `_dsp`."""
    return _one_at_a_time(goal, of_tiles=("raw", "whole"))


def short_load_recipes(goal: str) -> Recipes:
    """Return the same for cores on which a load takes one cycle.

    There products of halves are faster where flash does not wait for their weights, which are twice as large: a tuning
    log decides. Tensors are not laid out for the others.
    """
    return _one_at_a_time(goal, of_tiles=("whole",))


def _one_at_a_time(goal: str, of_tiles: Sequence[str]) -> Recipes:
    products: Products = {"raw": RawHalves(), "whole": WholeHalves(mixed=False)}

    def choose(length: int, shared: bool) -> str:
        return "raw" if shared or length > SHORT_SUM else "whole"

    return _dsp(goal, products, choose, mixed=False, of_tiles=of_tiles)


def dual_issue_recipes(goal: str) -> Recipes:
    """Return the recipes of a build's goal, for cores that issue two instructions at a time: see `_dsp`."""
    products: Products = {"raw": RawHalves(), "whole": WholeHalves(mixed=True)}
    return _dsp(goal, products, lambda _length, _shared: "whole", mixed=True, of_tiles=("whole",))


def _dsp(
    goal: str,
    products: Products,
    choose: Callable[[int, bool], str],
    *,
    mixed: bool,
    of_tiles: Sequence[str],
) -> Recipes:
    """Return recipes for the DSP extension and floating-point registers, which hold what does not change in a loop.

    A build for small flash has few: the schedules make less code.

    Parameters
    ----------
    of_tiles : products whose packed pixels a tensor may be: see `ConvGemm`.
    """
    moves = {"tinyml.pad2d": (Pad(),), "tinyml.unpack": (Unpack(BY_DSP),)}
    if goal == "flash":
        return moves
    scratch = SCRATCH_BYTES[goal]
    convolution, rows = ConvGemm(products, choose, scratch.windows, of_tiles), DenseRows(scratch.row)
    narrow = DenseNarrow()
    winograd = [Winograd(scratch.winograd, mixed=mixed)] if scratch.winograd else []
    of_int16 = Int16Product(scratch.windows)
    depthwise = (DepthwiseWords(mixed=mixed), Depthwise(scratch.planes))
    convolutions: Sequence[Recipe] = (*depthwise, *winograd, convolution, rows)
    return {
        **moves,
        "tinyml.conv2d": [narrow, *(WithOutliers(recipe) for recipe in convolutions), of_int16],
        "tinyml.dense": (narrow, WithOutliers(DenseGemm(convolution)), WithOutliers(rows), of_int16),
        **then(convolution, partial(affine_sum, "add"), dsp=True),
        "tinyml.add": (Sum("add"),),
        "tinyml.subtract": (Sum("subtract"),),
        "tinyml.avg_pool2d": (AveragePool("avg_pool2d"),),
        "tinyml.mean_pool2d": (AveragePool("mean_pool2d"),),
        "tinyml.max_pool2d": (LargestPool(),),
        "tinyml.mean": (Mean(),),
    }


__all__ = ["dual_issue_recipes", "short_load_recipes", "single_issue_recipes"]
