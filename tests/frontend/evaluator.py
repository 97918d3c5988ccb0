"""Computes a module in canonical form with numpy, in real numbers where it is real: what the import means."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tvm import IRModule, relax
from tvm.ir import GenericConst

Array = NDArray[Any]


def evaluate(module: IRModule, inputs: Sequence[Array]) -> list[Array]:
    """Run ``main``; one array per parameter gives one array per output."""
    main = module["main"]
    values: dict[Any, Any] = {var: np.asarray(x) for var, x in zip(main.params, inputs, strict=True)}

    def get(expr: relax.Expr) -> Any:
        if isinstance(expr, GenericConst):
            return expr.value.numpy()
        if isinstance(expr, relax.Tuple):
            return [get(field) for field in expr.fields]
        if isinstance(expr, relax.ShapeExpr):
            return [int(extent) for extent in expr.values]
        if isinstance(expr, relax.Var):
            return values[expr]
        return float(expr.value)

    for binding in _bindings(module):
        value = binding.value
        if isinstance(value, relax.Call):
            name = value.op.name.removeprefix("relax.")
            result = OPERATORS[name](value.attrs, *[get(argument) for argument in value.args])
        elif isinstance(value, relax.TupleGetItem):
            result = get(value.tuple_value)[value.index]
        else:
            result = get(value)
        if isinstance(result, np.ndarray):
            expected = binding.var.ty
            assert result.shape == tuple(int(extent) for extent in expected.shape), binding
            assert str(expected.dtype).startswith("float") == (result.dtype.kind == "f"), binding
        values[binding.var] = result
    result = get(main.body.body)
    return result if isinstance(result, list) else [result]


def operators(module: IRModule) -> list[str]:
    """Return the names of the operators of ``main`` in order, without ``relax.`` and without dequantize."""
    calls = [binding.value for binding in _bindings(module) if isinstance(binding.value, relax.Call)]
    names = [call.op.name.removeprefix("relax.") for call in calls]
    return [name for name in names if name != "dequantize"]


def _bindings(module: IRModule) -> list[relax.Binding]:
    blocks = module["main"].body.blocks
    assert len(blocks) <= 1
    assert all(isinstance(block, relax.DataflowBlock) for block in blocks)
    return [binding for block in blocks for binding in block.bindings]


def _spread(parameter: Array, rank: int, axis: int) -> Array:
    return parameter if parameter.ndim == 0 else parameter.reshape([-1 if i == axis % rank else 1 for i in range(rank)])


def _dequantize(attrs: Any, x: Array, scale: Array, zero_point: Array) -> Array:
    scale, zero_point = (_spread(p.astype(np.float64), x.ndim, attrs.axis) for p in (scale, zero_point))
    return (x - zero_point) * scale


def _quantize(attrs: Any, x: Array, scale: Array, zero_point: Array) -> Array:
    limits = np.iinfo(str(attrs.out_dtype))
    return np.clip(np.rint(x / np.float64(scale)) + zero_point, limits.min, limits.max).astype(limits.dtype)


def _conv2d(attrs: Any, x: Array, w: Array) -> Array:
    assert (attrs.data_layout, attrs.kernel_layout) == ("NHWC", "OHWI")
    groups, units = int(attrs.groups), w.shape[0]
    windows = _windows(x, w.shape[1:3], attrs, dilation=[int(d) for d in attrs.dilation], fill=0.0)
    n, h, width, kh, kw, channels = windows.shape
    windows = windows.reshape(n, h, width, kh, kw, groups, channels // groups)
    filters = w.reshape(groups, units // groups, kh, kw, channels // groups)
    result = np.einsum("nhwklgc,guklc->nhwgu", windows, filters, optimize=True)
    return result.reshape(n, h, width, units)


def _conv2d_transpose(attrs: Any, x: Array, w: Array) -> Array:
    assert (attrs.data_layout, attrs.kernel_layout) == ("NHWC", "OHWI")
    groups, (top, left, bottom, right) = int(attrs.groups), (int(p) for p in attrs.padding)
    (stride_h, stride_w), (dilation_h, dilation_w) = map(tuple, (attrs.strides, attrs.dilation))
    batch, height, width, depth = x.shape
    units, kernel_h, kernel_w, _ = w.shape
    below, beside = (int(p) for p in attrs.output_padding)
    full = np.zeros(
        (
            batch,
            (height - 1) * stride_h + (kernel_h - 1) * dilation_h + 1 + below,
            (width - 1) * stride_w + (kernel_w - 1) * dilation_w + 1 + beside,
            groups * units,
        )
    )
    for group in range(groups):
        ins = slice(group * depth // groups, (group + 1) * depth // groups)
        outs = slice(group * units, (group + 1) * units)
        for y, v, i, j in np.ndindex(height, width, kernel_h, kernel_w):
            at = y * stride_h + i * dilation_h, v * stride_w + j * dilation_w
            full[:, at[0], at[1], outs] += x[:, y, v, ins] @ w[:, i, j, ins].T
    return full[:, top : full.shape[1] - bottom, left : full.shape[2] - right]


def _windows(x: Array, kernel: Sequence[int], attrs: Any, fill: float, dilation: Sequence[int] = (1, 1)) -> Array:
    """[N, H, W, C] -> [N, H', W', KH, KW, C]."""
    top, left, bottom, right = (int(p) for p in attrs.padding)
    strides = [int(s) for s in attrs.strides]
    padded = np.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)), constant_values=fill)
    span = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    windows = np.lib.stride_tricks.sliding_window_view(padded, span, axis=(1, 2))
    windows = windows[:, :: strides[0], :: strides[1], :, :: dilation[0], :: dilation[1]]
    return windows.transpose(0, 1, 2, 4, 5, 3)


def _avg_pool2d(attrs: Any, x: Array) -> Array:
    assert attrs.layout == "NHWC"
    assert not attrs.count_include_pad
    return np.nanmean(_windows(x, [int(k) for k in attrs.pool_size], attrs, np.nan), axis=(3, 4))


def _max_pool2d(attrs: Any, x: Array) -> Array:
    assert attrs.layout == "NHWC"
    return np.max(_windows(x, [int(k) for k in attrs.pool_size], attrs, -np.inf), axis=(3, 4))


def _softmax(attrs: Any, x: Array) -> Array:
    assert attrs.axis in (-1, x.ndim - 1)
    powers = np.exp(x - x.max(-1, keepdims=True))
    result: Array = powers / powers.sum(-1, keepdims=True)
    return result


def _mean(attrs: Any, x: Array) -> Array:
    return np.asarray(np.mean(x, tuple(int(axis) for axis in attrs.axis), keepdims=bool(attrs.keepdims)))


def _sum(attrs: Any, x: Array) -> Array:
    return np.asarray(np.sum(x, tuple(int(axis) for axis in attrs.axis), keepdims=bool(attrs.keepdims)))


def _permute(attrs: Any, x: Array) -> Array:
    return x.transpose(None if attrs.axes is None else [int(axis) for axis in attrs.axes])


def _split(attrs: Any, x: Array) -> list[Array]:
    return np.split(x, [int(i) for i in attrs.indices_or_sections], int(attrs.axis))


def _strided_slice(_attrs: Any, x: Array, axes: Any, begin: Any, end: Any, strides: Any) -> Array:
    cuts = [slice(None)] * x.ndim
    for axis, *parts in zip(axes, begin, end, strides, strict=True):
        cuts[int(axis)] = slice(*[int(part) for part in parts])
    return x[tuple(cuts)]


def _pad(attrs: Any, x: Array) -> Array:
    widths = np.array([int(width) for width in attrs.pad_width]).reshape(-1, 2)
    return np.pad(x, widths, constant_values=int(attrs.pad_value))


def _resize2d(attrs: Any, x: Array, size: list[int]) -> Array:
    assert (attrs.layout, attrs.method) == ("NHWC", "nearest_neighbor")
    rows, columns = (_nearest(attrs, x.shape[1 + i], size[i]) for i in range(2))
    return x[:, rows][:, :, columns]


def _nearest(attrs: Any, source: int, target: int) -> Array:
    i, ratio = np.arange(target), source / target
    position = {
        "asymmetric": i * ratio,
        "half_pixel": (i + 0.5) * ratio - 0.5,
        "pytorch_half_pixel": (i + 0.5) * ratio - 0.5 if target > 1 else i * 0.0,
        "align_corners": i * ((source - 1) / (target - 1)) if target > 1 else i * 0.0,
    }[attrs.coordinate_transformation_mode]
    rounding: dict[str, Callable[[Array], Array]] = {
        "floor": lambda p: np.floor(p + 1e-9),
        "ceil": lambda p: np.ceil(p - 1e-9),
        "round_prefer_floor": lambda p: np.ceil(p - 0.5),
        "round_prefer_ceil": lambda p: np.floor(p + 0.5),
    }
    return np.clip(rounding[attrs.rounding_method](position), 0, source - 1).astype(int)


OPERATORS: dict[str, Callable[..., Any]] = {
    "abs": lambda _, x: np.abs(x),
    "add": lambda _, x, y: x + y,
    "astype": lambda attrs, x: x.astype(str(attrs.dtype)),
    "clip": lambda _, x, low, high: np.clip(x, low, high),
    "concat": lambda attrs, xs: np.concatenate(xs, int(attrs.axis)),
    "dequantize": _dequantize,
    "exp": lambda _, x: np.exp(x),
    "image.resize2d": _resize2d,
    "matmul": lambda _, x, y: x @ y,
    "mean": _mean,
    "multiply": lambda _, x, y: x * y,
    "negative": lambda _, x: -x,
    "nn.avg_pool2d": _avg_pool2d,
    "nn.conv2d": _conv2d,
    "nn.conv2d_transpose": _conv2d_transpose,
    "nn.leakyrelu": lambda attrs, x: np.where(x > 0, x, x * attrs.alpha),
    "nn.max_pool2d": _max_pool2d,
    "nn.pad": _pad,
    "nn.relu": lambda _, x: np.maximum(x, 0),
    "nn.softmax": _softmax,
    "permute_dims": _permute,
    "quantize": _quantize,
    "reshape": lambda _, x, shape: x.reshape(shape),
    "sigmoid": lambda _, x: 1 / (1 + np.exp(-x)),
    "split": _split,
    "strided_slice": _strided_slice,
    "subtract": lambda _, x, y: x - y,
    "sum": _sum,
    "tanh": lambda _, x: np.tanh(x),
    "tinyml.hard_sigmoid": lambda _, x, alpha, beta: np.clip(alpha * x + beta, 0, 1),
    "tinyml.hard_swish": lambda _, x: x * np.clip(x + 3, 0, 6) / 6,
}
