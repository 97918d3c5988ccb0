"""Element-wise operators."""

from __future__ import annotations

from typing import Any

from tvm_tinyml.frontend.torch.program import Call
from tvm_tinyml.frontend.torch.writer import Operator, Writer


def unary(kind: str, **attributes: Any) -> Operator:
    """Return what adds a function of one tensor."""
    return lambda writer, call: writer.add(kind, [writer.tensor(call["self"])], call.name, **attributes)


def binary(kind: str) -> Operator:
    """Return what adds a function of two tensors, or of one and a number."""

    def add(writer: Writer, call: Call) -> str:
        if call.has("alpha") and call["alpha"] != 1:
            raise call.refuse(f"alpha is {call['alpha']}; 1 is supported. Multiply the second operand before.")
        if call.has("rounding_mode") and call["rounding_mode"] is not None:
            raise call.refuse("a rounding_mode is not supported.")
        return writer.add(kind, [writer.tensor(call["self"]), writer.tensor(call["other"])], call.name)

    return add


def reversed_subtract(writer: Writer, call: Call) -> str:
    """Add a number or tensor less another one."""
    if call["alpha"] != 1:
        raise call.refuse(f"alpha is {call['alpha']}; 1 is supported. Multiply the operand before.")
    return writer.add("Sub", [writer.tensor(call["other"]), writer.tensor(call["self"])], call.name)


def clip(low: str | float, high: str | float | None) -> Operator:
    """Return what adds limits: numbers, or the names of the arguments that have them."""

    def add(writer: Writer, call: Call) -> str:
        bounds = [call[bound] if isinstance(bound, str) else bound for bound in (low, high)]
        return writer.add("Clip", [writer.tensor(call["self"]), *map(writer.tensor, bounds)], call.name)

    return add


def leaky_relu(writer: Writer, call: Call) -> str:
    """Add a leaky ReLU."""
    return writer.add("LeakyRelu", [writer.tensor(call["self"])], call.name, alpha=float(call["negative_slope"]))


def prelu(writer: Writer, call: Call) -> str:
    """Add a leaky ReLU with a learned slope."""
    return writer.add("PRelu", [writer.tensor(call["self"]), writer.tensor(call["weight"])], call.name)


def silu(writer: Writer, call: Call) -> str:
    """Add a product of a tensor and its sigmoid."""
    x = writer.tensor(call["self"])
    return writer.add("Mul", [x, writer.add("Sigmoid", [x], f"{call.name}_sigmoid")], call.name)


def softmax(writer: Writer, call: Call) -> str:
    """Add a softmax."""
    return writer.add("Softmax", [writer.tensor(call["self"])], call.name, axis=call["dim"])
