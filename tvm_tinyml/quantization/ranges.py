"""Which numbers the integers of each tensor reach over."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tvm import IRModule, relax

from tvm_tinyml.passes.insert_quantization import Activation
from tvm_tinyml.quantization.observers import OBSERVERS, Range
from tvm_tinyml.quantization.scheme import Shared, activation
from tvm_tinyml.quantization.sensitivity import Sensitivity
from tvm_tinyml.quantization.statistics import Statistics, merged

MEASURED = "measured"
"""Instead of an observer's name: each tensor gets the range of that observer whose error at the outputs is least."""

SAMPLES = 32
"""That errors are measured on at most."""

Ranges = dict[tuple[str, ...], Range]
"""By `Shared.names`."""


def ranges_of(
    module: IRModule,
    inputs: Sequence[NDArray[Any]],
    statistics: Mapping[str, Statistics],
    tensors: Sequence[Shared],
    observer: str,
    dtype: str,
) -> Ranges:
    """Return the range of all tensors that have none by themselves.

    Parameters
    ----------
    statistics : by the names of tensors.
    observer : one of `OBSERVERS`, or `MEASURED`.
    """
    levels = 2 ** (8 * np.dtype(dtype).itemsize)
    free = [each for each in tensors if not each.fixed]
    whole = {each.names: merged([statistics[name] for name in each.sources]) for each in free}
    if observer != MEASURED:
        return {names: OBSERVERS[observer](each, levels) for names, each in whole.items()}
    sensitivity = Sensitivity(module, [array[:SAMPLES] for array in inputs])
    variables = _variables(module)
    found: Ranges = {}
    for each in free:
        candidates = list(dict.fromkeys(observe(whole[each.names], levels) for observe in OBSERVERS.values()))

        def noise(bounds: Range, each: Shared = each) -> float:
            rounded = rounding(activation(bounds, dtype))
            return sensitivity.noise({variables[name]: rounded for name in each.sources})

        found[each.names] = min(candidates, key=noise)
    return found


def rounding(to: Activation) -> Callable[[NDArray[Any]], NDArray[Any]]:
    """Return the function from numbers to those that their integers stand for."""
    limits, scale = np.iinfo(to.dtype), np.float32(to.scale)

    def round_to_integers(array: NDArray[Any]) -> NDArray[Any]:
        integers = np.clip(np.round(array / scale) + to.zero_point, limits.min, limits.max)
        rounded: NDArray[Any] = ((integers - to.zero_point) * scale).astype(np.float32)
        return rounded

    return round_to_integers


def _variables(module: IRModule) -> dict[str, relax.Var]:
    main = module["main"]
    bound = [binding.var for block in main.body.blocks for binding in block.bindings]
    return {str(var.name): var for var in (*main.params, *bound) if var.name != "real"}
