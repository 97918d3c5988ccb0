"""Functions of int16 tensors: 65536 values are no table, so each kind has an operator of its own."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from tvm import relax

from tvm_tinyml import arithmetic
from tvm_tinyml.errors import ModelError
from tvm_tinyml.passes import integer_ops
from tvm_tinyml.passes.fold_quantization.patterns import Quantization

Fold = Callable[[relax.Expr, Quantization, Quantization, relax.Call], relax.Expr]
"""From a tensor, its and the result's quantization and the float call to an operator of the dialect."""


def int16_function(
    name: str, x: relax.Expr, source: Quantization, result: Quantization, call: relax.Call
) -> relax.Expr:
    """Return what a float operator of one int16 tensor becomes.

    Raises
    ------
    ModelError : there is no kernel for it, or not with this quantization.
    """
    if name not in _FUNCTIONS:
        raise ModelError(
            f"{name.split('.')[-1]} of an int16 tensor is not supported. Supported: "
            f"{', '.join(known.split('.')[-1] for known in _FUNCTIONS)}. Quantize its input and result to int8."
        )
    return _FUNCTIONS[name](x, source, result, call)


def requantized(
    x: relax.Expr, source: Quantization, result: Quantization, low: float = -np.inf, high: float = np.inf
) -> relax.Call:
    """Return `x` in another quantization, clamped to the integers from `low` to `high`."""
    if result.dtype == "uint8":
        raise ModelError("A change from int16 to uint8 is not supported. Make the result int8 or int16.")
    multiplier, shift = arithmetic.requantize_parameters(source.scale, result.scale)
    least, largest = arithmetic.RANGES[result.dtype]
    return integer_ops.requantize(
        x,
        bits=8 * np.dtype(result.dtype).itemsize,
        input_zero_point=source.zero_point,
        multiplier=multiplier,
        shift=shift,
        output_zero_point=result.zero_point,
        clamp_min=int(max(low, least)),
        clamp_max=int(min(high, largest)),
    )


def softmax(x: relax.Expr, source: Quantization, result: Quantization) -> relax.Call:
    """Return the softmax of an int16 tensor."""
    _check_unit("softmax", result)
    multiplier, shift = arithmetic.softmax_input_parameters(source.scale)
    tables = [relax.const(table) for table in arithmetic.softmax_tables()]
    return integer_ops.softmax_int16(x, *tables, multiplier=multiplier, shift=shift)


def _sigmoid(name: str, operator: integer_ops.IntegerOp) -> Fold:
    def fold(x: relax.Expr, source: Quantization, result: Quantization, _call: relax.Call) -> relax.Expr:
        _check_unit(name, result)
        multiplier, shift = arithmetic.sigmoid_input_parameters(source.scale, name)
        return operator(x, relax.const(arithmetic.sigmoid_points()), multiplier=multiplier, shift=shift)

    return fold


def _clip(x: relax.Expr, source: Quantization, result: Quantization, call: relax.Call) -> relax.Expr:
    bounds = (float(bound.value) for bound in call.args[1:])
    return requantized(x, source, result, *(arithmetic.quantize_value(b, result.scale, 0) for b in bounds))


def _check_unit(name: str, result: Quantization) -> None:
    # As far off as TFLM lets it be; its kernels give Q0.15 in any case.
    if abs(result.scale * 2**15 - 1) > 1e-3 or result.zero_point:
        raise ModelError(
            f"{name} of an int16 tensor gives scale 1 / 32768 and zero point 0, the model says {result.scale} and "
            f"{result.zero_point}. Quantize the model again."
        )


_FUNCTIONS: dict[str, Fold] = {
    "relax.nn.relu": lambda x, source, result, _: requantized(x, source, result, low=0),
    "relax.clip": _clip,
    "relax.sigmoid": _sigmoid("logistic", integer_ops.logistic),
    "relax.tanh": _sigmoid("tanh", integer_ops.tanh),
}
