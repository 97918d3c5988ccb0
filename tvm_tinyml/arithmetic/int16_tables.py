"""Functions of int16 numbers: few points of each as a table, what lies between them interpolated.

Two schemes of TFLM's. Softmax and functions without arithmetic of their own read tables of 513 points over the whole
range of int16 (`interpolated`); logistic and tanh share one of 256 points of the logistic function over [0, 10.7)
(`sigmoid_points`).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tvm_tinyml.arithmetic.fixed_point import quantize_multiplier
from tvm_tinyml.arithmetic.parameters import float32_scale, round_half_away
from tvm_tinyml.errors import ModelError

Points = NDArray[np.int16]

Real = Callable[[NDArray[np.float64]], NDArray[np.float64]]

_STEPS, _APART = 512, 128
_UNIT = np.float32(2) / np.float32(65535)
"""Scale of TFLM's tables for softmax."""

_LOW, _HIGH = np.float32(-(2**15)), np.float32(2**15 - 1)

_LARGEST_EXPONENT = np.float32(60)
"""exp of it is beyond every range, and the differences of such numbers are still float32."""


def function_points(function: Real, input_scale: float, output_scale: float, what: str = "the function") -> Points:
    """Return 513 points of a function of int16 numbers, one for every 128th of them.

    Straight lines between exact points miss the function, most where it bends. A point is moved by half of the most
    that the two lines which end there miss, and rounded once: an element is then off by half of what a line misses and
    a unit for roundings. Results beyond the range of int16 count as its ends; no point moves past them, so a line that
    meets one misses all that it misses.

    Parameters
    ----------
    function : maps float64[n] to float64[n]; infinite results clamp.
    what : its name in messages.

    Returns
    -------
    int16[513]; the last one is at 32768, which no int16 number reaches.

    Raises
    ------
    ModelError : the function has no value (NaN) somewhere, or a scale is not positive.

    >>> function_points(lambda x: 2 * x, 0.25, 0.5)[[0, 255, 256, 257, 512]].tolist()
    [-32768, -128, 0, 128, 32767]
    """
    inputs = np.arange(-(2**15), 2**15 + 1).astype(np.float64) * float(float32_scale(input_scale, "input"))
    with np.errstate(all="ignore"):
        real = np.asarray(function(inputs)) / float(float32_scale(output_scale, "output"))
    if np.isnan(real).any():
        at = float(inputs[np.argmax(np.isnan(real))])
        raise ModelError(f"{what} of int16: it has no value at {at:g}, which its input can be. Restrict its range.")
    values = np.clip(real, _LOW, _HIGH)
    points = values[::_APART]
    missed = np.interp(inputs, inputs[::_APART], points) - values
    by_line = missed[:-1].reshape(_STEPS, _APART)
    most = by_line[np.arange(_STEPS), np.abs(by_line).argmax(axis=1)]
    left, right = np.append(0, most), np.append(most, 0)
    return _int16(round_half_away(points - np.where(np.abs(left) > np.abs(right), left, right) / 2))


def exp_points(input_scale: float, output_scale: float) -> Points:
    """Return 513 points of exp(x), as TFLite has them.

    Source: TFLite exp.cc.
    """
    scale = float32_scale(input_scale, "input")
    output = float32_scale(output_scale, "output")

    def finite(x: np.float32) -> np.float32:
        return np.float32(np.exp(np.minimum(x, _LARGEST_EXPONENT)))

    return _float32_points(finite, np.float32(scale * _LOW), np.float32(scale * _HIGH), output)


def _float32_points(
    function: Callable[[np.float32], np.float32], low: np.float32, high: np.float32, output_scale: np.float32 = _UNIT
) -> Points:
    """Return 513 points of a function on [low, high].

    Each is moved by half of what straight lines between them miss the function by in the middle. All in float32, since
    its roundings decide the last bit. The points are a 512th of the range apart, which is a little less than the 128
    inputs that interpolation takes it for: results are off by up to one input more.

    Source: TFLM common.h (LUTPopulateInt16).
    """
    step = np.float32((high - low) / np.float32(_STEPS))
    half_step = np.float32(step / np.float32(2))
    output_range = np.float32(output_scale * _HIGH) - np.float32(output_scale * _LOW)
    inverse = np.float32(65536) / np.float32(output_range)

    def rounded(x: ArrayLike) -> np.float32:
        return np.float32(round_half_away(x))

    def at(x: np.float32) -> np.float32:
        return np.float32(function(x) * inverse)

    points = []
    for i in range(_STEPS):
        x = np.float32(low + np.float32(i) * step)
        here, middle = rounded(at(x)), rounded(at(np.float32(x + half_step)))
        line = rounded(np.float32((at(np.float32(low + np.float32(i + 1) * step)) + here) / np.float32(2)))
        points.append(here - rounded(np.float32((line - middle) / np.float32(2))))
    points.append(rounded(at(high)))
    return _int16(points)


