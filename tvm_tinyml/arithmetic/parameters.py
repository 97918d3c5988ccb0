"""The integers of each operator, derived from its scales exactly as TFLM derives them.

Scales of a model are float32; they may be passed as Python floats and are rounded to float32 first. Their products and
quotients are taken in double, the bounds of activations in float32. TFLM's sources of August 2026 and before round a
few quotients (per-tensor dense layers, sub, ReLU, leaky ReLU, hard swish) to float32, which changes the last bits of
these multipliers and rarely a result; its interpreter of October 2026, which our tests compare with, does not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tvm_tinyml.arithmetic.fixed_point import LARGEST_LONG_SUM, quantize_multiplier, wrap
from tvm_tinyml.errors import ModelError

RANGES: dict[str, tuple[int, int]] = {"int8": (-128, 127), "uint8": (0, 255), "int16": (-(2**15), 2**15 - 1)}
"""Smallest and largest value of the types of activations."""


def float32_scale(scale: float, what: str) -> np.float32:
    """Round a scale to float32 and check it.

    Raises
    ------
    ModelError : the scale is not finite and positive; ``what`` names the tensor in the message.
    """
    result = np.float32(scale)
    if not np.isfinite(result) or result <= 0.0:
        raise ModelError(
            f"the scale of the {what} is {scale}, it must be finite and above 0. Quantize the model again."
        )
    return result


def round_half_away(x: ArrayLike) -> NDArray[np.float64]:
    """Round to the nearest integer, halves away from zero, as C's round does (exact: float64 in, float64 out)."""
    value = np.asarray(x, np.float64)
    whole = np.trunc(value)
    return whole + np.copysign(np.abs(value - whole) >= 0.5, value)


# Layers with weights ------------------------------------------------------------------------------------------


