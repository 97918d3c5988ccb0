"""Imports an ONNX model in QDQ form: QuantizeLinear and DequantizeLinear around the operators.

Every float tensor of such a model is quantized somewhere: where it is made, that quantization is looked up, so that
each operator takes and makes int8 tensors and both Linear operators disappear.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from tvm import relax

from tvm_tinyml.errors import ModelError
from tvm_tinyml.frontend import qdq
from tvm_tinyml.frontend.onnx_graph import TRANSPARENT, Constant, Graph, Node, Port
from tvm_tinyml.frontend.qdq import Function, QdqBuilder, Quantization, Tensor, Weight
from tvm_tinyml.model import Model

_TO_NHWC = (0, 2, 3, 1)
_TO_NCHW = (0, 3, 1, 2)
_ADVICE = "Quantize weights and all activations in QDQ form, as onnxruntime.quantization.quantize_static does."


def load(model: onnx.ModelProto, name: str) -> Model:
    """Import an ONNX model.

    Raises
    ------
    ModelError : see :func:`tvm_tinyml.frontend.load`.
    """
    with qdq.importing("The ONNX model"):
        return _Import(Graph(model)).run(name)


@dataclass(frozen=True)
class _Value:
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


def _plain(tensor: Tensor) -> _Value:
    return _Value(tensor, tensor.shape)


def _image(tensor: Tensor) -> _Value:
    """Return the value that an NHWC tensor holds."""
    shape = tuple(tensor.shape[axis] for axis in _TO_NCHW)
    return _Value(tensor, shape, shape)


class _Import:
    """The values of one graph while its operators are added one by one."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.builder = QdqBuilder("onnx")
        self.fused: set[str] = set()
        self._integers = {port.name for port in graph.inputs if port.dtype in ("int8", "uint8")}
        self._values: dict[str, _Value | Constant] = {}

    def run(self, name: str) -> Model:
        self._check_supported()
        for node in self.graph.nodes:
            if node.kind == "DequantizeLinear" and node.inputs[0] in self.graph.constants:
                self.define(node.outputs[0], self.graph.dequantized(node))
        for port in self.graph.inputs:
            self.define(port.name, _plain(self._input(port)))
        for node in self.graph.nodes:
            if node.outputs[0] not in self.fused and node.outputs[0] not in self._values:
                self._note_integers(node)
                with qdq.importing(node):
                    _OPERATORS[node.kind](self, node)
        for port in self.graph.outputs:
            tensor = self.plain(self.value(port.name), port.name)
            self.builder.output(port.name, tensor, "uint8" if port.dtype == "uint8" else "int8")
        return self.builder.finish(name)

    def define(self, name: str, value: _Value | Constant) -> None:
        """Say what tensor `name` is."""
        self._values[name] = value

    def lookup(self, name: str) -> _Value | Constant:
        """Return what tensor `name` is."""
        if name in self._values:
            return self._values[name]
        if name in self.graph.constants:
            values = self.graph.constants[name]
            raise ModelError(f"The model is not quantized: constant '{name}' is {values.dtype}. {_ADVICE}")
        raise ModelError(f"The ONNX file is damaged: tensor '{name}' is used before it is computed. Export it again.")

    def value(self, name: str) -> _Value:
        """Return tensor `name` as an operand; a constant becomes an int8 one."""
        single = self.graph.constants.get(name)
        if single is not None and single.size == 1 and single.dtype == np.float32 and name not in self._values:
            return _plain(self._scalar(float(single.ravel()[0]), single.shape))
        value = self.lookup(name)
        if isinstance(value, _Value):
            return value
        shift = {"int8": 0, "uint8": 128}.get(str(value.values.dtype))
        if shift is None or value.scale.ndim:
            raise ModelError(
                f"Constant '{name}' is {value.values.dtype} with {value.scale.size} scales; as an operand int8 or "
                "uint8 with one scale is supported."
            )
        quantization = Quantization(float(value.scale), int(value.zero_point) - shift)
        integers = (value.values.astype(np.int16) - shift).astype(np.int8)
        return _plain(self.builder.constant(integers, quantization))

    def x(self, node: Node, i: int = 0) -> _Value:
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

    def channels_last(self, value: _Value, name: str) -> Tensor:
        """Return `value`, of at most four dimensions, in NHWC."""
        if value.channels_last:
            return value.tensor
        tensor = self.plain(value, name)
        tensor = self.builder.reshape(tensor, (1,) * (4 - len(tensor.shape)) + tensor.shape, name)
        return self.builder.permute(tensor, _TO_NHWC, f"{name}_nhwc")

    def plain(self, value: _Value, name: str) -> Tensor:
        """Return `value` with its elements in the source's order."""
        if value.image is None:
            return value.tensor
        n, c, h, w = value.image
        tensor = self.builder.reshape(value.tensor, (n, h, w, c), f"{name}_nhwc")
        tensor = self.builder.permute(tensor, _TO_NCHW, f"{name}_nchw")
        return self.builder.reshape(tensor, value.shape, name)

    def aligned(self, values: Sequence[_Value], names: Sequence[str]) -> tuple[list[Tensor], bool]:
        """Return `values` in one layout, and whether it is NHWC."""
        if any(value.channels_last for value in values) and all(len(value.shape) <= 4 for value in values):
            return [self.channels_last(value, name) for value, name in zip(values, names, strict=True)], True
        return [self.plain(value, name) for value, name in zip(values, names, strict=True)], False

    def stored(self, node: Node) -> tuple[Tensor, Callable[[int], int], Callable[[Tensor], _Value]]:
        """Return the first input of `node` as it lies.

        With it come two functions: from an axis of the source to the tensor's, and from a result in the same layout to
        its value.
        """
        value = self.x(node)
        rank = len(value.shape)
        if value.channels_last:
            return value.tensor, lambda axis: _TO_NCHW[axis % rank], _image
        return self.plain(value, node.inputs[0]), lambda axis: axis % rank, _plain

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
        constant = self.lookup(node.inputs[i])
        if isinstance(constant, _Value):
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
        kind = "DequantizeLinear" if port.dtype in ("int8", "uint8") else "QuantizeLinear"
        if kind == "QuantizeLinear" and not port.dtype.startswith("float"):
            raise ModelError(f"Input '{port.name}' is {port.dtype}; float32, int8 and uint8 are supported.")
        quantization = self.graph.quantization(port.name, kind)
        if quantization is None:
            raise ModelError(
                f"The model is not quantized: input '{port.name}' ({port.dtype}), {self.graph.use(port.name)}, has no "
                f"{kind} with one scale and zero point. {_ADVICE}"
            )
        dtype = "uint8" if port.dtype == "uint8" else "int8"
        return self.builder.input(port.name, port.shape, dtype, quantization)

    def _note_integers(self, node: Node) -> None:
        """Follow tensors that are integers in the source too: they may be moved, but not computed with."""
        if node.kind == "QuantizeLinear":
            self._integers.update(node.outputs)
        elif node.kind != "DequantizeLinear" and self._integers.intersection(node.inputs):
            if node.kind not in TRANSPARENT or node.kind in ("Clip", "Pad", "Relu"):
                raise node.refuse("it computes with integers. Put a DequantizeLinear before it.")
            self._integers.update(node.outputs)

    def _check_supported(self) -> None:
        unknown = [str(node) for node in self.graph.nodes if node.kind not in _OPERATORS]
        if unknown:
            raise ModelError(
                f"Operators that are not supported: {', '.join(unknown)}. Supported: {', '.join(_OPERATORS)}."
            )