def _int16(values: ArrayLike) -> Points:
    return np.asarray(np.clip(np.asarray(values), _LOW, _HIGH), np.int16)


def softmax_tables() -> tuple[Points, Points]:
    """Return the tables of softmax, int16[513] each: exp(x) on [-10, 0] and 1 / (1 + x) on [0, 1], in Q0.15.

    Source: TFLM softmax_common.cc.
    """
    exp_scale, unit_scale = np.float32(10) / np.float32(65535), np.float32(1) / np.float32(65535)
    exponential = _float32_points(np.exp, np.float32(exp_scale * np.float32(-65535)), np.float32(0))
    reciprocal = _float32_points(
        lambda x: np.float32(1 / (1 + x)), np.float32(0), np.float32(unit_scale * np.float32(65535))
    )
    return exponential, reciprocal


def softmax_input_parameters(scale: float, beta: float = 1.0) -> tuple[int, int]:
    """Multiplier and shift from differences of inputs to steps of the table of exp, 10 / 65535 each.

    Source: TFLM softmax_common.cc.
    """
    return quantize_multiplier(float(float32_scale(scale, "input")) * float(np.float32(beta)) / (10.0 / 65535.0))


def interpolated(x: ArrayLike, points: Points) -> NDArray[np.int32]:
    """Return a function of int16 numbers by its 513 points: the upper 9 bits choose, the lower 7 interpolate.

    Source: TFLM common.h (LUTLookup).
    """
    value = np.asarray(x, np.int32)
    index, offset = 256 + (value >> 7), value & 0x7F
    base = points[index].astype(np.int32)
    slope = points[index + 1].astype(np.int32) - base
    # TFLM holds the slope in 16 bits, where a function that rises by half the range from a point to the next wraps.
    return np.asarray(base + ((slope * offset + 64) >> 7), np.int32)


def sigmoid_points() -> NDArray[np.uint16]:
    """Return 256 points of the logistic function, 1 / 24 apart from 0 on, in Q0.16.

    Each is moved by half of what the straight line to the next misses in the middle; the last one is the largest number
    there is. The numbers are those of TFLM common.h (sigmoid_table_uint16).
    """

    def function(x: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(2.0**16 / (1 + np.exp(-x)))

    x, step = np.arange(256) / 24, 1 / 24
    missed = function(x + step / 2) - (function(x) + function(x + step)) / 2
    points = np.floor(function(x) + missed / 2 + 0.5).astype(np.uint16)
    points[-1] = 2**16 - 1
    return points


def sigmoid_input_parameters(scale: float, function: str) -> tuple[int, int]:
    """Multiplier and right shift from inputs of logistic or tanh to units of 1 / 12288.

    Parameters
    ----------
    scale : of the input, which has zero point 0.
    function : "logistic" or "tanh".

    Raises
    ------
    ModelError : the scale is outside [2**-28, 8 / 3).

    Source: TFLM logistic_common.cc, tanh.cc: scales near a power of two are taken for that, in float32.

    >>> sigmoid_input_parameters(2**-12, "logistic"), sigmoid_input_parameters(2**-10, "logistic")
    ((3, 0), (24576, 11))
    """
    single = float32_scale(scale, "input")
    if not 2.0**-28 <= single < 8 / 3:
        raise ModelError(f"{function} of int16: the input scale is {scale}, it must be in [2**-28, 8 / 3).")
    log2 = np.float32(np.log(single) * np.float32(np.float32(1) / np.log(np.float32(2))))
    power = int(round_half_away(log2))
    above, shifts = power + 12, (0,) if function == "logistic" else (0, 1)
    if abs(np.float32(log2 - np.float32(power))) < np.float32(1e-3) and above in shifts:
        return 3 << above, 0
    multiplier, shift = float(single) * 4096.0 * 3.0, 0
    while multiplier <= 32767 / 2 and shift <= 30:
        multiplier, shift = multiplier * 2.0, shift + 1
    return int(multiplier), shift
