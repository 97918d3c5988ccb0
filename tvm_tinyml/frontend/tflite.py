"""Imports an int8 TFLite model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import numpy as np
import tflite as schema
from numpy.typing import NDArray
from tvm import relax

from tvm_tinyml.errors import ModelError
from tvm_tinyml.frontend import qdq
from tvm_tinyml.frontend.qdq import Function, QdqBuilder, Quantization, Tensor, Weight
from tvm_tinyml.frontend.tflite_file import FileGraph, FileOperator, FileTensor, read
from tvm_tinyml.model import Model

_ACTIVATIONS: dict[int, Function | None] = {
    schema.ActivationFunctionType.NONE: None,
    schema.ActivationFunctionType.RELU: qdq.RELU,
    schema.ActivationFunctionType.RELU6: qdq.clip(0.0, 6.0),
    schema.ActivationFunctionType.RELU_N1_TO_1: qdq.clip(-1.0, 1.0),
}

_FIXED = {"SOFTMAX": qdq.UNIT_INTERVAL, "LOGISTIC": qdq.UNIT_INTERVAL, "TANH": qdq.SYMMETRIC_UNIT}
"""Quantization of a float output of the model that one of these makes."""


def load(content: bytes, name: str) -> Model:
    """Import the bytes of a TFLite file.

    Raises
    ------
    ModelError : see :func:`tvm_tinyml.frontend.load`.
    """
    with qdq.importing("The TFLite model"):
        return _Import(read(content)).run(name)


class _Import:
    """The values of one graph while its operators are added one by one."""

    def __init__(self, graph: FileGraph) -> None:
        self.graph = graph
        self.builder = QdqBuilder("tflite")
        self.values: dict[int, Tensor] = {}
        self.float_quantization = _float_boundary(graph)

    def run(self, name: str) -> Model:
        _check_supported(self.graph)
        for i in self.graph.inputs:
            self.values[i] = self._input(i)
        for operator in self.graph.operators:
            node = _Node(self, operator)
            with qdq.importing(node):
                made = _OPERATORS[operator.kind](node)
                results = dict(zip(operator.outputs, [made] if isinstance(made, Tensor) else made, strict=True))
            for i, result in results.items():
                self._check_shape(node, i, result)
            self.values.update(results)
        for i in self.graph.outputs:
            tensor = self.graph.tensors[i]
            self.builder.output(tensor.name, self.value(i), "uint8" if tensor.dtype == "uint8" else "int8")
        return self.builder.finish(name)

    def value(self, i: int) -> Tensor:
        """Return tensor number `i`: a result so far or a constant."""
        if i in self.values:
            return self.values[i]
        tensor = self.graph.tensors[i]
        if tensor.values is None:
            raise ModelError(f"The TFLite file is damaged: tensor '{tensor.name}' is used before it is computed.")
        shift = 128 if tensor.dtype == "uint8" else 0
        quantization = self.quantization(i)
        return self.builder.constant((tensor.values.astype(np.int16) - shift).astype(np.int8), quantization)

    def quantization(self, i: int) -> Quantization:
        """Return what tensor number `i` means once it is int8."""
        if i in self.float_quantization:
            return self.float_quantization[i]
        tensor = self.graph.tensors[i]
        if tensor.dtype.startswith("float"):
            raise ModelError(
                f"The model is not quantized: tensor '{tensor.name}', {self._use(i)}, is {tensor.dtype}. Convert it "
                "with full integer quantization (a representative dataset and int8 operators only)."
            )
        return _quantization(tensor)

    def _use(self, i: int) -> str:
        """Say which operator makes or takes tensor number `i`."""
        for operator in self.graph.operators:
            for verb, indices in (("made", operator.outputs), ("taken", operator.inputs)):
                if i in indices:
                    return f"{verb} by {_Node(self, operator)}"
        return "an output of the model"

    def _input(self, i: int) -> Tensor:
        tensor = self.graph.tensors[i]
        for axis, extent in enumerate(tensor.signature):
            if extent < 0 < axis:
                raise ModelError(
                    f"Input '{tensor.name}': dimension {axis} may vary. Convert the model with a fixed shape."
                )
        if min(tensor.shape, default=1) < 1:
            raise ModelError(f"Input '{tensor.name}' has shape {tensor.shape}. Convert the model with a fixed shape.")
        dtype = "uint8" if tensor.dtype == "uint8" else "int8"
        return self.builder.input(tensor.name, tensor.shape, dtype, self.quantization(i))

    def _check_shape(self, node: _Node, i: int, result: Tensor) -> None:
        declared = self.graph.tensors[i].shape
        if result.shape != declared:
            raise ModelError(f"{node}: the result has shape {result.shape}, the file says {declared}. Export it again.")


class _Node:
    """One operator with its operands at hand."""

    def __init__(self, context: _Import, operator: FileOperator) -> None:
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

    def weight(self, i: int, axes: Sequence[int], channel_axis: int) -> Weight:
        """Return the filter at input number `i` with its axes reordered, output channels first."""
        tensor = self.constant(i)
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

    def bias(self, i: int) -> NDArray[np.int32] | None:
        """Return the bias at input number `i`, None without one."""
        if not self.has(i):
            return None
        tensor = self.constant(i)
        if tensor.dtype != "int32":
            raise ModelError(f"{self}: the bias '{tensor.name}' is {tensor.dtype}, int32 is supported.")
        return _values(tensor).ravel()

    def _require(self, i: int) -> None:
        if not self.has(i):
            raise ModelError(f"{self}: input {i} is missing. The file is damaged; export it again.")


def _values(tensor: FileTensor) -> NDArray[Any]:
    assert tensor.values is not None
    return tensor.values


def _check_supported(graph: FileGraph) -> None:
    unknown = [
        f"{operator.kind} '{graph.tensors[operator.outputs[0]].name}'"
        for operator in graph.operators
        if operator.kind not in _OPERATORS
    ]
    if unknown:
        raise ModelError(f"Operators that are not supported: {', '.join(unknown)}. Supported: {', '.join(_OPERATORS)}.")


def _quantization(tensor: FileTensor) -> Quantization:
    if tensor.dtype not in ("int8", "uint8"):
        raise ModelError(f"Tensor '{tensor.name}' is {tensor.dtype}; activations of int8 and uint8 are supported.")
    if tensor.scale.size != 1 or tensor.zero_point.size != 1:
        raise ModelError(
            f"Tensor '{tensor.name}' has {tensor.scale.size} scales and {tensor.zero_point.size} zero points, an "
            "activation has one of each. Convert the model with full integer quantization."
        )
    zero_point = int(tensor.zero_point[0]) - (128 if tensor.dtype == "uint8" else 0)
    scale = float(tensor.scale[0])
    if not (0.0 < scale < float("inf")) or not -128 <= zero_point <= 127:
        raise ModelError(f"Tensor '{tensor.name}': scale {scale} or zero point {zero_point} is out of range.")
    return Quantization(scale, zero_point)


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
            if graph.tensors[source].dtype in ("int8", "uint8"):
                result[operator.outputs[0]] = _quantization(graph.tensors[source])
        elif operator.kind in _FIXED and graph.tensors[operator.outputs[0]].dtype == "float32":
            result[operator.outputs[0]] = _FIXED[operator.kind]
    return result


def _pads(node: _Node, size: Sequence[int], window: Sequence[int], strides: Sequence[int]) -> tuple[int, int, int, int]:
    """Return (top, left, bottom, right); SAME puts the odd row and column at the end."""
    if node.options["Padding"] == schema.Padding.VALID:
        return 0, 0, 0, 0
    (top, bottom), (left, right) = (
        (total // 2, total - total // 2)
        for extent, span, stride in zip(size, window, strides, strict=True)
        for total in [max((-(-extent // stride) - 1) * stride + span - extent, 0)]
    )
    return top, left, bottom, right


def _convolution(node: _Node, weight: Weight, groups: int) -> Tensor:
    x = node.x()
    strides = node.options["StrideH"], node.options["StrideW"]
    dilation = node.options["DilationHFactor"], node.options["DilationWFactor"]
    window = [(k - 1) * d + 1 for k, d in zip(weight.values.shape[1:3], dilation, strict=True)]
    return node.builder.conv2d(
        x,
        weight,
        node.bias(2),
        strides=strides,
        padding=_pads(node, x.shape[1:3], window, strides),
        dilation=dilation,
        groups=groups,
        activation=node.activation,
        to=node.to,
        name=node.name,
    )


def _conv2d(node: _Node) -> Tensor:
    weight = node.weight(1, (0, 1, 2, 3), 0)
    return _convolution(node, weight, node.x().shape[-1] // weight.values.shape[3])


def _depthwise_conv2d(node: _Node) -> Tensor:
    return _convolution(node, node.weight(1, (3, 1, 2, 0), 3), node.x().shape[-1])


def _fully_connected(node: _Node) -> Tensor:
    if node.options["WeightsFormat"] != schema.FullyConnectedOptionsWeightsFormat.DEFAULT:
        raise ModelError(f"{node}: shuffled weights are not supported.")
    weight = node.weight(1, (0, 1), 0)
    depth = weight.values.shape[1]
    x = node.x()
    rows = node.builder.reshape(x, (prod(x.shape) // depth, depth), f"{node.name}_rows")
    y = node.builder.dense(rows, weight, node.bias(2), activation=node.activation, to=node.to, name=node.name)
    return node.builder.reshape(y, node.shape, node.name)


def _binary(function: Function) -> _Operator:
    return lambda node: node.builder.apply(
        function, node.x(0), node.x(1), activation=node.activation, to=node.to, name=node.name
    )


def _unary(function: Function) -> _Operator:
    return lambda node: node.builder.apply(function, node.x(), to=node.to, name=node.name)


def _pool(function: Function) -> _Operator:
    def add(node: _Node) -> Tensor:
        x = node.x()
        strides = node.options["StrideH"], node.options["StrideW"]
        window = node.options["FilterHeight"], node.options["FilterWidth"]
        padding = _pads(node, x.shape[1:3], window, strides)
        return node.builder.apply(
            lambda e: function(e, window, strides, padding, layout="NHWC"),
            x,
            activation=node.activation,
            to=node.to,
            name=node.name,
        )

    return add


def _mean(node: _Node) -> Tensor:
    x = node.x()
    axes = sorted({axis % len(x.shape) for axis in node.integers(1)})
    keep = bool(node.options["KeepDims"])
    return node.builder.apply(lambda e: relax.op.mean(e, axes, keep), x, to=node.to, name=node.name)


def _softmax(node: _Node) -> Tensor:
    if node.options["Beta"] != 1.0:
        raise ModelError(f"{node}: beta is {node.options['Beta']}, 1 is supported.")
    return node.builder.apply(lambda e: relax.op.nn.softmax(e, axis=-1), node.x(), to=node.to, name=node.name)


def _leaky_relu(node: _Node) -> Tensor:
    alpha = node.options["Alpha"]
    return node.builder.apply(lambda e: relax.op.nn.leakyrelu(e, alpha), node.x(), to=node.to, name=node.name)


def _moved(node: _Node, x: Tensor) -> Tensor:
    """Return what a kernel that only copies integers makes of `x`: they mean what the file says."""
    return Tensor(x.expr, node.to)


def _reshape(node: _Node) -> Tensor:
    return _moved(node, node.builder.reshape(node.x(), node.shape, node.name))


def _transpose(node: _Node) -> Tensor:
    return _moved(node, node.builder.permute(node.x(), node.integers(1), node.name))


def _pad(node: _Node) -> Tensor:
    x = node.x()
    value = node.integers(2)[0] if node.has(2) else node.to.zero_point
    if node.has(2) and node.constant(2).dtype == "uint8":
        value -= 128
    widths = node.integers(1)
    return _moved(node, node.builder.move(lambda e: relax.op.nn.pad(e, widths, pad_value=value), x, name=node.name))


def _concatenation(node: _Node) -> Tensor:
    if node.activation is not None:
        raise ModelError(f"{node}: a fused activation is not supported. Make it an operator of its own.")
    return node.builder.move(lambda *es: relax.op.concat(es, node.options["Axis"]), *node.xs(), name=node.name)


def _split(node: _Node) -> list[Tensor]:
    x = node.x(1)
    axis = node.integers(0)[0] % len(x.shape)
    count = len(node.names)
    return node.builder.split(x, [x.shape[axis] // count] * count, axis, node.names)


def _split_v(node: _Node) -> list[Tensor]:
    x, sizes = node.x(), node.integers(1)
    axis = node.integers(2)[0] % len(x.shape)
    if -1 in sizes:
        sizes[sizes.index(-1)] = x.shape[axis] - sum(size for size in sizes if size != -1)
    return node.builder.split(x, sizes, axis, node.names)


def _slice(node: _Node) -> Tensor:
    x, begin, size = node.x(), node.integers(1), node.integers(2)
    end = [full if n == -1 else b + n for full, b, n in zip(x.shape, begin, size, strict=True)]
    return _moved(node, _strided(node, x, begin, end, [1] * len(begin)))


def _strided_slice(node: _Node) -> Tensor:
    for mask in ("EllipsisMask", "NewAxisMask", "Offset"):
        if node.options[mask]:
            raise ModelError(f"{node}: {mask} is not supported. Write the slice with one range for each dimension.")
    x, begins, ends, strides = node.x(), node.integers(1), node.integers(2), node.integers(3)
    if min(strides) < 1:
        raise ModelError(f"{node}: strides {strides}; strides below 1 are not supported.")
    begin, end = [], []
    for axis, (extent, first, last) in enumerate(zip(x.shape, begins, ends, strict=False)):
        bit = 1 << axis
        first, last, _ = slice(
            None if node.options["BeginMask"] & bit else first, None if node.options["EndMask"] & bit else last
        ).indices(extent)
        begin.append(first)
        end.append(first + 1 if node.options["ShrinkAxisMask"] & bit else last)
    cut = _strided(node, x, begin, end, strides)
    return _moved(node, node.builder.reshape(cut, node.shape, node.name))


def _strided(node: _Node, x: Tensor, begin: list[int], end: list[int], strides: list[int]) -> Tensor:
    axes = list(range(len(begin)))
    return node.builder.move(lambda e: relax.op.strided_slice(e, axes, begin, end, strides), x, name=node.name)


def _resize_nearest(node: _Node) -> Tensor:
    if node.options["AlignCorners"] and node.options["HalfPixelCenters"]:
        raise ModelError(f"{node}: align_corners and half_pixel_centers exclude each other.")
    mode, rounding = "asymmetric", "floor"
    if node.options["HalfPixelCenters"]:
        mode, rounding = "half_pixel", "round_prefer_ceil"
    elif node.options["AlignCorners"]:
        mode, rounding = "align_corners", "round_prefer_ceil"
    size = relax.ShapeExpr(node.integers(1))
    resized = node.builder.move(
        lambda e: relax.op.image.resize2d(
            e,
            size,
            layout="NHWC",
            method="nearest_neighbor",
            coordinate_transformation_mode=mode,
            rounding_method=rounding,
        ),
        node.x(),
        name=node.name,
    )
    return _moved(node, resized)


def _requantize(node: _Node) -> Tensor:
    return node.builder.requantize(node.x(), node.to, node.name)


_Operator = Callable[[_Node], Tensor | list[Tensor]]

_OPERATORS: dict[str, _Operator] = {
    "ADD": _binary(relax.op.add),
    "AVERAGE_POOL_2D": _pool(relax.op.nn.avg_pool2d),
    "CONCATENATION": _concatenation,
    "CONV_2D": _conv2d,
    "DEPTHWISE_CONV_2D": _depthwise_conv2d,
    "DEQUANTIZE": _requantize,
    "EXPAND_DIMS": _reshape,
    "FULLY_CONNECTED": _fully_connected,
    "HARD_SWISH": _unary(qdq.hard_swish),
    "LEAKY_RELU": _leaky_relu,
    "LOGISTIC": _unary(relax.op.sigmoid),
    "MAX_POOL_2D": _pool(relax.op.nn.max_pool2d),
    "MEAN": _mean,
    "MUL": _binary(relax.op.multiply),
    "PAD": _pad,
    "PADV2": _pad,
    "QUANTIZE": _requantize,
    "RELU": _unary(qdq.RELU),
    "RELU6": _unary(qdq.clip(0.0, 6.0)),
    "RELU_0_TO_1": _unary(qdq.clip(0.0, 1.0)),
    "RELU_N1_TO_1": _unary(qdq.clip(-1.0, 1.0)),
    "RESHAPE": _reshape,
    "RESIZE_NEAREST_NEIGHBOR": _resize_nearest,
    "SLICE": _slice,
    "SOFTMAX": _softmax,
    "SPLIT": _split,
    "SPLIT_V": _split_v,
    "SQUEEZE": _reshape,
    "STRIDED_SLICE": _strided_slice,
    "SUB": _binary(relax.op.subtract),
    "TANH": _unary(relax.op.tanh),
    "TRANSPOSE": _transpose,
}
