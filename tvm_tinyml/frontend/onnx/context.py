"""The tensors of one ONNX graph while its operators are imported one by one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tvm_tinyml.errors import ModelError
from tvm_tinyml.frontend.onnx.graph import INTEGERS, TRANSPARENT, Constant, Graph, Node, Port
from tvm_tinyml.frontend.qdq import QdqBuilder, Quantization, Tensor, Weight
from tvm_tinyml.frontend.real import REAL, FloatBuilder
from tvm_tinyml.model import Model

TO_NHWC = (0, 2, 3, 1)
TO_NCHW = (0, 3, 1, 2)
_ADVICE = "Quantize weights and all activations in QDQ form, as onnxruntime.quantization.quantize_static does."


@dataclass(frozen=True)
class Value:
    """A tensor of the source as it is stored.

    Attributes
    ----------
    shape : as the source has it.
    image : None if the elements lie in the source's order. Else the tensor is an image (N, C, H, W), possibly flattened
        to (N, C * H * W), whose elements lie in the order N, H, W, C.
    """

    tensor: Tensor
    shape: tuple[int, ...]
    image: tuple[int, ...] | None = None

    @property
    def channels_last(self) -> bool:
        return self.image is not None and len(self.shape) == 4

    @property
    def flat(self) -> bool:
        return self.image is not None and len(self.shape) == 2


def plain_value(tensor: Tensor) -> Value:
    """Return the value that a tensor in the source's order holds."""
    return Value(tensor, tensor.shape)


def image_value(tensor: Tensor) -> Value:
    """Return the value that an NHWC tensor holds."""
    shape = tuple(tensor.shape[axis] for axis in TO_NCHW)
    return Value(tensor, shape, shape)


