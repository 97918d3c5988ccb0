"""Operators as plain numpy: what every compiled kernel has to compute, bit for bit.

Activations are int8 or int16, which the result is too, in NHWC order. Every parameter is an
explicit integer as derived by `tvm_tinyml.arithmetic`; there is no floating point in the meaning, only in the speed:
matrix products run in floats that hold every sum exactly.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tvm_tinyml.arithmetic import (
    ADD_LEFT_SHIFT,
    RANGES,
    doubling_high_multiply,
    multiply_by_quantized_multiplier,
    multiply_by_reduced_multiplier,
    reciprocal,
    rounding_right_shift,
    saturate,
    wrap,
)
from tvm_tinyml.errors import ModelError
from tvm_tinyml.reference.windows import windows

Activation = NDArray[np.int8] | NDArray[np.int16]
Bias = NDArray[np.int32] | NDArray[np.int64]


def conv2d(
    x: Activation,
    w: NDArray[np.int8],
    bias: Bias,
    multiplier: NDArray[np.int32],
    shift: NDArray[np.int32],
    *,
    strides: tuple[int, int] = (1, 1),
    padding: tuple[int, int, int, int] = (0, 0, 0, 0),
    dilation: tuple[int, int] = (1, 1),
    groups: int = 1,
    input_zero_point: int = 0,
    output_zero_point: int = 0,
    clamp_min: int = -128,
    clamp_max: int = 127,
) -> Activation:
    """Convolve in two dimensions; depthwise is ``groups`` equal to the input channels.

    Parameters
    ----------
    x : int8[N, H, W, C], or int16.
    w : int8[O, KH, KW, C // groups].
    bias : int32[O], with the input offset folded in (`tvm_tinyml.arithmetic.fold_input_offset`); int64[O] for sums of
        64 bits, which are scaled by `tvm_tinyml.arithmetic.multiply_by_reduced_multiplier`.
    multiplier, shift : int32[O], as from `tvm_tinyml.arithmetic.conv_parameters`.
    strides, dilation : of height and width.
    padding : top, left, bottom, right elements, which hold ``input_zero_point``.
    clamp_min, clamp_max : of the fused activation.

    Returns
    -------
    [N, OH, OW, O]. Sums wrap to 32 bits unless the bias has 64.

    Raises
    ------
    ModelError : channels and groups do not fit, or the window is larger than the padded input.
    """
    outputs, kernel_h, kernel_w, depth = w.shape
    if x.shape[3] != depth * groups or outputs % groups:
        raise ModelError(
            f"conv2d: {x.shape[3]} input channels, {groups} groups, weights {w.shape}: the input must have "
            f"{depth * groups} channels and the outputs must divide by the groups."
        )
    top, left, bottom, right = padding
    padded = np.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)), constant_values=input_zero_point)
    taps = list(windows(padded, (kernel_h, kernel_w), strides, dilation, "conv2d"))
    sums = _depthwise_sums(taps, w) if depth == 1 and groups > 1 else _grouped_sums(taps, w, groups)
    return _requantize(sums, bias, multiplier, shift, output_zero_point, clamp_min, clamp_max, x.dtype)


def conv2d_transpose(
    x: Activation,
    w: NDArray[np.int8],
    bias: Bias,
    multiplier: NDArray[np.int32],
    shift: NDArray[np.int32],
    *,
    strides: tuple[int, int] = (1, 1),
    padding: tuple[int, int, int, int] = (0, 0, 0, 0),
    output_padding: tuple[int, int] = (0, 0),
    dilation: tuple[int, int] = (1, 1),
    groups: int = 1,
    input_zero_point: int = 0,
    output_zero_point: int = 0,
    clamp_min: int = -128,
    clamp_max: int = 127,
) -> Activation:
    """Convolve in the opposite direction: every element of the input adds its multiple of the filter to the output.

    Parameters
    ----------
    x : int8[N, H, W, C], or int16.
    w : int8[O, KH, KW, C // groups].
    bias : int32[O] or int64[O], of the model: the input offset is not folded in.
    strides, dilation : of height and width.
    padding : top, left, bottom, right elements that are cut off the full output, of
        ``(size - 1) * stride + (kernel - 1) * dilation + 1`` elements.
    output_padding : elements, added at the bottom and right, that no input reaches but through what was cut off.

    The other parameters are those of `conv2d`.

    Returns
    -------
    [N, OH, OW, O]. Sums wrap to 32 bits unless the bias has 64.

    Raises
    ------
    ModelError : channels and groups do not fit.

    Source: TFLM integer_ops/transpose_conv.h; ONNX operator ConvTranspose for the parameters that TFLite lacks.
    """
    outputs, kernel_h, kernel_w, depth = w.shape
    if x.shape[3] != depth * groups or outputs % groups:
        raise ModelError(
            f"conv2d_transpose: {x.shape[3]} input channels, {groups} groups, weights {w.shape}: the input must have "
            f"{depth * groups} channels and the outputs must divide by the groups."
        )
    batch, height, width, _ = x.shape
    top, left, bottom, right = padding
    last_h, last_w = (height - 1) * strides[0], (width - 1) * strides[1]
    full_h, full_w = last_h + (kernel_h - 1) * dilation[0] + 1, last_w + (kernel_w - 1) * dilation[1] + 1
    sums = np.zeros((batch, full_h + output_padding[0], full_w + output_padding[1], outputs), np.int64)
    pixels = (x.astype(np.int64) - input_zero_point).reshape(*x.shape[:3], groups, depth)
    filters = w.reshape(groups, outputs // groups, kernel_h, kernel_w, depth)
    for i in range(kernel_h):
        rows = slice(i * dilation[0], i * dilation[0] + last_h + 1, strides[0])
        for j in range(kernel_w):
            columns = slice(j * dilation[1], j * dilation[1] + last_w + 1, strides[1])
            products = np.einsum("nhwgc,goc->nhwgo", pixels, filters[:, :, i, j].astype(np.int64), optimize=True)
            sums[:, rows, columns] += products.reshape(batch, height, width, outputs)
    kept = sums[:, top : sums.shape[1] - bottom, left : sums.shape[2] - right]
    return _requantize(kept, bias, multiplier, shift, output_zero_point, clamp_min, clamp_max, x.dtype)


def dense(
    x: Activation,
    w: NDArray[np.int8],
    bias: Bias,
    multiplier: ArrayLike,
    shift: ArrayLike,
    *,
    output_zero_point: int = 0,
    clamp_min: int = -128,
    clamp_max: int = 127,
) -> Activation:
    """Multiply by a weight matrix (FULLY_CONNECTED).

    Parameters
    ----------
    x : int8[N, K], or int16. w : int8[O, K]. bias : as for `conv2d`.
    multiplier, shift : int32[O] or one integer, as from `tvm_tinyml.arithmetic.dense_parameters`.

    Returns
    -------
    [N, O]. Sums wrap to 32 bits unless the bias has 64.
    """
    return _requantize(_matmul(x, w.T), bias, multiplier, shift, output_zero_point, clamp_min, clamp_max, x.dtype)


def add(
    a: Activation,
    b: Activation,
    *,
    a_zero_point: int,
    b_zero_point: int,
    a_multiplier: int,
    a_shift: int,
    b_multiplier: int,
    b_shift: int,
    output_multiplier: int,
    output_shift: int,
    output_zero_point: int,
    left_shift: int = ADD_LEFT_SHIFT,
    clamp_min: int = -128,
    clamp_max: int = 127,
) -> Activation:
    """Add arrays that broadcast; the integers are those of `tvm_tinyml.arithmetic.add_parameters`."""
    scaled_a = _to_common_scale(a, a_zero_point, left_shift, a_multiplier, a_shift)
    scaled_b = _to_common_scale(b, b_zero_point, left_shift, b_multiplier, b_shift)
    total = scaled_a + scaled_b
    return _requantize(total, 0, output_multiplier, output_shift, output_zero_point, clamp_min, clamp_max, a.dtype)


def sub(
    a: Activation,
    b: Activation,
    *,
    a_zero_point: int,
    b_zero_point: int,
    a_multiplier: int,
    a_shift: int,
    b_multiplier: int,
    b_shift: int,
    output_multiplier: int,
    output_shift: int,
    output_zero_point: int,
    left_shift: int = ADD_LEFT_SHIFT,
    clamp_min: int = -128,
    clamp_max: int = 127,
) -> Activation:
    """Subtract arrays that broadcast; the integers are those of `tvm_tinyml.arithmetic.sub_parameters`."""
    scaled_a = _to_common_scale(a, a_zero_point, left_shift, a_multiplier, a_shift)
    scaled_b = _to_common_scale(b, b_zero_point, left_shift, b_multiplier, b_shift)
    total = scaled_a - scaled_b
    return _requantize(total, 0, output_multiplier, output_shift, output_zero_point, clamp_min, clamp_max, a.dtype)


def mul(
    a: Activation,
    b: Activation,
    *,
    a_zero_point: int,
    b_zero_point: int,
    multiplier: int,
    shift: int,
    output_zero_point: int,
    left_shift: int = 0,
    clamp_min: int = -128,
    clamp_max: int = 127,
) -> Activation:
    """Multiply arrays that broadcast.

    Parameters
    ----------
    left_shift, multiplier, shift : 0 and those of `tvm_tinyml.arithmetic.mul_parameters`, or as from
        `tvm_tinyml.arithmetic.raised_parameters`.
    """
    product = (a.astype(np.int64) - a_zero_point) * (b.astype(np.int64) - b_zero_point)
    raised = product << left_shift
    return _requantize(raised, 0, multiplier, shift, output_zero_point, clamp_min, clamp_max, a.dtype)


def avg_pool2d(
    x: Activation,
    kernel: tuple[int, int],
    *,
    strides: tuple[int, int] = (1, 1),
    padding: tuple[int, int, int, int] = (0, 0, 0, 0),
    clamp_min: int = -128,
    clamp_max: int = 127,
) -> Activation:
    """Average over windows, halves away from zero; padding is neither summed nor counted.

    Parameters
    ----------
    x : int8[N, H, W, C] or int16, raw values: input and output have the same scale and zero point.
    padding : top, left, bottom, right; smaller than the kernel.

    Source: TFLM integer_ops/pooling.h.
    """
    total = sum(_pool_taps(x.astype(np.int64), kernel, strides, padding, 0))
    count = sum(_pool_taps(np.ones((1, *x.shape[1:3], 1), np.int64), kernel, strides, padding, 0))
    average = np.sign(total) * ((np.abs(total) + count // 2) // count)
    return _clamp(average, clamp_min, clamp_max, x.dtype)


def mean_pool2d(
    x: Activation,
    kernel: tuple[int, int],
    *,
    strides: tuple[int, int] = (1, 1),
    padding: tuple[int, int, int, int] = (0, 0, 0, 0),
    input_zero_point: int,
    left_shift: int,
    multiplier: int,
    shift: int,
    output_zero_point: int,
    clamp_min: int = -128,
    clamp_max: int = 127,
) -> Activation:
    """Average over windows with a change of scale; padding is neither summed nor counted.

    Parameters
    ----------
    x : int8[N, H, W, C].
    padding : top, left, bottom, right; smaller than the kernel.
    left_shift, multiplier, shift : as from `tvm_tinyml.arithmetic.raised_parameters`, for input scale / output scale /
        elements of the kernel without padding, for input scale / output scale with padding, where the raised sum is
        divided by the elements inside the image first, halves away from zero.
    """
    centred = x.astype(np.int64) - input_zero_point
    total = np.asarray(sum(_pool_taps(centred, kernel, strides, padding, 0))) << left_shift
    if any(padding):
        count = sum(_pool_taps(np.ones((1, *x.shape[1:3], 1), np.int64), kernel, strides, padding, 0))
        total = np.sign(total) * ((np.abs(total) + count // 2) // count)
    return _requantize(total, 0, multiplier, shift, output_zero_point, clamp_min, clamp_max, x.dtype)


def max_pool2d(
    x: Activation,
    kernel: tuple[int, int],
    *,
    strides: tuple[int, int] = (1, 1),
    padding: tuple[int, int, int, int] = (0, 0, 0, 0),
    clamp_min: int = -128,
    clamp_max: int = 127,
) -> Activation:
    """Largest value of each window; parameters as for `avg_pool2d`."""
    least = int(np.iinfo(x.dtype).min)
    largest = np.maximum.reduce(list(_pool_taps(x, kernel, strides, padding, least)))
    return _clamp(largest, clamp_min, clamp_max, x.dtype)


def mean(
    x: Activation,
    axes: Sequence[int],
    *,
    multiplier: int,
    shift: int,
    input_zero_point: int,
    output_zero_point: int,
    left_shift: int = 0,
    keep_dims: bool = False,
) -> Activation:
    """Average over axes, or add up: the integers say which.

    Parameters
    ----------
    axes : any, negative from the end.
    left_shift, multiplier, shift : 0 and those of `tvm_tinyml.arithmetic.mean_parameters` for MEAN, of
        `sum_parameters` for SUM; or as from `tvm_tinyml.arithmetic.raised_parameters`.

    Source: TFLM reduce.h (QuantizedMeanOrSum).
    """
    total = (x.astype(np.int64) - input_zero_point).sum(axis=tuple(axes), keepdims=True)
    if not keep_dims:
        total = total.squeeze(axis=tuple(axes))
    bounds = RANGES[str(x.dtype)]
    return _requantize(total << left_shift, 0, multiplier, shift, output_zero_point, *bounds, x.dtype)


def lookup(x: NDArray[Any], table: NDArray[Any]) -> NDArray[Any]:
    """Apply a table of 256 entries to an 8-bit array; the result has the table's type.

    Entry ``i`` is for input ``i - 128``, for uint8 inputs for input ``i``.
    """
    return table[x.astype(np.intp) - np.iinfo(x.dtype).min]


def softmax(
    x: Activation,
    exp_table: NDArray[np.int32],
    *,
    multiplier: int = 2**30,
    shift: int = 9,
    output_zero_point: int = -128,
    clamp_min: int = -128,
    clamp_max: int = 127,
) -> Activation:
    """Softmax over the last axis; as TFLite has it, the output has scale 1/256 and zero point -128.

    Parameters
    ----------
    exp_table : int32[256], Q0.31, exp of the difference to the largest value (`softmax_exp_table`).
    multiplier, shift : of 1 / output scale, as from `tvm_tinyml.arithmetic.quantize_multiplier`. The reciprocal of the
        sum is multiplied by them, once for each row; a multiplier of 2**30, a power of two, only shifts.

    Raises
    ------
    ModelError : more than 4096 elements, whose sum does not fit the 12 integer bits.

    Source: TFLM softmax.h.
    """
    if x.shape[-1] > 4096:
        raise ModelError(f"softmax: {x.shape[-1]} elements, the sum of exponentials holds 4096. Use fewer classes.")
    wide = x.astype(np.intp)
    terms = exp_table[wide.max(axis=-1, keepdims=True) - wide]
    integer_bits = 12
    total = rounding_right_shift(terms, integer_bits).sum(axis=-1, keepdims=True, dtype=np.int64)
    mantissa, bits = reciprocal(total, integer_bits)
    bits = bits + 31 - shift
    if multiplier == 2**30:
        bits = bits + 1
    else:
        mantissa = doubling_high_multiply(mantissa, multiplier)
    # Nothing reaches a half behind a shift of 32 and more.
    terms = np.where(bits > 31, 0, doubling_high_multiply(mantissa, terms))
    quotient = rounding_right_shift(terms, np.minimum(bits, 31))
    return _clamp(quotient.astype(np.int64) + output_zero_point, clamp_min, clamp_max, x.dtype)


# Helpers ------------------------------------------------------------------------------------------------------


def _clamp(values: ArrayLike, low: int, high: int, dtype: np.dtype[Any]) -> Activation:
    result: Activation = np.clip(np.asarray(values), low, high).astype(dtype)
    return result


def _requantize(
    acc: ArrayLike,
    bias: ArrayLike,
    multiplier: ArrayLike,
    shift: ArrayLike,
    zero_point: int,
    clamp_min: int,
    clamp_max: int,
    dtype: np.dtype[Any],
) -> Activation:
    """From an accumulator to a result. The zero point is added in 64 bits; in TFLM's 32 it overflows at 2**31."""
    total = np.asarray(acc, np.int64) + np.asarray(bias, np.int64)
    if isinstance(bias, np.ndarray) and bias.dtype == np.int64:
        scaled = multiply_by_reduced_multiplier(total, multiplier, shift)
    else:
        scaled = multiply_by_quantized_multiplier(wrap(total), multiplier, shift)
    return _clamp(scaled.astype(np.int64) + zero_point, clamp_min, clamp_max, dtype)


def _to_common_scale(x: Activation, zero_point: int, left_shift: int, multiplier: int, shift: int) -> NDArray[np.int64]:
    shifted = saturate((x.astype(np.int64) - zero_point) << left_shift)
    return multiply_by_quantized_multiplier(shifted, multiplier, shift).astype(np.int64)


def _depthwise_sums(taps: Sequence[Activation], w: NDArray[np.int8]) -> NDArray[np.int32]:
    """One multiplication per tap: much faster than a tiny matrix product per channel."""
    channels = taps[0].shape[-1]
    kernel = w.reshape(channels, -1, len(taps)).astype(np.int64)
    sums = np.zeros((*taps[0].shape, kernel.shape[1]), np.int64)
    for i, tap in enumerate(taps):
        sums += tap[..., None] * kernel[:, :, i]
    return sums.reshape(*taps[0].shape[:-1], -1)


def _grouped_sums(taps: Sequence[Activation], w: NDArray[np.int8], groups: int) -> NDArray[np.int64]:
    """One matrix product per group: windows as rows, filters as columns."""
    depth = len(taps) * w.shape[-1]
    patches = np.stack(taps, axis=3).reshape(-1, len(taps), groups, w.shape[-1])
    rows = patches.transpose(2, 0, 1, 3).reshape(groups, -1, depth)
    columns = w.reshape(groups, -1, depth).transpose(0, 2, 1)
    return _matmul(rows, columns).transpose(1, 0, 2).reshape(*taps[0].shape[:-1], -1)


def _matmul(a: NDArray[Any], b: NDArray[Any]) -> NDArray[np.int64]:
    """Exact product of matrices through the float matrix product, which is much faster than numpy's integer one.

    Products of int8 are at most 2**14, so that 1024 of them stay inside the 24 exact bits of float32.
    """
    exact = np.float32 if a.dtype == np.int8 and a.shape[-1] <= 1024 else np.float64
    product: NDArray[np.floating] = np.matmul(a.astype(exact), b.astype(exact))
    return product.astype(np.int64)


def _pool_taps(
    x: NDArray[Any], kernel: tuple[int, int], strides: tuple[int, int], padding: tuple[int, int, int, int], fill: int
) -> Iterator[NDArray[Any]]:
    top, left, bottom, right = padding
    padded = np.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)), constant_values=fill)
    return windows(padded, kernel, strides, (1, 1), "pool")
