"""How the tensors of ``main`` lie in memory, and how they are wanted: apart, or in a layout of their own."""

from __future__ import annotations

from typing import Any

from tvm import relax
from tvm.ir import Op

from tvm_tinyml.passes import integer_ops
from tvm_tinyml.passes.integer_ops import Attributes, attributes_of, shape_of
from tvm_tinyml.passes.tensor_layouts import INPUT_LAYOUT, OUTPUT_LAYOUT, Layout, decoded

_STEPPING = (integer_ops.spread.op, integer_ops.interleave.op, integer_ops.channels.op)


class Steps:
    """What `channels`, `interleave`, `spread` and `lay_out` say of the tensors of ``main``."""

    def __init__(self, main: relax.Function) -> None:
        bindings = [binding for block in main.body.blocks for binding in block.bindings]
        self._values: dict[relax.Var, relax.Expr] = {binding.var: binding.value for binding in bindings}
        written = [value for value in self._values.values() if is_written(value)]
        self._wanted = {self._values[spread.args[0]]: own_step(spread) for spread in written}
        laid_out = [value for value in self._values.values() if operator(value) == integer_ops.lay_out.op]
        self._layouts = {self._values[value.args[0]]: own_layout(value) for value in laid_out}

    def of(self, tensor: relax.Expr | None) -> int:
        """Return the elements from a pixel of a tensor to the next; 0 where nothing lies in between."""
        value = self._values.get(tensor)
        if value is None or operator(value) not in _STEPPING:
            return 0
        own = own_step(value)
        return self.of(value.args[0]) or own if operator(value) == integer_ops.channels.op else own

    def layout_of(self, tensor: relax.Expr | None) -> Layout | None:
        """Return the layout of a tensor that has one of its own."""
        value = self._values.get(tensor)
        return own_layout(value) if operator(value) in (integer_ops.lay_out.op, integer_ops.laid.op) else None

    def asked(self, call: relax.Call) -> Attributes:
        """Return what a kernel of a call is asked for: steps and layouts of input and output, where there are any."""
        read = call.args[0] if call.args else None
        asked = {
            "input_step": self.of(read),
            "output_step": self._wanted.get(call, 0),
            INPUT_LAYOUT: self.layout_of(read),
            OUTPUT_LAYOUT: self._layouts.get(call),
        }
        return {name: value for name, value in asked.items() if value}


def operator(value: Any) -> Op | None:
    """Return the operator of a call."""
    return value.op if isinstance(value, relax.Call) and isinstance(value.op, Op) else None


def is_written(value: relax.Expr) -> bool:
    """Return whether a value is a `spread` that what computes its operand is to write."""
    return operator(value) == integer_ops.spread.op and not attributes_of(value)["copied"]


def own_step(call: relax.Call) -> int:
    """Return the step that a call names; 0 where nothing lies between its pixels."""
    step: int = attributes_of(call)["step"]
    return 0 if step == shape_of(call)[-1] else step


def own_layout(call: relax.Call) -> Layout:
    """Return the layout that a call names."""
    return decoded(attributes_of(call)["layout"])
