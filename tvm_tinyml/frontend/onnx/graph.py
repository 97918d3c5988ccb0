"""Reads an ONNX model into plain Python objects: constants computed, dimensions fixed, quantization looked up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from numpy.typing import NDArray

from tvm_tinyml.errors import ModelError
from tvm_tinyml.frontend.qdq import Quantization

OPSETS = range(11, 23)
PLAIN_OPSET = 13
"""From it on, all that the importer reads looks alike; older models are converted to it."""

INTEGERS = ("int8", "uint8", "int16")
"""Types of activations."""

TRANSPARENT = (
    "Clip",
    "Concat",
    "Dropout",
    "Flatten",
    "GlobalMaxPool",
    "Identity",
    "MaxPool",
    "Pad",
    "Relu",
    "Reshape",
    "Resize",
    "Slice",
    "Split",
    "Squeeze",
    "Transpose",
    "Unsqueeze",
)
"""Operators that give the same integers whether a quantization comes after or before them."""


def parse(content: bytes, path: Path | None) -> onnx.ModelProto:
    """Parse the content of an ONNX file.

    Parameters
    ----------
    path : the file; beside it lie constants that it refers to.

    Raises
    ------
    ModelError : the content is no ONNX model or cut off, or a file that it refers to is missing.
    """
    where = f"'{path}'" if path else "The model"
    try:
        model = onnx.load_model_from_string(content)
    except DecodeError as error:
        raise ModelError(
            f"{where} ({len(content)} bytes) is neither a TFLite nor an ONNX model, or it is damaged or cut off. "
            "Pass a .tflite or .onnx file; export it again."
        ) from error
    if not model.graph.node or not model.opset_import:
        raise ModelError(f"{where} ({len(content)} bytes) has no operators. Pass a .tflite or .onnx file.")
    if path is not None:
        try:
            onnx.load_external_data_for_model(model, str(path.parent))
        except (OSError, onnx.checker.ValidationError) as error:
            raise ModelError(f"{where}: constants in a file of their own cannot be read: {error}") from error
    return model


@dataclass(frozen=True)
class Node:
    """An operator.

    Attributes
    ----------
    kind : the operator's type, with its domain unless that is ONNX's own.
    inputs : names of tensors; an optional one that is absent is empty.
    """

    kind: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]

    def __str__(self) -> str:
        return f"{self.kind} '{self.outputs[0]}'"

    def has(self, i: int) -> bool:
        """Tell whether the optional input number `i` is there."""
        return i < len(self.inputs) and self.inputs[i] != ""

    def refuse(self, reason: str) -> ModelError:
        """Return the error that says why this operator cannot be imported."""
        return ModelError(f"{self}: {reason}")


@dataclass(frozen=True)
class Port:
    """An input or output of the graph; `dtype` as numpy calls it."""

    name: str
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class Constant:
    """A constant that a DequantizeLinear made: real value = scale * (values - zero_point).

    Attributes
    ----------
    scale, zero_point : of shape () or [extent of `axis`].
    """

    name: str
    values: NDArray[Any]
    scale: NDArray[np.float32]
    zero_point: NDArray[Any]
    axis: int

    @property
    def centered(self) -> NDArray[np.int64]:
        """Values minus zero point."""
        centered: NDArray[np.int64] = self.values.astype(np.int64) - self._spread(self.zero_point.astype(np.int64))
        return centered

    @property
    def real(self) -> NDArray[np.float64]:
        real: NDArray[np.float64] = self.centered * self._spread(self.scale.astype(np.float64))
        return real

    def _spread(self, parameter: NDArray[Any]) -> NDArray[Any]:
        if parameter.ndim == 0:
            return parameter
        return parameter.reshape([-1 if i == self.axis else 1 for i in range(self.values.ndim)])


class Graph:
    """The graph of a model.

    Attributes
    ----------
    nodes : in the order of execution, without those that only compute constants.
    constants : value of each constant tensor, integer or float.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self._opset = _opset(model)
        if self._opset < PLAIN_OPSET:
            model, self._opset = onnx.version_converter.convert_version(model, PLAIN_OPSET), PLAIN_OPSET
        graph = model.graph
        if model.functions:
            raise ModelError(
                "The ONNX model has functions of its own. Inline them (onnx.inliner.inline_local_functions)."
            )
        self.constants: dict[str, NDArray[Any]] = {i.name: onnx.numpy_helper.to_array(i) for i in graph.initializer}
        self.inputs = [_input(value) for value in graph.input if value.name not in self.constants]
        self.outputs = [Port(value.name, (), _dtype(value)) for value in graph.output]
        shapes = _shapes(model, self.inputs) if any(node.op_type == "Shape" for node in graph.node) else {}
        self.nodes = [_node(proto) for proto in graph.node if not self._compute(proto, shapes)]
        self._quantizations: dict[tuple[str, str], Quantization | None] = {}
        self._consumers: dict[str, list[Node]] = {}
        for node in self.nodes:
            for name in node.inputs:
                self._consumers.setdefault(name, []).append(node)

    @property
    def is_float(self) -> bool:
        """Whether it computes with floats throughout; its weights may be stored in other ways."""
        return not any(node.kind == "QuantizeLinear" for node in self.nodes) and all(
            port.dtype.startswith("float") for port in (*self.inputs, *self.outputs)
        )

    def only_consumer(self, name: str) -> Node | None:
        """Return the one operator that takes tensor `name`, None if another or the graph's output does."""
        consumers = self._consumers.get(name, [])
        if len(consumers) != 1 or name in [port.name for port in self.outputs]:
            return None
        return consumers[0]

    def use(self, name: str) -> str:
        """Say what takes tensor `name`."""
        return f"taken by {self._consumers[name][0]}" if name in self._consumers else "an output of the model"

    def quantization(self, name: str, kind: str = "QuantizeLinear") -> Quantization | None:
        """Return how the consumers of tensor `name` quantize it, None when they do not or not all in the same way.

        `kind` is DequantizeLinear for a tensor of integers.
        """
        key = name, kind
        if key not in self._quantizations:
            self._quantizations[key] = self._find_quantization(name, kind)
        return self._quantizations[key]

    def _find_quantization(self, name: str, kind: str) -> Quantization | None:
        found: set[Quantization | None] = set()
        for node in self._consumers.get(name, []):
            if node.kind == kind:
                found.add(self.parameters(node))
            elif node.kind in TRANSPARENT:
                found.update(self.quantization(output, kind) for output in node.outputs)
            else:
                found.add(None)
        return found.pop() if len(found) == 1 else None

    def parameters(self, node: Node) -> Quantization:
        """Return scale and zero point of a QuantizeLinear or DequantizeLinear of an activation; uint8 is made int8."""
        scale = self.constant(node, 1)
        if scale.size != 1:
            raise node.refuse(f"{scale.size} scales; an activation has one.")
        dtype, zero_point = "uint8", 0
        if node.has(2):
            value = self.constant(node, 2)
            dtype, zero_point = str(value.dtype), int(value.ravel()[0])
        elif node.attributes.get("output_dtype", 0):
            dtype = str(onnx.helper.tensor_dtype_to_np_dtype(node.attributes["output_dtype"]))
        if dtype not in INTEGERS:
            raise node.refuse(f"quantization to {dtype}; int8, uint8 and int16 are supported.")
        number = float(np.float32(scale.ravel()[0]))
        if not 0.0 < number < float("inf"):
            raise node.refuse(f"scale {number} is not positive.")
        if dtype == "int16":
            if zero_point:
                raise node.refuse(f"quantization to int16 with zero point {zero_point}; 0 is supported.")
            return Quantization(number, 0, dtype)
        return Quantization(number, zero_point - (128 if dtype == "uint8" else 0))

    def dequantized(self, node: Node) -> Constant:
        """Return the constant that a DequantizeLinear makes of integers."""
        values = self.constants[node.inputs[0]]
        scale = self.constant(node, 1)
        zero_point = self.constant(node, 2) if node.has(2) else np.zeros(scale.shape, values.dtype)
        if scale.size == zero_point.size == 1:
            scale, zero_point = scale.reshape(()), zero_point.reshape(())
        if node.attributes.get("block_size", 0) or scale.ndim > 1 or scale.shape != zero_point.shape:
            raise node.refuse("scales in blocks are not supported; use one, or one for each output channel.")
        if str(values.dtype) not in (*INTEGERS, "int32"):
            raise node.refuse(f"constants of type {values.dtype} are not supported; use int8, uint8, int16 or int32.")
        axis = node.attributes.get("axis", 1) % max(values.ndim, 1)
        if scale.ndim and scale.size != values.shape[axis]:
            raise node.refuse(f"{scale.size} scales for {values.shape[axis]} channels on axis {axis}.")
        return Constant(node.inputs[0], values, scale.astype(np.float32), zero_point, axis)

    def constant(self, node: Node, i: int) -> NDArray[Any]:
        """Return input number `i` of `node`, which must be constant."""
        if not node.has(i):
            raise node.refuse(f"input {i} is missing.")
        name = node.inputs[i]
        if name not in self.constants:
            raise node.refuse(f"input {i}, '{name}', must be constant. Fold constants before the export.")
        return self.constants[name]

    def integers(self, node: Node, i: int) -> list[int]:
        """Return the elements of the constant input number `i`."""
        return [int(value) for value in self.constant(node, i).ravel()]

    def _compute(self, proto: onnx.NodeProto, shapes: dict[str, tuple[int, ...]]) -> bool:
        """Compute the outputs of `proto` if its inputs are constant, and tell whether they are."""
        if proto.op_type == "Constant" and proto.domain in ("", "ai.onnx"):
            self.constants[proto.output[0]] = _constant(proto)
            return True
        if proto.op_type == "Shape" and proto.input[0] in shapes:
            feeds = {proto.input[0]: np.broadcast_to(np.float32(0), shapes[proto.input[0]])}
        else:
            feeds = {name: self.constants[name] for name in proto.input if name in self.constants}
            names = {name for name in proto.input if name}
            nested = any(attribute.type == onnx.AttributeProto.GRAPH for attribute in proto.attribute)
            if not names or feeds.keys() != names or nested or proto.op_type == "DequantizeLinear":
                return False
        if proto.op_type == "QuantizeLinear":
            self.constants[proto.output[0]] = self._quantized(_node(proto))
        else:
            self.constants.update(_evaluate(proto, feeds, self._opset))
        return True

    def _quantized(self, node: Node) -> NDArray[Any]:
        """Return the constant that a QuantizeLinear makes; ONNX's own reference has it from opset 19 only."""
        values, scale = self.constant(node, 0), self.constant(node, 1)
        zero_point = self.constant(node, 2) if node.has(2) else np.zeros(scale.shape, np.uint8)
        if scale.size > 1:
            spread = [-1 if i == node.attributes.get("axis", 1) % values.ndim else 1 for i in range(values.ndim)]
            scale, zero_point = scale.reshape(spread), zero_point.reshape(spread)
        limits = np.iinfo(zero_point.dtype)
        integers: NDArray[Any] = np.clip(np.rint(values / scale) + zero_point, limits.min, limits.max)
        return integers.astype(zero_point.dtype)


