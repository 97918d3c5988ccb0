"""An average over the whole image belongs to the convolution before it."""

from __future__ import annotations

from collections.abc import Sequence

import tvm
from tvm import IRModule, relax
from tvm.ir.transform import PassContext

from tvm_tinyml.passes import integer_ops
from tvm_tinyml.passes.apply_recipes import Recipes
from tvm_tinyml.passes.callable_pass import CallablePass
from tvm_tinyml.passes.fused_convolutions import convolution_before, fused
from tvm_tinyml.passes.integer_ops import Attributes, attributes_of, shape_of
from tvm_tinyml.passes.rewrite_calls import Graph, rewrite_calls

_AVERAGES = (integer_ops.avg_pool2d.op, integer_ops.mean_pool2d.op, integer_ops.mean.op)


@tvm.transform.module_pass(opt_level=0, name="tinyml.FusePools")
class FusePools(CallablePass):
    """Rewrite ``avg_pool2d(conv2d(x))`` to ``conv2d_avg_pool2d(x)`` where the window is the whole image.

    So are `mean_pool2d` and `mean`. Sums of int8 are exact in any order, and there is one rounding behind the last
    pixel, so that no byte changes, while the image exists a block of pixels at a time. Nothing else may read it.

    Parameters
    ----------
    recipes : a target's. The convolution must have a kernel that can do it.
    """

    def __init__(self, recipes: Recipes) -> None:
        self._recipes = recipes

    def transform_module(self, mod: IRModule, _ctx: PassContext) -> IRModule:
        """Return a new module, or `mod` where nothing changes."""
        return rewrite_calls(mod, self._fuse)

    def _fuse(self, call: relax.Call, graph: Graph) -> relax.Expr:
        if call.op not in _AVERAGES or not covers(shape_of(call.args[0]), attributes_of(call)):
            return call
        convolution = convolution_before(call.args[0], call, graph)
        if convolution is None:
            return call
        both = fused(convolution, call, [], self._recipes)
        return call if both is None else both


def covers(image: Sequence[int], attributes: Attributes) -> bool:
    """Return whether a pool or a mean makes one number of each channel of an image [1, H, W, C].

    >>> covers([1, 5, 4, 8], {"pool_size": [5, 4], "padding": [0, 0, 0, 0]})
    True
    >>> covers([1, 5, 4, 8], {"axes": [1, 2, 3]})
    False
    """
    if len(image) != 4 or image[0] != 1:
        return False
    if "axes" in attributes:
        return sorted(attributes["axes"]) == [1, 2]
    return list(attributes["pool_size"]) == list(image[1:3]) and not any(attributes["padding"])
