"""Element-wise int8 functions as tables of 256 entries, and the exponential of softmax.

An 8-bit function has 256 inputs: evaluated here once, on the device it is one load. Entry ``i`` holds the output for
the input ``i - 128`` (``i`` for uint8 inputs). Each table holds what TFLM's kernel computes, roundings included.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tvm_tinyml.arithmetic.fixed_point import (
    INT32_MAX,
    doubling_high_multiply,
    exp_of_negative,
    logistic,
    multiply_by_quantized_multiplier,
    quantize_multiplier,
    rounding_right_shift,
    saturating_left_shift,
    tanh,
)
from tvm_tinyml.arithmetic.parameters import (
    RANGES,
    float32_scale,
    quantize_value,
    requantize_parameters,
    round_half_away,
    slope_parameters,
)
from tvm_tinyml.errors import ModelError

Table = NDArray[np.int8]
Table8 = NDArray[np.int8] | NDArray[np.uint8]


def table_of(
    function: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    input_scale: float,
    input_zero_point: int,
    output_scale: float,
    output_zero_point: int,
    input_dtype: str = "int8",
    output_dtype: str = "int8",
) -> Table8:
    """Tabulate a real function: dequantize, evaluate in float64, quantize with halves away from zero, clamp.

    Parameters
    ----------
    function : maps float64[256] to float64[256]; infinite results clamp.
    input_dtype, output_dtype : "int8" or "uint8".

    Raises
    ------
    ModelError : the function has no value (NaN) at one of the 256 inputs, or a scale is not positive.

    >>> int(table_of(np.tanh, 0.1, 0, 1 / 128, 0)[128 + 10])
    97
    """
    x = _inputs(input_zero_point, input_dtype).astype(np.float64) * float(float32_scale(input_scale, "input"))
    with np.errstate(all="ignore"):
        real = np.asarray(function(x), np.float64)
    if np.isnan(real).any():
        at = int(np.argmax(np.isnan(real))) + RANGES[input_dtype][0]
        raise ModelError(f"table_of: the function has no value at input {at}. Restrict the input's range.")
    scaled = round_half_away(np.clip(real / float(float32_scale(output_scale, "output")), -1e9, 1e9))
    return np.clip(scaled + output_zero_point, *RANGES[output_dtype]).astype(output_dtype)


def logistic_table(input_scale: float, input_zero_point: int) -> Table:
    """1 / (1 + exp(-x)); the output has scale 1/256 and zero point -128.

    Source: TFLM logistic_common.cc, logistic.h.
    """
    return _saturating_table(input_scale, input_zero_point, lambda x: rounding_right_shift(logistic(x, 4), 23) - 128)


def tanh_table(input_scale: float, input_zero_point: int) -> Table:
    """tanh(x); the output has scale 1/128 and zero point 0. Source: TFLM tanh.cc, tanh.h."""
    return _saturating_table(input_scale, input_zero_point, lambda x: rounding_right_shift(tanh(x, 4), 24))


def relu_table(input_scale: float, input_zero_point: int, output_scale: float, output_zero_point: int) -> Table:
    """max(x, 0) with a change of scale. Source: TFLM activations_common.cc."""
    scaling = requantize_parameters(input_scale, output_scale)
    scaled = multiply_by_quantized_multiplier(_inputs(input_zero_point), *scaling)
    return _clamp(np.maximum(scaled.astype(np.int64), 0) + output_zero_point)


def relu6_table(input_scale: float, input_zero_point: int) -> Table:
    """min(max(x, 0), 6) on the input's own quantization; TFLM ignores that of the output (activations_common.cc)."""
    six = min(quantize_value(6.0, input_scale, input_zero_point), 127)
    return _clamp(np.clip(np.arange(-128, 128), input_zero_point, six))