class _Chain:
    """The way from the output of an operator through what is fused into it."""

    def __init__(self, context: _Import, node: Node) -> None:
        self._context = context
        self._node = node
        self.name = node.outputs[0]

    def take(self, *kinds: str) -> Node | None:
        """Fuse the only consumer of the current tensor if it is one of `kinds`."""
        node = self._context.graph.only_consumer(self.name)
        if node is None or node.kind not in kinds:
            return None
        self._context.fused.add(node.outputs[0])
        self.name = node.outputs[0]
        return node

    def bias(self, units: int) -> Constant | NDArray[Any] | None:
        """Fuse an addition of one constant for each of the `units` in the last dimension."""
        node = self._context.graph.only_consumer(self.name)
        if node is None or node.kind != "Add":
            return None
        other = node.inputs[1 - node.inputs.index(self.name)]
        constant = self._context.constant(other)
        values = self._context.graph.constants.get(other) if constant is None else constant.values
        if values is None or values.shape[-1:] != (units,) or values.size != units:
            return None
        self.take("Add")
        return constant or values

    def activation(self) -> Function | None:
        """Fuse a Relu or Clip."""
        node = self.take("Relu", "Clip")
        return None if node is None else _activation(self._context, node, self.to)

    @property
    def to(self) -> Quantization:
        """Quantization of the current tensor."""
        return self._context.target(self._node, self.name)


