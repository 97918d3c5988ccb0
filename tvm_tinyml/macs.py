"""Multiply-accumulates: the work of a network, padding included."""

from __future__ import annotations

import math

from tvm import IRModule, relax
from tvm.ir import Op

from tvm_tinyml.passes.integer_ops import CONV2D_THEN, attributes_of, conv2d, shape_of

_THEN = tuple(fused.op.name for fused in CONV2D_THEN.values())


def macs_of(call: relax.Call) -> int:
    """Return the multiply-accumulates of an operator, of floats or of integers; 0 for one without weights."""
    match str(call.op.name) if isinstance(call.op, Op) else "":
        case "relax.nn.conv2d" | "tinyml.conv2d":
            return math.prod(shape_of(call)) * math.prod(shape_of(call.args[1])[1:])
        case name if name in _THEN:
            image = conv2d.shape([shape_of(argument) for argument in call.args[:2]], attributes_of(call))
            return math.prod(image) * math.prod(shape_of(call.args[1])[1:])
        case "relax.nn.conv2d_transpose" | "tinyml.conv2d_transpose":
            # Each pixel of the input meets each weight of its group once.
            pixels = math.prod(shape_of(call.args[0])[:3])
            return pixels * math.prod(shape_of(call.args[1]))
        case "relax.matmul" | "tinyml.dense":
            return math.prod(shape_of(call)) * shape_of(call.args[0])[-1]
        case _:
            return 0


def macs_of_module(module: IRModule) -> int:
    """Return the multiply-accumulates of one run of ``main``."""
    bindings = (binding for block in module["main"].body.blocks for binding in block.bindings)
    return sum(macs_of(binding.value) for binding in bindings if isinstance(binding.value, relax.Call))
