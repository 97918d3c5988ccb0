"""A sum with another tensor belongs to the convolution before it."""

from __future__ import annotations

import tvm
from tvm import IRModule, relax
from tvm.ir import GenericConst
from tvm.ir.transform import PassContext

from tvm_tinyml.passes import integer_ops
from tvm_tinyml.passes.apply_recipes import Recipes
from tvm_tinyml.passes.callable_pass import CallablePass
from tvm_tinyml.passes.fused_convolutions import convolution_before, fused
from tvm_tinyml.passes.integer_ops import shape_of
from tvm_tinyml.passes.rewrite_calls import Graph, rewrite_calls

_SIDES = ("input1", "input2")


@tvm.transform.module_pass(opt_level=0, name="tinyml.FuseAdds")
class FuseAdds(CallablePass):
    """Rewrite ``add(conv2d(x), y)`` to ``conv2d_add(x, y)``, if nothing else reads the convolution's result.

    That result then exists a block of pixels at a time, and the sum may take the place of ``y``. Both have one shape.
    Where two convolutions are added, the one that is computed last is taken.

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
        if call.op != integer_ops.add.op or any(shape_of(argument) != shape_of(call) for argument in call.args):
            return call
        if any(isinstance(argument, GenericConst) for argument in call.args):
            return call
        last, other = sorted(call.args, key=graph.position, reverse=True)
        convolution = convolution_before(last, call, graph)
        if convolution is None:
            return call
        second = call if last == call.args[0] else _swapped(call)
        both = fused(convolution, second, [other], self._recipes)
        return call if both is None else both


def _swapped(call: relax.Call) -> relax.Call:
    """Return the same sum with its operands the other way round."""
    attributes = integer_ops.attributes_of(call)
    names = ("zero_point", "multiplier", "shift")
    other = {f"{a}_{n}": attributes[f"{b}_{n}"] for a, b in zip(_SIDES, reversed(_SIDES), strict=True) for n in names}
    return integer_ops.add(call.args[1], call.args[0], **{**attributes, **other})
