"""Convolution on cores without SMLAD: pack some pixels' windows, multiply them with all channels, go on."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from tvm import relax
from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as T

from tvm_tinyml.choice import NONE, Knobs, Space
from tvm_tinyml.passes.integer_ops import Attributes, shape_of
from tvm_tinyml.passes.kernels.kernel import Kernel, Method, Recipe
from tvm_tinyml.targets.cortex_m.microkernels import scalar_gemm, scalar_pack
from tvm_tinyml.targets.cortex_m.microkernels.microkernel import texts
from tvm_tinyml.targets.cortex_m.microkernels.output import choose_output
from tvm_tinyml.targets.cortex_m.microkernels.pack import Window
from tvm_tinyml.targets.cortex_m.microkernels.scalar_pack import Walk
from tvm_tinyml.targets.cortex_m.recipes.channels import Channels
from tvm_tinyml.targets.cortex_m.recipes.conv_gemm import Source, geometry, has_few_groups
from tvm_tinyml.targets.cortex_m.recipes.depthwise_geometry import Index
from tvm_tinyml.targets.cortex_m.recipes.overlap import overlap
from tvm_tinyml.targets.cortex_m.recipes.results import Results
from tvm_tinyml.targets.cortex_m.recipes.scalar_product import Fitted, ScalarProduct

TILES = (*range(1, 17), 20, 24, 32, 48, 64)
"""Of a block, to choose from."""

LEAST_TILES, MOST_TILES = 4, 32
"""Of a block without a choice. Weights are spread for each block: for fewer tiles that would take a tenth of the time
and more."""

STRETCH = 3
"""How many times the scratch a block of `LEAST_TILES` may take; a tile may take any."""


class ScalarConv(Recipe):
    """``tinyml.conv2d`` without padding, in one group or several, of a tile of output pixels at least.

    Parameters
    ----------
    product : how to multiply.
    scratch_bytes : packed windows that lie there at once, about. The more, the less often the weights are spread.

    Knob: ``tiles`` in a block.
    """

    def __init__(self, product: ScalarProduct, scratch_bytes: int) -> None:
        self._product = product
        self._scratch_bytes = scratch_bytes

    def lower(
        self,
        arguments: Sequence[relax.Expr],
        attributes: Attributes,
        knobs: Knobs = NONE,
        results: Results | None = None,
    ) -> Kernel | None:
        """Return the kernel, or None where its conditions are not met; `results`, if they do not just go out."""
        channels, groups = shape_of(arguments[1])[0], attributes["groups"]
        if any(attributes["padding"]) or not has_few_groups(arguments, attributes):
            return None
        source, window = geometry(arguments, attributes)
        pixels = source.out_h * source.out_w
        if pixels < self._product.pixels or not self.allows(arguments, attributes, knobs):
            return None
        fitted = self._fit(arguments, attributes, window)
        if fitted is None:
            return None
        parts = list(_parts(channels, groups, self._product.width, fitted))
        most = int(knobs.get("tiles", min(self._most_tiles(window), MOST_TILES)))
        if results:
            most = min(most, max(results.most_pixels // self._product.pixels, 1))
        blocks = cut_into_blocks(pixels, self._product.pixels, most)
        results = results or Results(source.pixels * channels, channels)
        group_in = shape_of(arguments[1])[3]
        kernel = _build(arguments[0], source, window, group_in, parts, fitted, self._product, blocks, results)
        return replace(kernel, knobs={"tiles": largest(blocks)})

    def space(self, arguments: Sequence[relax.Expr], attributes: Attributes) -> Space:
        """See `Recipe.space`."""
        if not has_few_groups(arguments, attributes):
            return {}
        source, window = geometry(arguments, attributes)
        pixels, tile, most = source.out_h * source.out_w, self._product.pixels, self._most_tiles(window)
        if pixels < tile:
            return {}
        return {"tiles": sorted({largest(cut_into_blocks(pixels, tile, min(tiles, most))) for tiles in TILES})}

    def guard(self, arguments: Sequence[relax.Expr], attributes: Attributes) -> str:
        """See `Recipe.guard`."""
        if not has_few_groups(arguments, attributes):
            return ""
        fitted = self._fit(arguments, attributes, geometry(arguments, attributes)[1])
        return "none" if fitted is None else fitted.form

    def _fit(self, arguments: Sequence[relax.Expr], attributes: Attributes, window: Window) -> Fitted | None:
        """Return the product for a layer, or None if it is not exact for a channel."""
        output = choose_output(*(attributes[k] for k in ("output_zero_point", "clamp_min", "clamp_max")))
        return self._product.fit(Channels.of(arguments, attributes, scalar_pack.order(window), output), output)

    def _most_tiles(self, window: Window) -> int:
        """Return how many tiles a block may have."""
        tile_bytes = 4 * self._product.pixels * (window.products // scalar_gemm.K_STEP)
        few = min(LEAST_TILES, STRETCH * self._scratch_bytes // tile_bytes)
        return max(1, few, self._scratch_bytes // tile_bytes)


@dataclass(frozen=True)
class _Part:
    """Channels next to each other that one call computes, ``width`` at a time."""

    group: int
    start: int
    width: int
    constants: NDArray[np.int32]


def _parts(channels: int, groups: int, width: int, fitted: Fitted) -> Sequence[_Part]:
    size = channels // groups
    whole = size // width * width
    cuts = [
        (g, g * size + first, g * size + last) for g in range(groups) for first, last in ((0, whole), (whole, size))
    ]
    widths = [width if stop - start >= width else 1 for _, start, stop in cuts]
    return [
        _Part(group, start, w, fitted.constants(slice(start, stop), w))
        for (group, start, stop), w in zip(cuts, widths, strict=True)
        if stop > start
    ]


@dataclass(frozen=True)
class Blocks:
    """``count`` blocks of ``tiles`` each, the first of which begins at pixel ``start``."""

    start: int
    count: int
    tiles: int


def cut_into_blocks(pixels: int, tile: int, most_tiles: int) -> list[Blocks]:
    """Cut the pixels of an image into blocks.

    The last one ends with the last pixel; where the pixels are no whole number of tiles, it begins before the end of
    the one in front, and a few pixels are computed twice.
    """
    tiles = -(-pixels // tile)
    ragged = pixels % tile > 0
    count = max(-(-tiles // most_tiles), 2 if ragged else 1)
    size = min(-(-tiles // count), most_tiles) if count > 2 or not ragged else min(tiles - 1, most_tiles)
    whole = (tiles - ragged) // size
    rest = tiles - whole * size
    return [Blocks(0, whole, size), *([Blocks(pixels - rest * tile, 1, rest)] if rest else [])]


def largest(blocks: Sequence[Blocks]) -> int:
    """Return the tiles of the largest block."""
    return max(run.tiles for run in blocks)


def _build(
    image: relax.Expr,
    source: Source,
    window: Window,
    group_in: int,
    parts: Sequence[_Part],
    fitted: Fitted,
    product: ScalarProduct,
    blocks: Sequence[Blocks],
    results: Results,
) -> Kernel:
    """Return the function that packs and multiplies block after block of each image."""
    last, pixels, tile = parts[-1], source.out_h * source.out_w, product.pixels
    channels, groups = last.start + last.width * len(last.constants), last.group + 1
    steps = window.products // scalar_gemm.K_STEP
    tile_words = tile * steps
    even = source.column * source.out_w == source.row
    walk = Walk(pixels if even else source.out_w, source.column, source.row)
    pack = scalar_pack.pack_words(window, walk, tile, narrow=product.narrow)
    kernels = {part.width: fitted.multiply(steps, part.width) for part in parts}
    # Not every core can divide: where windows do not follow each other at one distance, the places of the blocks, and
    # how many pixels are left in their row, are constants.
    inside = [blocks[0].tiles * tile * i for i in range(blocks[0].count)]
    places = [] if even else [(source.offset(i), source.out_w - i % source.out_w) for i in inside]
    constants = [np.array(places, np.int32).ravel(), *(part.constants.ravel() for part in parts)]
    offsets = list(itertools.accumulate(values.size for values in constants))
    spread_words = max(product.spread_words(steps, part.width) for part in parts)

    with IRBuilder() as builder, T.prim_func(s_tir=True):
        T.func_name("main")
        T.func_attr({"tirx.noalias": True})
        x = T.arg("x", T.Buffer((source.batch * source.image,), "int8"))
        packed = T.arg("constants", T.Buffer((offsets[-1],), "int32"))
        results.parameters()
        with T.sblock("root"):
            T.reads()
            T.writes()
            stream = T.sblock_alloc_buffer((largest(blocks) * tile_words,), "int32")
            spread = T.sblock_alloc_buffer((spread_words,), "int32")
            results.begin(largest(blocks) * tile)

            def compute(x_start: Index, pixel: Index, left: Index, tiles: int) -> None:
                for group in range(groups):
                    window_at = T.address_of(x[x_start + group * group_in])
                    T.evaluate(T.call_extern("int32", pack.name, stream.access_ptr("w"), window_at, left, tiles))
                    for part, offset in zip(parts, offsets, strict=False):
                        if part.group == group:
                            call = (
                                packed.access_ptr("r", offset=offset),
                                stream.access_ptr("r"),
                                results.pointer(pixel, 0, part.start),
                                stream.access_ptr("r", offset=tiles * tile_words),
                                len(part.constants),
                                spread.access_ptr("w"),
                                steps,
                                channels,
                            )
                            T.evaluate(T.call_extern("int32", kernels[part.width].name, *call))

            with T.serial(source.batch) as number:
                done = 0
                for run in blocks:
                    with T.serial(run.count) as i:
                        first = run.start + i * (run.tiles * tile)
                        place: tuple[Index, Index] = first * source.column, pixels - first
                        if not even:
                            of_last = source.offset(run.start), source.out_w - run.start % source.out_w
                            place = of_last if run.count == 1 else (packed[2 * i], packed[2 * i + 1])
                        pixel = number * pixels + first
                        compute(number * source.image + place[0], pixel, place[1], run.tiles)
                        results.take(pixel, run.tiles * tile, done - run.start)
                    done = run.start + run.count * run.tiles * tile
            results.end()
    func = builder.get().with_attr(
        {**texts([pack, *kernels.values(), *results.microkernels]), "tinyml.schedule": ScalarConv.__name__}
    )
    flat = relax.op.reshape(image, (source.batch * source.image,))
    macs = source.pixels * channels * window.runs * window.run_bytes
    method = Method(
        f"matrix product, {tile} pixels x {parts[0].width} channels, two products a multiplication",
        f"{largest(blocks) * tile} windows of {window.products}, two values a word",
        [pack.name],
    )
    order = []
    for number in range(source.batch):
        for run in blocks:
            for first in range(run.start, run.start + run.count * run.tiles * tile, run.tiles * tile):
                read = number * source.image + first // source.out_w * source.row + first % source.out_w * source.column
                order.append((read, (number * pixels + first + run.tiles * tile) * channels))
    overlaps = [overlap(order, read_first=groups == 1)]
    passed = [flat, relax.const(np.concatenate(constants))]
    return results.finish(Kernel("conv2d", func, passed, macs, method, overlaps))
