"""What the cost model sees of a choice for an operator."""

from __future__ import annotations

import math
from collections.abc import Mapping

from tvm_tinyml.choice import KERNEL, Choice, knobs_of
from tvm_tinyml.passes.integer_ops import shape_of
from tvm_tinyml.tuning.workload import Workload

Features = Mapping[str, float]
"""By name; what is left out is not known, which the trees of the model can tell from 0."""

PIXELS = 4
"""That most microkernels take at once."""


def workload_features(workload: Workload) -> Features:
    """Return what is the same for all choices: sizes as logarithms, and what is left over of whole tiles."""
    call = workload.call
    out, image = shape_of(call), shape_of(call.args[0])
    weight = shape_of(call.args[1]) if len(call.args) > 1 else [1]
    attributes = workload.attributes
    pixels = math.prod(out[:-1])
    sizes = {"pixels": pixels, "channels": out[-1], "channels in": image[-1], "products": math.prod(weight[1:])}
    features = {name: math.log2(size) for name, size in sizes.items()}
    features |= {"pixels left": pixels % PIXELS, "products left": sizes["products"] % 4, "pair left": out[-1] % 2}
    if "groups" in attributes:
        features |= {"kernel height": weight[1], "kernel width": weight[2], "width": out[2], "height": out[1]}
        features |= {"stride": attributes["strides"][1], "dilation": attributes["dilation"][1]}
        features |= {"groups": math.log2(attributes["groups"]), "padded": float(any(attributes["padding"]))}
    return {name: float(value) for name, value in features.items()}


def choice_features(workload: Workload, choice: Choice) -> Features:
    """Return what distinguishes a choice from others: its kernel, its knobs, and how the numbers among them divide."""
    kernel, out = str(choice[KERNEL]), shape_of(workload.call)
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
