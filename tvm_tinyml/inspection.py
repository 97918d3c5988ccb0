"""What a model asks for, before anything is compiled: operators, work, weights, and bounds on RAM."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
from tvm import IRModule, relax
from tvm.ir import GenericConst, Op

from tvm_tinyml.macs import macs_of
from tvm_tinyml.model import Model
from tvm_tinyml.passes import FoldQuantization, RemoveDeadChannels, TransposedToConvolutions, integer_ops
from tvm_tinyml.passes.integer_ops import shape_of
from tvm_tinyml.passes.plan_memory import Lifetime, liveness_bound

WEIGHTED = tuple(o.op.name for o in (integer_ops.conv2d, integer_ops.conv2d_transpose, integer_ops.dense))

SIZES = ("macs", "weight_bytes", "weight_elements")
"""What a layer has less of without dead channels."""


def inspect(model: Model) -> dict[str, Any]:
    """Return a summary of a model.

    Returns
    -------
    dict with the keys ``model``, ``inputs``, ``outputs``, ``operators`` (kind: count), ``macs``, ``weight_bytes`` (all
    constants), ``weight_elements``, ``zero_share`` (of the weights), ``dead_share`` (of the output channels of layers
    with weights: those that :class:`tvm_tinyml.passes.RemoveDeadChannels` removes), ``activation_bytes_bound`` (largest
    sum of tensors alive at one operator, without dead channels: no plan of whole tensors is smaller) and ``layers``
    (name, op, tensor, shape, macs, weight_bytes, weight_elements, zeros, channels, dead_channels). What is left when
    dead channels are removed: ``macs_executed``, ``weight_bytes_executed`` and ``weight_elements_executed``, in all and
    of each layer.

    Raises
    ------
    ModelError : the model is not fully quantized.
    """
    module = FoldQuantization()(model.module)
    executed = RemoveDeadChannels()(TransposedToConvolutions()(module))
    layers = _with_executed(_layers(module), _layers(executed))
    weighted = [layer for layer in layers if layer["channels"]]
    totals = {key: sum(layer[key] for layer in layers) for what in SIZES for key in (what, f"{what}_executed")}
    return {
        "model": model.name,
        "inputs": [_tensor(spec) for spec in model.inputs],
        "outputs": [_tensor(spec) for spec in model.outputs],
        "operators": dict(Counter(layer["op"] for layer in layers)),
        **totals,
        "zero_share": _share(sum(layer["zeros"] for layer in weighted), totals["weight_elements"]),
        "dead_share": _share(sum(l["dead_channels"] for l in weighted), sum(l["channels"] for l in weighted)),
        "activation_bytes_bound": _activation_bound(executed),
        "layers": layers,
    }


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


def _tensor(spec: Any) -> dict[str, Any]:
    return {key: getattr(spec, key) for key in ("name", "shape", "dtype", "scale", "zero_point")}


def _calls(module: IRModule) -> list[tuple[relax.Var, relax.Call]]:
    return [
        (binding.var, binding.value)
        for block in module["main"].body.blocks
        for binding in block.bindings
        if isinstance(binding.value, relax.Call) and isinstance(binding.value.op, Op)
    ]


def _layers(module: IRModule) -> list[dict[str, Any]]:
    counts: Counter[str] = Counter()
    layers = []
    for var, call in _calls(module):
        op = _kind(call)
        constants = [argument.value.numpy() for argument in call.args if isinstance(argument, GenericConst)]
        weight = constants[0] if call.op.name in WEIGHTED else np.zeros((0, 1), np.int8)
        layers.append(
            {
                "name": f"{op}_{counts[op]}",
                "op": op,
                "tensor": var.name,
                "shape": shape_of(var) if hasattr(var.ty, "shape") else None,
                "macs": macs_of(call),
                "weight_bytes": sum(constant.nbytes for constant in constants),
                "weight_elements": int(weight.size),
                "zeros": int((weight == 0).sum()),
                "channels": len(weight),
            }
        )
        counts[op] += 1
    return layers


def _with_executed(layers: list[dict[str, Any]], executed: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the layers with what is left of each: of one that became several, all up to the one with its tensor."""
    tensors = {layer["tensor"] for layer in layers}
    left: dict[str, Counter[str]] = {}
    sizes: Counter[str] = Counter()
    for part in executed:
        sizes.update({what: part[what] for what in SIZES})
        if part["tensor"] in tensors:
            left[part["tensor"]] = sizes + Counter(channels=part["shape"][-1] if part["shape"] else 0)
            sizes = Counter()
    merged = []
    for layer in layers:
        own = left.get(layer["tensor"], Counter())
        dead = layer["channels"] - own["channels"] if layer["channels"] else 0
        merged.append({**layer, **{f"{what}_executed": own[what] for what in SIZES}, "dead_channels": dead})
    return merged


def _kind(call: relax.Call) -> str:
    """Return the operator's short name; a convolution with one filter a channel is called depthwise."""
    name = str(call.op.name).split(".")[-1]
    if call.op == integer_ops.conv2d.op:
        channels = shape_of(call.args[0])[3]
        if int(call.attrs["groups"]) == channels > 1 and shape_of(call.args[1])[3] == 1:
            return "depthwise_conv2d"
    return name


def _activation_bound(module: IRModule) -> int:
    """Return the largest sum of tensors alive at one operator; renaming a shape takes no memory."""
    root: dict[relax.Var, relax.Var] = {}
    lifetimes: dict[relax.Var, Lifetime] = {}

    def touch(expr: relax.Expr, step: int) -> None:
        if isinstance(expr, relax.Tuple):
            for field in expr.fields:
                touch(field, step)
        if isinstance(expr, relax.Var) and hasattr(expr.ty, "shape"):
            var = root.get(expr, expr)
            size = int(np.prod(shape_of(var))) * np.dtype(str(var.ty.dtype)).itemsize
            first = lifetimes[var].first if var in lifetimes else step
            lifetimes[var] = Lifetime(size, first, step)

    for param in module["main"].params:
        touch(param, -1)
    for step, (var, call) in enumerate(_calls(module)):
        if call.op.name == "relax.reshape" and isinstance(call.args[0], relax.Var):
            root[var] = root.get(call.args[0], call.args[0])
            continue
        for argument in call.args:
            touch(argument, step)
        touch(var, step)
    touch(module["main"].body.body, len(lifetimes) + len(root))
    return liveness_bound(lifetimes, 1)
