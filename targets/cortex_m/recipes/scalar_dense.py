"""Dense layers of a few rows on cores without SMLAD, and convolutions of a few pixels, which are dense layers, too."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
from tvm import relax
from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as T

from tvm_tinyml.choice import NONE, Knobs, Space
from tvm_tinyml.passes.integer_ops import Attributes, shape_of
from tvm_tinyml.passes.kernels.kernel import Kernel, Method, Recipe
from tvm_tinyml.targets.cortex_m.microkernels import scalar_dense
from tvm_tinyml.targets.cortex_m.microkernels.microkernel import texts
from tvm_tinyml.targets.cortex_m.microkernels.output import choose_output
from tvm_tinyml.targets.cortex_m.microkernels.pack import Window
from tvm_tinyml.targets.cortex_m.recipes.channels import Channels
from tvm_tinyml.targets.cortex_m.recipes.conv_gemm import Source, geometry
from tvm_tinyml.targets.cortex_m.recipes.dense import rows_as_pixels
from tvm_tinyml.targets.cortex_m.recipes.scalar_product import FittedDense, ScalarProduct


class ScalarDense(Recipe):
    """``tinyml.dense`` of fewer rows than a tile, and ``tinyml.conv2d`` of as few pixels without padding and groups.

    Knob: ``channels`` at once.
    """

    def __init__(self, product: ScalarProduct) -> None:
        self._product = product

    def lower(self, arguments: Sequence[relax.Expr], attributes: Attributes, knobs: Knobs = NONE) -> Kernel | None:
        """Return the kernel, or None where its conditions are not met."""
        if any(attributes.get("padding", ())) or attributes.get("groups", 1) > 1:
            return None
        is_dense = "groups" not in attributes
        source, window = rows_as_pixels(arguments) if is_dense else geometry(arguments, attributes)
        if source.out_h * source.out_w >= self._product.pixels or not self.allows(arguments, attributes, knobs):
            return None
        layer, fitted = self._fit(arguments, attributes)
        if fitted is None:
            return None
        at_once = int(knobs.get("channels", _most_channels(arguments)))
        return _build("dense" if is_dense else "conv2d", arguments[0], source, window, layer, fitted, at_once)

    def space(self, arguments: Sequence[relax.Expr], attributes: Attributes) -> Space:
        """See `Recipe.space`."""
        if attributes.get("groups", 1) > 1:
            return {}
        most = _most_channels(arguments)  # one without a partner has half a word for nothing
        return {"channels": [*range(2, most, 2), most]}

    def guard(self, arguments: Sequence[relax.Expr], attributes: Attributes) -> str:
        """See `Recipe.guard`."""
        if attributes.get("groups", 1) > 1:
            return ""
        _, fitted = self._fit(arguments, attributes)
        return "none" if fitted is None else fitted.form

    def _fit(
        self, arguments: Sequence[relax.Expr], attributes: Attributes
    ) -> tuple[Channels, FittedDense | None]:
        """Return the channels of a layer and the product for them, or None if it is not exact for one."""
        output = choose_output(*(attributes[k] for k in ("output_zero_point", "clamp_min", "clamp_max")))
        layer = Channels.of(arguments, attributes, np.arange(math.prod(shape_of(arguments[1])[1:])), output)
        return layer, self._product.fit_dense(layer, output)


def _most_channels(arguments: Sequence[relax.Expr]) -> int:
    """Return how many channels a call can take at once, and does without a choice."""
    return min(scalar_dense.MOST_CHANNELS, shape_of(arguments[1])[0])


def _calls(channels: int, at_once: int) -> list[tuple[int, int, int]]:
    """Return for each call its first channel, the one behind its last, and how many it takes at once."""
    whole = channels - channels % at_once
    cuts = [(0, whole, at_once), (whole, channels, channels - whole)]
    return [cut for cut in cuts if cut[1] > cut[0]]


def _build(
    kind: str, x: relax.Expr, source: Source, window: Window, layer: Channels, fitted: FittedDense, at_once: int
) -> Kernel:
    """Return the function that moves the window of each pixel and makes its outputs, all channels after another."""
    channels, size, length = len(layer.bias), source.batch * source.image, layer.weight.shape[1]
    calls = _calls(channels, at_once)
    kernels = [fitted.multiply(taken) for _, _, taken in calls]
    constants = [
        scalar_dense.pack(layer.weight[c], fitted.bias[c], fitted.scale[c], taken).ravel()
        for first, last, taken in calls
        for c in [slice(first, last)]
    ]
    offsets = [0, *itertools.accumulate(packed.size for packed in constants)]
    flip, padded = scalar_dense.flip(), -(-length // scalar_dense.K_MULTIPLE) * scalar_dense.K_MULTIPLE
    with IRBuilder() as builder, T.prim_func(s_tir=True):
        T.func_name("main")
        T.func_attr({"tirx.noalias": True})
        image = T.arg("x", T.Buffer((size,), "int8"))
        packed = T.arg("constants", T.Buffer((offsets[-1],), "int32"))
        y = T.arg("output", T.Buffer((source.pixels * channels,), "int8"))
        with T.sblock("root"):
            T.reads()
            T.writes()
            moved = T.sblock_alloc_buffer((padded,), "uint8")
            total = T.sblock_alloc_buffer((1,), "int32")
            for i in range(length, padded):
                T.buffer_store(moved, T.uint8(0), [i])
            with T.serial(source.pixels) as pixel:
                T.buffer_store(total, T.int32(0), [0])
                with T.grid(window.rows, window.columns) as (row, column):
                    to = moved.access_ptr("w", offset=(row * window.columns + column) * window.run_bytes)
                    run = source.offset(pixel) + row * window.row_stride + column * window.column_stride
                    sources = T.address_of(image[run]), window.run_bytes, total.access_ptr("rw")
                    T.evaluate(T.call_extern("int32", flip.name, to, *sources))
                for (first, last, _), kernel, offset in zip(calls, kernels, offsets, strict=False):
                    bounds = (y.access_ptr("w", offset=pixel * channels + end) for end in (first, last))
                    inputs = packed.access_ptr("r", offset=offset), moved.access_ptr("r")
                    call = (*inputs, *bounds, padded, total.access_ptr("r"))
                    T.evaluate(T.call_extern("int32", kernel.name, *call))
    func = builder.get().with_attr({**texts([flip, *kernels]), "tinyml.schedule": ScalarDense.__name__})
    macs = source.pixels * channels * window.runs * window.run_bytes
    method = Method(f"rows, {at_once} channels at once, two products a multiplication", "one window", [flip.name])
    arguments = [relax.op.reshape(x, (size,)), relax.const(np.concatenate(constants))]
    return Kernel(kind, func, arguments, macs, method, knobs={"channels": at_once})
