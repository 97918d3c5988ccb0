"""What the windows of convolutions and pools see."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from numpy.typing import NDArray

from tvm_tinyml.errors import ModelError


def windows(
    x: NDArray[Any], kernel: tuple[int, int], strides: tuple[int, int], dilation: tuple[int, int], name: str
) -> Iterator[NDArray[Any]]:
    """For each position in the window, row by row, the strided view of the elements it meets: [N, OH, OW, C]."""
    sizes = [
        (have - (k - 1) * d - 1) // s + 1 for have, k, s, d in zip(x.shape[1:3], kernel, strides, dilation, strict=True)
    ]
    if min(sizes) < 1:
        raise ModelError(
            f"{name}: a window of {kernel} with dilation {dilation} is larger than the padded input {x.shape[1:3]}. "
            "Use SAME padding."
        )
    for i in range(kernel[0]):
        rows = slice(i * dilation[0], i * dilation[0] + (sizes[0] - 1) * strides[0] + 1, strides[0])
        for j in range(kernel[1]):
            columns = slice(j * dilation[1], j * dilation[1] + (sizes[1] - 1) * strides[1] + 1, strides[1])
            yield x[:, rows, columns]
