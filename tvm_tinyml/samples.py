"""The documented input that every figure is measured with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tvm_tinyml.arrays import TensorInfo


def xorshift_bytes(count: int) -> NDArray[np.int8]:
    """Return the documented input of benchmarks: the low bytes of xorshift32 from state 1 (shifts 13, 17, 5)."""
    state, result = 1, np.zeros(count, np.uint8)
    for i in range(count):
        state ^= state << 13 & 0xFFFFFFFF
        state ^= state >> 17
        state ^= state << 5 & 0xFFFFFFFF
        result[i] = state & 0xFF
    return result.view(np.int8)


def sample_inputs(tensors: Sequence[TensorInfo]) -> dict[str, NDArray[Any]]:
    """Return one array for each of a library's inputs, by name: one stream of `xorshift_bytes` over all of them."""
    sizes = [t["size_bytes"] for t in tensors]
    stream = np.split(xorshift_bytes(sum(sizes)), np.cumsum(sizes)[:-1])
    return {
        t["name"]: part.view(np.dtype(t["dtype"])).reshape(t["shape"]) for t, part in zip(tensors, stream, strict=True)
    }