class Context:
    """What each tensor is so far, and how operators take and define them."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        # What is quantized by us follows TFLite.
        self.builder = FloatBuilder("tflite") if graph.is_float else QdqBuilder("onnx")
        self._fused: set[str] = set()
        self._integers = {port.name for port in graph.inputs if port.dtype in INTEGERS}
        self._values: dict[str, Value | Constant] = {}
        for node in graph.nodes:
            if node.kind == "DequantizeLinear" and node.inputs[0] in graph.constants:
                self.define(node.outputs[0], graph.dequantized(node))
        for port in graph.inputs:
            self.define(port.name, plain_value(self._input(port)))

    def finish(self, name: str) -> Model:
        """Return the network once all operators are added."""
        for port in self.graph.outputs:
            tensor = self.plain(self.value(port.name), port.name)
            self.builder.output(port.name, tensor, "uint8" if port.dtype == "uint8" else tensor.quantization.dtype)
        return self.builder.finish(name)

    def needs(self, node: Node) -> bool:
        """Tell whether `node` is still to be added: neither fused into another nor a constant."""
        return node.outputs[0] not in self._fused and node.outputs[0] not in self._values

    def fuse(self, node: Node) -> None:
        """Say that another operator computes `node` as well."""
        self._fused.add(node.outputs[0])

    def note_integers(self, node: Node) -> None:
        """Follow tensors that are integers in the source too: they may be moved, but not computed with."""
        if node.kind == "QuantizeLinear":
            self._integers.update(node.outputs)
        elif node.kind != "DequantizeLinear" and self._integers.intersection(node.inputs):
            if node.kind not in TRANSPARENT or node.kind in ("Clip", "Pad", "Relu"):
                raise node.refuse("it computes with integers. Put a DequantizeLinear before it.")
            self._integers.update(node.outputs)

    def define(self, name: str, value: Value | Constant) -> None:
        """Say what tensor `name` is."""
        self._values[name] = value

    def lookup(self, name: str) -> Value | Constant:
        """Return what tensor `name` is."""
        if name in self._values:
            return self._values[name]
        if name in self.graph.constants:
            values = self.graph.constants[name]
            raise ModelError(f"The model is not quantized: constant '{name}' is {values.dtype}. {_ADVICE}")
        raise ModelError(f"The ONNX file is damaged: tensor '{name}' is used before it is computed. Export it again.")

    def value(self, name: str) -> Value:
        """Return tensor `name` as an operand; a constant of uint8 becomes an int8 one."""
        single = self.graph.constants.get(name)
        if self.builder.real and (single is not None or isinstance(self.lookup(name), Constant)):
            return plain_value(self.builder.constant(self.real(name), REAL))
        if single is not None and single.size == 1 and single.dtype == np.float32 and name not in self._values:
            return plain_value(self._scalar(float(single.ravel()[0]), single.shape))
        value = self.lookup(name)
        if isinstance(value, Value):
            return value
        dtype = str(value.values.dtype)
        if dtype not in INTEGERS or value.scale.ndim:
            raise ModelError(
                f"Constant '{name}' is {dtype} with {value.scale.size} scales; as an operand int8, uint8 or int16 with "
                "one scale is supported."
            )
        shift = 128 if dtype == "uint8" else 0
        inside = "int16" if dtype == "int16" else "int8"
        quantization = Quantization(float(value.scale), int(value.zero_point) - shift, inside)
        return plain_value(self.builder.constant(value.values.astype(np.int32) - shift, quantization))

    def x(self, node: Node, i: int = 0) -> Value:
        """Return input number `i` of `node`."""
        if not node.has(i):
            raise node.refuse(f"input {i} is missing.")
        return self.value(node.inputs[i])

    def image(self, node: Node) -> Tensor:
        """Return the first input of `node`, an image, in NHWC."""
        value = self.x(node)
        if len(value.shape) != 4:
            raise node.refuse(f"its input has {len(value.shape)} dimensions; 4 (N, C, H, W) are supported.")
        return self.channels_last(value, node.inputs[0])

    def channels_last(self, value: Value, name: str) -> Tensor:
        """Return `value`, of at most four dimensions, in NHWC."""
        if value.channels_last:
            return value.tensor
        tensor = self.plain(value, name)
        tensor = self.builder.reshape(tensor, (1,) * (4 - len(tensor.shape)) + tensor.shape, name)
        return self.builder.permute(tensor, TO_NHWC, f"{name}_nhwc")

    def plain(self, value: Value, name: str) -> Tensor:
        """Return `value` with its elements in the source's order."""
        if value.image is None:
            return value.tensor
        n, c, h, w = value.image
        tensor = self.builder.reshape(value.tensor, (n, h, w, c), f"{name}_nhwc")
        tensor = self.builder.permute(tensor, TO_NCHW, f"{name}_nchw")
        return self.builder.reshape(tensor, value.shape, name)

    def aligned(self, values: Sequence[Value], names: Sequence[str]) -> tuple[list[Tensor], bool]:
        """Return `values` in one layout, and whether it is NHWC."""
        if any(value.channels_last for value in values) and all(len(value.shape) <= 4 for value in values):
            return [self.channels_last(value, name) for value, name in zip(values, names, strict=True)], True
        return [self.plain(value, name) for value, name in zip(values, names, strict=True)], False

    def stored(self, node: Node) -> tuple[Tensor, Callable[[int], int], Callable[[Tensor], Value]]:
        """Return the first input of `node` as it lies.

        With it come two functions: from an axis of the source to the tensor's, and from a result in the same layout to
        its value.
        """
        value = self.x(node)
        rank = len(value.shape)
        if value.channels_last:
            return value.tensor, lambda axis: TO_NCHW[axis % rank], image_value
        return self.plain(value, node.inputs[0]), lambda axis: axis % rank, plain_value

    def target(
        self,
        node: Node,
        name: str | None = None,
        inherit: Quantization | None = None,
        fixed: Quantization | None = None,
    ) -> Quantization:
        """Return the quantization of tensor `name`, by default the first output of `node`.

        Parameters
        ----------
        inherit : what it is when nothing quantizes the tensor.
        fixed : what it is when nothing quantizes the tensor and it is an output of the model.
        """
        if self.builder.real:
            return REAL
        name = name or node.outputs[0]
        quantization = self.graph.quantization(name) or inherit
        if quantization is None and name in [port.name for port in self.graph.outputs]:
            quantization = fixed
        if quantization is None:
            raise ModelError(
                f"The model is not quantized: tensor '{name}' of {node}, {self.graph.use(name)}, is float, or "
                f"quantized in two ways. {_ADVICE}"
            )
        return quantization

    def weight(self, node: Node, i: int, channel_axis: int) -> Weight:
        """Return the filter at input number `i`, its axes as in the source."""
        if self.builder.real:
            return Weight(self._real_weight(node, i), np.ones((), np.float32))
        constant = self.lookup(node.inputs[i])
        if isinstance(constant, Value):
            raise node.refuse(f"the weights '{node.inputs[i]}' must be constant.")
        values = constant.centered
        if constant.values.dtype == np.int32 or values.min() < -128 or values.max() > 127:
            raise node.refuse(
                f"the weights '{constant.name}' are {constant.values.dtype} and reach from {values.min()} to "
                f"{values.max()} around their zero point; int8 is supported. Quantize weights to int8, symmetrically."
            )
        if constant.scale.ndim and constant.axis != channel_axis:
            raise node.refuse(
                f"the weights '{constant.name}' have scales on axis {constant.axis}; output channels are axis "
                f"{channel_axis}."
            )
        if not np.all(constant.scale > 0):
            raise node.refuse(f"the weights '{constant.name}' have a scale that is not positive.")
        return Weight(values.astype(np.int8), constant.scale)

    def real(self, name: str) -> NDArray[np.float32]:
        """Return the numbers of a constant, whether it is stored as floats or as integers."""
        constant = self.constant(name)
        values = self.graph.constants[name] if constant is None else constant.real
        return values.astype(np.float32)

    def _real_weight(self, node: Node, i: int) -> NDArray[np.float32]:
        name = node.inputs[i]
        if self.constant(name) is None and name not in self.graph.constants:
            raise node.refuse(f"the weights '{name}' must be constant.")
        return self.real(name)

    def bias(self, node: Node, i: int) -> Constant | NDArray[Any] | None:
        """Return the bias at input number `i`, quantized or float, None without one."""
        if not node.has(i):
            return None
        return self.constant(node.inputs[i]) or self.graph.constant(node, i)

    def constant(self, name: str) -> Constant | None:
        """Return the quantized constant `name`, None if it is something else."""
        value = self._values.get(name)
        return value if isinstance(value, Constant) else None

    def number(self, node: Node, i: int, default: float) -> float:
        """Return the constant number at input number `i`."""
        if not node.has(i):
            return default
        constant = self.constant(node.inputs[i])
        values = self.graph.constant(node, i) if constant is None else constant.real
        if values.size != 1:
            raise node.refuse(f"input {i}, '{node.inputs[i]}', has {values.size} elements; 1 is supported.")
        return float(values.ravel()[0])

    def _scalar(self, number: float, shape: tuple[int, ...]) -> Tensor:
        scale = float(np.float32(abs(number) / 127)) or 1.0
        return self.builder.constant(np.full(shape, 127 * np.sign(number)), Quantization(scale, 0))

    def _input(self, port: Port) -> Tensor:
        if self.builder.real:
            return self.builder.input(port.name, port.shape, "float32", REAL)
        kind = "DequantizeLinear" if port.dtype in INTEGERS else "QuantizeLinear"
        if kind == "QuantizeLinear" and not port.dtype.startswith("float"):
            raise ModelError(f"Input '{port.name}' is {port.dtype}; float32, int8, uint8 and int16 are supported.")
        quantization = self.graph.quantization(port.name, kind)
        if quantization is None:
            raise ModelError(
                f"The model is not quantized: input '{port.name}' ({port.dtype}), {self.graph.use(port.name)}, has no "
                f"{kind} with one scale and zero point. {_ADVICE}"
            )
        dtype = "uint8" if port.dtype == "uint8" else quantization.dtype
        return self.builder.input(port.name, port.shape, dtype, quantization)


Operator = Callable[[Context, Node], None]
"""Adds one operator and defines what it makes."""
