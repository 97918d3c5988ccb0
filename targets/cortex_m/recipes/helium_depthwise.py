"""Depthwise convolutions with Helium: a row of outputs a call."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from tvm import relax
from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as T

from tvm_tinyml.choice import NONE, Knobs
from tvm_tinyml.passes.integer_ops import Attributes, shape_of, window_extent
from tvm_tinyml.passes.kernels.kernel import Kernel, Method, Recipe
from tvm_tinyml.targets.cortex_m.microkernels import helium_depthwise
from tvm_tinyml.targets.cortex_m.microkernels.microkernel import texts
from tvm_tinyml.targets.cortex_m.microkernels.output import choose_output
from tvm_tinyml.targets.cortex_m.recipes.channels import Channels, all_exact

MOST_TAPS = 64
"""They are straight code, about 30 bytes each."""


class HeliumDepthwise(Recipe):
    """``tinyml.conv2d`` of one output channel for each of eight input channels or more, without padding."""

    def lower(self, arguments: Sequence[relax.Expr], attributes: Attributes, knobs: Knobs = NONE) -> Kernel | None:
        """Return the kernel, or None where its conditions are not met."""
        batch, height, width, channels = shape_of(arguments[0])
        count, kernel_h, kernel_w, depth = shape_of(arguments[1])
        if attributes["groups"] != channels or count != channels or depth != 1 or any(attributes["padding"]):
            return None
        if knobs or channels < helium_depthwise.CHANNELS or kernel_h * kernel_w > MOST_TAPS:
            return None
        output = choose_output(*(attributes[k] for k in ("output_zero_point", "clamp_min", "clamp_max")))
        layer = Channels.of(arguments, attributes, np.arange(kernel_h * kernel_w), output)
        if not all_exact(layer, output) or not helium_depthwise.fits(layer.weight):
            return None
        (stride_h, stride_w), (dilation_h, dilation_w) = attributes["strides"], attributes["dilation"]
        out_h = window_extent(height, kernel_h, stride_h, 0, dilation_h)
        out_w = window_extent(width, kernel_w, stride_w, 0, dilation_w)
        row, column = width * channels, dilation_w * channels
        steps = (stride_w * channels, channels, column, dilation_h * row - (kernel_w - 1) * column)
        kernel = helium_depthwise.helium_depthwise(kernel_h, kernel_w, output)
        scales = (layer.bias, layer.multiplier, layer.shift, layer.zero_point)
        constants = helium_depthwise.pack(layer.weight, *scales)
        with IRBuilder() as builder, T.prim_func(s_tir=True):
            T.func_name("main")
            T.func_attr({"tirx.noalias": True})
            image = T.arg("x", T.Buffer((batch * height * row,), "int8"))
            packed = T.arg("constants", T.Buffer((constants.size,), "int32"))
            y = T.arg("output", T.Buffer((batch * out_h * out_w * channels,), "int8"))
            with T.sblock("root"):
                T.reads()
                T.writes()
                with T.grid(batch, out_h) as (number, line):
                    window = T.address_of(image[(number * height + line * stride_h) * row])
                    to = T.address_of(y[(number * out_h + line) * (out_w * channels)])
                    call = (packed.access_ptr("r"), window, to, out_w, len(constants), *steps)
                    T.evaluate(T.call_extern("int32", kernel.name, *call))
        func = builder.get().with_attr({**texts([kernel]), "tinyml.schedule": HeliumDepthwise.__name__})
        flat = relax.op.reshape(arguments[0], (batch * height * row,))
        macs = batch * out_h * out_w * channels * kernel_h * kernel_w
        method = Method(f"depthwise, {helium_depthwise.CHANNELS} channels of a pixel, two taps in 16 bits")
        return Kernel("depthwise_conv2d", func, [flat, relax.const(constants.ravel())], macs, method)
