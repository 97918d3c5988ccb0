"""Seeded ONNX networks in QDQ form with random weights: scales fit the values, so activations use their range.

:class:`QdqGraph` builds such a model node by node and computes each tensor with ONNX's own reference on the way; the
functions below it build whole networks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import ArrayLike, NDArray
from onnx.reference import ReferenceEvaluator

Array = NDArray[Any]

MOVING = ("Dropout", "Flatten", "Identity", "MaxPool", "Reshape", "Squeeze", "Transpose")
"""Operators whose result keeps the scale of their operand."""


@dataclass(frozen=True)
class OnnxNetwork:
    """A model in QDQ form with float inputs and outputs, unless its builder made them integer."""

    name: str
    model: onnx.ModelProto
    shapes: dict[str, tuple[int, ...]]

    def random_inputs(self, seed: int) -> dict[str, Array]:
        """One float32 array per input, normally distributed."""
        rng = np.random.default_rng(seed)
        return {name: rng.normal(size=shape).astype(np.float32) for name, shape in self.shapes.items()}


class QdqGraph:
    """Builds a QDQ model.

    Tensors are names. Their float values on one random sample are at hand in `values`, with all quantization so far.

    Parameters
    ----------
    activations : type of quantized activations: int8, uint8 or, from opset 21 on, int16.
    per_channel : weights have one scale for each output channel.
    opset : of the model.
    """

    def __init__(self, seed: int, *, activations: str = "int8", per_channel: bool = True, opset: int = 17) -> None:
        self.rng = np.random.default_rng(seed)
        self.values: dict[str, Array] = {}
        self.activations = activations
        self._per_channel = per_channel
        self._opset = opset
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []
        self._inputs: list[onnx.ValueInfoProto] = []
        self._scales: dict[str, Array] = {}

    def input(self, shape: Sequence[int], *, batch: str | None = None, quantized: bool = True) -> str:
        """Add a float input and quantize it; `batch` names a symbolic first dimension."""
        name = f"input_{len(self._inputs)}" if self._inputs else "input"
        dims = [batch or shape[0], *shape[1:]]
        self._inputs.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, dims))
        self.values[name] = self.rng.normal(size=shape).astype(np.float32)
        return self.quantized(name) if quantized else name

    def integer_input(self, shape: Sequence[int], scale: float, zero_point: int) -> str:
        """Add an input of the activations' type and dequantize it."""
        name = f"input_{len(self._inputs)}" if self._inputs else "input"
        dtype = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(self.activations))
        self._inputs.append(onnx.helper.make_tensor_value_info(name, dtype, list(shape)))
        limits = np.iinfo(self.activations)
        self.values[name] = self.rng.integers(limits.min, limits.max + 1, shape).astype(self.activations)
        parameters = self.constant(np.float32(scale)), self.constant(np.array(zero_point, self.activations))
        result: str = self.node("DequantizeLinear", name, *parameters)
        self._scales[result] = np.asarray(scale, np.float32)
        return result

    def constant(self, values: ArrayLike) -> str:
        """Add an initializer."""
        array = np.asarray(values)
        name = f"constant_{len(self._constants)}"
        self._constants.append(onnx.numpy_helper.from_array(array, name))
        self.values[name] = array
        return name

    def node(
        self, kind: str, *inputs: str, outputs: int = 1, domain: str = "", value: Array | None = None, **attributes: Any
    ) -> Any:
        """Add an operator; its output's name, or a list of `outputs` names. With `value` nothing is computed."""
        names = [f"{kind.lower()}_{len(self._nodes)}" + (f"_{i}" if i else "") for i in range(outputs)]
        node = onnx.helper.make_node(kind, inputs, names, domain=domain, **attributes)
        self._nodes.append(node)
        self.values.update(zip(names, self._evaluate(node) if value is None else [value] * outputs, strict=True))
        if kind in MOVING and inputs[0] in self._scales:
            self._scales[names[0]] = self._scales[inputs[0]]
        return names[0] if outputs == 1 else names

    def quantized(self, x: str, *, low: float | None = None, high: float | None = None) -> str:
        """Put QuantizeLinear and DequantizeLinear after `x`; its range is that of its values unless given."""
        values = self.values[x]
        scale, zero_point = self._range(
            min(float(values.min()), 0.0) if low is None else low,
            max(float(values.max()), 0.0) if high is None else high,
        )
        return self.requantized(x, scale, zero_point)

    def requantized(self, x: str, scale: float, zero_point: int) -> str:
        """Put QuantizeLinear and DequantizeLinear with these parameters after `x`."""
        parameters = self.constant(np.float32(scale)), self.constant(np.array(zero_point, self.activations))
        result: str = self.node("DequantizeLinear", self.node("QuantizeLinear", x, *parameters), *parameters)
        self._scales[result] = np.asarray(scale, np.float32)
        return result

    def weight(self, values: Array, axis: int = 0) -> str:
        """Add an int8 constant, symmetric, with scales along `axis`, and dequantize it."""
        others = tuple(i for i in range(values.ndim) if i != axis)
        peak = np.abs(values).max(others if self._per_channel else None)
        scale = np.maximum(peak / 127, 1e-6).astype(np.float32)
        spread = scale.reshape([-1 if i == axis else 1 for i in range(values.ndim)]) if scale.ndim else scale
        integers = np.clip(np.rint(values / spread), -127, 127).astype(np.int8)
        attributes: dict[str, Any] = {"axis": axis} if scale.ndim else {}
        parameters = self.constant(scale), self.constant(np.zeros(scale.shape, np.int8))
        result: str = self.node("DequantizeLinear", self.constant(integers), *parameters, **attributes)
        self._scales[result] = scale
        return result

    def bias(self, values: Array, x: str, weight: str) -> str:
        """Add an int32 constant in units of input scale * weight scale, and dequantize it."""
        scales = self._scales[x] * self._scales[weight]
        scale = np.resize(scales, values.shape).astype(np.float32)  # of one group for each group
        integers = np.rint(values / scale).astype(np.int32)
        parameters = self.constant(scale), self.constant(np.zeros(scale.shape, np.int32))
        return str(self.node("DequantizeLinear", self.constant(integers), *parameters, axis=0))

    def conv(
        self,
        x: str,
        channels: int,
        kernel: Sequence[int] = (3, 3),
        *,
        group: int = 1,
        activation: str | None = None,
        bias: bool = True,
        **attributes: Any,
    ) -> str:
        """Add a Conv with random weights, an activation (``Relu``) and its quantization."""
        depth = self.values[x].shape[1] // group
        scale = 1 / np.sqrt(depth * np.prod(kernel))
        weight = self.weight(self.rng.normal(0, scale, (channels, depth, *kernel)))
        parameters = [self.bias(self.rng.normal(0, 0.3, channels), x, weight)] if bias else []
        y = self.node("Conv", x, weight, *parameters, group=group, kernel_shape=list(kernel), **attributes)
        return self.quantized(self.node(activation, y) if activation else y)

    def conv_transpose(
        self,
        x: str,
        channels: int,
        kernel: Sequence[int] = (3, 3),
        *,
        group: int = 1,
        activation: str | None = None,
        bias: bool = True,
        **attributes: Any,
    ) -> str:
        """Add a ConvTranspose as `conv` does a Conv; the output channels of all groups share their scales."""
        depth = self.values[x].shape[1]
        scale = 1 / np.sqrt(depth // group * np.prod(kernel))
        weight = self.weight(self.rng.normal(0, scale, (depth, channels // group, *kernel)), axis=1)
        parameters = [self.bias(self.rng.normal(0, 0.3, channels), x, weight)] if bias else []
        value = _transposed(self.values[x], self.values[weight], group, **attributes)
        if parameters:
            value = value + self.values[parameters[0]].reshape(-1, 1, 1)
        attributes |= {"group": group, "kernel_shape": list(kernel)}
        y = self.node("ConvTranspose", x, weight, *parameters, value=value, **attributes)
        return self.quantized(self.node(activation, y) if activation else y)

    def gemm(self, x: str, units: int, *, activation: str | None = None) -> str:
        """Add a Gemm with random weights [units, depth], an activation and its quantization."""
        depth = self.values[x].shape[1]
        weight = self.weight(self.rng.normal(0, 1 / np.sqrt(depth), (units, depth)))
        bias = self.bias(self.rng.normal(0, 0.3, units), x, weight)
        y = self.node("Gemm", x, weight, bias, transB=1)
        return self.quantized(self.node(activation, y) if activation else y)

    def last(self, kind: str) -> str:
        """Return the output of the last node of that kind."""
        return str(next(node.output[0] for node in reversed(self._nodes) if node.op_type == kind))

    def finish(self, name: str, *outputs: str) -> OnnxNetwork:
        """Return the model; `outputs` are tensors of any type."""
        results = [_info(output, self.values[output]) for output in outputs]
        graph = onnx.helper.make_graph(self._nodes, name, self._inputs, results, self._constants)
        opsets = [onnx.helper.make_opsetid("", self._opset)]
        model = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=8, producer_name="benchmarks")
        return OnnxNetwork(name, model, {value.name: self.values[value.name].shape for value in self._inputs})

    def _range(self, low: float, high: float) -> tuple[float, int]:
        limits = np.iinfo(self.activations)
        if self.activations == "int16":
            return float(np.float32(max(high, -low, 1e-3) / limits.max)), 0
        scale = np.float32(max(high - low, 1e-3) / 255)
        return float(scale), int(np.clip(np.rint(limits.min - low / scale), limits.min, limits.max))

    def _evaluate(self, node: onnx.NodeProto) -> list[Array]:
        feeds = {name: self.values[name] for name in node.input if name}
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            axis = onnx.helper.get_node_attr_value(node, "axis") if node.attribute else 0
            x, scale, zero_point = (self.values[name] for name in node.input)
            return [_linear(node.op_type, x, scale, zero_point, axis)]
        inputs = [_info(name, values) for name, values in feeds.items()]
        outputs = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.UNDEFINED, None) for name in node.output]
        graph = onnx.helper.make_graph([node], "one", inputs, outputs)
        model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", self._opset)])
        return [np.asarray(result) for result in ReferenceEvaluator(model).run(None, feeds)]


def _info(name: str, values: Array) -> onnx.ValueInfoProto:
    dtype = onnx.helper.np_dtype_to_tensor_dtype(values.dtype)
    return onnx.helper.make_tensor_value_info(name, dtype, values.shape)


def _linear(kind: str, x: Array, scale: Array, zero_point: Array, axis: int) -> Array:
    """Compute QuantizeLinear or DequantizeLinear; ONNX's reference has them from opset 19 only."""
    if scale.ndim:
        spread = [-1 if i == axis else 1 for i in range(x.ndim)]
        scale, zero_point = scale.reshape(spread), zero_point.reshape(spread)
    if kind == "DequantizeLinear":
        return np.asarray((x.astype(np.int32) - zero_point.astype(np.int32)) * scale, np.float32)
    limits = np.iinfo(zero_point.dtype)
    return np.asarray(np.clip(np.rint(x / scale) + zero_point, limits.min, limits.max), zero_point.dtype)


def _transposed(
    x: Array,
    weight: Array,
    group: int,
    *,
    strides: Sequence[int] = (1, 1),
    dilations: Sequence[int] = (1, 1),
    pads: Sequence[int] = (0, 0, 0, 0),
    output_padding: Sequence[int] = (0, 0),
    output_shape: Sequence[int] = (),
    auto_pad: str = "NOTSET",
) -> Array:
    """Compute ConvTranspose without a bias; ONNX's reference has it of one group only, and not of every size."""
    (batch, depth, *size), (_, units, *kernel) = x.shape, weight.shape
    images = x.reshape(batch, group, depth // group, *size)
    filters = weight.reshape(group, depth // group, units, *kernel)
    last = [(n - 1) * s + 1 for n, s in zip(size, strides, strict=True)]
    reach = [(k - 1) * d + more for k, d, more in zip(kernel, dilations, output_padding, strict=True)]
    full = np.zeros((batch, group * units, *(n + r for n, r in zip(last, reach, strict=True))), np.float32)
    for tap in np.ndindex(*kernel):
        rows, columns = (slice(i * d, i * d + n, s) for i, d, n, s in zip(tap, dilations, last, strides, strict=True))
        products = np.einsum("ngchw,gcu->nguhw", images, filters[..., tap[0], tap[1]])
        full[:, :, rows, columns] += products.reshape(batch, group * units, *size)
    if auto_pad.startswith("SAME") and not output_shape:
        output_shape = [n * s for n, s in zip(size, strides, strict=True)]
    for axis in (0, 1):
        extent = full.shape[2 + axis]
        first, wanted = pads[axis], extent - pads[axis] - pads[axis + 2]
        if output_shape:
            wanted = output_shape[axis]
            total = max(extent - wanted, 0)
            first = total // 2 if auto_pad == "SAME_UPPER" else total - total // 2
        longer = np.concatenate([full, np.zeros_like(full)], 2 + axis)  # what no filter reaches is zero
        full = np.take(longer, range(first, first + wanted), 2 + axis)
    return full


def convolutional(seed: int = 0, activations: str = "int8") -> OnnxNetwork:
    """Build a CNN on an image of 3x16x16: three convolutions, max pooling, two dense layers, 10 classes."""
    graph = QdqGraph(seed, activations=activations)
    x = graph.input((1, 3, 16, 16))
    for channels in (8, 16):
        x = graph.conv(x, channels, activation="Relu", pads=[1, 1, 1, 1])
        x = graph.quantized(graph.node("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2]))
    x = graph.conv(x, 16, activation="Relu")
    x = graph.gemm(graph.node("Flatten", x), 32, activation="Relu")
    return _classify(graph, "cnn", x)


def depthwise_separable(seed: int = 0, activations: str = "int8") -> OnnxNetwork:
    """Build a depthwise separable network on an image of 1x20x20, 10 classes."""
    graph = QdqGraph(seed, activations=activations)
    x = graph.conv(graph.input((1, 1, 20, 20)), 16, activation="Relu", strides=[2, 2], auto_pad="SAME_UPPER")
    for channels, stride in [(16, 1), (24, 2), (24, 1)]:
        depth = graph.values[x].shape[1]
        x = graph.conv(x, depth, group=depth, activation="Relu", strides=[stride] * 2, pads=[1, 1, 1, 1])
        x = graph.conv(x, channels, (1, 1), activation="Relu")
    x = graph.quantized(graph.node("GlobalAveragePool", x))
    return _classify(graph, "ds_cnn", graph.node("Flatten", x))


def residual(seed: int = 0, activations: str = "int8") -> OnnxNetwork:
    """Build a residual network on an image of 3x16x16, 10 classes."""
    graph = QdqGraph(seed, activations=activations)
    x = graph.conv(graph.input((1, 3, 16, 16)), 8, activation="Relu", pads=[1, 1, 1, 1])
    for channels, stride in [(8, 1), (16, 2)]:
        y = graph.conv(x, channels, activation="Relu", pads=[1, 1, 1, 1], strides=[stride] * 2)
        y = graph.conv(y, channels, pads=[1, 1, 1, 1])
        if stride > 1:
            x = graph.conv(x, channels, (1, 1), strides=[stride] * 2)
        x = graph.quantized(graph.node("Relu", graph.node("Add", x, y)))
    x = graph.quantized(graph.node("GlobalAveragePool", x))
    return _classify(graph, "resnet", graph.node("Flatten", x))


def _classify(graph: QdqGraph, name: str, x: str) -> OnnxNetwork:
    probabilities = graph.node("Softmax", graph.gemm(x, 10))
    return graph.finish(name, graph.requantized(probabilities, 1 / 256, np.iinfo(graph.activations).min))


NETWORKS = {"cnn": convolutional, "ds_cnn": depthwise_separable, "resnet": residual}
"""Every network of this file by its name."""