def _opset(model: onnx.ModelProto) -> int:
    versions = [entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")]
    if not versions or versions[0] not in OPSETS:
        raise ModelError(
            f"The ONNX model has opset {versions[0] if versions else 'none'}, {OPSETS[0]} to {OPSETS[-1]} are "
            "supported. Convert it with onnx.version_converter.convert_version."
        )
    return int(versions[0])


def _dtype(value: onnx.ValueInfoProto) -> str:
    return str(np.dtype(onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)))


def _input(value: onnx.ValueInfoProto) -> Port:
    shape = []
    for axis, dimension in enumerate(value.type.tensor_type.shape.dim):
        extent = dimension.dim_value
        if extent < 1:
            if axis > 0:
                raise ModelError(
                    f"Input '{value.name}': dimension {axis} ({dimension.dim_param or 'unknown'}) is not fixed. Export "
                    "the model with static shapes; only the batch, dimension 0, may vary and becomes 1."
                )
            extent = 1
        shape.append(extent)
    return Port(value.name, tuple(shape), _dtype(value))


def _node(proto: onnx.NodeProto) -> Node:
    kind = proto.op_type if proto.domain in ("", "ai.onnx") else f"{proto.domain}.{proto.op_type}"
    attributes = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in proto.attribute}
    attributes = {name: value.decode() if isinstance(value, bytes) else value for name, value in attributes.items()}
    return Node(kind, tuple(proto.input), tuple(proto.output), attributes)


