"""What each layer would take with weights and activations of other precisions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from numpy.typing import NDArray

from tvm_tinyml.errors import ModelError
from tvm_tinyml.passes.float_groups import groups
from tvm_tinyml.passes.integer_ops import shape_of
from tvm_tinyml.quantization.attempt import Attempt, Way, best_attempt
from tvm_tinyml.quantization.costs import Cost
from tvm_tinyml.quantization.grids import weight_bytes
from tvm_tinyml.quantization.mixed import Bits, all_narrow
from tvm_tinyml.quantization.progress import Progress, counted, silent
from tvm_tinyml.quantization.report import Precision


def precisions(
    chosen: Attempt,
    inputs: Sequence[NDArray[Any]],
    cost: Callable[[Attempt], Cost] | None,
    progress: Progress = silent,
) -> dict[str, list[Precision]]:
    """Return what each layer takes where the network is ``int8``, ``w4`` and ``int16x8``.

    A precision for which an operator has no kernel is left out.

    Parameters
    ----------
    chosen : what was chosen; of its own precision it is the example.
    inputs : samples; other precisions are tried on one of them, since only their size is wanted.
    cost : what an attempt takes on the target; None without one.

    Returns
    -------
    By the names of the layers.
    """
    layers = [group for group in groups(chosen.module["main"]) if group.is_layer]
    grid = chosen.way.narrow
    found: dict[str, list[Precision]] = {layer.name: [] for layer in layers}
    narrow = all_narrow(chosen.module)
    ways: list[tuple[str, str, Bits]] = [("int8", "int8", {}), ("w4", "int8", narrow), ("int16x8", "int16", {})]
    for recipe, dtype, bits in counted(ways, "precisions", progress):
        try:
            taken = cost(_attempt(chosen, inputs, dtype, bits)) if cost else None
        except ModelError:
            continue
        for layer in layers:
            size = weight_bytes(shape_of(layer.weight), bits.get(layer.name, 8), grid)
            own = taken.of(layer.name, found) if taken else None
            rest = (own.constant_bytes, own.cycles) if own else ()
            found[layer.name].append(Precision(recipe, size, *rest))
    return found


def _attempt(chosen: Attempt, inputs: Sequence[NDArray[Any]], dtype: str, bits: Bits) -> Attempt:
    if (chosen.way.dtype, chosen.way.bits) == (dtype, bits):
        return chosen
    way = Way(dtype, corrects=False, narrow=chosen.way.narrow, bits=bits, learns=False)
    return best_attempt(chosen.module, [array[:1] for array in inputs], "min-max", way)
