"""Operators that move values without changing them. They take any type; zero points matter only as fill values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tvm_tinyml.arithmetic import nearest_indices
from tvm_tinyml.errors import ModelError

Array = NDArray[Any]


def pad(x: Array, paddings: Sequence[tuple[int, int]], value: int) -> Array:
    """Put ``value`` around x: (before, after) elements for each axis. PAD uses the output's zero point."""
    return np.pad(x, paddings, constant_values=value)


def reshape(x: Array, shape: Sequence[int]) -> Array:
    """Give x another shape, row-major; one size may be -1."""
    return x.reshape(tuple(shape))


def concat(xs: Sequence[Array], axis: int) -> Array:
    """Join arrays along an axis."""
    return np.concatenate(xs, axis=axis)


def split(x: Array, sizes: Sequence[int], axis: int) -> list[Array]:
    """Cut x along an axis into pieces of the given sizes.

    Raises
    ------
    ModelError : the sizes do not add up to the axis.
    """
    if sum(sizes) != x.shape[axis]:
        raise ModelError(
            f"split: sizes {list(sizes)} add up to {sum(sizes)}, axis {axis} has {x.shape[axis]} elements."
        )
    return np.split(x, np.cumsum(sizes)[:-1], axis=axis)


def strided_slice(
    x: Array,
    begin: Sequence[int],
    end: Sequence[int],
    strides: Sequence[int],
    begin_mask: int = 0,
    end_mask: int = 0,
    shrink_axis_mask: int = 0,
) -> Array:
    """Take every stride-th element of each axis from begin up to, without, end.

    Parameters
    ----------
    begin, end, strides : one per axis of x; negative positions count from the end, those outside are clamped.
    begin_mask, end_mask : bit i set: ignore begin or end of axis i, start or stop at the border.
    shrink_axis_mask : bit i set: take the one element at begin and remove axis i.

    Source: TFLM strided_slice_logic.h.
    """
    index: list[int | slice] = []
    for i, (first, last, step) in enumerate(zip(begin, end, strides, strict=True)):
        bit = 1 << i
        if shrink_axis_mask & bit:
            index.append(first)
        else:
            index.append(slice(None if begin_mask & bit else first, None if end_mask & bit else last, step))
    return x[tuple(index)]


def transpose(x: Array, order: Sequence[int]) -> Array:
    """Reorder axes: axis i of the result is axis ``order[i]`` of x."""
    return np.ascontiguousarray(x.transpose(order))


def resize_nearest(
    x: Array, size: tuple[int, int], align_corners: bool = False, half_pixel_centers: bool = False
) -> Array:
    """Resize int8[N, H, W, C] to a height and width by picking the nearest element.

    Source: TFLM resize_nearest_neighbor.h, see `tvm_tinyml.arithmetic.nearest_indices`.
    """
    rows = nearest_indices(x.shape[1], size[0], align_corners, half_pixel_centers)
    columns = nearest_indices(x.shape[2], size[1], align_corners, half_pixel_centers)
    return x[:, rows[:, None], columns[None, :]]
