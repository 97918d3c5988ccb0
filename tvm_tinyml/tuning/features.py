"""What the cost model sees of a choice for an operator."""

from __future__ import annotations

import math
from collections.abc import Mapping

from tvm_tinyml.choice import KERNEL, Choice, knobs_of
from tvm_tinyml.passes.integer_ops import window_extent
from tvm_tinyml.tuning.records import Key

Features = Mapping[str, float]
"""By name; what is left out is not known, which the trees of the model can tell from 0."""

PIXELS = 4
"""That most microkernels take at once."""


def key_features(key: Key) -> Features:
    """Return what is the same for all choices: sizes as logarithms, and what is left over of whole tiles.

    They come from the key, so that operators count whose weights nobody has any more.
    """
    shapes = key["shapes"]
    out, image, weight = output_shape(key), shapes[0], shapes[1] if len(shapes) > 1 else [1]
    pixels = math.prod(out[:-1])
    sizes = {"pixels": pixels, "channels": out[-1], "channels in": image[-1], "products": math.prod(weight[1:])}
    features = {name: math.log2(size) for name, size in sizes.items()}
    features |= {"pixels left": pixels % PIXELS, "products left": sizes["products"] % 4, "pair left": out[-1] % 2}
    if key["operator"] == "conv2d":
        features |= {"kernel height": weight[1], "kernel width": weight[2], "width": out[2], "height": out[1]}
        features |= {"stride": key["strides"][1], "dilation": key["dilation"][1]}
        features |= {"groups": math.log2(key["groups"]), "padded": float(any(key["padding"]))}
    return {name: float(value) for name, value in features.items()}


def output_shape(key: Key) -> list[int]:
    """Return the shape of an operator's result; of those that are neither convolutions nor dense that of its input."""
    first, *others = key["shapes"]
    if key["operator"] == "conv2d":
        (batch, *size, _), (channels, *kernel, _) = first, others[0]
        top, left, bottom, right = key["padding"]
        each = zip(size, kernel, key["strides"], (top + bottom, left + right), key["dilation"], strict=True)
        return [batch, *(window_extent(*axis) for axis in each), channels]
    return [first[0], others[0][0]] if key["operator"] == "dense" else list(first)


def choice_features(key: Key, choice: Choice) -> Features:
    """Return what distinguishes a choice from others: its kernel, its knobs, and how the numbers among them divide."""
    kernel, out = str(choice[KERNEL]), output_shape(key)
    tiles = -(-math.prod(out[:-1]) // PIXELS)
    features: dict[str, float] = {kernel: 1.0}
    for knob, value in knobs_of(choice).items():
        name = f"{kernel}.{knob}"
        if isinstance(value, str):
            features[f"{name}={value}"] = 1.0
            continue
        features[name] = float(value)
        if value > 0:
            features[f"{name} of tiles"] = tiles / value
            features[f"{name} wasted"] = -(-tiles // value) * value / tiles
            features[f"{name} of rows"] = out[1] / value if len(out) > 2 else 0.0
    return features
