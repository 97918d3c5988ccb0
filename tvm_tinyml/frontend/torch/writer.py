"""Writes an exported program down as an ONNX model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import ArrayLike, NDArray
from torch import fx
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind, OutputKind, TensorArgument

from tvm_tinyml.errors import ModelError
from tvm_tinyml.frontend.torch.program import Call, calls, check_supported

OPSET = 17

DTYPES = {"torch.float32": "float32", "torch.int8": "int8", "torch.uint8": "uint8"}
"""Types of inputs."""


class Writer:
    """An ONNX graph to which one operator after another is added.

    Parameters
    ----------
    operators : by `Call.kind`.

    Attributes
    ----------
    constants : by their names in the graph.
    """

    def __init__(self, program: ExportedProgram, operators: Mapping[str, Operator]) -> None:
        self.constants: dict[str, NDArray[Any]] = {}
        self._program = program
        self._operators = operators
        self._nodes: list[onnx.NodeProto] = []
        self._results: dict[str, Result] = {}

    def model(self) -> onnx.ModelProto:
        """Return the program as an ONNX model.

        Raises
        ------
        ModelError : operators are not supported (all are named), or a type is not.
        """
        inputs = [self._input(spec) for spec in self._program.graph_signature.input_specs]
        check_supported(self._program, self._operators)
        for call in calls(self._program):
            self._results[call.name] = self._operators[call.kind](self, call)
        outputs = [self._output(spec) for spec in self._program.graph_signature.output_specs]
        graph = onnx.helper.make_graph(
            self._nodes,
            "program",
            [value for value in inputs if value is not None],
            outputs,
            [onnx.numpy_helper.from_array(values, name) for name, values in self.constants.items()],
        )
        return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", OPSET)])

    def tensor(self, argument: Any) -> str:
        """Return the name of a tensor; a number becomes a constant, and what is absent the empty name."""
        if argument is None:
            return ""
        if isinstance(argument, fx.Node):
            result = self._results[argument.name]
            assert isinstance(result, str), "a list of tensors is taken apart before"
            return result
        return self.constant(np.float32(argument))

    def part(self, argument: fx.Node, i: int) -> str:
        """Return the name of tensor number `i` of those that one operator makes."""
        return self._results[argument.name][i]

    def constant(self, values: ArrayLike) -> str:
        """Add a constant."""
        name = f"constant_{len(self.constants)}"
        self.constants[name] = np.asarray(values)
        return name

    def integers(self, values: Sequence[int]) -> str:
        """Add a constant of shapes or axes."""
        return self.constant(np.array(values, np.int64))

    def add(self, kind: str, inputs: Sequence[str], name: str, **attributes: Any) -> str:
        """Add an ONNX operator that computes tensor `name`, and return that name."""
        return self.add_many(kind, inputs, [name], **attributes)[0]

    def add_many(self, kind: str, inputs: Sequence[str], names: Sequence[str], **attributes: Any) -> list[str]:
        """Add an ONNX operator with several results."""
        self._nodes.append(onnx.helper.make_node(kind, inputs, names, **attributes))
        return list(names)

    def _input(self, spec: Any) -> onnx.ValueInfoProto | None:
        """Return an input of the network; parameters and buffers become constants."""
        name = spec.arg.name
        if spec.kind in (InputKind.PARAMETER, InputKind.BUFFER, InputKind.CONSTANT_TENSOR):
            state = self._program.state_dict
            values = state[spec.target] if spec.target in state else self._program.constants[spec.target]
            self.constants[name] = _array(values, spec.target)
        elif spec.kind != InputKind.USER_INPUT:
            return None
        self._results[name] = name
        if spec.kind != InputKind.USER_INPUT or not isinstance(spec.arg, TensorArgument):
            return None
        value = next(node for node in self._program.graph.nodes if node.name == name).meta["val"]
        dtype = DTYPES.get(str(value.dtype))
        if dtype is None:
            raise ModelError(
                f"Input '{name}' is {value.dtype}; {', '.join(DTYPES)} are supported. Export model.float()."
            )
        shape = [size if isinstance(size, int) else str(size) for size in value.shape]
        return onnx.helper.make_tensor_value_info(name, onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), shape)

    def _output(self, spec: Any) -> onnx.ValueInfoProto:
        if spec.kind != OutputKind.USER_OUTPUT or not isinstance(spec.arg, TensorArgument):
            raise ModelError(
                f"Output '{getattr(spec.arg, 'name', spec.arg)}' is {spec.kind.name.lower().replace('_', ' ')}, not a "
                "tensor that the network returns. Export a module that keeps nothing and returns tensors."
            )
        name = spec.arg.name
        if self._results[name] != name:
            self.add("Identity", [self.tensor_named(name)], name)
        dtype = {node.name: node for node in self._program.graph.nodes}[name].meta["val"].dtype
        code = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(DTYPES.get(str(dtype), "float32")))
        return onnx.helper.make_tensor_value_info(name, code, None)

    def tensor_named(self, name: str) -> str:
        """Return what the tensor of a node is called in the ONNX graph."""
        result = self._results[name]
        assert isinstance(result, str), "an output is one tensor"
        return result


def _array(values: torch.Tensor, name: str) -> NDArray[Any]:
    if values.dtype in (torch.float16, torch.bfloat16, torch.float64):
        raise ModelError(f"'{name}' is {values.dtype}; torch.float32 is supported. Export model.float().")
    array: NDArray[Any] = values.detach().cpu().contiguous().numpy()
    return array


Result = str | list[str]
"""Name of what an operator computes in the ONNX graph, or names."""

Operator = Callable[[Writer, Call], Result]
"""Adds one operator."""
