"""The tensors of one TFLite graph while its operators are imported one by one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tflite as schema
from numpy.typing import NDArray

from tvm_tinyml.errors import ModelError
from tvm_tinyml.frontend import qdq
from tvm_tinyml.frontend.qdq import Function, QdqBuilder, Quantization, Tensor, Weight
from tvm_tinyml.frontend.real import REAL, FloatBuilder
from tvm_tinyml.frontend.tflite.file import FileGraph, FileOperator, FileTensor
from tvm_tinyml.model import Model

_ACTIVATIONS: dict[int, Function | None] = {
    schema.ActivationFunctionType.NONE: None,
    schema.ActivationFunctionType.RELU: qdq.RELU,
    schema.ActivationFunctionType.RELU6: qdq.clip(0.0, 6.0),
    schema.ActivationFunctionType.RELU_N1_TO_1: qdq.clip(-1.0, 1.0),
}

INTEGERS = ("int8", "uint8", "int16")
"""Types of activations."""

_FIXED = {"SOFTMAX": qdq.UNIT_INTERVAL, "LOGISTIC": qdq.UNIT_INTERVAL, "TANH": qdq.SYMMETRIC_UNIT}
"""Quantization of a float output of the model that one of these makes."""


class Context:
    """What each tensor is so far."""

    def __init__(self, graph: FileGraph) -> None:
        self.graph = graph
        self.builder = FloatBuilder("tflite") if _is_float(graph) else QdqBuilder("tflite")
        self._values: dict[int, Tensor] = {}
        self._float_quantization = {} if self.builder.real else _float_boundary(graph)

    def input(self, i: int) -> None:
        """Add tensor number `i`, an input of the model."""
        tensor = self.graph.tensors[i]
        for axis, extent in enumerate(tensor.signature):
            if extent < 0 < axis:
                raise ModelError(
                    f"Input '{tensor.name}': dimension {axis} may vary. Convert the model with a fixed shape."
                )
        if min(tensor.shape, default=1) < 1:
            raise ModelError(f"Input '{tensor.name}' has shape {tensor.shape}. Convert the model with a fixed shape.")
        quantization = self.quantization(i)
        dtype = "uint8" if tensor.dtype == "uint8" else quantization.dtype
        self._values[i] = self.builder.input(tensor.name, tensor.shape, dtype, quantization)

    def define(self, node: Node, made: Tensor | list[Tensor]) -> None:
        """Say what the outputs of `node` are."""
        results = dict(zip(node.operator.outputs, [made] if isinstance(made, Tensor) else made, strict=True))
        for i, result in results.items():
            declared = self.graph.tensors[i].shape
            if result.shape != declared:
                raise ModelError(
                    f"{node}: the result has shape {result.shape}, the file says {declared}. Export it again."
                )
        self._values.update(results)

    def finish(self, name: str) -> Model:
        """Return the network once all operators are added."""
        for i in self.graph.outputs:
            tensor, value = self.graph.tensors[i], self.value(i)
            self.builder.output(tensor.name, value, "uint8" if tensor.dtype == "uint8" else value.quantization.dtype)
        return self.builder.finish(name)

    def value(self, i: int) -> Tensor:
        """Return tensor number `i`: a result so far or a constant."""
        if i in self._values:
            return self._values[i]
        tensor = self.graph.tensors[i]
        if tensor.values is None:
            raise ModelError(f"The TFLite file is damaged: tensor '{tensor.name}' is used before it is computed.")
        if self.builder.real:
            return self.builder.constant(tensor.real, REAL)
        shift = 128 if tensor.dtype == "uint8" else 0
        quantization = self.quantization(i)
        return self.builder.constant(tensor.values.astype(np.int32) - shift, quantization)

    def quantization(self, i: int) -> Quantization:
        """Return what tensor number `i` means once it is int8 or int16, or nothing in a float network."""
        if self.builder.real:
            return REAL
        if i in self._float_quantization:
            return self._float_quantization[i]
        tensor = self.graph.tensors[i]
        if tensor.dtype.startswith("float"):
            raise ModelError(
                f"The model is quantized in part: tensor '{tensor.name}', {self._use(i)}, is {tensor.dtype}. Convert "
                "it with full integer quantization (a representative dataset and int8 operators only), or not at all."
            )
        return _quantization(tensor)

    def _use(self, i: int) -> str:
        """Say which operator makes or takes tensor number `i`."""
        for operator in self.graph.operators:
            for verb, indices in (("made", operator.outputs), ("taken", operator.inputs)):
                if i in indices:
                    return f"{verb} by {Node(self, operator)}"
        return "an output of the model"


class Node:
    """One operator with its operands at hand."""

    def __init__(self, context: Context, operator: FileOperator) -> None:
        self.builder = context.builder
        self.options = operator.options
        self.operator = operator
        self._context = context
        self._tensors = context.graph.tensors

    def __str__(self) -> str:
        return f"{self.operator.kind} '{self.name}'"

    @property
    def name(self) -> str:
        return self._tensors[self.operator.outputs[0]].name

    @property
    def names(self) -> list[str]:
        return [self._tensors[i].name for i in self.operator.outputs]

    @property
    def to(self) -> Quantization:
        """Quantization of the result."""
        return self._context.quantization(self.operator.outputs[0])

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the result."""
        return self._tensors[self.operator.outputs[0]].shape

    @property
    def activation(self) -> Function | None:
        code = self.options["FusedActivationFunction"]
        if code not in _ACTIVATIONS:
            raise ModelError(f"{self}: fused activation {code} is not supported. Make it an operator of its own.")
        return _ACTIVATIONS[code]

    def has(self, i: int) -> bool:
        """Tell whether the optional input number `i` is there."""
        return i < len(self.operator.inputs) and self.operator.inputs[i] != -1

    def x(self, i: int = 0) -> Tensor:
        """Return input number `i`."""
        self._require(i)
        return self._context.value(self.operator.inputs[i])

    def xs(self) -> list[Tensor]:
        """Return all inputs."""
        return [self.x(i) for i in range(len(self.operator.inputs))]

    def constant(self, i: int) -> FileTensor:
        """Return input number `i`, which must be a constant."""
        self._require(i)
        tensor = self._tensors[self.operator.inputs[i]]
        if tensor.values is None:
            raise ModelError(f"{self}: input {i}, '{tensor.name}', must be constant. Convert the model with it fixed.")
        return tensor

    def integers(self, i: int) -> list[int]:
        """Return the elements of the constant input number `i`."""
        return [int(value) for value in np.ravel(_values(self.constant(i)))]

    def stored(self, i: int) -> float:
        """Return the first element of the constant input number `i` as the builder's tensors hold it."""
        tensor = self.constant(i)
        if self.builder.real:
            return float(tensor.real.ravel()[0])
        return self.integers(i)[0] - (128 if tensor.dtype == "uint8" else 0)

    def weight(self, i: int, axes: Sequence[int], channel_axis: int) -> Weight:
        """Return the filter at input number `i` with its axes reordered, output channels first."""
        tensor = self.constant(i)
        if self.builder.real:
            return Weight(np.ascontiguousarray(np.transpose(tensor.real, axes)), np.ones((), np.float32))
        values = _values(tensor)
        if tensor.dtype != "int8":
            raise ModelError(f"{self}: the weights '{tensor.name}' are {tensor.dtype}, int8 is supported.")
        if np.any(tensor.zero_point != 0):
            raise ModelError(
                f"{self}: the weights '{tensor.name}' have zero point {int(tensor.zero_point[0])}, 0 is supported. "
                "Quantize weights symmetrically."
            )
        if values.ndim != len(axes) or tensor.scale.size not in (1, values.shape[channel_axis]):
            raise ModelError(
                f"{self}: the weights '{tensor.name}' of shape {values.shape} have {tensor.scale.size} scales; "
                f"{len(axes)} dimensions and 1 scale, or one for each output channel, are expected."
            )
        scale = tensor.scale.reshape(()) if tensor.scale.size == 1 else tensor.scale
        return Weight(np.ascontiguousarray(np.transpose(values, axes)), scale)

    def bias(self, i: int, x: Tensor, channels: int) -> NDArray[Any] | None:
        """Return the bias at input number `i` of a layer of `x`, None without one.

        Sums of int16 inputs have the bias's type in TFLite, or the one that the options name, else 64 bits. In a float
        network it is float32.
        """
        if not self.has(i):
            narrow = self.options.get("QuantizedBiasType") == schema.TensorType.INT32
            return np.zeros(channels, np.int32) if narrow and x.quantization.dtype == "int16" else None
        tensor = self.constant(i)
        if self.builder.real:
            return tensor.real.ravel()
        allowed = ("int32", "int64") if x.quantization.dtype == "int16" else ("int32",)
        if tensor.dtype not in allowed:
            raise ModelError(
                f"{self}: the bias '{tensor.name}' is {tensor.dtype}, {' or '.join(allowed)} is supported with inputs "
                f"of {x.quantization.dtype}."
            )
        return _values(tensor).ravel()

    def _require(self, i: int) -> None:
        if not self.has(i):
            raise ModelError(f"{self}: input {i} is missing. The file is damaged; export it again.")