def _constant(proto: onnx.NodeProto) -> NDArray[Any]:
    value = onnx.helper.get_attribute_value(proto.attribute[0])
    return onnx.numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else np.array(value)


def _shapes(model: onnx.ModelProto, inputs: Sequence[Port]) -> dict[str, tuple[int, ...]]:
    """Return the shape of each tensor that has a static one."""
    fixed = onnx.ModelProto()
    fixed.CopyFrom(model)
    ports = {port.name: port for port in inputs}
    for value in fixed.graph.input:
        if value.name in ports:
            for dimension, extent in zip(value.type.tensor_type.shape.dim, ports[value.name].shape, strict=True):
                dimension.dim_value = extent
    del fixed.graph.value_info[:]
    graph = onnx.shape_inference.infer_shapes(fixed, data_prop=True).graph
    shapes = {
        value.name: tuple(dimension.dim_value for dimension in value.type.tensor_type.shape.dim)
        for value in [*graph.value_info, *graph.input]
        if value.type.tensor_type.HasField("shape")
    }
    return {name: shape for name, shape in shapes.items() if all(shape)}


def _evaluate(proto: onnx.NodeProto, feeds: Mapping[str, NDArray[Any]], opset: int) -> dict[str, NDArray[Any]]:
    """Return the outputs of one operator, computed by ONNX's own reference."""
    from onnx.reference import ReferenceEvaluator  # takes half a second

    unknown = onnx.TensorProto.UNDEFINED
    inputs = [onnx.helper.make_tensor_value_info(name, unknown, None) for name in feeds]
    outputs = [onnx.helper.make_tensor_value_info(name, unknown, None) for name in proto.output if name]
    graph = onnx.helper.make_graph([proto], "constant", inputs, outputs)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)])
    try:
        values = ReferenceEvaluator(model).run(None, dict(feeds))
    except Exception as error:
        raise ModelError(
            f"{proto.op_type} '{proto.output[0]}' cannot be computed from its constants: {error}"
        ) from error
    return {value.name: np.asarray(result) for value, result in zip(outputs, values, strict=True)}
