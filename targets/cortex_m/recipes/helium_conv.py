"""Convolutions and dense layers with Helium: a matrix product over bytes that lie, or are put, in a row."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from tvm import relax, tirx
from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as T

from tvm_tinyml.choice import NONE, Knobs, Space
from tvm_tinyml.passes.integer_ops import Attributes, shape_of
from tvm_tinyml.passes.kernels.kernel import Kernel, Method, Recipe, Rereads, constant
from tvm_tinyml.targets.cortex_m.microkernels import helium_gemm, helium_runs
from tvm_tinyml.targets.cortex_m.microkernels.helium_pack import helium_pack
from tvm_tinyml.targets.cortex_m.microkernels.microkernel import Microkernel, texts
from tvm_tinyml.targets.cortex_m.microkernels.output import Output, choose_output
from tvm_tinyml.targets.cortex_m.microkernels.pack import Window
from tvm_tinyml.targets.cortex_m.recipes.channels import Channels, all_exact
from tvm_tinyml.targets.cortex_m.recipes.conv_gemm import Source, geometry
from tvm_tinyml.targets.cortex_m.recipes.results import Results

TILE = 2
"""Pixels of a tile."""

_AS_IT_LIES, _IN_PLACE, _COPIED = "bytes where they lie", "runs in place", "windows copied"

_POINTWISE = {"strides": [1, 1], "padding": [0, 0, 0, 0], "dilation": [1, 1], "groups": 1}


class HeliumConv(Recipe):
    """``tinyml.conv2d`` without padding and groups, of four output channels at least.

    Parameters
    ----------
    scratch_bytes : copied windows that lie there at once, if one tile does not take more.

    Knob: what the products ``read``, where it is not the input as it lies anyway: runs in place, or copied windows.
    """

    def __init__(self, scratch_bytes: int = 4096) -> None:
        self._scratch_bytes = scratch_bytes

    def lower(
        self,
        arguments: Sequence[relax.Expr],
        attributes: Attributes,
        knobs: Knobs = NONE,
        results: Results | None = None,
    ) -> Kernel | None:
        """Return the kernel, or None where its conditions are not met; `results`, if they do not just go out."""
        if any(attributes["padding"]) or not _has_one_group(arguments, attributes):
            return None
        if not self.allows(arguments, attributes, knobs):
            return None
        source, window = geometry(arguments, attributes)
        output = choose_output(*(attributes[k] for k in ("output_zero_point", "clamp_min", "clamp_max")))
        order = np.arange(math.prod(shape_of(arguments[1])[1:]))
        channels = Channels.of(arguments, attributes, order, output)
        if not all_exact(channels, output):
            return None
        ways = _ways(source, window, len(channels.bias))
        way = str(knobs.get("read", next(iter(ways), _AS_IT_LIES)))
        layer = _Layer(source, window, output, channels, way, ways)
        kernel = layer.kernel(arguments[0], self._scratch_bytes, results)
        return dataclasses.replace(kernel, knobs={"read": way} if ways else {})

    def space(self, arguments: Sequence[relax.Expr], attributes: Attributes) -> Space:
        """See `Recipe.space`."""
        if not _has_one_group(arguments, attributes):
            return {}
        ways = _ways(*geometry(arguments, attributes), shape_of(arguments[1])[0])
        return {"read": sorted(ways)} if ways else {}


def _has_one_group(arguments: Sequence[relax.Expr], attributes: Attributes) -> bool:
    """Return whether a convolution is in one group, and has channels for a step."""
    return bool(attributes["groups"] == 1 and shape_of(arguments[1])[0] >= helium_gemm.CHANNELS)


class HeliumDense(Recipe):
    """``tinyml.dense`` as a 1x1 convolution over its rows."""

    def lower(self, arguments: Sequence[relax.Expr], attributes: Attributes, knobs: Knobs = NONE) -> Kernel | None:
        """Return the kernel, or None where its conditions are not met."""
        rows, length = shape_of(arguments[0])
        image = relax.Var("x", relax.TensorType([1, 1, rows, length], "int8"))
        weight = constant(arguments[1])
        filters = relax.const(weight.reshape(len(weight), 1, 1, length))
        kernel = HeliumConv().lower([image, filters, *arguments[2:]], {**attributes, **_POINTWISE}, knobs)
        if kernel is None:
            return None
        x = relax.op.reshape(arguments[0], (rows * length,))
        return dataclasses.replace(kernel, kind="dense", arguments=[x, *kernel.arguments[1:]])


def _ways(source: Source, window: Window, channels: int) -> dict[str, int]:
    """Return the possible ways to read windows, with instructions counted from the code, the fewest first.

    There is nothing to choose where the bytes of each window are contiguous, and all windows equally far apart.
    """
    rows = source.out_h == 1 or source.column * source.out_w == source.row
    images = source.batch == 1 or (rows and source.row * source.out_h == source.image)
    if window.runs == 1 and rows and images:
        return {}
    groups, of_run = -(-channels // helium_gemm.CHANNELS), helium_gemm.steps_of(window.run_bytes)
    pairs = source.batch * source.out_h * -(-source.out_w // TILE)
    reading = pairs * groups * (16 * window.runs * of_run + 5 * window.runs + 40)
    product = source.pixels // TILE * groups * (16 * helium_gemm.steps_of(window.runs * window.run_bytes) + 35)
    copying = source.pixels * (25 + window.runs * (5 + 2 * of_run))
    ways = {_COPIED: product + copying, **({} if window.columns > 1 else {_IN_PLACE: reading})}
    return dict(sorted(ways.items(), key=lambda way: way[1]))


@dataclasses.dataclass(frozen=True)
class _Layer:
    """A layer whose windows are read in some way.

    Attributes
    ----------
    estimates : of all ways, in instructions.
    """

    source: Source
    window: Window
    output: Output
    channels: Channels
    way: str
    estimates: Mapping[str, int]

    @property
    def products(self) -> int:
        return self.window.runs * self.window.run_bytes

    @property
    def in_place(self) -> bool:
        """Whether to read runs where they lie, one row of pixels a call."""
        return self.way == _IN_PLACE

    def kernel(self, x: relax.Expr, scratch_bytes: int, results: Results | None) -> Kernel:
        """Return the function: one product over all pixels, one for each row, or blocks that are copied first."""
        source, count, pixels = self.source, len(self.channels.bias), self.source.pixels
        constants = self._constants()
        tile = TILE if self.in_place else min(TILE, pixels)
        gemm = self._product(tile)
        used: list[Microkernel] = [gemm]
        block = min(max(scratch_bytes // self.products // tile, 1) * tile, pixels)
        if self.in_place:
            block = source.out_w
        elif self.way == _AS_IT_LIES:
            block = pixels
        results = results or Results(pixels * count, count)
        if not self.in_place:
            block = min(block, max(results.most_pixels // tile, 1) * tile)
        with IRBuilder() as builder, T.prim_func(s_tir=True):
            T.func_name("main")
            T.func_attr({"tirx.noalias": True})
            image = T.arg("x", T.Buffer((source.batch * source.image,), "int8"))
            packed = T.arg("constants", T.Buffer((constants.size,), "int32"))
            results.parameters()

            def multiply(windows: tirx.Expr, stride: int, first: tirx.Expr | int, number: int) -> None:
                """Compute ``number`` pixels from ``first`` on; one without a partner is its own."""
                rest = number % tile
                for start, taken, step in ((0, number - rest, 1), (number - rest, tile if rest else 0, 0)):
                    if taken:
                        numbers = self._numbers(stride * step, count * step)
                        at = T.handle_add_byte_offset(windows, start * stride) if start else windows
                        to = results.pointer(first + start, start, 0)
                        call = (packed.access_ptr("r"), at, to, taken, len(constants), *numbers)
                        T.evaluate(T.call_extern("int32", gemm.name, *call))
                results.take(first, number)

            with T.sblock("root"):
                T.reads()
                T.writes()
                results.begin(block)
                if self.way == _COPIED:
                    pack = helium_pack(self.window)
                    used.append(pack)
                    scratch = T.sblock_alloc_buffer((block * self.products,), "int8")

                def compute(first: tirx.Expr | int, number: int) -> None:
                    if self.way != _COPIED:
                        multiply(T.address_of(image[source.offset(first)]), source.column, first, number)
                        return
                    with T.serial(number) as i:
                        to = scratch.access_ptr("w", offset=i * self.products)
                        window = T.address_of(image[source.offset(first + i)])
                        T.evaluate(T.call_extern("int32", pack.name, to, window))
                    multiply(scratch.access_ptr("r"), self.products, first, number)

                whole, rest = divmod(pixels, block)
                with T.serial(whole) as number:
                    compute(number * block, block)
                if rest:
                    compute(whole * block, rest)
                results.end()
        func = builder.get().with_attr(
            {**texts([*used, *results.microkernels]), "tinyml.schedule": HeliumConv.__name__}
        )
        flat = relax.op.reshape(x, (source.batch * source.image,))
        macs = pixels * count * self.products
        arguments, method = [flat, relax.const(constants.ravel())], self._method(used)
        weight_bytes = 4 * (constants.shape[1] - helium_gemm.HEADER_WORDS)
        rereads = {gemm.name: Rereads(weight_bytes, *self._tiles(tile, block))}
        return results.finish(Kernel("conv2d", func, arguments, macs, method, rereads=rereads))

    def _tiles(self, tile: int, block: int) -> tuple[int, int]:
        """Return how many tiles there are, and calls that compute them."""
        pixels = self.source.pixels
        pieces = [block] * (pixels // block) + [pixels % block]
        calls = [tiles for number in pieces for tiles in (number // tile, min(number % tile, 1)) if tiles]
        return sum(calls), len(calls)

    def _method(self, used: Sequence[Microkernel]) -> Method:
        return Method(
            f"matrix product, {TILE} pixels x {helium_gemm.CHANNELS} channels, {self.way}",
            "whole windows of bytes" if self.way == _COPIED else "",
            [kernel.name for kernel in used[1:]],
            {way: self.estimates[way] for way in sorted(self.estimates, key=lambda way: way != self.way)},
        )

    def _product(self, pixels: int) -> Microkernel:
        if self.in_place:
            return helium_runs.helium_runs(helium_gemm.steps_of(self.window.run_bytes), self.output)
        return helium_gemm.helium_gemm(helium_gemm.steps_of(self.products), self.output, pixels=pixels)

    def _numbers(self, stride: int, channels: int) -> tuple[int, ...]:
        window = self.window
        if self.in_place:
            return helium_runs.numbers(window.run_bytes, window.runs, window.row_stride, stride, channels)
        return helium_gemm.numbers(self.products, stride, channels)

    def _constants(self) -> NDArray[np.int32]:
        c = self.channels
        weight = helium_runs.widened(c.weight, self.window.runs) if self.in_place else c.weight
        return helium_gemm.pack(weight, c.bias, c.multiplier, c.shift, c.zero_point)
