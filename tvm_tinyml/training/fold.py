"""Rewrites of a program's graph before it is rounded."""

from __future__ import annotations

import operator

import torch
from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights, fuse_linear_bn_weights

from tvm_tinyml.frontend.torch.program import Call
from tvm_tinyml.training.tensors import attribute

NORMS = ("aten._native_batch_norm_legit_no_training", "aten.batch_norm")


def fold_batch_norms(module: fx.GraphModule) -> None:
    """Fold each batch normalization into the weights and bias of the layer before it.

    Raises
    ------
    ModelError : the operator before it is no layer, or others read its result as well.
    """
    for node in list(module.graph.nodes):
        if node.op == "call_function" and Call(node).kind in NORMS:
            _fold(module, Call(node))
    module.graph.eliminate_dead_code()


def split_silu(graph: fx.Graph) -> None:
    """Write each SiLU as the product of two tensors that it is for the integers."""
    for node in list(graph.nodes):
        if node.op == "call_function" and Call(node).kind == "aten.silu":
            (x,) = node.args
            with graph.inserting_before(node):
                gate = graph.call_function(torch.ops.aten.sigmoid.default, (x,))
                product = graph.call_function(torch.ops.aten.mul.Tensor, (x, gate))
            gate.meta["val"] = product.meta["val"] = node.meta["val"]
            node.replace_all_uses_with(product)
            graph.erase_node(node)


def _fold(module: fx.GraphModule, norm: Call) -> None:
    layer = norm["input"]
    kind = Call(layer).kind if layer.op == "call_function" else layer.op
    if kind not in ("aten.conv2d", "aten.conv_transpose2d", "aten.linear") or len(layer.users) > 1:
        raise norm.refuse(
            f"it follows {kind} '{layer.name}' and cannot be folded. Put it directly after a layer that nothing else "
            "reads."
        )
    if kind == "aten.conv_transpose2d" and Call(layer)["groups"] > 1:
        raise norm.refuse("it follows a transposed convolution in groups, which share their scales. Leave it out.")
    of = [attribute(module, norm[name]) for name in ("running_mean", "running_var", "weight", "bias")]
    mean, variance, gamma, beta = of
    assert mean is not None, "statistics are there, or torch computes others"
    assert variance is not None, "where there is a mean there is a variance"
    gamma = torch.ones_like(mean) if gamma is None else gamma
    beta = torch.zeros_like(mean) if beta is None else beta
    weight, bias = (attribute(module, Call(layer)[name]) for name in ("weight", "bias"))
    assert weight is not None, "a layer has weights"
    epsilon = norm["eps"]
    if kind == "aten.linear":
        fused = fuse_linear_bn_weights(weight, bias, mean, variance, epsilon, gamma, beta)
    else:
        transposed = kind == "aten.conv_transpose2d"
        fused = fuse_conv_bn_weights(weight, bias, mean, variance, epsilon, gamma, beta, transposed)
    arguments = list(layer.args) + [None] * (3 - len(layer.args))
    with module.graph.inserting_before(layer):
        for i, (part, values) in enumerate(zip(("weight", "bias"), fused, strict=True), 1):
            name = f"{layer.name}_{part}"
            module.register_parameter(name, nn.Parameter(values.detach().clone()))
            arguments[i] = module.graph.get_attr(name)
            arguments[i].meta["val"] = values.detach()
    layer.args = tuple(arguments)
    for result in [*norm.node.users] if norm.kind != "aten.batch_norm" else [norm.node]:
        assert result is norm.node or result.target is operator.getitem, "of three results one is taken"
        result.replace_all_uses_with(layer)
