"""Changes of scale, and functions of int16 tensors that interpolate between points, as plain numpy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tvm_tinyml.arithmetic import RANGES, interpolated, multiply_by_quantized_multiplier

Int16 = NDArray[np.int16]

_RANGE = RANGES["int16"]


def requantize(
    x: NDArray[Any],
    *,
    bits: int,
    input_zero_point: int,
    multiplier: int,
    shift: int,
    output_zero_point: int,
    clamp_min: int,
    clamp_max: int,
) -> NDArray[Any]:
    """Express int8 or int16 numbers in another scale and zero point, as int8 or int16.

    Parameters
    ----------
    bits : of the result: 8 or 16.
    multiplier, shift : as from `tvm_tinyml.arithmetic.requantize_parameters`.

    Source: TFLM requantize.h.
    """
    scaled = multiply_by_quantized_multiplier(x.astype(np.int64) - input_zero_point, multiplier, shift)
    result: NDArray[Any] = np.clip(scaled.astype(np.int64) + output_zero_point, clamp_min, clamp_max)
    return result.astype(f"int{bits}")


def interpolate(x: Int16, points: Int16) -> Int16:
    """Any function, by its points.

    Parameters
    ----------
    points : int16[513], of `tvm_tinyml.arithmetic.function_points`.

    Source: TFLM common.h (LUTLookup).
    """
    return interpolated(x, points).astype(np.int16)


def slopes(x: Int16, *, magnitude: int, multipliers: Sequence[int], shifts: Sequence[int]) -> Int16:
    """One number times x where x >= 0, another where x < 0.

    Parameters
    ----------
    magnitude : 1: abs(x) is multiplied.
    multipliers, shifts : of x >= 0 and of x < 0, as from `tvm_tinyml.arithmetic.quantize_multiplier`. A negative
        multiplier negates the rounded result, it does not change the rounding.

    Source: TFLM leaky_relu.h, elementwise.cc (abs).
    """
    wide, below = x.astype(np.int64), x < 0
    multiplier, shift = (np.where(below, numbers[1], numbers[0]) for numbers in (multipliers, shifts))
    scaled = multiply_by_quantized_multiplier(np.abs(wide) if magnitude else wide, np.abs(multiplier), shift)
    result: Int16 = np.clip(np.sign(multiplier) * scaled.astype(np.int64), *_RANGE).astype(np.int16)
    return result


def logistic(x: Int16, points: NDArray[np.uint16], *, multiplier: int, shift: int) -> Int16:
    """1 / (1 + exp(-x)), the result in Q0.15.

    Parameters
    ----------
    points : uint16[256], of `tvm_tinyml.arithmetic.sigmoid_points`.
    multiplier, shift : as from `tvm_tinyml.arithmetic.sigmoid_input_parameters`.

    Source: TFLM logistic.h.
    """
    value, positive = _sigmoid(x, points, multiplier, shift, 9)
    # Of Q7.25; the negative side is one less the other, rounded down.
    half = 1 << 9
    both = np.where(value >= 0, positive + half, (1 << 25) - positive + half - 1)
    return (both >> 10).astype(np.int16)


def tanh(x: Int16, points: NDArray[np.uint16], *, multiplier: int, shift: int) -> Int16:
    """tanh(x) = 2 / (1 + exp(-2 x)) - 1, the result in Q0.15; parameters as for `logistic`. Source: TFLM tanh.h."""
    value, positive = _sigmoid(x, points, multiplier, shift, 8)
    above = positive - (1 << 23)
    half = 1 << 7
    both = np.where(value >= 0, above + half, -above + half - 1)
    return (both >> 8).astype(np.int16)


def _sigmoid(
    x: Int16, points: NDArray[np.uint16], multiplier: int, shift: int, fraction_bits: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the scaled input, and the logistic function of its magnitude with 16 + `fraction_bits` bits of fraction.

    A point of the table stands for 2**`fraction_bits` units of the scaled input.
    """
    value = (x.astype(np.int64) * multiplier + ((1 << shift) >> 1)) >> shift
    magnitude = np.abs(value)
    index = np.minimum(magnitude >> fraction_bits, 254)
    here, there = points[index].astype(np.int64), points[index + 1].astype(np.int64)
    between = (here << fraction_bits) + (magnitude & ((1 << fraction_bits) - 1)) * (there - here)
    # Beyond the table the function is 1, less the last bit that the result has.
    limit = (2**15 - 1) << 10 if fraction_bits == 9 else (2**16 - 1) << 8
    return value, np.where(magnitude >> fraction_bits >= 255, limit, between)


def softmax_int16(x: Int16, exponential: Int16, reciprocal: Int16, *, multiplier: int, shift: int) -> Int16:
    """Softmax over the last axis, the result in Q0.15.

    Parameters
    ----------
    exponential, reciprocal : int16[513], of `tvm_tinyml.arithmetic.softmax_tables`.
    multiplier, shift : as from `tvm_tinyml.arithmetic.softmax_input_parameters`.

    Source: TFLM softmax.h (SoftmaxInt16).
    """
    wide = x.astype(np.int64)
    difference = multiply_by_quantized_multiplier(wide - wide.max(axis=-1, keepdims=True), multiplier, shift)
    terms = interpolated(np.clip(difference.astype(np.int64) + 32767, *_RANGE), exponential).astype(np.int64)
    total = terms.sum(axis=-1, keepdims=True)
    bits = np.frexp(total.astype(np.float64))[1].astype(np.int64)  # total < 2**bits
    # The sum as 1 + f of its leading bit, f in [0, 1) as an int16 number.
    mantissa = ((total << (31 - bits)) + (1 << 13)) >> 14
    inverse = interpolated(np.clip(mantissa - 3 * 2**15, *_RANGE), reciprocal).astype(np.int64)
    right = bits - 1
    quotient = (terms * inverse + (np.int64(1) << (right - 1))) >> right
    return np.asarray(np.clip(quotient, 0, 2**15 - 1), np.int16)
