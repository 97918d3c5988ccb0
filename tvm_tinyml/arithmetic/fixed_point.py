"""Fixed-point primitives of the int8 and 16x8 schemes: exact, vectorised, on numpy integers.

A number written Qa.b is an int32 with b fractional bits: its real value is raw / 2**b. All functions take
integers or integer arrays, compute in int64 and return int32 values unless they say otherwise.

Source: Jacob et al., CVPR 2018, section 2.2 and appendix B; the gemmlowp library defines the roundings.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tvm_tinyml.errors import ModelError

INT32_MIN = -(2**31)
INT32_MAX = 2**31 - 1


def quantize_multiplier(scale: float) -> tuple[int, int]:
    """Turn a real scale into an integer multiplier and a shift.

    Parameters
    ----------
    scale : no unit; |scale| < 2**30. Negative scales occur only as the slope of a leaky ReLU.

    Returns
    -------
    multiplier : Q0.31; 0, or of magnitude in [2**30, 2**31); a mantissa that rounds up to 2**31 is folded back.
    shift : bits in [-31, 30], positive to the left, so that scale = multiplier * 2**(shift - 31).
        Scales too small for it (below 2**-32, about) become multiplier 0, shift 0.

    Raises
    ------
    ModelError : scale is not finite, or its magnitude is 2**30 or more.

    Source: TFLM quantization_util.cc.

    >>> quantize_multiplier(0.25)
    (1073741824, -1)
    """
    if not math.isfinite(scale) or abs(scale) >= 2.0**30:
        raise ModelError(
            f"quantize_multiplier: the scale is {scale}, its magnitude must be below 2**30. Check the model's scales."
        )
    if scale == 0.0:
        return 0, 0
    mantissa, shift = math.frexp(abs(scale))
    multiplier = math.floor(mantissa * 2.0**31 + 0.5)
    if multiplier == 2**31:
        multiplier, shift = 2**30, shift + 1
    if shift < -31:
        return 0, 0
    return (multiplier if scale > 0.0 else -multiplier), shift


def saturate(x: ArrayLike) -> NDArray[np.int32]:
    """Clamp int64 values to the int32 range."""
    return np.clip(np.asarray(x, np.int64), INT32_MIN, INT32_MAX).astype(np.int32)


def wrap(x: ArrayLike) -> NDArray[np.int32]:
    """Keep the low 32 bits of int64 values: what a 32-bit accumulator holds."""
    return np.asarray(x, np.int64).astype(np.int32)


def doubling_high_multiply(x: ArrayLike, m: ArrayLike) -> NDArray[np.int32]:
    """Calculate the rounded high half of 2 * x * m: round(x * m / 2**31), ties towards plus infinity.

    ``x`` and ``m`` are int32 and broadcast against each other. The one overflow, -2**31 times -2**31, saturates.

    Source: gemmlowp fixedpoint.h (saturating rounding doubling high multiply).
    """
    # The original nudges by 2**30 or, for negative products, 1 - 2**30 and truncates towards zero;
    # that equals floor((x * m + 2**30) / 2**31), which needs one rule only.
    product = np.asarray(x, np.int64) * np.asarray(m, np.int64)
    return saturate((product + (1 << 30)) >> 31)


def rounding_right_shift(x: ArrayLike, s: ArrayLike) -> NDArray[np.int32]:
    """Divide int32 ``x`` by 2**s, s in 0..31, rounding to nearest with halves away from zero.

    Source: gemmlowp fixedpoint.h (rounding divide by a power of two).
    """
    value, amount = np.asarray(x, np.int64), np.asarray(s, np.int64)
    half = (np.int64(1) << amount) >> 1  # 0 when s is 0, which makes the shift the identity
    return saturate((value + half - ((value < 0) & (amount > 0))) >> amount)


def saturating_left_shift(x: ArrayLike, s: ArrayLike) -> NDArray[np.int32]:
    """Multiply int32 ``x`` by 2**s, s in 0..31, and clamp to int32."""
    return saturate(np.asarray(x, np.int64) << np.asarray(s, np.int64))


def multiply_by_quantized_multiplier(x: ArrayLike, multiplier: ArrayLike, shift: ArrayLike) -> NDArray[np.int32]:
    """Scale int32 ``x`` by multiplier * 2**(shift - 31), rounding twice as TFLite does.

    A positive shift moves left before the multiplication, a negative one right after it. The left shift saturates;
    TFLM's reference overflows there, which is undefined in C++ (it wraps on most machines), so no model whose
    result is defined is computed differently.

    Parameters
    ----------
    x : int32.
    multiplier, shift : as from `quantize_multiplier`; broadcast against x.

    Source: TFLM common.cc (double rounding).
    """
    amount = np.asarray(shift, np.int64)
    high = doubling_high_multiply(saturating_left_shift(x, np.maximum(amount, 0)), multiplier)
    return rounding_right_shift(high, np.maximum(-amount, 0))


LARGEST_LONG_SUM = 2**47
"""Bound of the magnitude of what `multiply_by_reduced_multiplier` scales."""


def reduced_multiplier(multiplier: ArrayLike) -> NDArray[np.int32]:
    """Round a multiplier from Q0.31 to Q0.15, at most 2**15 - 1, so that its product with a 48-bit sum fits 64 bits.

    >>> int(reduced_multiplier(2**30)), int(reduced_multiplier(2**31 - 1))
    (16384, 32767)
    """
    rounded = (np.asarray(multiplier, np.int64) + (1 << 15)) >> 16
    return np.asarray(np.minimum(rounded, 0x7FFF), np.int32)


def multiply_by_reduced_multiplier(x: ArrayLike, multiplier: ArrayLike, shift: ArrayLike) -> NDArray[np.int32]:
    """Scale int64 ``x`` by multiplier * 2**(shift - 31), rounded once, halves up: TFLite's scaling of 64-bit sums.

    The multiplier is reduced to 15 bits first. Results wrap to 32 bits.

    Parameters
    ----------
    x : int64, of a magnitude below `LARGEST_LONG_SUM`.
    multiplier, shift : as from `quantize_multiplier`, not negative and with a shift of at most 7.

    Source: TFLM common.cc (the overload for int64).

    >>> int(multiply_by_reduced_multiplier(3, 2**30, 0))
    2
    """
    right = 15 - np.asarray(shift, np.int64)
    product = np.asarray(x, np.int64) * reduced_multiplier(multiplier).astype(np.int64)
    return wrap((product + (np.int64(1) << (right - 1))) >> right)


def exp_of_negative(x: ArrayLike, integer_bits: int) -> NDArray[np.int32]:
    """Calculate exp(x) for x <= 0.

    Parameters
    ----------
    x : int32 with ``31 - integer_bits`` fractional bits, in [-2**31, 0].
    integer_bits : in 0..5.

    Returns
    -------
    Q0.31; exp(0) is 2**31 - 1, the largest number below one.

    Source: gemmlowp fixedpoint.h: exp on (-1/4, 0] by its Taylor polynomial around -1/8, then one multiplication
    by exp(-2**k) for each bit of the rest. The order of roundings is theirs, it decides the last bit.
    """
    value = np.asarray(x, np.int64)
    fraction_bits = 31 - integer_bits
    quarter = 1 << (fraction_bits - 2)
    inside = (value & (quarter - 1)) - quarter  # in [-1/4, 0)
    rest = inside - value  # a multiple of 1/4

    t = saturate((inside << integer_bits) + (1 << 28))  # distance to -1/8, Q0.31
    t2 = doubling_high_multiply(t, t)
    t3 = doubling_high_multiply(t2, t)
    t4 = doubling_high_multiply(t2, t2)
    third = round(2**31 / 3)
    # (t**4 / 4 + t**3) / 3 + t**2, then halved, plus t: the series t + t**2 / 2 + t**3 / 6 + t**4 / 24.
    tail = doubling_high_multiply(rounding_right_shift(t4, 2).astype(np.int64) + t3, third).astype(np.int64) + t2
    series = t.astype(np.int64) + rounding_right_shift(tail, 1)
    centre = round(math.exp(-1 / 8) * 2**31)
    result = saturate(doubling_high_multiply(series, centre).astype(np.int64) + centre)

    for k in range(-2, min(integer_bits, 5)):
        factor = round(math.exp(-(2.0**k)) * 2**31)
        result = np.where(rest & (1 << (fraction_bits + k)), doubling_high_multiply(result, factor), result)
    return np.where(value == 0, np.int32(INT32_MAX), result)


def _newton_reciprocal(x: ArrayLike) -> NDArray[np.int32]:
    """2 / (1 + x) for x in [0, 1): Q0.31 to Q2.29, three Newton steps from the best linear start 48/17 - 32/17 d."""
    half_sum = (np.asarray(x, np.int64) + INT32_MAX + 1) >> 1  # (1 + x) / 2, rounded
    start = round(48 / 17 * 2**29)
    estimate = doubling_high_multiply(half_sum, -round(32 / 17 * 2**29)).astype(np.int64) + start
    for _ in range(3):
        error = (1 << 29) - doubling_high_multiply(half_sum, estimate).astype(np.int64)
        estimate = estimate + saturating_left_shift(doubling_high_multiply(estimate, error), 2)
    return saturate(estimate)


def one_over_one_plus(x: ArrayLike) -> NDArray[np.int32]:
    """1 / (1 + x) for x in [0, 1), Q0.31 to Q0.31. Source: gemmlowp fixedpoint.h."""
    return saturating_left_shift(_newton_reciprocal(x), 1)


def reciprocal(x: ArrayLike, integer_bits: int) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Calculate 1 / x as a mantissa and a number of bits.

    Parameters
    ----------
    x : int32 with ``31 - integer_bits`` fractional bits, positive.

    Returns
    -------
    mantissa : Q0.31, from 1/2 to 1, a few units in the last place off.
    bits : so that 1 / x = mantissa * 2**-bits.

    Source: TFLM common.h (GetReciprocal).
    """
    value = np.asarray(x, np.int64)
    # frexp is exact below 2**53: value < 2**exponent, so that 32 - exponent counts the leading zeros.
    leading_zeros = 32 - np.frexp(value.astype(np.float64))[1].astype(np.int64)
    mantissa = one_over_one_plus((value << leading_zeros) - (1 << 31))
    return mantissa, integer_bits - leading_zeros


def logistic(x: ArrayLike, integer_bits: int) -> NDArray[np.int32]:
    """1 / (1 + exp(-x)): int32 with ``31 - integer_bits`` fractional bits to Q0.31. Source: gemmlowp fixedpoint.h."""
    value = np.asarray(x, np.int64)
    positive = one_over_one_plus(exp_of_negative(-np.abs(value), integer_bits))
    return np.where(value == 0, np.int32(1 << 30), np.where(value > 0, positive, INT32_MAX - positive))


def tanh(x: ArrayLike, integer_bits: int) -> NDArray[np.int32]:
    """tanh(x): int32 with ``31 - integer_bits`` fractional bits to Q0.31. Source: gemmlowp fixedpoint.h."""
    value = np.asarray(x, np.int64)
    # tanh(|x|) = (1 - e) / (1 + e) = 2 / (1 + e) - 1 with e = exp(-2 |x|); the same raw number with one more
    # integer bit is twice the value.
    e = exp_of_negative(-np.abs(value), integer_bits + 1)
    positive = saturating_left_shift(_newton_reciprocal(e).astype(np.int64) - (1 << 29), 2)
    return np.where(value == 0, np.int32(0), np.where(value > 0, positive, -positive))
