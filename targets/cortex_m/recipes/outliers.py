"""A few channels that a recipe's microkernels cannot compute: a plain loop makes them, the others keep their speed.

A filter with a scale of one and more, or with weights beyond the bound of a trick, is mostly one among many: what is
left of a normalization that divides by next to nothing. The microkernels take the layer with zeros in its place, and
the loop writes its outputs over theirs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import tvm_ffi
from numpy.typing import NDArray
from tvm import relax, tirx
from tvm.ir import Expr, Var
from tvm.s_tir import SBlock, SBlockRealize
from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as T

from tvm_tinyml.choice import NONE, Knobs, Space
from tvm_tinyml.passes.integer_ops import Attributes, shape_of, window_extent
from tvm_tinyml.passes.kernels.kernel import Kernel, Recipe, constant
from tvm_tinyml.passes.kernels.requantize import clamp, requantize_helper
from tvm_tinyml.passes.kernels.sums import largest_sum
from tvm_tinyml.passes.tensor_layouts import Layout, input_layout, output_layout
from tvm_tinyml.targets.cortex_m.microkernels.output import Output, choose_output
from tvm_tinyml.targets.cortex_m.recipes.channels import Channels, exact_channels

Fits = Callable[[Channels, Output], NDArray[np.bool_]]
"""From channels, their weights in the model's order, to which of them a recipe takes."""

CHANNELS_OF_AN_OUTLIER = 6
"""A layer has so many at least. For one the loop takes about as long as microkernels for five and schedules for two."""

_WORDS = 5
"""Of an outlier: bias, multiplier, shift, number of the channel, first input channel that it reads."""


class WithOutliers(Recipe):
    """A recipe that also takes layers with a few channels that it refuses.

    Parameters
    ----------
    recipe : for ``tinyml.conv2d`` or ``tinyml.dense``. Its kernels take the input first, flat, and return flat outputs.
    fits : which channels it takes.
    """

    def __init__(self, recipe: Recipe, fits: Fits = exact_channels) -> None:
        self.recipe = recipe
        self._fits = fits

    @property
    def name(self) -> str:
        """That of the recipe."""
        return self.recipe.name

    def space(self, arguments: Sequence[relax.Expr], attributes: Attributes) -> Space:
        """Return that of the recipe for all other channels."""
        return self.recipe.space(_without(self._outliers(arguments, attributes), arguments), attributes)

    def guard(self, arguments: Sequence[relax.Expr], attributes: Attributes) -> str:
        """Return that of the recipe for all other channels, and how many are left to the loop."""
        outliers = self._outliers(arguments, attributes)
        guard = self.recipe.guard(_without(outliers, arguments), attributes)
        return f"{guard}, outliers {len(outliers)}" if len(outliers) else guard

    def leaves_padding(self, arguments: Sequence[relax.Expr], attributes: Attributes) -> bool:
        """Return that of the recipe."""
        return self.recipe.leaves_padding(arguments, attributes)

    def reads(
        self, arguments: Sequence[relax.Expr], attributes: Attributes, knobs: Knobs = NONE
    ) -> tuple[Layout, int] | None:
        """Return that of the recipe where there are no other channels: the loop knows one layout."""
        alone = not len(self._outliers(arguments, attributes))
        return self.recipe.reads(arguments, attributes, knobs) if alone else None

    def writes(
        self, arguments: Sequence[relax.Expr], attributes: Attributes, layout: Layout, knobs: Knobs = NONE
    ) -> int | None:
        """See `reads`."""
        alone = not len(self._outliers(arguments, attributes))
        return self.recipe.writes(arguments, attributes, layout, knobs) if alone else None

    def lower(self, arguments: Sequence[relax.Expr], attributes: Attributes, knobs: Knobs = NONE) -> Kernel | None:
        """Return the recipe's kernel, with a loop behind it if need be, or None where its conditions are not met."""
        kernel = self.recipe.lower(arguments, attributes, knobs)
        if kernel is not None or input_layout(attributes) or output_layout(attributes):
            return kernel
        channels = shape_of(arguments[1])[0]
        if self.recipe.lower(_without(np.arange(channels), arguments), attributes, knobs) is None:
            return None  # it does not take the layer's shape
        outliers = self._outliers(arguments, attributes)
        if not len(outliers) or CHANNELS_OF_AN_OUTLIER * len(outliers) > channels:
            return None
        kernel = self.recipe.lower(_without(outliers, arguments), attributes, knobs)
        return None if kernel is None else _with_loop(kernel, arguments, attributes, outliers)

    def _outliers(self, arguments: Sequence[relax.Expr], attributes: Attributes) -> NDArray[np.int64]:
        output = choose_output(*(attributes[k] for k in ("output_zero_point", "clamp_min", "clamp_max")))
        order = np.arange(math.prod(shape_of(arguments[1])[1:]))
        return np.flatnonzero(~self._fits(Channels.of(arguments, attributes, order, output), output))


def _without(channels: NDArray[np.int64], arguments: Sequence[relax.Expr]) -> list[relax.Expr]:
    """Return the arguments with zeros for the weights, biases and scales of some channels."""
    constants = [constant(argument).copy() for argument in arguments[1:]]
    for values in constants:
        values[channels] = 0
    return [arguments[0], *map(relax.const, constants)]


