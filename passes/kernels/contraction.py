"""Convolution and dense: dot products over contiguous bytes, then the epilogue."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from tvm import relax, te, tirx
from tvm.ir import Expr

from tvm_tinyml.passes.integer_ops import Attributes, shape_of, window_extent
from tvm_tinyml.passes.kernels.kernel import Kernel, KernelTraits, constant, placeholder
from tvm_tinyml.passes.kernels.requantize import clamp, requantize_helper

Indices = Sequence[Expr]

_SCALES = {"bias": "int32", "multiplier": "int32", "shift": "int8"}
"""What the epilogue knows of a channel, and how it is stored."""


def conv2d(arguments: Sequence[relax.Expr], attributes: Attributes, traits: KernelTraits) -> Kernel:
    """Lower ``tinyml.conv2d`` without padding; a filter as wide as the image or a pixel becomes `dense`."""
    assert not any(attributes["padding"]), "SplitPadding comes first"
    channels_in, weight_shape = shape_of(arguments[0])[3], shape_of(arguments[1])
    if attributes["groups"] == channels_in and weight_shape[3] == 1 and channels_in > 1:
        return _depthwise_conv2d(arguments, attributes)
    if weight_shape[1:3] == [1, 1] and attributes["strides"] == [1, 1] and attributes["groups"] == 1:
        return _pointwise_conv2d(arguments, attributes, traits)
    return _spatial_conv2d(arguments, attributes, traits)


def dense(arguments: Sequence[relax.Expr], attributes: Attributes, traits: KernelTraits) -> Kernel:
    """Lower ``tinyml.dense``: int8 [N,K] times int8 [O,K]."""
    rows, length = shape_of(arguments[0])
    channels = shape_of(arguments[1])[0]
    return _matmul("dense", arguments, attributes, traits, rows, length, channels)


def _pointwise_conv2d(arguments: Sequence[relax.Expr], attributes: Attributes, traits: KernelTraits) -> Kernel:
    """A 1x1 convolution is a matrix product over the pixels."""
    batch, height, width, length = shape_of(arguments[0])
    channels = shape_of(arguments[1])[0]
    pixels = batch * height * width
    flat = [
        relax.op.reshape(arguments[0], (pixels, length)),
        relax.const(constant(arguments[1]).reshape(channels, length)),
        *arguments[2:],
    ]
    return _matmul("conv2d", flat, attributes, traits, pixels, length, channels)


def _matmul(
    kind: str,
    arguments: Sequence[relax.Expr],
    attributes: Attributes,
    traits: KernelTraits,
    rows: int,
    length: int,
    channels: int,
) -> Kernel:
    x = te.placeholder((rows, length), "int8", "x")
    weight = te.placeholder((channels, length), "int8", "weight")
    epilogue = _Epilogue(arguments, attributes)

    def product(output: Indices, _outer: Indices, k: Expr) -> Expr:
        p, o = output
        return x[p, k].astype("int32") * weight[o, k].astype("int32")

    total = _accumulate((rows, channels), (), length, traits, product)
    result = te.compute((rows, channels), lambda p, o: epilogue(total(p, o), o), "output")
    func = te.create_prim_func([x, weight, *epilogue.parameters, result])
    return Kernel(kind, func, [*arguments[:2], *epilogue.arguments], rows * channels * length)


def _spatial_conv2d(arguments: Sequence[relax.Expr], attributes: Attributes, traits: KernelTraits) -> Kernel:
    """The general case: a row of the filter without dilation is one contiguous dot product over width and channels."""
    batch, height, width, channels_in = shape_of(arguments[0])
    channels, kernel_h, kernel_w, group_in = shape_of(arguments[1])
    (stride_h, stride_w), (dilation_h, dilation_w) = attributes["strides"], attributes["dilation"]
    groups = attributes["groups"]
    out_h = window_extent(height, kernel_h, stride_h, 0, dilation_h)
    out_w = window_extent(width, kernel_w, stride_w, 0, dilation_w)
    contiguous = groups == 1 and (dilation_w == 1 or kernel_w == 1)
    taps, length = (1, kernel_w * group_in) if contiguous else (kernel_w, group_in)

    row = width * channels_in
    x = te.placeholder((batch, height, row), "int8", "x")
    weight = te.placeholder((channels, kernel_h, taps * length), "int8", "weight")
    epilogue = _Epilogue(arguments, attributes)
    outputs = _Channels(groups, channels // groups)

    def product(output: Indices, outer: Indices, k: Expr) -> Expr:
        (n, y, v, *channel), (r, s) = output, outer
        column = v * (stride_w * channels_in) + s * (dilation_w * channels_in) + outputs.block(channel) * group_in + k
        pixel, tap = x[n, y * stride_h + r * dilation_h, column], weight[outputs.number(channel), r, s * length + k]
        return pixel.astype("int32") * tap.astype("int32")

    shape = (batch, out_h, out_w, *outputs.shape)
    total = _accumulate(shape, (kernel_h, taps), length, traits, product)
    result = te.compute(shape, lambda *i: epilogue(total(*i), outputs.number(i[3:])), "output")
    func = te.create_prim_func([x, weight, *epilogue.parameters, result])
    flat = [
        relax.op.reshape(arguments[0], (batch, height, row)),
        relax.const(constant(arguments[1]).reshape(channels, kernel_h, taps * length)),
        *epilogue.arguments,
    ]
    return Kernel("conv2d", func, flat, int(np.prod(shape)) * kernel_h * taps * length)


def _depthwise_conv2d(arguments: Sequence[relax.Expr], attributes: Attributes) -> Kernel:
    """One filter a channel: products along the channels, so filters are stored [KH,KW,C]."""
    batch, height, width, channels_in = shape_of(arguments[0])
    channels, kernel_h, kernel_w, _ = shape_of(arguments[1])
    outputs = _Channels(channels_in, channels // channels_in)
    (stride_h, stride_w), (dilation_h, dilation_w) = attributes["strides"], attributes["dilation"]
    shape = (
        batch,
        window_extent(height, kernel_h, stride_h, 0, dilation_h),
        window_extent(width, kernel_w, stride_w, 0, dilation_w),
        *outputs.shape,
    )
    x = placeholder("x", arguments[0])
    weight = te.placeholder((kernel_h, kernel_w, channels), "int8", "weight")
    epilogue = _Epilogue(arguments, attributes)
    r, s = te.reduce_axis((0, kernel_h), "r"), te.reduce_axis((0, kernel_w), "s")

    def product(n: tirx.Var, y: tirx.Var, v: tirx.Var, *channel: tirx.Var) -> Expr:
        pixel = x[n, y * stride_h + r * dilation_h, v * stride_w + s * dilation_w, outputs.block(channel)]
        return te.sum(pixel.astype("int32") * weight[r, s, outputs.number(channel)].astype("int32"), axis=[r, s])

    sums = te.compute(shape, product, "depthwise")
    result = te.compute(shape, lambda *i: epilogue(sums[i], outputs.number(i[3:])), "output")
    func = te.create_prim_func([x, weight, *epilogue.parameters, result])
    packed = np.ascontiguousarray(constant(arguments[1])[..., 0].transpose(1, 2, 0))
    return Kernel(
        "depthwise_conv2d",
        func,
        [arguments[0], relax.const(packed), *epilogue.arguments],
        int(np.prod(shape)) * kernel_h * kernel_w,
    )


@dataclass(frozen=True)
class _Channels:
    """Output channels in `blocks` of `size` that read the same input channels.

    Two axes, where both are above 1: one would need a division by `size` to find the block.
    """

    blocks: int
    size: int

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.blocks, self.size) if self.blocks > 1 and self.size > 1 else (self.blocks * self.size,)

    def block(self, indices: Indices) -> Expr | int:
        """Return the block of the channel with these indices."""
        return indices[0] if self.blocks > 1 else 0

    def number(self, indices: Indices) -> Expr:
        """Return the number of the channel with these indices."""
        return indices[0] if len(indices) == 1 else indices[0] * self.size + indices[1]


class _Epilogue:
    """Bias, requantization and clamp of one output channel.

    What all channels share is stored once, and not part of the code, so that layers share that, too.

    Attributes
    ----------
    arguments, parameters : constants that the kernel reads, and how it sees them.
    """

    def __init__(self, arguments: Sequence[relax.Expr], attributes: Attributes) -> None:
        values = {name: constant(argument) for name, argument in zip(_SCALES, arguments[2:], strict=True)}
        self._helper = requantize_helper(values["shift"], largest_sum(*(constant(a) for a in arguments[1:3])))
        self._attributes = attributes
        stored = {name: v[:1] if (v == v[0]).all() else v for name, v in values.items()}
        self.arguments = [relax.const(v.astype(_SCALES[name])) for name, v in stored.items()]
        self.parameters = [placeholder(name, argument) for name, argument in zip(stored, self.arguments, strict=True)]

    def __call__(self, accumulator: Expr, channel: tirx.Var) -> Expr:
        shared = [int(parameter.shape[0]) == 1 for parameter in self.parameters]
        values = [p[0 if once else channel] for p, once in zip(self.parameters, shared, strict=True)]
        bias, multiplier, shift = (value.astype("int32") for value in values)
        scaled = tirx.call_pure_extern("int32", self._helper, accumulator + bias, multiplier, shift)
        return clamp(scaled, self._attributes)


def largest_sum(weight: NDArray[np.generic], bias: NDArray[np.generic]) -> int:
    """Return the largest magnitude of a sum of int8 inputs times `weight` [O, ...] plus `bias` [O]."""
    return int(largest_sums(weight, bias).max())


def largest_sums(weight: NDArray[np.generic], bias: NDArray[np.generic]) -> NDArray[np.int64]:
    """Return for each channel the largest magnitude of such a sum, [O]."""
    low, high = sum_bounds(weight, bias)
    return np.asarray(np.maximum(np.abs(high), np.abs(low)))


def sum_bounds(weight: NDArray[np.generic], bias: NDArray[np.generic]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return for each channel the least and the largest of such sums, [O]."""
    flat, start = weight.reshape(weight.shape[0], -1).astype(np.int64), bias.astype(np.int64)
    positive, negative = np.maximum(flat, 0).sum(axis=1), np.minimum(flat, 0).sum(axis=1)
    return start - 128 * positive + 127 * negative, start + 127 * positive - 128 * negative


Product = Callable[[Indices, Indices, Expr], Expr]
"""From output indices, outer reduction indices and position in the contiguous run to one product."""


def _accumulate(
    shape: Sequence[int], outer: Sequence[int], length: int, traits: KernelTraits, product: Product
) -> Callable[..., Expr]:
    """Return the sum of `product` over the axes `outer` and a run of `length`, as a function of the output indices.

    The run is cut into the block ``dot``, a multiple of the core's dot product, and the block ``tail``.
    """
    whole = length // traits.dot_length * traits.dot_length
    parts = [
        _partial_sum(name, shape, outer, begin, end, product)
        for name, begin, end in (("dot", 0, whole), ("tail", whole, length))
        if begin < end
    ]
    return lambda *indices: functools.reduce(lambda a, b: a + b, [part[indices] for part in parts])


def _partial_sum(
    name: str, shape: Sequence[int], outer: Sequence[int], begin: int, end: int, product: Product
) -> te.Tensor:
    axes = [te.reduce_axis((0, extent), f"r{i}") for i, extent in enumerate(outer)]
    k = te.reduce_axis((0, end - begin), "k")
    position = k + begin if begin else k
    return te.compute(shape, lambda *i: te.sum(product(i, axes, position), axis=[*axes, k]), name)
