"""Which numbers the integers of each tensor reach over."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tvm_tinyml.passes.insert_quantization import Activation
from tvm_tinyml.quantization.observers import Observer, Range
from tvm_tinyml.quantization.scheme import Shared
from tvm_tinyml.quantization.statistics import Statistics, merged

ALIKE = 0.01
"""Of their length: ranges whose ends differ by less are not worth a comparison."""

Ranges = dict[tuple[str, ...], Range]
"""By `Shared.names`."""


def ranges_of(
    statistics: Mapping[str, Statistics], tensors: Sequence[Shared], observer: Observer, levels: int
) -> Ranges:
    """Return the range that an observer finds for all tensors whose quantization is not fixed.

    Parameters
    ----------
    statistics : by the names of tensors.
    levels : integers of a tensor.
    """
    return {
        each.names: observer(merged([statistics[name] for name in each.sources]), levels)
        for each in tensors
        if not each.fixed
    }


def candidates(found: Sequence[Ranges], names: tuple[str, ...]) -> list[Range]:
    """Return the ranges of a tensor that different observers found, those that differ."""
    kept: list[Range] = []
    for ranges in found:
        low, high = ranges[names]
        if all(max(abs(low - a), abs(high - b)) > ALIKE * (b - a) for a, b in kept):
            kept.append((low, high))
    return kept


def rounding(to: Activation) -> Callable[[NDArray[Any]], NDArray[Any]]:
    """Return the function from numbers to those that their integers stand for."""
    limits, scale = np.iinfo(to.dtype), np.float32(to.scale)

    def round_to_integers(array: NDArray[Any]) -> NDArray[Any]:
        integers = np.clip(np.round(array / scale) + to.zero_point, limits.min, limits.max)
        rounded: NDArray[Any] = ((integers - to.zero_point) * scale).astype(np.float32)
        return rounded

    return round_to_integers