def _activation(context: _Import, node: Node, to: Quantization) -> Function:
    """Return a Relu or Clip; a bound that is absent is what `to` can express."""
    if node.kind == "Relu":
        return qdq.RELU
    low, high = (to.scale * (integer - to.zero_point) for integer in (-128, 127))
    return qdq.clip(context.number(node, 1, low), context.number(node, 2, high))


def _integer_bias(
    node: Node, x: Tensor, weight: Weight, bias: Constant | NDArray[Any] | None
) -> NDArray[np.int32] | None:
    """Return `bias` in units of input scale * weight scale."""
    if bias is None:
        return None
    scale = np.float64(x.quantization.scale) * weight.scale
    if isinstance(bias, Constant) and bias.values.dtype == np.int32 and np.allclose(bias.scale, scale, 1e-3, 0.0):
        integers = bias.centered.ravel()
    else:
        real = bias.real if isinstance(bias, Constant) else bias.astype(np.float64)
        integers = np.round(real.ravel() / scale)
    integers = np.broadcast_to(integers, weight.values.shape[:1])
    if np.any(np.abs(integers) >= 2**31):
        raise node.refuse("its bias exceeds int32 in units of input scale * weight scale.")
    return np.ascontiguousarray(integers, np.int32)


def _normalized(
    context: _Import, node: Node, norm: Node, weight: Weight, bias: Constant | NDArray[Any] | None
) -> tuple[Weight, NDArray[np.float64]]:
    """Fold a batch normalization into the scales of the weights and into the bias."""
    gamma, beta, mean, variance = (context.graph.constant(norm, i).astype(np.float64) for i in range(1, 5))
    factor = gamma / np.sqrt(variance + norm.attributes.get("epsilon", 1e-5))
    sign = np.sign(factor).astype(np.int16).reshape(-1, 1, 1, 1)
    values = weight.values * sign
    if values.max() > 127:
        raise node.refuse(
            f"the negative factor of {norm} makes 128 of a weight of -128. Quantize weights to -127...127."
        )
    scale = np.where(factor == 0.0, 1.0, np.abs(factor)) * weight.scale
    real = bias.real if isinstance(bias, Constant) else 0.0 if bias is None else bias
    return Weight(values.astype(np.int8), scale.astype(np.float32)), (real - mean) * factor + beta


def _window(
    node: Node, default: Sequence[int] | None = None
) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """Return kernel, strides and dilation of a node in two dimensions."""
    kernel = tuple(node.attributes.get("kernel_shape", default))
    strides = tuple(node.attributes.get("strides", (1, 1)))
    return kernel, strides, tuple(node.attributes.get("dilations", (1, 1)))


