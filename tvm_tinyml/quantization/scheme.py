"""TFLite's rules: which tensors share a scale, which have a fixed one, and what ranges become.

Source: TensorFlow Lite 8-bit quantization specification.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tvm import IRModule

from tvm_tinyml.passes.float_groups import Group, groups
from tvm_tinyml.passes.insert_quantization import Activation, Weights
from tvm_tinyml.quantization.observers import Range

FIXED: Mapping[str, Mapping[str, Activation]] = {
    "int8": {
        "relax.nn.softmax": Activation(1 / 256, -128),
        "relax.sigmoid": Activation(1 / 256, -128),
        "relax.tanh": Activation(1 / 128, 0),
    },
    "int16": {name: Activation(1 / 32768, 0, "int16") for name in ("relax.nn.softmax", "relax.sigmoid", "relax.tanh")},
}
"""By dtype, what functions with known bounds make."""

POOLS = ("relax.nn.max_pool2d", "relax.nn.avg_pool2d")
"""They keep the scale of what they read."""

HEADROOM = 2.0
"""Times the range that 16 bits reach over: they have steps to spare, and more than the samples show may come."""

LARGEST = 127
"""Integer of weights: symmetric, so that no weight needs an offset."""


@dataclass(frozen=True)
class Shared:
    """Tensors with one quantization.

    Attributes
    ----------
    names : in the order in which they are computed.
    sources : of them those that no operator copies from another one.
    fixed : name of the function that says what the quantization is; empty if the range decides.
    """

    names: tuple[str, ...]
    sources: tuple[str, ...]
    fixed: str = ""


def shared_tensors(module: IRModule) -> list[Shared]:
    """Return all tensors of a float network, those together that must share a quantization."""
    main = module["main"]
    parent = {str(parameter.name): str(parameter.name) for parameter in main.params}
    copies: set[str] = set()
    fixed: dict[str, str] = {}

    def root(name: str) -> str:
        while parent[name] != name:
            name = parent[name]
        return name

    for group in groups(main):
        parent[group.name] = group.name
        if group.kind in FIXED["int8"]:
            fixed[group.name] = group.kind
        if keeps_quantization(group):
            copies.add(group.name)
            sources = [source for source in group.sources if len(group.sources) == 1 or root(source) not in fixed]
            for source in sources:
                # The one that is fixed stays the root.
                one, other = root(source), root(group.name)
                parent[other] = one
    together: dict[str, list[str]] = {}
    for name in parent:
        together.setdefault(root(name), []).append(name)
    return [
        Shared(tuple(names), tuple(name for name in names if name not in copies), fixed.get(first, ""))
        for first, names in together.items()
    ]


def keeps_quantization(group: Group) -> bool:
    """Tell whether what a group makes means what it reads."""
    return group.moves or group.kind in POOLS


def activation(bounds: Range, dtype: str) -> Activation:
    """Return the quantization whose integers reach over a range; 0.0 has one of its own.

    Parameters
    ----------
    bounds : 0 lies within.
    """
    low, high = bounds
    if dtype == "int16":
        return Activation(float(np.float32(HEADROOM * max(-low, high) / 32767)) or 1.0, 0, dtype)
    scale = float(np.float32((high - low) / 255)) or 1.0
    return Activation(scale, int(np.clip(np.round(-128 - low / scale), -128, 127)))


def rounded(values: NDArray[np.float32], bias: NDArray[np.float32], input_scale: float) -> Weights:
    """Return the nearest integers of a layer, each output channel with a scale of its own.

    Parameters
    ----------
    values : [O, ...].
    bias : [O].
    """
    rows = values.reshape(len(values), -1).astype(np.float64)
    scale = np.maximum(np.abs(rows).max(axis=1) / LARGEST, least_scales(bias, input_scale, len(rows)))
    scale = np.where(scale > 0, scale, 1.0).astype(np.float32)
    integers = np.round(rows / scale[:, None].astype(np.float64)).clip(-LARGEST, LARGEST)
    return Weights(integers.astype(np.int8).reshape(values.shape), scale, integer_bias(bias, input_scale, scale))


def least_scales(bias: NDArray[Any], input_scale: float, filters: int) -> NDArray[np.float64]:
    """Return for each filter the least scale of its weights with which its bias, in such units, fits an int32.

    Parameters
    ----------
    bias : [output channels], a multiple of the filters where the groups of a transposed convolution share them.
    """
    least: NDArray[np.float64] = np.abs(bias).astype(np.float64).reshape(-1, filters).max(axis=0)
    return least / (input_scale * 2.0**30)


def integer_bias(bias: NDArray[Any], input_scale: float, scale: NDArray[np.float32]) -> NDArray[np.int32]:
    """Return a bias in units of input scale * weight scale."""
    units = np.float64(np.float32(input_scale)) * np.resize(scale.astype(np.float64), bias.shape)
    return np.round(bias.astype(np.float64) / units).clip(-(2**31), 2**31 - 1).astype(np.int32)


def activations(
    tensors: Iterable[Shared], ranges: Mapping[tuple[str, ...], Range], dtype: str
) -> dict[str, Activation]:
    """Return the quantization of each tensor.

    Parameters
    ----------
    ranges : by `Shared.names`.
    """
    found: dict[str, Activation] = {}
    for each in tensors:
        of = FIXED[dtype][each.fixed] if each.fixed else activation(ranges[each.names], dtype)
        found |= dict.fromkeys(each.names, of)
    return found
