"""By what a tuning log knows an operator again: all that the costs of its kernels depend on."""

from __future__ import annotations

from tvm import relax

from tvm_tinyml.arithmetic import RANGES
from tvm_tinyml.passes.integer_ops import attributes_of, shape_of
from tvm_tinyml.tuning.records import Key
from tvm_tinyml.tuning.space import Kernels

KERNELS_VERSION = 1
"""Of recipes and schedule rules together: goes up when what a knob means changes. Records of others are not used."""

GUARDS = "guards"

GEOMETRY = ("strides", "padding", "dilation", "groups", "pool_size", "axes")
"""Attributes that are part of an operator's shape. The others are numbers in its arithmetic, and cost the same."""


def key_of(call: relax.Call, kernels: Kernels) -> Key:
    """Return the key of a call of the integer dialect.

    Weights, biases, scales and zero points are not part of it; what they allow a kernel to do is, as ``guards`` and
    ``epilogue``.
    """
    return {**outline_of(call), GUARDS: kernels.guards(call)}


def outline_of(call: relax.Call) -> Key:
    """Return a key but for its guards, which take long to find out."""
    attributes = attributes_of(call)
    return {
        "operator": str(call.op.name).removeprefix("tinyml."),
        "shapes": [shape_of(argument) for argument in call.args],
        "dtypes": [str(argument.ty.dtype) for argument in call.args],
        "layout": "NHWC",
        **{name: attributes[name] for name in GEOMETRY if name in attributes},
        "epilogue": _epilogue(attributes, str(call.ty.dtype)),
        "kernels": KERNELS_VERSION,
    }


def _epilogue(attributes: dict[str, int], dtype: str) -> str:
    """Return how results are rounded and clamped, as far as it costs instructions, or longer ones."""
    names = ("clamp_min", "clamp_max", "output_zero_point")
    if not attributes.keys() >= set(names):
        return "none"
    low, high, zero_point = (attributes[name] for name in names)
    parts = ["halves corrected" if low < zero_point else "halves at the clamp"]
    for name, bound, none in zip(("lower", "upper"), (low, high), RANGES[dtype], strict=True):
        if bound != none:
            parts.append(f"{name} bound" if bound >= 0 else f"{name} bound below 0")
    return ", ".join(parts)
