"""Float operators of the canonical form as plain numpy: what a network computes before it is quantized.

Arrays are float32, images NHWC, filters OHWI. A first dimension larger than the network's is samples, see
`evaluate.takes_samples`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tvm import relax

from tvm_tinyml.arithmetic import quantize_array
from tvm_tinyml.reference.windows import windows

Real = NDArray[Any]
Evaluate = Callable[[Sequence[Any], relax.Call], Any]


def conv2d(
    x: Real,
    w: Real,
    strides: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int] = (1, 1),
    groups: int = 1,
) -> Real:
    """Convolve in two dimensions.

    Parameters
    ----------
    x : float32[N, H, W, C].
    w : float32[O, KH, KW, C // groups].
    padding : top, left, bottom, right elements of 0.
    """
    outputs, kernel_h, kernel_w, depth = w.shape
    taps = list(_taps(x, (kernel_h, kernel_w), strides, padding, dilation))
    if depth == 1 and groups > 1:
        kernel = w.reshape(groups, -1, len(taps))
        sums = np.zeros((*taps[0].shape, kernel.shape[1]), np.float32)
        for i, tap in enumerate(taps):
            sums += tap[..., None] * kernel[:, :, i]
        return sums.reshape(*taps[0].shape[:-1], outputs)
    length = len(taps) * depth
    patches = np.stack(taps, axis=3).reshape(-1, len(taps), groups, depth)
    rows = patches.transpose(2, 0, 1, 3).reshape(groups, -1, length)
    columns = w.reshape(groups, -1, length).transpose(0, 2, 1)
    products: Real = np.matmul(rows, columns)
    return products.transpose(1, 0, 2).reshape(*taps[0].shape[:-1], outputs)


def conv2d_transpose(
    x: Real,
    w: Real,
    strides: Sequence[int],
    padding: Sequence[int],
    output_padding: Sequence[int] = (0, 0),
    dilation: Sequence[int] = (1, 1),
    groups: int = 1,
) -> Real:
    """Add every element's multiple of the filter to the output.

    Parameters
    ----------
    x : float32[N, H, W, C].
    w : float32[O // groups, KH, KW, C], shared by the groups.
    padding : top, left, bottom, right elements that are cut off the full output.
    output_padding : elements added at the bottom and right.
    """
    outputs, kernel_h, kernel_w, channels = w.shape
    batch, height, width, _ = x.shape
    top, left, bottom, right = padding
    last_h, last_w = (height - 1) * strides[0], (width - 1) * strides[1]
    full_h, full_w = last_h + (kernel_h - 1) * dilation[0] + 1, last_w + (kernel_w - 1) * dilation[1] + 1
    sums = np.zeros((batch, full_h + output_padding[0], full_w + output_padding[1], groups * outputs), np.float32)
    pixels = x.reshape(*x.shape[:3], groups, channels // groups)
    filters = w.reshape(outputs, kernel_h, kernel_w, groups, channels // groups)
    for i in range(kernel_h):
        rows = slice(i * dilation[0], i * dilation[0] + last_h + 1, strides[0])
        for j in range(kernel_w):
            columns = slice(j * dilation[1], j * dilation[1] + last_w + 1, strides[1])
            products = np.einsum("nhwgc,ogc->nhwgo", pixels, filters[:, i, j], optimize=True)
            sums[:, rows, columns] += products.reshape(batch, height, width, -1)
    return sums[:, top : sums.shape[1] - bottom, left : sums.shape[2] - right]


def softmax(x: Real, axis: int) -> Real:
    """Return exp(x) over their sum along an axis."""
    powers = np.exp(x - x.max(axis, keepdims=True))
    result: Real = powers / powers.sum(axis, keepdims=True)
    return result


def _taps(
    x: Real,
    kernel: Sequence[int],
    strides: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int] = (1, 1),
    fill: float = 0.0,
) -> Sequence[Real]:
    top, left, bottom, right = padding
    padded = np.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)), constant_values=fill)
    return list(windows(padded, (kernel[0], kernel[1]), (strides[0], strides[1]), (dilation[0], dilation[1]), "window"))


def _window(call: relax.Call) -> tuple[list[int], list[int], list[int]]:
    a = call.attrs
    return _integers(a.pool_size), _integers(a.strides), _integers(a.padding)


def _integers(value: Any) -> list[int]:
    return [int(i) for i in value]


def _conv2d(args: Sequence[Real], call: relax.Call) -> Real:
    x, w = args
    a = call.attrs
    return conv2d(x, w, _integers(a.strides), _integers(a.padding), _integers(a.dilation), int(a.groups))


def _conv2d_transpose(args: Sequence[Real], call: relax.Call) -> Real:
    x, w = args
    a = call.attrs
    strides, padding, more, dilation = map(_integers, (a.strides, a.padding, a.output_padding, a.dilation))
    return conv2d_transpose(x, w, strides, padding, more, dilation, int(a.groups))


def _max_pool2d(args: Sequence[Real], call: relax.Call) -> Real:
    taps = _taps(args[0], *_window(call), fill=-np.inf)
    result: Real = np.max(taps, axis=0)
    return result


def _avg_pool2d(args: Sequence[Real], call: relax.Call) -> Real:
    """Padding is not counted."""
    window = _window(call)
    count = np.sum(_taps(np.ones_like(args[0][:1]), *window), axis=0)
    result: Real = (np.sum(_taps(args[0], *window), axis=0) / count).astype(np.float32)
    return result


def _reduce(function: Callable[..., Real]) -> Evaluate:
    def reduce(args: Sequence[Real], call: relax.Call) -> Real:
        axes = call.attrs.axis
        return function(
            args[0], axis=None if axes is None else tuple(_integers(axes)), keepdims=bool(call.attrs.keepdims)
        )

    return reduce


def _clip(args: Sequence[Real], call: relax.Call) -> Real:
    low, high = (float(bound.value) for bound in call.args[1:])
    return np.clip(args[0], low, high)


def _leaky_relu(args: Sequence[Real], call: relax.Call) -> Real:
    return np.where(args[0] < 0, args[0] * np.float32(call.attrs.alpha), args[0])


def _quantize(args: Sequence[Any], call: relax.Call) -> Any:
    x, scale, zero_point = args
    return quantize_array(x, float(scale), int(zero_point), str(call.attrs.out_dtype))


def _dequantize(args: Sequence[Any], call: relax.Call) -> Real:
    x, scale, zero_point = args
    if np.ndim(scale):
        spread = [-1 if i == int(call.attrs.axis) % x.ndim else 1 for i in range(x.ndim)]
        scale, zero_point = scale.reshape(spread), zero_point.reshape(spread)
    result: Real = ((x.astype(np.int64) - zero_point.astype(np.int64)) * scale.astype(np.float64)).astype(np.float32)
    return result


def _sigmoid(x: Real) -> Real:
    result: Real = 1 / (1 + np.exp(-x))
    return result


def _hard_sigmoid(args: Sequence[Real], call: relax.Call) -> Real:
    alpha, beta = (np.float32(number.value) for number in call.args[1:])
    result: Real = np.clip(args[0] * alpha + beta, np.float32(0), np.float32(1))
    return result


def _hard_swish(x: Real) -> Real:
    result: Real = x * np.clip(x + 3, 0, 6) / 6
    return result


def _element(function: Callable[..., Real]) -> Evaluate:
    return lambda args, _: function(*args)


OPERATORS: Mapping[str, Evaluate] = {
    "relax.abs": _element(np.abs),
    "relax.add": _element(np.add),
    "relax.astype": lambda args, call: args[0].astype(str(call.attrs.dtype)),
    "relax.clip": _clip,
    "relax.dequantize": _dequantize,
    "relax.exp": _element(np.exp),
    "relax.matmul": _element(np.matmul),
    "relax.mean": _reduce(np.mean),
    "relax.multiply": _element(np.multiply),
    "relax.negative": _element(np.negative),
    "relax.nn.avg_pool2d": _avg_pool2d,
    "relax.nn.conv2d": _conv2d,
    "relax.nn.conv2d_transpose": _conv2d_transpose,
    "relax.nn.leakyrelu": _leaky_relu,
    "relax.nn.max_pool2d": _max_pool2d,
    "relax.nn.relu": lambda args, _: np.maximum(args[0], np.float32(0)),
    "relax.nn.softmax": lambda args, call: softmax(args[0], int(call.attrs.axis)),
    "relax.quantize": _quantize,
    "relax.sigmoid": _element(_sigmoid),
    "relax.subtract": _element(np.subtract),
    "relax.sum": _reduce(np.sum),
    "relax.tanh": _element(np.tanh),
    "tinyml.hard_sigmoid": _hard_sigmoid,
    "tinyml.hard_swish": _element(_hard_swish),
}
"""By the operator's name in the canonical form, quantized or not."""