def _pads(
    node: Node, size: Sequence[int], kernel: Sequence[int], strides: Sequence[int], dilation: Sequence[int] = (1, 1)
) -> tuple[int, ...]:
    """Return (top, left, bottom, right)."""
    mode = node.attributes.get("auto_pad", "NOTSET")
    if mode == "NOTSET":
        return tuple(node.attributes.get("pads", (0, 0, 0, 0)))
    if mode == "VALID":
        return 0, 0, 0, 0
    before, after = [], []
    for extent, k, stride, d in zip(size, kernel, strides, dilation, strict=True):
        total = max((-(-extent // stride) - 1) * stride + (k - 1) * d + 1 - extent, 0)
        half = total // 2
        before.append(half if mode == "SAME_UPPER" else total - half)
        after.append(total - before[-1])
    return (*before, *after)


def _conv(context: _Import, node: Node) -> None:
    x = context.image(node)
    weight = context.weight(node, 1, 0)
    bias = context.bias(node, 2)
    chain = _Chain(context, node)
    norm = chain.take("BatchNormalization")
    if norm is not None:
        weight, bias = _normalized(context, node, norm, weight, bias)
    kernel, strides, dilation = _window(node, weight.values.shape[2:])
    tensor = context.builder.conv2d(
        x,
        Weight(np.ascontiguousarray(weight.values.transpose(_TO_NHWC)), weight.scale),
        _integer_bias(node, x, weight, bias),
        strides=strides,
        padding=_pads(node, x.shape[1:3], kernel, strides, dilation),
        dilation=dilation,
        groups=node.attributes.get("group", 1),
        activation=chain.activation(),
        to=chain.to,
        name=chain.name,
    )
    context.define(chain.name, _image(tensor))


def _gemm(context: _Import, node: Node) -> None:
    for attribute, supported in {"alpha": 1.0, "beta": 1.0, "transA": 0}.items():
        if node.attributes.get(attribute, supported) != supported:
            raise node.refuse(f"{attribute} is {node.attributes[attribute]}; {supported} is supported.")
    transposed = bool(node.attributes.get("transB", 0))
    _dense(context, node, transposed, context.bias(node, 2))


def _matmul(context: _Import, node: Node) -> None:
    _dense(context, node, False, None)


def _dense(context: _Import, node: Node, transposed: bool, bias: Constant | NDArray[Any] | None) -> None:
    builder = context.builder
    value = context.x(node)
    weight = context.weight(node, 1, 0 if transposed else 1)
    if weight.values.ndim != 2:
        raise node.refuse(f"weights of {weight.values.ndim} dimensions; 2 are supported.")
    matrix = weight.values if transposed else weight.values.T
    units, depth = matrix.shape
    tensor = value.tensor
    if value.flat and value.image is not None:
        _, c, h, w = value.image
        matrix = matrix.reshape(units, c, h, w).transpose(_TO_NHWC).reshape(units, depth)
    else:
        tensor = context.plain(value, node.inputs[0])
    weight = Weight(np.ascontiguousarray(matrix), weight.scale)
    chain = _Chain(context, node)
    bias = chain.bias(units) if bias is None else bias
    result = builder.dense(
        builder.reshape(tensor, (prod(value.shape) // depth, depth), f"{node.inputs[0]}_rows"),
        weight,
        _integer_bias(node, tensor, weight, bias),
        activation=chain.activation(),
        to=chain.to,
        name=chain.name,
    )
    context.define(chain.name, _plain(builder.reshape(result, (*value.shape[:-1], units), chain.name)))


def _binary(function: Function) -> _Operator:
    def add(context: _Import, node: Node) -> None:
        tensors, channels_last = context.aligned([context.x(node, 0), context.x(node, 1)], node.inputs)
        chain = _Chain(context, node)
        result = context.builder.apply(function, *tensors, activation=chain.activation(), to=chain.to, name=chain.name)
        context.define(chain.name, _image(result) if channels_last else _plain(result))

    return add


def _unary(function: Function, fixed: Quantization | None = None) -> _Operator:
    def add(context: _Import, node: Node) -> None:
        _apply(context, node, function, context.target(node, fixed=fixed))

    return add


def _apply(context: _Import, node: Node, function: Function, to: Quantization) -> None:
    value = context.x(node)
    tensor = context.builder.apply(function, value.tensor, to=to, name=node.outputs[0])
    context.define(node.outputs[0], replace(value, tensor=tensor))


def _limit(context: _Import, node: Node) -> None:
    """Add a Relu or Clip that is no operator's activation."""
    to = context.target(node, inherit=context.x(node).tensor.quantization)
    _apply(context, node, _activation(context, node, to), to)


def _leaky_relu(context: _Import, node: Node) -> None:
    alpha = node.attributes.get("alpha", 0.01) if node.kind == "LeakyRelu" else context.number(node, 1, 0.0)
    _apply(context, node, lambda e: relax.op.nn.leakyrelu(e, alpha), context.target(node))


def _softmax(context: _Import, node: Node) -> None:
    tensor, axis_of, value_of = context.stored(node)
    last = len(tensor.shape) - 1
    axis = axis_of(node.attributes.get("axis", -1))
    order = [*(i for i in range(last + 1) if i != axis), axis]
    moved = context.builder.permute(tensor, order, f"{node.inputs[0]}_rows")
    to = context.target(node, fixed=qdq.UNIT_INTERVAL)
    name = node.outputs[0]
    result = context.builder.apply(lambda e: relax.op.nn.softmax(e, axis=-1), moved, to=to, name=name)
    context.define(name, value_of(context.builder.permute(result, [int(i) for i in np.argsort(order)], name)))


def _pool(context: _Import, node: Node) -> None:
    x = context.image(node)
    kernel, strides, dilation = _window(node)
    padding = _pads(node, x.shape[1:3], kernel, strides)
    if dilation != (1, 1) or node.attributes.get("storage_order", 0):
        raise node.refuse("dilations and storage_order are not supported.")
    if len(node.outputs) > 1 and node.outputs[1]:
        raise node.refuse("its second output, the indices, is not supported.")
    spans = [x.shape[1 + i] + padding[i] + padding[2 + i] - kernel[i] for i in range(2)]
    if node.attributes.get("ceil_mode", 0) and any(span % s for span, s in zip(spans, strides, strict=True)):
        raise node.refuse("ceil_mode with windows beyond the padded image is not supported. Pad the image instead.")
    if node.attributes.get("count_include_pad", 0) and any(padding):
        raise node.refuse("count_include_pad is not supported. Put a Pad before it.")
    _pool2d(context, node, x, kernel, strides, padding)


def _global_max_pool(context: _Import, node: Node) -> None:
    x = context.image(node)
    _pool2d(context, node, x, x.shape[1:3], (1, 1), (0, 0, 0, 0))


def _pool2d(
    context: _Import, node: Node, x: Tensor, kernel: Sequence[int], strides: Sequence[int], padding: Sequence[int]
) -> None:
    average = node.kind == "AveragePool"
    function = relax.op.nn.avg_pool2d if average else relax.op.nn.max_pool2d
    result = context.builder.apply(
        lambda e: function(e, tuple(kernel), tuple(strides), tuple(padding), layout="NHWC"),
        x,
        to=context.target(node) if average else x.quantization,
        name=node.outputs[0],
    )
    context.define(node.outputs[0], _image(result))


def _global_average_pool(context: _Import, node: Node) -> None:
    result = context.builder.apply(
        lambda e: relax.op.mean(e, [1, 2], True), context.image(node), to=context.target(node), name=node.outputs[0]
    )
    context.define(node.outputs[0], _image(result))


def _reduce_mean(context: _Import, node: Node) -> None:
    value = context.x(node)
    rank = len(value.shape)
    axes = context.graph.integers(node, 1) if node.has(1) else list(node.attributes.get("axes", ()))
    if not axes and node.attributes.get("noop_with_empty_axes", 0):
        raise node.refuse("a mean over no axes is not supported. Remove it.")
    axes = sorted({axis % rank for axis in axes or range(rank)})
    keep = bool(node.attributes.get("keepdims", 1))
    if value.channels_last and (keep or axes == [2, 3]):
        tensor, value_of = value.tensor, _image if keep else _plain
        axes = sorted(_TO_NCHW[axis] for axis in axes)
    else:
        tensor, value_of = context.plain(value, node.inputs[0]), _plain
    result = context.builder.apply(
        lambda e: relax.op.mean(e, axes, keep), tensor, to=context.target(node), name=node.outputs[0]
    )
    context.define(node.outputs[0], value_of(result))


def _new_shape(context: _Import, node: Node, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape that a Reshape, Flatten, Squeeze or Unsqueeze gives to a tensor of `shape`."""
    rank = len(shape)
    if node.kind == "Flatten":
        axis = node.attributes.get("axis", 1)
        axis = axis + rank if axis < 0 else axis
        return prod(shape[:axis]), prod(shape[axis:])
    if node.kind == "Squeeze":
        axes = [i % rank for i in context.graph.integers(node, 1)] if node.has(1) else None
        return tuple(n for i, n in enumerate(shape) if (n != 1 if axes is None else i not in axes))
    if node.kind == "Unsqueeze":
        given = context.graph.integers(node, 1)
        axes = [axis % (rank + len(given)) for axis in given]
        rest = iter(shape)
        return tuple(1 if i in axes else next(rest) for i in range(rank + len(given)))
    wanted = context.graph.integers(node, 1)
    if not node.attributes.get("allowzero", 0):
        wanted = [shape[i] if extent == 0 else extent for i, extent in enumerate(wanted)]
    known = prod(extent for extent in wanted if extent != -1)
    return tuple(prod(shape) // known if extent == -1 else extent for extent in wanted)


def _reshape(context: _Import, node: Node) -> None:
    name = node.outputs[0]
    constant = context.constant(node.inputs[0])
    if constant is not None and not constant.scale.ndim:
        shape = _new_shape(context, node, constant.values.shape)
        context.define(name, replace(constant, values=constant.values.reshape(shape)))
        return
    value = context.x(node)
    shape = _new_shape(context, node, value.shape)
    image = value.image
    if image is not None and shape == image:
        context.define(name, _image(context.builder.reshape(value.tensor, [image[i] for i in _TO_NHWC], name)))
    elif image is not None and shape == (image[0], prod(image[1:])):
        context.define(name, _Value(context.builder.reshape(value.tensor, shape, name), shape, image))
    else:
        tensor = context.plain(value, node.inputs[0])
        context.define(name, _plain(context.builder.reshape(tensor, shape, name)))


def _transpose(context: _Import, node: Node) -> None:
    name = node.outputs[0]
    constant = context.constant(node.inputs[0])
    rank = len(context.x(node).shape) if constant is None else constant.values.ndim
    order = [int(i) for i in node.attributes.get("perm", range(rank)[::-1])]
    if constant is not None:
        moved = replace(constant, values=constant.values.transpose(order), axis=order.index(constant.axis))
        context.define(name, moved)
        return
    value = context.x(node)
    if value.channels_last:
        tensor = context.builder.permute(value.tensor, [_TO_NCHW[axis] for axis in order], name)
        context.define(name, _plain(tensor))
    elif value.image is None and tuple(order) == _TO_NCHW:
        context.define(name, _image(value.tensor))
    else:
        tensor = context.plain(value, node.inputs[0])
        context.define(name, _plain(context.builder.permute(tensor, order, name)))


def _concat(context: _Import, node: Node) -> None:
    values = [context.x(node, i) for i in range(len(node.inputs))]
    tensors, channels_last = context.aligned(values, node.inputs)
    shared = {tensor.quantization for tensor in tensors}
    to = context.target(node, inherit=shared.pop() if len(shared) == 1 else None)
    tensors = [context.builder.requantize(t, to, f"{node.outputs[0]}_{i}") for i, t in enumerate(tensors)]
    axis = node.attributes["axis"] % len(tensors[0].shape)
    axis = _TO_NCHW[axis] if channels_last else axis
    result = context.builder.move(lambda *es: relax.op.concat(es, axis), *tensors, name=node.outputs[0])
    context.define(node.outputs[0], _image(result) if channels_last else _plain(result))


def _split(context: _Import, node: Node) -> None:
    tensor, axis_of, value_of = context.stored(node)
    axis = axis_of(node.attributes.get("axis", 0))
    if node.has(1):
        sizes = context.graph.integers(node, 1)
    else:
        sizes = [-(-tensor.shape[axis] // len(node.outputs))] * len(node.outputs)
    for name, part in zip(node.outputs, context.builder.split(tensor, sizes, axis, node.outputs), strict=True):
        context.define(name, value_of(part))


def _slice(context: _Import, node: Node) -> None:
    tensor, axis_of, value_of = context.stored(node)
    starts, ends = context.graph.integers(node, 1), context.graph.integers(node, 2)
    axes = [axis_of(i) for i in (context.graph.integers(node, 3) if node.has(3) else range(len(starts)))]
    steps = context.graph.integers(node, 4) if node.has(4) else [1] * len(starts)
    if min(steps) < 1:
        raise node.refuse(f"steps {steps}; steps below 1 are not supported.")
    ranges = [slice(a, b).indices(tensor.shape[axis]) for axis, a, b in zip(axes, starts, ends, strict=True)]
    begin, end = [r[0] for r in ranges], [r[1] for r in ranges]
    result = context.builder.move(
        lambda e: relax.op.strided_slice(e, axes, begin, end, steps), tensor, name=node.outputs[0]
    )
    context.define(node.outputs[0], value_of(result))


def _pad(context: _Import, node: Node) -> None:
    if node.attributes.get("mode", "constant") != "constant":
        raise node.refuse(f"mode {node.attributes['mode']} is not supported; constant is.")
    tensor, axis_of, value_of = context.stored(node)
    pads = context.graph.integers(node, 1)
    axes = context.graph.integers(node, 3) if node.has(3) else range(len(tensor.shape))
    widths = [0] * (2 * len(tensor.shape))
    for axis, before, after in zip(axes, pads[: len(pads) // 2], pads[len(pads) // 2 :], strict=True):
        widths[2 * axis_of(axis) : 2 * axis_of(axis) + 2] = before, after
    if min(widths) < 0:
        raise node.refuse("negative pads are not supported. Use Slice.")
    to = context.target(node, inherit=tensor.quantization)
    value = int(np.clip(np.round(context.number(node, 2, 0.0) / to.scale) + to.zero_point, -128, 127))
    tensor = context.builder.requantize(tensor, to, f"{node.outputs[0]}_unpadded")
    result = context.builder.move(lambda e: relax.op.nn.pad(e, widths, pad_value=value), tensor, name=node.outputs[0])
    context.define(node.outputs[0], value_of(result))


def _resize(context: _Import, node: Node) -> None:
    attributes = node.attributes
    mode = attributes.get("coordinate_transformation_mode", "half_pixel")
    if attributes.get("mode", "nearest") != "nearest" or mode not in _RESIZE_MODES:
        raise node.refuse(f"mode {attributes.get('mode', 'nearest')} with {mode} coordinates is not supported.")
    if "axes" in attributes or attributes.get("antialias", 0):
        raise node.refuse("axes and antialias are not supported.")
    x = context.image(node)
    source = x.shape[0], x.shape[3], x.shape[1], x.shape[2]
    if node.has(3):
        size = context.graph.integers(node, 3)
    else:
        exact = [extent * float(scale) for extent, scale in zip(source, context.graph.constant(node, 2), strict=True)]
        size = [round(extent) for extent in exact]
        if not np.allclose(size, exact):
            raise node.refuse(
                f"scales that give height and width {exact[2]:.6g} and {exact[3]:.6g} are not supported. Give sizes."
            )
    if tuple(size[:2]) != source[:2]:
        raise node.refuse("it changes batch or channels; height and width are supported.")
    result = context.builder.move(
        lambda e: relax.op.image.resize2d(
            e,
            relax.ShapeExpr(size[2:]),
            layout="NHWC",
            method="nearest_neighbor",
            coordinate_transformation_mode=mode,
            rounding_method=attributes.get("nearest_mode", "round_prefer_floor"),
        ),
        x,
        name=node.outputs[0],
    )
    context.define(node.outputs[0], _image(result))


_RESIZE_MODES = ("asymmetric", "half_pixel", "pytorch_half_pixel", "align_corners")


def _alias(context: _Import, node: Node) -> None:
    context.define(node.outputs[0], context.lookup(node.inputs[0]))


def _batch_normalization(_context: _Import, node: Node) -> None:
    raise node.refuse("supported only directly after a Conv, as its only consumer. Fold it before the export.")


def _quantize(context: _Import, node: Node) -> None:
    value = context.x(node)
    tensor = context.builder.requantize(value.tensor, context.graph.parameters(node), node.outputs[0])
    context.define(node.outputs[0], replace(value, tensor=tensor))


def _dequantize(context: _Import, node: Node) -> None:
    value = context.x(node)
    tensor = Tensor(value.tensor.expr, context.graph.parameters(node))
    context.define(node.outputs[0], replace(value, tensor=tensor))


_Operator = Callable[[_Import, Node], None]

_OPERATORS: dict[str, _Operator] = {
    "Abs": _unary(relax.op.abs),
    "Add": _binary(relax.op.add),
    "AveragePool": _pool,
    "BatchNormalization": _batch_normalization,
    "Clip": _limit,
    "Concat": _concat,
    "Conv": _conv,
    "DequantizeLinear": _dequantize,
    "Dropout": _alias,
    "Exp": _unary(relax.op.exp),
    "Flatten": _reshape,
    "Gemm": _gemm,
    "GlobalAveragePool": _global_average_pool,
    "GlobalMaxPool": _global_max_pool,
    "HardSwish": _unary(qdq.hard_swish),
    "Identity": _alias,
    "LeakyRelu": _leaky_relu,
    "MatMul": _matmul,
    "MaxPool": _pool,
    "Mul": _binary(relax.op.multiply),
    "Neg": _unary(relax.op.negative),
    "PRelu": _leaky_relu,
    "Pad": _pad,
    "QuantizeLinear": _quantize,
    "ReduceMean": _reduce_mean,
    "Relu": _limit,
    "Reshape": _reshape,
    "Resize": _resize,
    "Sigmoid": _unary(relax.op.sigmoid, qdq.UNIT_INTERVAL),
    "Slice": _slice,
    "Softmax": _softmax,
    "Split": _split,
    "Squeeze": _reshape,
    "Sub": _binary(relax.op.subtract),
    "Tanh": _unary(relax.op.tanh, qdq.SYMMETRIC_UNIT),
    "Transpose": _transpose,
    "Unsqueeze": _reshape,
}
