"""Functions of int16 tensors: exact arithmetic where a function has a little, or interpolation between 513 points."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from tvm import relax

from tvm_tinyml import arithmetic
from tvm_tinyml.errors import ModelError
from tvm_tinyml.passes import integer_ops
from tvm_tinyml.passes.fold_quantization.patterns import Quantization
from tvm_tinyml.passes.fold_quantization.real_functions import REAL, Real, numbers

Fold = Callable[[relax.Expr, Quantization, Quantization, relax.Call], relax.Expr]
"""From a tensor, its and the result's quantization and the float call to an operator of the dialect."""


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


def _interpolated(name: str, real: Callable[[relax.Call], Real]) -> Fold:
    """Interpolate between points of any function."""

    def fold(x: relax.Expr, source: Quantization, result: Quantization, call: relax.Call) -> relax.Expr:
        points = arithmetic.function_points(real(call), source.scale, result.scale, name.split(".")[-1])
        return integer_ops.interpolate(x, relax.const(points))

    return fold


_INTERPOLATED = {name: _interpolated(name, real) for name, real in REAL.items()}


def _tflite_exp(x: relax.Expr, source: Quantization, result: Quantization, _call: relax.Call) -> relax.Expr:
    return integer_ops.interpolate(x, relax.const(arithmetic.exp_points(source.scale, result.scale)))


def _sigmoid(name: str, operator: integer_ops.IntegerOp) -> Fold:
    def fold(x: relax.Expr, source: Quantization, result: Quantization, _call: relax.Call) -> relax.Expr:
        _check_unit(name, result)
        multiplier, shift = arithmetic.sigmoid_input_parameters(source.scale, name)
        return operator(x, relax.const(arithmetic.sigmoid_points()), multiplier=multiplier, shift=shift)

    return fold


def _where_unit(unit: Fold, other: Fold) -> Fold:
    """Take one or the other, by whether the result is in Q0.15."""
    return lambda x, source, result, call: (unit if _is_unit(result) else other)(x, source, result, call)


def _clip(x: relax.Expr, source: Quantization, result: Quantization, call: relax.Call) -> relax.Expr:
    return requantized(x, source, result, *(arithmetic.quantize_value(b, result.scale, 0) for b in numbers(call)))


def _hard_sigmoid(x: relax.Expr, source: Quantization, result: Quantization, call: relax.Call) -> relax.Expr:
    """Return a change of scale with a zero point, which the result does not have, and bounds."""
    alpha, beta = numbers(call)
    multiplier, shift = arithmetic.slope_parameters(source.scale, result.scale, alpha)
    offset, one = (arithmetic.quantize_value(number, result.scale, 0) for number in (beta, 1.0))
    if multiplier < 0 or shift > 14 or abs(offset) >= 2**30:  # their sum must fit 32 bits
        return _INTERPOLATED["tinyml.hard_sigmoid"](x, source, result, call)
    return integer_ops.requantize(
        x,
        bits=16,
        input_zero_point=0,
        multiplier=multiplier,
        shift=shift,
        output_zero_point=offset,
        clamp_min=0,
        clamp_max=min(one, arithmetic.RANGES["int16"][1]),
    )


def _slopes(of_call: Callable[[relax.Call], tuple[float, float]], *, magnitude: bool = False) -> Fold:
    """Multiply by one number where x >= 0, by another where x < 0."""

    def fold(x: relax.Expr, source: Quantization, result: Quantization, call: relax.Call) -> relax.Expr:
        scalings = [arithmetic.slope_parameters(source.scale, result.scale, slope) for slope in of_call(call)]
        multipliers, shifts = zip(*scalings, strict=True)
        return integer_ops.slopes(x, magnitude=int(magnitude), multipliers=multipliers, shifts=shifts)

    return fold


def _is_unit(result: Quantization) -> bool:
    # As far off as TFLM lets it be; its kernels give Q0.15 in any case.
    return abs(result.scale * 2**15 - 1) <= 1e-3 and not result.zero_point


def _check_unit(name: str, result: Quantization) -> None:
    if not _is_unit(result):
        raise ModelError(
            f"{name} of an int16 tensor gives scale 1 / 32768 and zero point 0, the model says {result.scale} and "
            f"{result.zero_point}. Quantize the model again."
        )


_LOGISTIC, _TANH = _sigmoid("logistic", integer_ops.logistic), _sigmoid("tanh", integer_ops.tanh)

_COMMON: Mapping[str, Fold] = {
    **_INTERPOLATED,
    "relax.nn.relu": lambda x, source, result, _: requantized(x, source, result, low=0),
    "relax.clip": _clip,
    "relax.nn.leakyrelu": _slopes(lambda call: (1.0, float(call.attrs.alpha))),
    "relax.abs": _slopes(lambda _: (1.0, 1.0), magnitude=True),
    "relax.negative": _slopes(lambda _: (-1.0, -1.0)),
    "tinyml.hard_sigmoid": _hard_sigmoid,
}

INT16_FUNCTIONS: Mapping[str, Mapping[str, Fold]] = {
    "tflite": {**_COMMON, "relax.sigmoid": _LOGISTIC, "relax.tanh": _TANH, "relax.exp": _tflite_exp},
    "onnx": {
        **_COMMON,
        "relax.sigmoid": _where_unit(_LOGISTIC, _INTERPOLATED["relax.sigmoid"]),
        "relax.tanh": _where_unit(_TANH, _INTERPOLATED["relax.tanh"]),
    },
}
"""By the model's reference, then by the float operator."""
