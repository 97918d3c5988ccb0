"""Quantizers, as PT2E writes them: QuantizeLinear and DequantizeLinear of ONNX."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import fx

from tvm_tinyml.arithmetic import round_half_away
from tvm_tinyml.frontend.torch.program import Call
from tvm_tinyml.frontend.torch.writer import Writer


def quantize(writer: Writer, call: Call) -> str:
    """Add a change from numbers to integers; one of a constant is computed here, where its limits are known."""
    dtype = _dtype(call)
    x, scale, zero_point = writer.tensor(call["input"]), _scale(writer, call), _zero_point(writer, call, dtype)
    low, high = call["quant_min"], call["quant_max"]
    if x in writer.constants:
        spread = [-1 if i == _axis(call) else 1 for i in range(writer.constants[x].ndim)] if scale.ndim else ()
        quotient = round_half_away(writer.constants[x] / scale.reshape(spread)) + zero_point.reshape(spread)
        return writer.constant(np.clip(quotient, low, high).astype(dtype))
    limits = np.iinfo(dtype)
    if (low, high) != (limits.min, limits.max):
        raise call.refuse(
            f"integers from {low} to {high} of {dtype.name}, which has {limits.min} to {limits.max}. Quantize "
            "activations to all integers of their type."
        )
    return writer.add("QuantizeLinear", [x, writer.constant(scale), writer.constant(zero_point)], call.name)


def dequantize(writer: Writer, call: Call) -> str:
    """Add a change from integers to numbers."""
    scale, zero_point = _scale(writer, call), _zero_point(writer, call, _dtype(call))
    inputs = [writer.tensor(call["input"]), writer.constant(scale), writer.constant(zero_point)]
    axis = {"axis": _axis(call)} if scale.ndim else {}
    return writer.add("DequantizeLinear", inputs, call.name, **axis)


def _axis(call: Call) -> int:
    return int(call["axis"])


def _dtype(call: Call) -> np.dtype[Any]:
    return np.dtype(str(call["dtype"]).removeprefix("torch."))


def _scale(writer: Writer, call: Call) -> NDArray[np.float32]:
    return _constant(writer, call, "scales" if call.has("scales") else "scale").astype(np.float32)


def _zero_point(writer: Writer, call: Call, dtype: np.dtype[Any]) -> NDArray[Any]:
    name = "zero_points" if call.has("zero_points") else "zero_point"
    if call[name] is None:
        return np.zeros(_scale(writer, call).shape, dtype)
    return _constant(writer, call, name).astype(dtype)


def _constant(writer: Writer, call: Call, name: str) -> NDArray[Any]:
    """Return a scale or zero point, a number or a constant tensor; of one element it is a number as well."""
    argument = call[name]
    if isinstance(argument, fx.Node):
        if writer.tensor(argument) not in writer.constants:
            raise call.refuse(f"its {name} '{argument.name}' must be constant. Use static quantization.")
        values = writer.constants[writer.tensor(argument)]
        return values if call.has("axis") else values.reshape(())
    return np.array(argument)
