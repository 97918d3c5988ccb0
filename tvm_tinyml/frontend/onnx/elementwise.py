"""Element-wise operators: sums, products, functions of one tensor and changes of quantization."""

from __future__ import annotations

from dataclasses import replace

from tvm import relax

from tvm_tinyml.frontend import qdq
from tvm_tinyml.frontend.onnx.context import Context, Operator, image_value, plain_value
from tvm_tinyml.frontend.onnx.fusion import Chain, activation
from tvm_tinyml.frontend.onnx.graph import Node
from tvm_tinyml.frontend.qdq import Function, Quantization, Tensor


def binary(function: Function) -> Operator:
    """Return what adds a sum or product."""

    def add(context: Context, node: Node) -> None:
        tensors, channels_last = context.aligned([context.x(node, 0), context.x(node, 1)], node.inputs)
        chain = Chain(context, node)
        result = context.builder.apply(function, *tensors, activation=chain.activation(), to=chain.to, name=chain.name)
        context.define(chain.name, image_value(result) if channels_last else plain_value(result))

    return add


def unary(function: Function, fixed: Quantization | None = None) -> Operator:
    """Return what adds a function of one tensor; `fixed` as for :meth:`Context.target`."""

    def add(context: Context, node: Node) -> None:
        _apply(context, node, function, context.target(node, fixed=fixed))

    return add


def limit(context: Context, node: Node) -> None:
    """Add a Relu or Clip that is no operator's activation."""
    to = context.target(node, inherit=context.x(node).tensor.quantization)
    _apply(context, node, activation(context, node, to), to)


def divide(context: Context, node: Node) -> None:
    """Add a Div by a constant: the product with its reciprocal."""
    divisor = node.inputs[1]
    if divisor not in context.graph.constants and context.constant(divisor) is None:
        raise node.refuse(f"its divisor '{divisor}' must be constant.")
    numbers = context.real(divisor)
    if not numbers.all():
        raise node.refuse(f"its divisor '{divisor}' has zeros.")
    reciprocal = f"{node.outputs[0]}_reciprocal"
    context.graph.constants[reciprocal] = 1 / numbers
    binary(relax.op.multiply)(context, replace(node, inputs=(node.inputs[0], reciprocal)))


def hard_sigmoid(context: Context, node: Node) -> None:
    """Add a HardSigmoid."""
    numbers = node.attributes.get("alpha", 0.2), node.attributes.get("beta", 0.5)
    _apply(context, node, lambda e: qdq.hard_sigmoid(e, *numbers), context.target(node))


def leaky_relu(context: Context, node: Node) -> None:
    """Add a LeakyRelu, or a PRelu with one slope."""
    alpha = node.attributes.get("alpha", 0.01) if node.kind == "LeakyRelu" else context.number(node, 1, 0.0)
    _apply(context, node, lambda e: relax.op.nn.leakyrelu(e, alpha), context.target(node))


def quantize(context: Context, node: Node) -> None:
    """Add a QuantizeLinear: nothing where the tensor is made in that quantization already."""
    value = context.x(node)
    tensor = context.builder.requantize(value.tensor, context.graph.parameters(node), node.outputs[0])
    context.define(node.outputs[0], replace(value, tensor=tensor))


def dequantize(context: Context, node: Node) -> None:
    """Follow a DequantizeLinear: it says what the integers mean, and nothing is computed."""
    value = context.x(node)
    tensor = Tensor(value.tensor.expr, context.graph.parameters(node))
    context.define(node.outputs[0], replace(value, tensor=tensor))


def _apply(context: Context, node: Node, function: Function, to: Quantization) -> None:
    value = context.x(node)
    tensor = context.builder.apply(function, value.tensor, to=to, name=node.outputs[0])
    context.define(node.outputs[0], replace(value, tensor=tensor))