def leaky_relu_table(
    input_scale: float, input_zero_point: int, output_scale: float, output_zero_point: int, alpha: float
) -> Table:
    """Leaky ReLU: x for x >= 0, else alpha * x, with a change of scale; ``alpha`` is float32.

    Source: TFLM leaky_relu_common.cc, leaky_relu.h.
    """
    x = _inputs(input_zero_point)
    straight = multiply_by_quantized_multiplier(x, *slope_parameters(input_scale, output_scale, 1.0))
    multiplier, shift = slope_parameters(input_scale, output_scale, alpha)
    # A negative slope negates the rounded result, it does not change the rounding.
    leaking = np.sign(multiplier) * multiply_by_quantized_multiplier(x, abs(multiplier), shift).astype(np.int64)
    return _clamp(np.where(x >= 0, straight, leaking) + output_zero_point)


def abs_table(input_scale: float, input_zero_point: int, output_scale: float, output_zero_point: int) -> Table:
    """abs(x) with a change of scale. Source: TFLM elementwise.cc."""
    magnitudes = np.abs(_inputs(input_zero_point))
    scaled = multiply_by_quantized_multiplier(magnitudes, *requantize_parameters(input_scale, output_scale))
    return _clamp(scaled.astype(np.int64) + output_zero_point)


def hard_swish_table(input_scale: float, input_zero_point: int, output_scale: float, output_zero_point: int) -> Table:
    """Hard swish, x * min(max(x + 3, 0), 6) / 6, in the 16-bit arithmetic of TFLM.

    Raises
    ------
    ModelError : the input scale is 128 output scales or more (TFLM refuses it), below 2**-9 output scales or below
        2**-22 (its 16-bit shifts lose their meaning).

    Source: TFLM hard_swish_common.cc, hard_swish.h.
    """
    fine = float(float32_scale(input_scale, "input")) / 128
    output_multiplier, output_shift = _multiplier16(fine / float(float32_scale(output_scale, "output")))
    gate_multiplier, gate_shift = _multiplier16(fine / (3 / 32768))
    if not -15 <= output_shift <= 0 or gate_shift < -15:
        raise ModelError(
            f"hard swish: input scale {input_scale} and output scale {output_scale} are outside of what 16-bit "
            "arithmetic can represent: their ratio must be in [2**-9, 128). Quantize the model again."
        )
    x = _inputs(input_zero_point) << 7  # 16 bits: |x| is 255 at most
    scaled = _doubling_high_multiply16(x, output_multiplier)

    # The gate (x + 3) / 6, clamped to [0, 1]: a Q0.15 of x / 3 that saturates at the ends, then halved around 1/2.
    gate = _doubling_high_multiply16(_saturating_left_shift16(x, max(gate_shift - 1, 0)), gate_multiplier)
    if gate_shift > 0:
        gate = _saturating_left_shift16(gate, 1)
    gate = (rounding_right_shift(gate, max(-gate_shift, 0)).astype(np.int64) + (1 << 15)) >> 1

    product = np.trunc(gate * scaled / 2**15).astype(np.int64)  # exact: below 2**31
    # TFLM adds the zero point in 16 bits, where extreme scales wrap.
    result = (rounding_right_shift(product, -output_shift) + output_zero_point).astype(np.int16)
    return _clamp(result)


def requantize_table(
    input_scale: float,
    input_zero_point: int,
    output_scale: float,
    output_zero_point: int,
    input_dtype: str = "int8",
    output_dtype: str = "int8",
) -> Table8:
    """QUANTIZE between 8-bit types: a change of scale, zero point and type.

    Parameters
    ----------
    input_dtype, output_dtype : "int8" or "uint8"; TFLM has no uint8 to uint8.

    Returns
    -------
    256 entries of the output type; entry ``i`` is for input ``i - 128``, for uint8 inputs for input ``i``.

    Source: TFLM requantize.h.
    """
    scaled = multiply_by_quantized_multiplier(
        _inputs(input_zero_point, input_dtype), *requantize_parameters(input_scale, output_scale)
    )
    return np.clip(scaled.astype(np.int64) + output_zero_point, *RANGES[output_dtype]).astype(output_dtype)


