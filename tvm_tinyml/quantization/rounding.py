"""Rounding of weights that looks at what a layer makes of the samples, not at the weights alone."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from tvm import relax

from tvm_tinyml.passes.float_groups import Group
from tvm_tinyml.passes.insert_quantization import Weights
from tvm_tinyml.quantization.grids import FindGrid, Grid
from tvm_tinyml.quantization.layers import Layer, Round
from tvm_tinyml.quantization.scheme import integer_bias, least_scales
from tvm_tinyml.reference.windows import windows

Array = NDArray[Any]

MOST_ROWS = 20_000
"""Positions of a layer that are looked at, over all samples."""

DAMPING = 0.01
"""Of the mean of the diagonal, that is added to it: what the samples do not say is left as it is."""

SWEEPS = 3
"""Over all inputs of a layer, after the first."""

def learned(find_grid: FindGrid) -> Round:
    """Return what rounds a layer's weights one input after the other, each making up for the errors before it.

    In the end each weight is the best one beside all others.
    Source: Frantar et al., GPTQ, ICLR 2023, section 3; for layers with groups each group by itself.

    Parameters
    ----------
    find_grid : what weights may be, before anything is made up for. Layers are convolutions and dense layers;
        transposed ones are left to `scheme.rounded`.
    """

    def choose(layer: Layer) -> Weights:
        values, bias = layer.group.weight.value.numpy(), layer.group.bias.value.numpy()
        rows = values.reshape(len(values), -1).astype(np.float64)
        least = least_scales(bias, layer.input_scale, len(rows))
        integers, scale = np.empty(rows.shape, np.int8), np.empty(len(rows), np.float32)
        patches = _patches(layer)
        per_group = len(rows) // len(patches)
        for number, seen in enumerate(patches):
            part = slice(number * per_group, (number + 1) * per_group)
            curvature = seen.T @ seen / len(seen)
            scale[part], grid = find_grid(rows[part], curvature, least[part])
            integers[part] = _rounded(rows[part], scale[part].astype(np.float64), curvature, grid)
        return Weights(integers.reshape(values.shape), scale, integer_bias(bias, layer.input_scale, scale))

    return choose


def nearest_on(find_grid: FindGrid) -> Round:
    """Return what rounds each weight to the nearest that it may be, all inputs counting alike.

    For networks of which only the size is wanted: see `learned` for the parameter.
    """

    def choose(layer: Layer) -> Weights:
        values, bias = layer.group.weight.value.numpy(), layer.group.bias.value.numpy()
        rows = values.reshape(len(values), -1).astype(np.float64)
        scale, grid = find_grid(rows, np.eye(rows.shape[1]), least_scales(bias, layer.input_scale, len(rows)))
        integers = grid.nearest(rows / scale[:, None], slice(None)).astype(np.int8)
        return Weights(integers.reshape(values.shape), scale, integer_bias(bias, layer.input_scale, scale))

    return choose


def _patches(layer: Layer) -> list[Array]:
    """Return for each group of channels what a filter meets, float64 [positions, inputs]."""
    group = layer.group
    if group.kind == "relax.matmul":
        return [_some(np.concatenate([array.reshape(-1, array.shape[-1]) for array in layer.inputs]))]
    call = next(b.value for b in group.product if str(b.value.op.name) == group.kind)
    count = int(call.attrs.groups)
    found = [_windows(array, call, group) for array in layer.inputs]
    every = np.concatenate(found)
    return [_some(every[:, :, i].reshape(len(every), -1)) for i in range(count)]


def _windows(array: Array, call: relax.Call, group: Group) -> Array:
    """Return [positions, taps, groups, channels of a group]."""
    a = call.attrs
    top, left, bottom, right = (int(pad) for pad in a.padding)
    padded = np.pad(array, ((0, 0), (top, bottom), (left, right), (0, 0)))
    _, height, width, depth = group.weight.value.numpy().shape
    (down, across), (dilation_h, dilation_w) = map(_pair, (a.strides, a.dilation))
    taps = list(windows(padded, (height, width), (down, across), (dilation_h, dilation_w), group.name))
    stacked = np.stack(taps, axis=3)
    result: Array = stacked.reshape(-1, len(taps), int(a.groups), depth)
    return result


def _pair(value: Any) -> tuple[int, int]:
    first, second = value
    return int(first), int(second)


def _some(rows: Array) -> Array:
    step = max(1, len(rows) // MOST_ROWS)
    return rows[::step].astype(np.float64)


def _rounded(rows: Array, scale: Array, curvature: Array, grid: Grid) -> Array:
    """Return the integers: an input's error goes, by what the samples say, into the inputs not yet rounded."""
    count = rows.shape[1]
    damped = curvature + np.eye(count) * (DAMPING * np.trace(curvature) / count or 1.0)
    spread = np.linalg.cholesky(np.linalg.inv(damped)).T
    left, integers = rows.copy(), np.empty(rows.shape, np.int8)
    for i in range(count):
        integers[:, i] = grid.nearest(left[:, i] / scale, i)
        error = (left[:, i] - integers[:, i] * scale) / spread[i, i]
        left[:, i + 1 :] -= np.outer(error, spread[i, i + 1 :])
    # Then one after the other to what is best beside all others, as long as the error at the output falls.
    pull = (rows - integers * scale[:, None]) @ damped
    for _ in range(SWEEPS):
        for i in range(count):
            better = grid.nearest(integers[:, i] + pull[:, i] / (damped[i, i] * scale), i)
            pull -= np.outer((better - integers[:, i]) * scale, damped[i])
            integers[:, i] = better
    return integers
