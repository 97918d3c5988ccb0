"""What is fused into the operator before it: biases, batch normalizations and activations."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from tvm_tinyml.frontend import qdq
from tvm_tinyml.frontend.onnx.context import Context
from tvm_tinyml.frontend.onnx.graph import Constant, Node
from tvm_tinyml.frontend.qdq import Function, Quantization


class Chain:
    """The way from the output of an operator through what is fused into it."""

    def __init__(self, context: Context, node: Node) -> None:
        self._context = context
        self._node = node
        self.name = node.outputs[0]

    def take(self, *kinds: str) -> Node | None:
        """Fuse the only consumer of the current tensor if it is one of `kinds`."""
        node = self._context.graph.only_consumer(self.name)
        if node is None or node.kind not in kinds:
            return None
        self._context.fuse(node)
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
        return None if node is None else activation(self._context, node, self.to)

    @property
    def to(self) -> Quantization:
        """Quantization of the current tensor."""
        return self._context.target(self._node, self.name)


def activation(context: Context, node: Node, to: Quantization) -> Function:
    """Return a Relu or Clip; a bound that is absent is what `to` can express."""
    if node.kind == "Relu":
        return qdq.RELU
    low, high = context.builder.limits(to)
    return qdq.clip(context.number(node, 1, low), context.number(node, 2, high))
