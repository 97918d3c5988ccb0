"""A convolution and the operator that reads its result as one: what the passes that fuse them share."""

from __future__ import annotations

from collections.abc import Sequence

from tvm import relax

from tvm_tinyml.passes import integer_ops
from tvm_tinyml.passes.apply_recipes import Recipes, first_kernel_of_either
from tvm_tinyml.passes.choose_kernels import choice_of, with_choice
from tvm_tinyml.passes.integer_ops import CONV2D_THEN, attributes_of
from tvm_tinyml.passes.lower_to_kernels import LOWERINGS
from tvm_tinyml.passes.pack_weights import coding_of_layer
from tvm_tinyml.passes.rewrite_calls import Graph
from tvm_tinyml.passes.steps import Steps


def convolution_before(tensor: relax.Expr, reader: relax.Call, graph: Graph) -> relax.Call | None:
    """Return the convolution that computes a tensor of int8, if one does and only `reader` reads the tensor.

    Neither may read or write channels of wider tensors.
    """
    call = graph.producer(tensor)
    if call is None or call.op != integer_ops.conv2d.op or not graph.is_read_once(tensor):
        return None
    steps = Steps(graph.main)
    return None if str(tensor.ty.dtype) != "int8" or steps.asked(call) or steps.asked(reader) else call


def fused(
    convolution: relax.Call, second: relax.Call, others: Sequence[relax.Expr], recipes: Recipes
) -> relax.Call | None:
    """Return the one operator, or None if the kernel that the convolution has alone cannot compute both.

    Nor can it with weights of four bits that are to be unpacked.

    Parameters
    ----------
    others : operands of the second beside the convolution's result.
    """
    if coding_of_layer(convolution):
        return None
    attributes = attributes_of(convolution) | integer_ops.then(attributes_of(second))
    both = CONV2D_THEN[second.op.name](*convolution.args, *others, **attributes)
    both = with_choice(both, choice_of(convolution))
    alone = _recipe_of(convolution, recipes)
    fits = both.op.name in LOWERINGS if alone is None else _recipe_of(both, recipes) == alone
    return both if fits else None


def _recipe_of(call: relax.Call, recipes: Recipes) -> str | None:
    """Return the name of the recipe that will take a convolution, with its padding or when that is split off."""
    found = first_kernel_of_either(recipes, call, {})
    return None if found is None else found[1].name
