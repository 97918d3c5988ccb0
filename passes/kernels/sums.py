"""How large the sums of a layer can become."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tvm_tinyml.arithmetic import RANGES


def largest_sum(weight: NDArray[np.generic], bias: NDArray[np.generic], dtype: str = "int8") -> int:
    """Return the largest magnitude of a sum of inputs of a type times `weight` [O, ...] plus `bias` [O]."""
    return int(largest_sums(weight, bias, dtype).max())


def largest_sums(
    weight: NDArray[np.generic], bias: NDArray[np.generic], dtype: str = "int8"
) -> NDArray[np.int64]:
    """Return for each channel the largest magnitude of such a sum, [O]."""
    low, high = sum_bounds(weight, bias, dtype)
    return np.asarray(np.maximum(np.abs(high), np.abs(low)))


def sum_bounds(
    weight: NDArray[np.generic], bias: NDArray[np.generic], dtype: str = "int8"
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return for each channel the least and the largest of such sums, [O]."""
    flat, start = weight.reshape(weight.shape[0], -1).astype(np.int64), bias.astype(np.int64)
    positive, negative = np.maximum(flat, 0).sum(axis=1), np.minimum(flat, 0).sum(axis=1)
    low, high = RANGES[dtype]
    return start + low * positive + high * negative, start + high * positive + low * negative
