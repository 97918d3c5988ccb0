"""Convolution and dense: dot products over contiguous bytes, then the epilogue."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from tvm import relax, te, tirx
from tvm.ir import Expr

from tvm_tinyml.passes.integer_ops import Attributes, shape_of, window_extent
from tvm_tinyml.passes.kernels.epilogue import Epilogue
from tvm_tinyml.passes.kernels.kernel import Kernel, KernelTraits, constant, placeholder

Indices = Sequence[Expr]

FOUR = 4
"""Weights in a word."""


def conv2d(arguments: Sequence[relax.Expr], attributes: Attributes, traits: KernelTraits) -> Kernel:
    """Lower ``tinyml.conv2d`` without padding; a filter as wide as the image or a pixel becomes `dense`."""
    assert not any(attributes["padding"]), "SplitPadding comes first"
    channels_in, weight_shape = shape_of(arguments[0])[3], shape_of(arguments[1])
    if attributes["groups"] == channels_in and weight_shape[3] == 1 and channels_in > 1:
        return _depthwise_conv2d(arguments, attributes, traits)
    if weight_shape[1:3] == [1, 1] and attributes["strides"] == [1, 1] and attributes["groups"] == 1:
        return _pointwise_conv2d(arguments, attributes, traits)
    return _spatial_conv2d(arguments, attributes, traits)


def conv2d_add(arguments: Sequence[relax.Expr], attributes: Attributes, traits: KernelTraits) -> Kernel:
    """Lower ``tinyml.conv2d_add``: each element is added right before its sum takes its place."""
    kernel = conv2d(arguments, attributes, traits)
    return replace(kernel, kind="conv2d_add", in_place=[len(kernel.arguments) - 1])


def dense(arguments: Sequence[relax.Expr], attributes: Attributes, traits: KernelTraits) -> Kernel:
    """Lower ``tinyml.dense``: [N,K] times int8 [O,K]."""
    x = placeholder("x", arguments[0])
    return _matmul("dense", x, arguments, attributes, traits)


def _pointwise_conv2d(arguments: Sequence[relax.Expr], attributes: Attributes, traits: KernelTraits) -> Kernel:
    """A 1x1 convolution is a matrix product over the pixels."""
    batch, height, width, length = shape_of(arguments[0])
    channels = shape_of(arguments[1])[0]
    pixels = batch * height * width
    x = te.placeholder((pixels, length), str(arguments[0].ty.dtype), "x")
    flat = [
        relax.op.reshape(arguments[0], (pixels, length)),
        relax.const(constant(arguments[1]).reshape(channels, length)),
        *arguments[2:],
    ]
    return _matmul("conv2d", x, flat, attributes, traits)


def _matmul(
    kind: str, x: te.Tensor, arguments: Sequence[relax.Expr], attributes: Attributes, traits: KernelTraits
) -> Kernel:
    (rows, length), channels = map(int, x.shape), shape_of(arguments[1])[0]
    weight = te.placeholder((channels, length), "int8", "weight")
    epilogue = Epilogue(str(x.dtype), arguments[1:], attributes, (rows, channels))
    run = _Run.of(length, str(x.dtype), epilogue, traits)

    def product(output: Indices, _outer: Indices, k: Expr, stored: Expr) -> Expr:
        p, o = output
        return epilogue.product(x[p, k], weight[o, stored])

    total = _accumulate((rows, channels), (), run, product)
    result = te.compute((rows, channels), lambda p, o: epilogue(total(p, o), o, (p, o)), "output")
    func = te.create_prim_func([x, weight, *epilogue.parameters, result])
    packed = relax.const(run.packed(constant(arguments[1])))
    return Kernel(kind, func, [arguments[0], packed, *epilogue.arguments], rows * channels * length)


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
    x = te.placeholder((batch, height, row), str(arguments[0].ty.dtype), "x")
    weight = te.placeholder((channels, kernel_h, taps * length), "int8", "weight")
    outputs = _Channels(groups, channels // groups)
    shape = (batch, out_h, out_w, *outputs.shape)
    epilogue = Epilogue(str(x.dtype), arguments[1:], attributes, shape)
    run = _Run.of(length, str(x.dtype), epilogue, traits)

    def product(output: Indices, outer: Indices, k: Expr, stored: Expr) -> Expr:
        (n, y, v, *channel), (r, s) = output, outer
        column = v * (stride_w * channels_in) + s * (dilation_w * channels_in) + outputs.block(channel) * group_in + k
        tap = weight[outputs.number(channel), r, s * length + stored]
        return epilogue.product(x[n, y * stride_h + r * dilation_h, column], tap)

    total = _accumulate(shape, (kernel_h, taps), run, product)
    result = te.compute(shape, lambda *i: epilogue(total(*i), outputs.number(i[3:]), i), "output")
    func = te.create_prim_func([x, weight, *epilogue.parameters, result])
    flat = [
        relax.op.reshape(arguments[0], (batch, height, row)),
        relax.const(run.packed(constant(arguments[1])).reshape(channels, kernel_h, taps * length)),
        *epilogue.arguments,
    ]
    return Kernel("conv2d", func, flat, int(np.prod(shape)) * kernel_h * taps * length)


def _depthwise_conv2d(arguments: Sequence[relax.Expr], attributes: Attributes, traits: KernelTraits) -> Kernel:
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
    epilogue = Epilogue(str(x.dtype), arguments[1:], attributes, shape)
    r, s = te.reduce_axis((0, kernel_h), "r"), te.reduce_axis((0, kernel_w), "s")
    run = _Run.of(channels, str(x.dtype), epilogue, traits)
    in_order = channels % FOUR or channels != channels_in  # the schedule does not take four at a time

    def product(n: tirx.Var, y: tirx.Var, v: tirx.Var, *channel: tirx.Var) -> Expr:
        pixel = x[n, y * stride_h + r * dilation_h, v * stride_w + s * dilation_w, outputs.block(channel)]
        number = outputs.number(channel)
        tap = weight[r, s, number if in_order else run.stored(number)]
        return te.sum(epilogue.product(pixel, tap), axis=[r, s])

    sums = te.compute(shape, product, "depthwise")
    result = te.compute(shape, lambda *i: epilogue(sums[i], outputs.number(i[3:]), i), "output")
    func = te.create_prim_func([x, weight, *epilogue.parameters, result])
    filters = np.ascontiguousarray(constant(arguments[1])[..., 0].transpose(1, 2, 0))
    packed = filters if in_order else run.packed(filters)
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


@dataclass(frozen=True)
class _Run:
    """A contiguous run of a reduction: `whole` products for the core's dot product, then what is left.

    Attributes
    ----------
    pairs : int16 activations are pairs in their words already. Each four weights of the whole part are stored in the
        order 0, 2, 1, 3, so that SXTB16, which takes every other byte, makes the same pairs of them.
    """

    length: int
    whole: int
    pairs: bool

    @classmethod
    def of(cls, length: int, dtype: str, epilogue: Epilogue, traits: KernelTraits) -> _Run:
        """Return the run of so many inputs of a type; only sums of 32 bits are made by the dot product."""
        if epilogue.accumulator != "int32":
            return cls(length, 0, pairs=False)
        lanes = traits.dot_length
        return cls(length, length // lanes * lanes, dtype == "int16" and lanes == FOUR)

    def stored(self, position: Expr) -> Expr:
        """Return where the weight of a position in the whole part is stored."""
        if not self.pairs:
            return position
        in_four = tirx.floormod(position, FOUR)
        return tirx.floordiv(position, FOUR) * FOUR + tirx.floormod(in_four, 2) * 2 + tirx.floordiv(in_four, 2)

    def packed(self, weight: NDArray[np.generic]) -> NDArray[np.generic]:
        """Return weights, whose last axes are runs, as they are stored."""
        if not self.pairs:
            return weight
        runs = weight.reshape(-1, self.length)
        fours = runs[:, : self.whole].reshape(-1, FOUR)[:, [0, 2, 1, 3]].reshape(len(runs), self.whole)
        return np.concatenate([fours, runs[:, self.whole :]], axis=1).reshape(weight.shape)


Product = Callable[[Indices, Indices, Expr, Expr], Expr]
"""From output indices, outer reduction indices, position in the contiguous run and where its weight is to a product."""


def _accumulate(shape: Sequence[int], outer: Sequence[int], run: _Run, product: Product) -> Callable[..., Expr]:
    """Return the sum of `product` over the axes `outer` and a run, as a function of the output indices.

    The run is cut into the block ``dot``, a multiple of the core's dot product, and the block ``tail``.
    """

    def part(name: str, begin: int, end: int) -> te.Tensor:
        axes = [te.reduce_axis((0, extent), f"r{i}") for i, extent in enumerate(outer)]
        k = te.reduce_axis((0, end - begin), "k")
        position = k + begin if begin else k
        stored = run.stored(position) if name == "dot" else position
        return te.compute(shape, lambda *i: te.sum(product(i, axes, position, stored), axis=[*axes, k]), name)

    parts = [
        part(name, begin, end)
        for name, begin, end in (("dot", 0, run.whole), ("tail", run.whole, run.length))
        if begin < end
    ]
    return lambda *indices: functools.reduce(lambda a, b: a + b, [part[indices] for part in parts])
