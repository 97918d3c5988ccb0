"""Which tensors of a program are rounded, and which of them with one quantizer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from tvm_tinyml.frontend.torch.program import Call, shape_of

ACTIVATIONS = {"aten.clamp", "aten.clamp_max", "aten.clamp_min", "aten.hardtanh", "aten.relu", "aten.relu6"}
"""They become a part of the operator before them."""

MOVES = {
    *("aten.alias", "aten.clone", "aten.contiguous", "aten.detach", "aten.dropout", "aten.feature_dropout"),
    *("aten._to_copy", "aten.lift_fresh_copy", "aten.to", "getitem"),
    *("aten._unsafe_view", "aten.flatten", "aten.reshape", "aten.squeeze", "aten.unflatten", "aten.unsqueeze"),
    *("aten.numpy_T", "aten.permute", "aten.t", "aten.transpose", "aten.view"),
    *("aten.chunk", "aten.select", "aten.slice", "aten.split", "aten.split_with_sizes"),
    *("aten.constant_pad_nd", "aten.pad", "aten.upsample_nearest2d"),
    *("aten.max_pool2d", "aten.max_pool2d_with_indices"),
    "aten.relu",  # of what is rounded already
}
"""Operators whose results need no rounding: their integers are some of those that they read."""

FIXED = {
    "aten._softmax": (1 / 256, -128),
    "aten.sigmoid": (1 / 256, -128),
    "aten.softmax": (1 / 256, -128),
    "aten.tanh": (1 / 128, 0),
}
"""Scale and zero point by TFLite's rules."""


@dataclass(frozen=True)
class Rounded:
    """Tensors that one quantizer rounds.

    Attributes
    ----------
    nodes : that compute them, or bring them in.
    fixed : scale and zero point, if rules say what they are.
    """

    nodes: tuple[fx.Node, ...]
    fixed: tuple[float, int] | None


def rounded_tensors(graph: fx.Graph) -> list[Rounded]:
    """Return what is to be rounded in a graph.

    Every input and every result of an operator that computes is; a layer or sum together with its activation. Operands
    of a concatenation share a quantizer, and so do both ends of an average pool or of a clip on its own.
    """
    parent: dict[fx.Node, fx.Node] = {}
    fixed: dict[fx.Node, tuple[float, int]] = {}
    source: dict[fx.Node, fx.Node] = {}  # from a tensor to the one whose integers it has

    def root(node: fx.Node) -> fx.Node:
        while parent[node] is not node:
            node = parent[node]
        return node

    for node in graph.nodes:
        before = [source[each] for each in node.all_input_nodes if each in source]
        computed = before and isinstance(node.meta.get("val"), torch.Tensor | list | tuple)
        if node in source or (node.op != "placeholder" and not computed):
            continue
        kind = Call(node).kind if node.op == "call_function" else ""
        if kind in MOVES:
            source[node] = before[0]
            continue
        if kind == "aten.cat" and not any(root(each) in fixed for each in before):
            for other in before[1:]:
                parent[root(other)] = root(before[0])
            source[node] = before[0]
            continue
        place = _with_activation(node)
        parent[place] = root(before[0]) if _keeps_scale(node, kind) else place
        if kind in FIXED:
            fixed[place] = FIXED[kind]
        source[node] = source[place] = place
    together: dict[fx.Node, list[fx.Node]] = {}
    for node in parent:
        together.setdefault(root(node), []).append(node)
    return [Rounded(tuple(nodes), fixed.get(first)) for first, nodes in together.items()]


def _with_activation(node: fx.Node) -> fx.Node:
    """Return the activation that becomes a part of an operator, or the operator."""
    users = list(node.users)
    if node.op == "call_function" and len(users) == 1 and _is_activation(users[0]):
        return users[0]
    return node


def _is_activation(node: fx.Node) -> bool:
    return node.op == "call_function" and Call(node).kind in ACTIVATIONS


def _keeps_scale(node: fx.Node, kind: str) -> bool:
    """Tell whether a node is a clip, whose bounds are rounded as what it reads, or a pool of averages.

    A pool over all of an image is a mean, with a range of its own.
    """
    if kind in ("aten.adaptive_avg_pool2d", "aten._adaptive_avg_pool2d"):
        return shape_of(node)[2:] != (1, 1)
    return kind == "aten.avg_pool2d" or kind in ACTIVATIONS


def weights_of(graph: fx.Graph) -> Iterator[tuple[fx.Node, fx.Node, int | None]]:
    """Yield operators with the constant that they read and the axis of its output channels."""
    for node in graph.nodes:
        if node.op != "call_function":
            continue
        call = Call(node)
        if call.kind in LAYERS:
            argument, axis = LAYERS[call.kind]
            weight = call[argument]
            if weight.op != "get_attr":
                raise call.refuse(f"its weights '{weight.name}' must be a parameter, as those of nn.Linear are.")
            yield node, weight, axis
        elif call.kind in OPERANDS:
            for operand in (call["self"], call["other"]):
                if isinstance(operand, fx.Node) and operand.op == "get_attr" and operand.meta["val"].numel() > 1:
                    yield node, operand, None


LAYERS: dict[str, tuple[str, int]] = {
    "aten.addmm": ("mat2", 1),
    "aten.conv2d": ("weight", 0),
    "aten.conv_transpose2d": ("weight", 1),
    "aten.linear": ("weight", 0),
    "aten.matmul": ("other", 1),
    "aten.mm": ("mat2", 1),
}
"""By kind, the argument that is the weights, and the axis of its output channels."""

OPERANDS = {"aten.add", "aten.mul", "aten.sub"}
"""Operators that take constants."""


def attribute(module: fx.GraphModule, node: Any) -> Tensor | None:
    """Return the parameter or buffer that an argument stands for, None if it is absent."""
    if node is None:
        return None
    value: Any = module
    for part in str(node.target).split("."):
        value = getattr(value, part)
    assert isinstance(value, Tensor), "parameters and buffers are tensors"
    return value.detach()