def _with_loop(
    kernel: Kernel, arguments: Sequence[relax.Expr], attributes: Attributes, outliers: NDArray[np.int64]
) -> Kernel:
    """Return a kernel that does what another one does, and then the loop."""
    loop = _Loop.of(arguments, attributes, outliers, kernel.input_step, kernel.output_step)
    x, *constants, y = kernel.func.params
    function = loop.function(int(x.shape[0]), int(y.shape[0]))
    own_x, *own_constants, own_y = function.params
    shared = {own_x: x, own_y: y}
    last = tvm_ffi.structural_map(function.body, (Var, lambda var: shared.get(var, var))).block
    first = kernel.func.body.block
    block = SBlock(
        *([], [], [], first.name_hint, tirx.SeqStmt([first.body, last.body])),
        alloc_buffers=[*first.alloc_buffers, *last.alloc_buffers],
    )
    params = [x, *constants, *own_constants, y]
    schedule = f"{kernel.func.attrs['tinyml.schedule']} + Outliers"
    func = tirx.PrimFunc(params, SBlockRealize([], True, block), attrs=kernel.func.attrs)
    func = func.with_attr("tinyml.schedule", schedule)
    own = [relax.const(value) for value in (loop.weight.ravel(), loop.scales.ravel())]
    # The loop reads the input when outputs are written: they must not share their place.
    return replace(kernel, func=func, arguments=[*kernel.arguments, *own], overlaps=(), in_place=())


@dataclass(frozen=True)
class _Loop:
    """Channels of a convolution, one after the other.

    Attributes
    ----------
    weight : [N, KH, KW, depth], of these channels.
    scales : [N, words].
    image, out : shapes [B, H, W, C]; C is how far the pixels are apart, which may be more than there are channels.
    helper : that scales a sum.
    """

    weight: NDArray[np.int8]
    scales: NDArray[np.int32]
    image: Sequence[int]
    out: Sequence[int]
    attributes: Attributes
    helper: str

    @classmethod
    def of(
        cls,
        arguments: Sequence[relax.Expr],
        attributes: Attributes,
        channels: NDArray[np.int64],
        input_step: int = 0,
        output_step: int = 0,
    ) -> _Loop:
        image, weight, settings = shape_of(arguments[0]), constant(arguments[1]), attributes
        if "groups" not in attributes:  # a dense layer is a 1x1 convolution of an image with one pixel for each row
            image, weight = [1, 1, *image], weight.reshape(len(weight), 1, 1, -1)
            plain = {"strides": [1, 1], "padding": [0, 0, 0, 0], "dilation": [1, 1], "groups": 1, "input_zero_point": 0}
            settings = {**attributes, **plain}
        count, *kernel, depth = weight.shape
        top, left, bottom, right = settings["padding"]
        out = [
            window_extent(image[1 + i], kernel[i], settings["strides"][i], border, settings["dilation"][i])
            for i, border in enumerate((top + bottom, left + right))
        ]
        bias, multiplier, shift = (constant(a).astype(np.int64)[channels] for a in arguments[2:5])
        chosen = weight[channels].astype(np.int8)
        helper = requantize_helper(shift, largest_sum(chosen, bias))
        if any(settings["padding"]):  # the border is left out: it is what the input is counted from
            bias = bias + settings["input_zero_point"] * chosen.sum(axis=(1, 2, 3), dtype=np.int64)
        first = channels // (count // settings["groups"]) * depth
        scales = np.stack([bias, multiplier, shift, channels, first], axis=1).astype(np.int32)
        image, out = [*image[:3], input_step or image[3]], [image[0], *out, output_step or count]
        return cls(chosen, scales, image, out, settings, helper)

    def function(self, x_size: int, y_size: int) -> tirx.PrimFunc:
        """Return the function of input, weights, scales and output, all flat."""
        (count, kernel_h, kernel_w, depth), (batch, height, width, channels_in) = self.weight.shape, self.image
        (stride_h, stride_w), (dilation_h, dilation_w) = self.attributes["strides"], self.attributes["dilation"]
        top, left, *_ = self.attributes["padding"]
        padded = any(self.attributes["padding"])
        zero_point = self.attributes["input_zero_point"] if padded else 0
        _, out_h, out_w, channels = self.out
        with IRBuilder() as builder, T.prim_func(s_tir=True):
            T.func_name("main")
            x = T.arg("x", T.Buffer((x_size,), "int8"))
            weight = T.arg("outlier_weights", T.Buffer((self.weight.size,), "int8"))
            scales = T.arg("outlier_scales", T.Buffer((self.scales.size,), "int32"))
            y = T.arg("output", T.Buffer((y_size,), "int8"))
            with T.sblock("root"):
                T.reads()
                T.writes()
                total = T.sblock_alloc_buffer((1,), "int32")

                def add_tap(i: Expr, tap: Expr, at: Expr) -> None:
                    with T.serial(depth) as k:
                        pixel = x[at + k].astype("int32") - zero_point
                        product = pixel * weight[(i * (kernel_h * kernel_w) + tap) * depth + k].astype("int32")
                        T.buffer_store(total, total[0] + product, [0])

                with T.grid(count, batch, out_h, out_w) as (i, image, row, column):
                    bias, multiplier, shift, number, first = (scales[_WORDS * i + word] for word in range(_WORDS))
                    T.buffer_store(total, bias, [0])
                    with T.grid(kernel_h, kernel_w) as (r, s):
                        line, place = row * stride_h + r * dilation_h - top, column * stride_w + s * dilation_w - left
                        at = ((image * height + line) * width + place) * channels_in + first
                        if padded:
                            inside = tirx.all(line >= 0, line < height, place >= 0, place < width)
                            with T.If(inside), T.Then():
                                add_tap(i, r * kernel_w + s, at)
                        else:
                            add_tap(i, r * kernel_w + s, at)
                    scaled = tirx.call_pure_extern("int32", self.helper, total[0], multiplier, shift)
                    result = clamp(scaled, self.attributes)
                    T.buffer_store(y, result, [((image * out_h + row) * out_w + column) * channels + number])
        return builder.get()