Operator = Callable[[Node], Tensor | list[Tensor]]
"""Adds one operator and returns what it makes."""


def _values(tensor: FileTensor) -> NDArray[Any]:
    assert tensor.values is not None
    return tensor.values


def _is_float(graph: FileGraph) -> bool:
    """Tell whether a network computes with float32 throughout; its weights may be stored in other ways."""
    computed = {*graph.inputs, *(i for operator in graph.operators for i in operator.outputs)}
    return all(graph.tensors[i].dtype == "float32" for i in computed)


def _quantization(tensor: FileTensor) -> Quantization:
    if tensor.dtype not in INTEGERS:
        raise ModelError(
            f"Tensor '{tensor.name}' is {tensor.dtype}; activations of int8, uint8 and int16 are supported."
        )
    if tensor.scale.size != 1 or tensor.zero_point.size != 1:
        raise ModelError(
            f"Tensor '{tensor.name}' has {tensor.scale.size} scales and {tensor.zero_point.size} zero points, an "
            "activation has one of each. Convert the model with full integer quantization."
        )
    zero_point = int(tensor.zero_point[0]) - (128 if tensor.dtype == "uint8" else 0)
    scale = float(tensor.scale[0])
    if not (0.0 < scale < float("inf")) or not -128 <= zero_point <= 127:
        raise ModelError(f"Tensor '{tensor.name}': scale {scale} or zero point {zero_point} is out of range.")
    if tensor.dtype != "int16":
        return Quantization(scale, zero_point)
    if zero_point:
        raise ModelError(
            f"Tensor '{tensor.name}' is int16 with zero point {zero_point}, 0 is supported. Quantize it symmetrically."
        )
    return Quantization(scale, 0, "int16")


def _float_boundary(graph: FileGraph) -> dict[int, Quantization]:
    """Return the quantization of each float tensor that is integer in the canonical form.

    These are the inputs that QUANTIZE takes, the results of DEQUANTIZE and the float results of functions with a
    fixed quantization.
    """
    result: dict[int, Quantization] = {}
    for i in graph.inputs:
        consumers = [operator for operator in graph.operators if i in operator.inputs]
        if graph.tensors[i].dtype == "float32" and consumers and all(o.kind == "QUANTIZE" for o in consumers):
            quantizations = {_quantization(graph.tensors[o.outputs[0]]) for o in consumers}
            if len(quantizations) == 1:
                result[i] = quantizations.pop()
    for operator in graph.operators:
        if operator.kind == "DEQUANTIZE":
            source = operator.inputs[0]
            if graph.tensors[source].dtype in INTEGERS:
                result[operator.outputs[0]] = _quantization(graph.tensors[source])
        elif operator.kind in _FIXED and graph.tensors[operator.outputs[0]].dtype == "float32":
            result[operator.outputs[0]] = _FIXED[operator.kind]
    return result
