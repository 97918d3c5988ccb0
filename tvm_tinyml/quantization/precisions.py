"""What each layer would take with weights and activations of other precisions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from numpy.typing import NDArray

from tvm_tinyml.errors import ModelError, TargetError
from tvm_tinyml.passes.float_groups import groups
from tvm_tinyml.passes.integer_ops import shape_of
from tvm_tinyml.quantization.attempt import Attempt, Way, best_attempt
from tvm_tinyml.quantization.costs import Cost
from tvm_tinyml.quantization.grids import weight_bytes
from tvm_tinyml.quantization.mixed import all_narrow
from tvm_tinyml.quantization.report import Precision


def precisions(
    chosen: Attempt, inputs: Sequence[NDArray[Any]], cost: Callable[[Attempt], Cost | None], *, narrow: bool = True
) -> dict[str, list[Precision]]:
    """Return what each layer takes where the network is ``int8``, ``w4`` and ``int16x8``.

    A precision for which an operator or the target has no kernel is left out.

    Parameters
    ----------
    chosen : what was chosen; of its own precision it is the example.
    inputs : samples; other precisions are tried on one of them, since only their size is wanted.
    cost : what an attempt takes on the target, if there is one.
    narrow : whether the target has kernels for weights of four bits.

    Returns
    -------
    By the names of the layers.
    """
    layers = [group for group in groups(chosen.module["main"]) if group.is_layer]
    grid = chosen.way.narrow
    found: dict[str, list[Precision]] = {layer.name: [] for layer in layers}
    for recipe, dtype, bits in (
        ("int8", "int8", {}),
        *([("w4", "int8", all_narrow(chosen.module))] if narrow else []),
        ("int16x8", "int16", {}),
    ):
        way = Way(dtype, corrects=False, narrow=grid, bits=bits, learns=False)
        is_chosen = (chosen.way.dtype, chosen.way.bits) == (dtype, bits)
        one = [array[:1] for array in inputs]
        attempt = chosen if is_chosen else best_attempt(chosen.module, one, "min-max", way)
        try:
            taken = cost(attempt)
        except (ModelError, TargetError):
            continue
        for layer in layers:
            size = weight_bytes(shape_of(layer.weight), bits.get(layer.name, 8), grid)
            own = taken.of(layer.name) if taken else None
            rest = (own.constant_bytes, own.cycles) if own else ()
            found[layer.name].append(Precision(recipe, size, *rest))
    return found
