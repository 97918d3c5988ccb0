"""From a network that rounds to a program with quantizers, which the compiler imports."""

from __future__ import annotations

from copy import deepcopy
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, fx
from torch.export import ExportedProgram

from tvm_tinyml.training.quantizers import Quantizer
from tvm_tinyml.training.tensors import attribute


def convert(prepared: fx.GraphModule, example_inputs: tuple[Tensor, ...]) -> ExportedProgram:
    """Export what was prepared and trained: integers for weights, and quantizers with the learned scales.

    `load` imports the program without loss: its weights are the integers that the prepared network rounds to.

    Parameters
    ----------
    prepared : from `prepare`; it stays as it is.
    example_inputs : with the batch that the program is for.
    """
    import_module("torch.ao.quantization.fx._decomposed")  # makes the operators known to torch
    module = deepcopy(prepared)
    for node in list(module.graph.nodes):
        if node.op == "call_module":
            quantizer = module.get_submodule(str(node.target))
            assert isinstance(quantizer, Quantizer), "there are no other modules"
            (x,) = node.args
            is_weight = isinstance(x, fx.Node) and x.op == "get_attr"
            with module.graph.inserting_before(node):
                result = _weight(module, node, quantizer) if is_weight else _activation(module.graph, x, quantizer)
            node.replace_all_uses_with(result)
            module.graph.erase_node(node)
    module.graph.eliminate_dead_code()
    # Made anew, it has only what the graph reads: not the float weights.
    return torch.export.export(fx.GraphModule(module, module.graph), example_inputs)


def _activation(graph: fx.Graph, x: Any, quantizer: Quantizer) -> fx.Node:
    ops = torch.ops.quantized_decomposed
    steps, zero_point = float(quantizer.steps), int(quantizer.zero_point)
    parameters = steps, zero_point, quantizer.low, quantizer.high, torch.int8
    integers = graph.call_function(ops.quantize_per_tensor.default, (x, *parameters))
    return graph.call_function(ops.dequantize_per_tensor.default, (integers, *parameters))


def _weight(module: fx.GraphModule, node: fx.Node, quantizer: Quantizer) -> fx.Node:
    ops = torch.ops.quantized_decomposed
    values = attribute(module, node.args[0])
    assert values is not None, "weights are there"
    with torch.no_grad():
        values = quantizer.integers(values).to(torch.int8)
    name, limits = str(node.target), (quantizer.low, quantizer.high, torch.int8)
    module.register_buffer(f"{name}_integers", values)
    integers = module.graph.get_attr(f"{name}_integers")
    if quantizer.axis is None:
        parameters = float(quantizer.steps), 0, *limits
        return module.graph.call_function(ops.dequantize_per_tensor.default, (integers, *parameters))
    module.register_buffer(f"{name}_scales", quantizer.steps.detach().clone())
    module.register_buffer(f"{name}_zeros", torch.zeros_like(quantizer.scale, dtype=torch.int64))
    scales, zeros = (module.graph.get_attr(f"{name}_{part}") for part in ("scales", "zeros"))
    return module.graph.call_function(
        ops.dequantize_per_channel.default, (integers, scales, zeros, quantizer.axis, *limits)
    )