def softmax_exp_table(input_scale: float, beta: float = 1.0) -> NDArray[np.int32]:
    """exp(-beta * scale * d) for the difference d = max - x of int8 values.

    Parameters
    ----------
    beta : float32, above 0.

    Returns
    -------
    int32[256], Q0.31, index d; 0 where TFLM counts the term as zero (beyond 31 after scaling, about).

    Raises
    ------
    ModelError : beta * scale is 2**-26 or less (TFLM aborts there).

    Source: TFLM softmax_common.cc, softmax.h, quantization_util.cc (PreprocessSoftmaxScaling).
    """
    integer_bits = 5  # of the scaled difference, which has 26 fractional bits
    real = float(np.float32(beta)) * float(float32_scale(input_scale, "input")) * (1 << (31 - integer_bits))
    if not real > 1.0:
        raise ModelError(
            f"softmax: beta * input scale is {beta * input_scale}, it must be above 2**-26. Quantize the model again."
        )
    multiplier, shift = _quantize_large(min(real, 2.0**31 - 1.0))
    limit = _input_radius(integer_bits, shift)
    difference = np.arange(256, dtype=np.int64)
    inside = difference <= limit
    scaled = doubling_high_multiply(saturating_left_shift(-np.where(inside, difference, 0), shift), multiplier)
    return np.where(inside, exp_of_negative(scaled, integer_bits), np.int32(0))


# Helpers ------------------------------------------------------------------------------------------------------


def _inputs(zero_point: int, dtype: str = "int8") -> NDArray[np.int64]:
    """All 256 inputs, zero point subtracted."""
    low, high = RANGES[dtype]
    return np.arange(low, high + 1, dtype=np.int64) - zero_point


def _clamp(values: ArrayLike) -> Table:
    return np.asarray(np.clip(np.asarray(values), -128, 127), np.int8)


def _quantize_large(scale: float) -> tuple[int, int]:
    """`quantize_multiplier` without its upper limit, for scales that already contain a power of two."""
    mantissa, exponent = math.frexp(scale)
    multiplier, shift = quantize_multiplier(mantissa)
    return multiplier, shift + exponent


def _input_radius(integer_bits: int, left_shift: int) -> int:
    """Largest difference that stays inside ``integer_bits`` after scaling. Source: quantization_util.cc."""
    return min(math.floor(math.ldexp((1 << integer_bits) - 1, 31 - integer_bits - left_shift)), INT32_MAX)


def _saturating_table(
    input_scale: float, input_zero_point: int, function: Callable[[NDArray[np.int32]], NDArray[np.int32]]
) -> Table:
    """Table of a sigmoid-like function of a Q4.27 input that is -128 and 127 beyond the range of that format."""
    multiplier, shift = _quantize_large(float(float32_scale(input_scale, "input")) * 2.0**27)
    radius = _input_radius(4, shift)
    x = _inputs(input_zero_point)
    inside = np.abs(x) < radius
    scaled = multiply_by_quantized_multiplier(np.where(inside, x, 0), multiplier, np.clip(shift, -31, 31))
    return np.where(inside, _clamp(function(scaled)), np.where(x <= -radius, np.int8(-128), np.int8(127)))


def _multiplier16(scale: float) -> tuple[int, int]:
    """Q0.15 multiplier and shift. Source: TFLM common.h (DownScaleInt32ToInt16Multiplier)."""
    multiplier, shift = quantize_multiplier(scale)
    return min((multiplier + (1 << 15)) >> 16, 2**15 - 1), shift


def _doubling_high_multiply16(x: NDArray[np.int64], m: int) -> NDArray[np.int64]:
    """round(x * m / 2**15), ties towards plus infinity; m is positive, so that nothing overflows."""
    return (x * m + (1 << 14)) >> 15


def _saturating_left_shift16(x: NDArray[np.int64], s: int) -> NDArray[np.int64]:
    return np.asarray(np.clip(x << s, -(2**15), 2**15 - 1), np.int64)
