"""From a module to one that rounds as the integers will."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.export import Dim, ExportedProgram

from tvm_tinyml.errors import QuantizationError
from tvm_tinyml.frontend.torch.operators import ATEN
from tvm_tinyml.frontend.torch.program import check_supported
from tvm_tinyml.training.fold import fold_batch_norms, split_silu
from tvm_tinyml.training.quantizers import ActivationQuantizer, FixedQuantizer, Quantizer, WeightQuantizer
from tvm_tinyml.training.tensors import attribute, rounded_tensors, weights_of


def prepare(
    module: nn.Module,
    example_inputs: tuple[Tensor, ...],
    *,
    calibration: Iterable[Any] | None = None,
    weight_bits: int = 8,
) -> fx.GraphModule:
    """Return a copy of a network that rounds weights and activations to those that int8 stands for.

    Dropout is left out and batch normalizations are folded into the layers before them, so that what is learned is what
    will be computed. The copy takes batches of any size.

    Parameters
    ----------
    module : a float network; it stays as it is.
    example_inputs : as for ``torch.export.export``; the first dimension is the batch.
    calibration : batches of inputs, whose ranges the scales start with; of tuples, such as a ``DataLoader`` yields, the
        first elements are taken. None: the example inputs.
    weight_bits : of the weights' integers, 2 to 8.

    Raises
    ------
    ModelError : operators are not supported.
    QuantizationError : there are no batches to calibrate with, or no such weights.
    """
    if not 2 <= weight_bits <= 8:
        raise QuantizationError(f"Weights of {weight_bits} bits are not offered; 2 to 8 are.")
    graph_module = _graph_module(_exported(module, example_inputs))
    fold_batch_norms(graph_module)
    split_silu(graph_module.graph)
    _insert_activations(graph_module)
    _insert_weights(graph_module, weight_bits)
    graph_module.recompile()
    _calibrate(graph_module, [example_inputs] if calibration is None else calibration, len(example_inputs))
    return graph_module


def inputs_of(batch: Any, count: int) -> Sequence[Tensor]:
    """Return the inputs of a batch, which may have labels after them."""
    return tuple(batch[:count]) if isinstance(batch, list | tuple) else (batch,)


def _exported(module: nn.Module, example_inputs: tuple[Tensor, ...]) -> ExportedProgram:
    """Return the program of a copy, for batches of any size: torch takes an extent of 1 for one that is always 1."""
    batches = tuple(torch.cat([x, x]) for x in example_inputs)
    varying = tuple({0: Dim.AUTO} for _ in batches)
    program: ExportedProgram = torch.export.export(deepcopy(module).eval(), batches, dynamic_shapes=varying)
    program = program.run_decompositions({})
    check_supported(program, [*(f"aten.{name}" for name in ATEN), "getitem"])
    return program


def _graph_module(program: ExportedProgram) -> fx.GraphModule:
    """Return a module of the program: without checks of shapes, and with `train` and `eval`."""
    module = program.module()
    for node in list(module.graph.nodes):
        if node.op == "call_module" or (node.op == "call_function" and not node.users):
            module.graph.erase_node(node)
    return fx.GraphModule(module, module.graph)


def _insert_activations(module: fx.GraphModule) -> None:
    for rounded in rounded_tensors(module.graph):
        name = f"{rounded.nodes[0].name}_quantizer"
        module.add_submodule(name, FixedQuantizer(*rounded.fixed) if rounded.fixed else ActivationQuantizer())
        for node in rounded.nodes:
            with module.graph.inserting_after(node):
                quantizer = module.graph.call_module(name, (node,))
            for user in [user for user in node.users if user is not quantizer]:
                user.replace_input_with(node, quantizer)


def _insert_weights(module: fx.GraphModule, bits: int) -> None:
    for node, constant, axis in list(weights_of(module.graph)):
        name, values = f"{node.name}_weight_quantizer", attribute(module, constant)
        assert values is not None, "the constant is there"
        module.add_submodule(name, WeightQuantizer(values, axis, bits if axis is not None else 8))
        with module.graph.inserting_before(node):
            quantizer = module.graph.call_module(name, (constant,))
        node.replace_input_with(constant, quantizer)


def _calibrate(module: fx.GraphModule, batches: Iterable[Any], inputs: int) -> None:
    found = False
    with torch.no_grad():
        for batch in batches:
            module(*inputs_of(batch, inputs))
            found = True
    if not found:
        raise QuantizationError("There are no batches to calibrate with. Pass some inputs of the network.")
    for quantizer in quantizers(module):
        if isinstance(quantizer, ActivationQuantizer):
            quantizer.start()


def quantizers(module: nn.Module) -> Iterable[Quantizer]:
    """Return the quantizers of a prepared network."""
    return (each for each in module.modules() if isinstance(each, Quantizer))