def conv_parameters(
    input_scale: float, weight_scales: ArrayLike, output_scale: float, channels: int
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Multiplier and shift of each output channel of a convolution, plain, grouped or depthwise.

    Parameters
    ----------
    weight_scales : float32, one, or one per output channel.
    channels : output channels.

    Returns
    -------
    multipliers, shifts : int32[channels], of input scale * weight scale / output scale.

    Raises
    ------
    ModelError : a scale is not positive, there are neither 1 nor ``channels`` weight scales, or the combined scale
        is out of range.

    Source: TFLM kernel_util.cc (PopulateConvolutionQuantizationParams).
    """
    double_in = float(float32_scale(input_scale, "input"))
    double_out = float(float32_scale(output_scale, "output"))
    scales = _weight_scales(weight_scales, channels)
    pairs = [quantize_multiplier(double_in * float(scale) / double_out) for scale in scales]
    return _per_channel(pairs, channels)


def dense_parameters(
    input_scale: float,
    weight_scales: ArrayLike,
    output_scale: float,
    channels: int,
    bias_scale: float | None = None,
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Multiplier and shift of each output of a fully connected layer: those of `conv_parameters`.

    Parameters
    ----------
    weight_scales : float32, one, or one per output.
    channels : outputs.
    bias_scale : of the bias if there is one; checked with a single weight scale only, as TFLM does.

    Raises
    ------
    ModelError : as for `conv_parameters`; or the bias scale is further from input scale * weight scale than
        0.02 output scales (TFLM refuses such a model).

    Source: TFLM fully_connected_common.cc and kernel_util.cc (GetQuantizedConvolutionMultipler).
    """
    scales = _weight_scales(weight_scales, channels)
    if bias_scale is not None and len(scales) == 1:
        expected = float(np.float32(input_scale)) * float(scales[0])
        if abs(expected - float(np.float32(bias_scale))) > 0.02 * float(float32_scale(output_scale, "output")):
            raise ModelError(
                f"fully connected: the bias scale is {bias_scale}, input scale * weight scale is {expected}: "
                f"their difference is above 0.02 output scales of {output_scale}. Quantize the model again."
            )
    return conv_parameters(input_scale, scales, output_scale, channels)


def check_long_sums(weights: NDArray[np.int8], bias: NDArray[np.int64], shift: NDArray[np.int32]) -> None:
    """Check that TFLite's scaling of 64-bit sums is defined for a layer of int16 inputs.

    Parameters
    ----------
    weights : int8[O, ...], output channel first.
    bias : int64[O].
    shift : int32[O], as from `conv_parameters`.

    Raises
    ------
    ModelError : a channel's scale is 128 or more, or its sum may reach 2**47.

    Source: TFLM common.cc (asserted there by debug builds).
    """
    if shift.max() > 7:
        raise ModelError(
            f"input scale * weight scale / output scale of channel {int(shift.argmax())} is 128 or more, which sums of "
            "64 bits do not allow. Quantize the model again with a larger output scale."
        )
    magnitudes = np.abs(weights.reshape(len(weights), -1).astype(np.int64)).sum(axis=1)
    # In Python's integers: a bias may be as small as -2**63.
    sums = [(int(m) << 15) + abs(int(b)) for m, b in zip(magnitudes, bias, strict=True)]
    if max(sums) >= LARGEST_LONG_SUM:
        raise ModelError(
            f"the sum of channel {sums.index(max(sums))} may reach {max(sums)}, it must stay below 2**47. "
            "Quantize the model again."
        )


def fold_input_offset(bias: ArrayLike | None, weights: NDArray[np.int8], input_zero_point: int) -> NDArray[np.int32]:
    """Bias of a layer that multiplies raw inputs: bias - input zero point * sum of the channel's weights.

    Parameters
    ----------
    bias : int32[O], or None for zeros.
    weights : int8[O, ...], output channel first.

    Returns
    -------
    int32[O]. Sums wrap to 32 bits as the accumulator does, so that the folding changes no result.
    """
    sums = weights.reshape(weights.shape[0], -1).sum(axis=1, dtype=np.int64)
    start = np.zeros(len(sums), np.int64) if bias is None else np.asarray(bias, np.int64)
    return wrap(start - input_zero_point * sums)


def window(padding: str, size: int, kernel: int, stride: int, dilation: int = 1) -> tuple[int, int, int]:
    """Output size and padding of a sliding window along one axis.

    Parameters
    ----------
    padding : "SAME" or "VALID".

    Returns
    -------
    output : elements.
    before, after : elements of padding; with an odd total the extra one is after.

    Source: TFLM padding.h.

    >>> window("SAME", 96, 3, 2)
    (48, 0, 1)
    """
    extent = (kernel - 1) * dilation + 1
    if padding == "SAME":
        output = -(-size // stride)
    elif padding == "VALID":
        output = (size - extent + stride) // stride
    else:
        raise ModelError(f"padding is {padding!r}, it must be 'SAME' or 'VALID'.")
    if output < 1:
        raise ModelError(f"a window of {extent} elements does not fit an axis of {size}. Use SAME padding.")
    total = max((output - 1) * stride + extent - size, 0)
    return output, total // 2, total - total // 2


# Element-wise -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class AddParameters:
    """Scaling of add and sub: both inputs to a common scale with ``left_shift`` bits in reserve, the sum to the output.

    Multipliers are Q0.31, shifts are in bits, positive to the left, as from `quantize_multiplier`.
    """

    left_shift: int
    a_multiplier: int
    a_shift: int
    b_multiplier: int
    b_shift: int
    output_multiplier: int
    output_shift: int


ADD_LEFT_SHIFT = 20
"""Bits by which int8 operands of add and sub are shifted left: 9 bits of difference and 20 stay inside int32."""

ADD_LEFT_SHIFTS = {"int8": ADD_LEFT_SHIFT, "int16": 15}
"""By the type of the operands; those of int16 have no zero point."""


def add_parameters(a_scale: float, b_scale: float, output_scale: float, dtype: str = "int8") -> AddParameters:
    """Scaling of an addition or subtraction of operands of a type, int8 or int16.

    Raises
    ------
    ModelError : a scale is not positive, or the output scale is too small for the inputs (TFLM aborts there).

    Source: TFLM add_common.cc, sub_common.cc.
    """
    a, b, out = _double_scales(a_scale, b_scale, output_scale)
    left_shift = ADD_LEFT_SHIFTS[dtype]
    twice_max = 2.0 * max(a, b)
    to_output = twice_max / ((1 << left_shift) * out)
    if to_output >= 1.0:
        raise ModelError(
            f"add or sub: twice the larger input scale is {twice_max / out} output scales, it must be below "
            f"{1 << left_shift}. Quantize the model again with a larger output scale."
        )
    return AddParameters(
        left_shift,
        *quantize_multiplier(a / twice_max),
        *quantize_multiplier(b / twice_max),
        *quantize_multiplier(to_output),
    )


sub_parameters = add_parameters
"""Scaling of a subtraction: that of an addition."""


def product_ratio(a_scale: float, b_scale: float, output_scale: float) -> float:
    """A scale * b scale / output scale, all three float32, the result in double."""
    a, b, out = _double_scales(a_scale, b_scale, output_scale)
    return a * b / out


def mul_parameters(a_scale: float, b_scale: float, output_scale: float) -> tuple[int, int]:
    """Multiplier and shift of a product: a scale * b scale / output scale. Source: TFLM mul_common.cc."""
    return quantize_multiplier(product_ratio(a_scale, b_scale, output_scale))


def scale_ratio(input_scale: float, output_scale: float) -> float:
    """Input scale / output scale, both float32, the quotient in double."""
    return float(float32_scale(input_scale, "input")) / float(float32_scale(output_scale, "output"))


def requantize_parameters(input_scale: float, output_scale: float) -> tuple[int, int]:
    """Multiplier and shift of a change of scale: input scale / output scale.

    Of QUANTIZE from any integers and of SUM. Source: TFLM quantize_common.cc, reduce_common.cc.
    """
    return quantize_multiplier(scale_ratio(input_scale, output_scale))


sum_parameters = requantize_parameters
"""Multiplier and shift of SUM: those of a change of scale."""


def slope_parameters(input_scale: float, output_scale: float, slope: float) -> tuple[int, int]:
    """Multiplier and shift of a slope (float32) between two scales; the multiplier has the slope's sign.

    Source: TFLM leaky_relu_common.cc.
    """
    double_in, double_out = float(float32_scale(input_scale, "input")), float(float32_scale(output_scale, "output"))
    return quantize_multiplier(double_in * float(np.float32(slope)) / double_out)


def mean_parameters(input_scale: float, output_scale: float, count: int) -> tuple[int, int]:
    """Multiplier and shift of MEAN: the division by the count is part of the multiplier, truncated.

    Parameters
    ----------
    count : elements averaged into one, above 0.

    Source: TFLM reduce.h (QuantizedMeanOrSum); one path for all axes and for equal and unequal scales.
    """
    multiplier, shift = requantize_parameters(input_scale, output_scale)
    kept = min(count.bit_length() - 1, 32, 31 + shift)  # bits of the count that move into the multiplier
    return (multiplier << kept) // count, shift - kept


def raised_parameters(scale: float, largest: int) -> tuple[int, int, int]:
    """Left shift, multiplier and shift of a change of scale whose first rounding does not show.

    Of the two roundings of `multiply_by_quantized_multiplier`, the first is to 2**shift of the result. Where TFLite has
    no kernel to equal, what is scaled is moved left before, as its additions are: then that is far below one unit.

    Parameters
    ----------
    largest : bound of the magnitude of what is scaled, below 2**30.

    Returns
    -------
    left_shift : bits, so that ``largest << left_shift`` is below 2**30.
    multiplier, shift : of scale / 2**left_shift.

    >>> raised_parameters(0.25, 1000)
    (20, 1073741824, -21)
    """
    multiplier, shift = quantize_multiplier(scale)
    left_shift = max(min(30 - largest.bit_length(), 31 + shift), 0)
    return left_shift, multiplier, shift - left_shift


# Activations --------------------------------------------------------------------------------------------------


def activation_range(activation: str, scale: float, zero_point: int, dtype: str = "int8") -> tuple[int, int]:
    """Smallest and largest output of a fused activation.

    Parameters
    ----------
    activation : "NONE", "RELU", "RELU6" or "RELU_N1_TO_1".
    scale, zero_point : of the output.
    dtype : "int8", "uint8" or "int16".

    Raises
    ------
    ModelError : any other activation, or a bound that does not fit int32.

    Source: TFLM kernel_util.cc (CalculateActivationRangeQuantized), division in float32.

    >>> activation_range("RELU6", 6 / 255, -128)
    (-128, 127)
    """
    bounds: dict[str, tuple[float | None, float | None]] = {
        "NONE": (None, None),
        "RELU": (0.0, None),
        "RELU6": (0.0, 6.0),
        "RELU_N1_TO_1": (-1.0, 1.0),
    }
    if activation not in bounds:
        raise ModelError(
            f"fused activation {activation!r} is not one of {', '.join(bounds)}. Make it its own operator."
        )
    low, high = RANGES[dtype]
    real_low, real_high = bounds[activation]
    if real_low is not None:
        low = max(low, quantize_value(real_low, scale, zero_point))
    if real_high is not None:
        high = min(high, quantize_value(real_high, scale, zero_point))
    return low, high


def quantize_value(value: float, scale: float, zero_point: int) -> int:
    """Quantize a real value without clamping: round(value / scale) + zero point, divided in float32."""
    quotient = float(round_half_away(np.float32(value) / float32_scale(scale, "output")))
    if abs(quotient) >= 2.0**31:
        raise ModelError(f"{value} / {scale} does not fit 32 bits. The output scale is too small; quantize again.")
    return int(quotient) + zero_point


def quantize_array(values: ArrayLike, scale: float, zero_point: int, dtype: str) -> NDArray[Any]:
    """Quantize real values: round(values / scale) + zero point, halves away from zero, saturated to `dtype`."""
    limits = np.iinfo(dtype)
    integers = round_half_away(np.asarray(values, np.float64) / scale) + zero_point
    quantized: NDArray[Any] = np.clip(integers, limits.min, limits.max).astype(dtype)
    return quantized


# Positions ----------------------------------------------------------------------------------------------------


def nearest_indices(
    input_size: int, output_size: int, align_corners: bool, half_pixel_centers: bool
) -> NDArray[np.intp]:
    """Input position of each output position of a nearest-neighbour resize along one axis.

    Computed in float32 as TFLM does (resize_nearest_neighbor.h), halves away from zero.
    """
    if align_corners and output_size > 1:
        step = np.float32(input_size - 1) / np.float32(output_size - 1)
    else:
        step = np.float32(input_size) / np.float32(output_size)
    position = (np.arange(output_size, dtype=np.float32) + np.float32(0.5 if half_pixel_centers else 0.0)) * step
    index = round_half_away(position) if align_corners else np.floor(position)
    return np.clip(index, 0, input_size - 1).astype(np.intp)


# Helpers ------------------------------------------------------------------------------------------------------


def _weight_scales(weight_scales: ArrayLike, channels: int) -> NDArray[np.float32]:
    scales = np.atleast_1d(np.asarray(weight_scales, np.float32))
    if scales.shape not in ((1,), (channels,)):
        raise ModelError(f"the weights have {scales.size} scales, they must have 1 or one per channel ({channels}).")
    if not (np.isfinite(scales).all() and (scales > 0.0).all()):
        worst = int(np.argmin(np.where(np.isfinite(scales), scales, -np.inf)))
        raise ModelError(f"the weight scale of channel {worst} is {scales[worst]}, it must be finite and above 0.")
    return scales


def _per_channel(pairs: Sequence[tuple[int, int]], channels: int) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    both = np.broadcast_to(np.asarray(pairs, np.int32), (channels, 2))
    return both[:, 0].copy(), both[:, 1].copy()


def _double_scales(a_scale: float, b_scale: float, output_scale: float) -> tuple[float, float, float]:
    return (
        float(float32_scale(a_scale, "first input")),
        float(float32_scale(b_scale, "second input")),
        float(float32_scale(output_scale, "output")),
    )
