"""Convolution as a matrix product: pack some pixels' windows, multiply them with all channels, go on."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from tvm import relax, tirx
from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as T

from tvm_tinyml.choice import NONE, Knobs, Space
from tvm_tinyml.passes.integer_ops import Attributes, shape_of, span, window_extent
from tvm_tinyml.passes.kernels.kernel import Kernel, Method, Recipe, Rereads, flat
from tvm_tinyml.passes.tensor_layouts import Layout, Planes, Tiles, input_layout, output_layout
from tvm_tinyml.targets.cortex_m.microkernels import gemm
from tvm_tinyml.targets.cortex_m.microkernels.gemm_walks import K_STEP, PIXELS
from tvm_tinyml.targets.cortex_m.microkernels.microkernel import Microkernel, texts
from tvm_tinyml.targets.cortex_m.microkernels.output import Output, choose_output
from tvm_tinyml.targets.cortex_m.microkernels.pack import Window
from tvm_tinyml.targets.cortex_m.microkernels.places import Places
from tvm_tinyml.targets.cortex_m.microkernels.product import Product, output_of
from tvm_tinyml.targets.cortex_m.recipes.channels import Channels, Part, product_constants, split
from tvm_tinyml.targets.cortex_m.recipes.gemm_of_tiles import cycles_saved, multiply_tiles, tiles_of
from tvm_tinyml.targets.cortex_m.recipes.in_planes import InPlanes, edge_cycles
from tvm_tinyml.targets.cortex_m.recipes.overlap import overlap
from tvm_tinyml.targets.cortex_m.recipes.results import Results

HELD_BYTES, WORTH_COPYING = 208, 4
"""Weights of a pair that a buffer of 256 bytes before a flash could not hold are copied to RAM when so many tiles read
them: it saves a seventh of the cycles where flash waits, and costs a hundredth where it does not."""

FEW_PIXELS = 64
"""Layers of so few output pixels share code whatever their channels: they take few cycles, and behind the last strides
of a network they are many and, without dead channels, all different."""

STORE_CYCLES = 3
"""What a tile of a pair of channels saves where its outputs go to planes; counted on a Cortex-M4 by the simulator."""

TILES = (*range(1, 17), 20, 24, 32)
"""Of a block, to choose from."""

LEAST_TILES, MOST_TILES = 4, 16
"""Of a block without a choice; so few are allowed whatever scratch they take."""

WRITTEN_OUT = 2
"""Blocks whose calls take no more bytes without a loop."""

MOST_GROUPS = 8
"""Each group has its calls written out."""


@dataclass(frozen=True)
class Source:
    """Where the windows of the output pixels lie in the input.

    Attributes
    ----------
    batch, out_h, out_w : output pixels.
    image, row, column : bytes from an output pixel's window to the next one's in that direction.
    """

    batch: int
    out_h: int
    out_w: int
    image: int
    row: int
    column: int

    @property
    def pixels(self) -> int:
        """Output pixels in all."""
        return self.batch * self.out_h * self.out_w

    def in_order(self, window: Window) -> bool:
        """Return whether the windows are runs that lie one behind the other."""
        return window.runs == 1 and self.column == window.run_bytes and self._joined

    @property
    def _joined(self) -> bool:
        """Whether pixels follow each other across rows and images as they do in a row."""
        return self.column * self.out_w == self.row and (self.batch == 1 or self.row * self.out_h == self.image)

    def offset(self, pixel: tirx.Expr | int) -> tirx.Expr | int:
        """Return the first byte of a pixel's window."""
        if self._joined:
            return pixel * self.column
        row, column = pixel // self.out_w, pixel % self.out_w
        if self.batch == 1:
            return row * self.row + column * self.column
        return row // self.out_h * self.image + row % self.out_h * self.row + column * self.column


class ConvGemm(Recipe):
    """``tinyml.conv2d`` without padding, in one group or several, of four output pixels at least.

    Parameters
    ----------
    products : ways to multiply, by name.
    choose : which one is taken without a choice, from the products of a sum, and whether the layer shares its code.
    scratch_bytes : packed windows that lie there at once, if four tiles do not take more. The more, the less often the
        weights are read from flash.
    of_tiles : products whose packed pixels an input may be already: `Tiles`.

    Knobs: ``product``; ``tiles`` of four pixels in a block; ``shared``, 1 for code that layers share; ``copies``, 1 if
    the weights of a pair are copied to RAM for each block.
    """

    def __init__(
        self,
        products: Mapping[str, Product],
        choose: Callable[[int, bool], str],
        scratch_bytes: int = 6144,
        of_tiles: Sequence[str] = (),
    ) -> None:
        self._products = products
        self._of_tiles = of_tiles
        self._choose = choose
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
        tiles_in, planes_out = input_layout(attributes), output_layout(attributes)
        if isinstance(planes_out, Planes):
            results = InPlanes(planes_out)
        if tiles_in:
            return self._multiply_tiles(arguments, attributes, knobs, results)
        input_step, step = attributes.get("input_step", 0), attributes.get("output_step", channels)
        source, window = geometry(arguments, attributes, input_step)
        if source.pixels < PIXELS or not self.allows(arguments, attributes, knobs):
            return None
        shared = bool(knobs.get("shared", source.pixels <= FEW_PIXELS))
        name = str(knobs.get("product", self._choose(window.products, shared)))
        product = self._products[name]
        most = self._most_tiles(window, product)
        tiles = int(knobs.get("tiles", min(most, MOST_TILES, -(-source.pixels // PIXELS))))
        if results:
            tiles = min(tiles, max(results.most_pixels // PIXELS, _least_tiles(source)))
        if tiles > most or not product.fits(window.products // K_STEP, Places(channels)):
            return None
        output = choose_output(*(attributes[k] for k in ("output_zero_point", "clamp_min", "clamp_max")))
        layer = Channels.of(arguments, attributes, window.order_of_all(), output)
        parts = split(layer, output, channels // groups, product, shared=shared)
        if parts is None:
            return None
        worth_copying = tiles >= WORTH_COPYING and 2 * window.products > HELD_BYTES
        copies = bool(knobs.get("copies", product.copies and worth_copying))
        if copies and not product.copies:
            return None
        if not product.fits(window.products // K_STEP, Places(step)):
            step = channels
        results = results or Results(span([source.pixels, channels], step), step)
        decided = {"input_step": input_step, "shared": shared, "copies": copies}
        kernel = _build(arguments, source, window, output, layer, parts, product, tiles, results, **decided)
        chosen: Knobs = {"product": name, "tiles": tiles, "shared": int(shared), "copies": int(copies)}
        return replace(kernel, knobs=chosen, input_step=input_step, output_step=0 if step == channels else step)

    def _multiply_tiles(
        self, arguments: Sequence[relax.Expr], attributes: Attributes, knobs: Knobs, results: Results | None
    ) -> Kernel | None:
        """Return the kernel for an input that lies in tiles, or None where its conditions are not met."""
        tiles = input_layout(attributes)
        names = (n for n in self._of_tiles if tiles_of(arguments, attributes, self._products[n]) == tiles)
        name = next(names, None)
        if name is None or not isinstance(tiles, Tiles):
            return None
        channels, pixels = shape_of(arguments[1])[0], tiles.height * tiles.width
        step = attributes.get("output_step", channels)
        results = results or Results(span([pixels, channels], step), step)
        product = self._products[name]
        decided = {
            "shared": bool(knobs.get("shared", pixels <= FEW_PIXELS)),
            "copies": product.copies and bool(knobs.get("copies", 2 * tiles.products > HELD_BYTES)),
        }
        kernel = multiply_tiles(arguments, attributes, tiles, product, results, schedule=self.name, **decided)
        if kernel is None:
            return None
        return replace(kernel, knobs={"product": name, **kernel.knobs}, output_step=0 if step == channels else step)

    def reads(
        self, arguments: Sequence[relax.Expr], attributes: Attributes, knobs: Knobs = NONE
    ) -> tuple[Layout, int] | None:
        """See `Recipe.reads`: tiles for the product that it takes without a choice, or for that which it takes."""
        length = shape_of(arguments[0])[3]
        shared = bool(knobs.get("shared", math.prod(shape_of(arguments[0])[1:3]) <= FEW_PIXELS))
        default = self._choose(length + length % K_STEP, shared)
        name = str(knobs.get("product", default))
        by = default if default in self._of_tiles else name
        tiles = tiles_of(arguments, attributes, self._products[by])
        if tiles is None or by not in self._of_tiles:
            return None
        return tiles, cycles_saved(tiles, shape_of(arguments[1])[0], self._products[name])

    def writes(
        self, arguments: Sequence[relax.Expr], attributes: Attributes, layout: Layout, knobs: Knobs = NONE
    ) -> int | None:
        """See `Recipe.writes`: planes of one image."""
        if not isinstance(layout, Planes) or not has_few_groups(arguments, attributes):
            return None
        source, _ = geometry(arguments, attributes)
        stores = STORE_CYCLES * (source.pixels // PIXELS) * (layout.channels // 2)
        return stores - edge_cycles(layout) if source.batch == 1 and source.pixels >= PIXELS else None

    def space(self, arguments: Sequence[relax.Expr], attributes: Attributes) -> Space:
        """See `Recipe.space`."""
        if not has_few_groups(arguments, attributes):
            return {}
        source, window = geometry(arguments, attributes)
        most = max(self._most_tiles(window, product) for product in self._products.values())
        least, all_tiles = _least_tiles(source), -(-source.pixels // PIXELS)
        return {
            "product": [*self._products],
            "tiles": sorted({min(tiles, all_tiles) for tiles in TILES if least <= tiles <= most}),
            "shared": [0, 1],
            "copies": [0, 1] if any(product.copies for product in self._products.values()) else [0],
        }

    def guard(self, arguments: Sequence[relax.Expr], attributes: Attributes) -> str:
        """See `Recipe.guard`."""
        if not has_few_groups(arguments, attributes):
            return ""
        _, window = geometry(arguments, attributes)
        output = choose_output(*(attributes[k] for k in ("output_zero_point", "clamp_min", "clamp_max")))
        layer = Channels.of(arguments, attributes, window.order_of_all(), output)
        group_channels = len(layer.bias) // attributes["groups"]
        ways = []
        for name, product in self._products.items():
            cut = [split(layer, output, group_channels, product, shared=shared) or [] for shared in (False, True)]
            texts = ["+".join(f"{part.count}x{part.width}" for part in parts) or "none" for parts in cut]
            ways.append(f"{name} {' or '.join(dict.fromkeys(texts))}")
        return ", ".join(ways)

    def _most_tiles(self, window: Window, product: Product) -> int:
        return max(LEAST_TILES, self._scratch_bytes // (PIXELS * window.products * product.value_bytes))


def has_few_groups(arguments: Sequence[relax.Expr], attributes: Attributes) -> bool:
    """Return whether a convolution is in one group or a few, and not depthwise."""
    groups, group_in = attributes["groups"], shape_of(arguments[1])[3]
    return bool(groups == 1 or (groups <= MOST_GROUPS and group_in > 1))


def geometry(arguments: Sequence[relax.Expr], attributes: Attributes, step: int = 0) -> tuple[Source, Window]:
    """Return which pixels a convolution computes, and what each reads of an image that has its border already.

    Parameters
    ----------
    step : bytes from a pixel of the input to the next; 0 where they follow each other.
    """
    batch, height, width, channels_in = shape_of(arguments[0])
    channels_in = step or channels_in
    top, left, bottom, right = attributes["padding"]
    height, width = height + top + bottom, width + left + right
    _, kernel_h, kernel_w, group_in = shape_of(arguments[1])
    (stride_h, stride_w), (dilation_h, dilation_w) = attributes["strides"], attributes["dilation"]
    row = width * channels_in
    source = Source(
        batch=batch,
        out_h=window_extent(height, kernel_h, stride_h, 0, dilation_h),
        out_w=window_extent(width, kernel_w, stride_w, 0, dilation_w),
        image=height * row,
        row=stride_h * row,
        column=stride_w * channels_in,
    )
    return source, Window.of(kernel_h, kernel_w, group_in, dilation_h * row, dilation_w * channels_in)


def _build(
    arguments: Sequence[relax.Expr],
    source: Source,
    window: Window,
    output: Output,
    layer: Channels,
    parts: Sequence[Part],
    product: Product,
    tiles: int,
    results: Results,
    *,
    input_step: int,
    shared: bool,
    copies: bool,
) -> Kernel:
    """Return the function that packs and multiplies block after block."""
    channels, pixels, step = len(layer.bias), source.pixels, results.step
    steps = window.products // K_STEP
    epilogue = output_of(product, output, layer.part(), shared=shared)
    constants = [product_constants(product, epilogue, part, layer, step) for part in parts]
    offsets = [0, *itertools.accumulate(packed.size for packed in constants)]
    in_order = source.in_order(window)
    pack = product.pack_pixels() if in_order else product.pack(window)
    kernels = {width: product.multiply(steps, results.places, epilogue, width, shared) for width in (1, 2)}
    reach = gemm.COPIED_WORDS * -(-steps // gemm.COPIED_WORDS)
    beyond = np.zeros(reach - steps if copies else product.beyond_words, np.int32)
    tile_words = window.products * product.value_bytes  # four pixels
    group_in = shape_of(arguments[1])[3]
    groups = sorted({part.group for part in parts})
    blocks, behind = _blocks(pixels, tiles)
    # A loop of calls gains nothing by being unrolled: the compiler does not know an extent that is read from memory. It
    # is a constant of its own, so that stripes of one layer, of different heights, share the weights.
    extent = [np.array([blocks], np.int32)] if blocks > WRITTEN_OUT else []
    values = np.concatenate([*constants, beyond])
    shape = shape_of(arguments[0])
    x_bytes = span(shape, input_step or shape[-1])

    with IRBuilder() as builder, T.prim_func(s_tir=True):
        T.func_name("main")
        T.func_attr({"tirx.noalias": True})
        x = T.arg("x", T.Buffer((x_bytes,), "int8"))
        packed = T.arg("constants", T.Buffer((values.size,), "int32"))
        extents = [T.arg("blocks", T.Buffer((1,), "int32")) for _ in extent]
        results.parameters()
        with T.sblock("root"):
            T.reads()
            T.writes()
            stream = T.sblock_alloc_buffer((tiles * tile_words + product.beyond_words,), "int32")
            null = tirx.reinterpret("handle", tirx.IntImm("int64", 0))
            room = T.sblock_alloc_buffer((reach,), "int32").access_ptr("w") if copies else null
            results.begin(PIXELS * tiles)

            def block(runs: Sequence[tuple[tirx.Expr | int, int]]) -> None:
                starts = [0, *itertools.accumulate(count * tile_words for _, count in runs)]
                places = [first - runs[0][0] if i else 0 for i, (first, _) in enumerate(runs)]
                for group in groups:
                    for (first, count), start in zip(runs, starts, strict=False):
                        pack_run(first, count, start, group)
                    for ((first, count), start, place), (part, offset) in itertools.product(
                        zip(runs, starts, places, strict=False), zip(parts, offsets, strict=False)
                    ):
                        if part.group == group:
                            call = (
                                packed.access_ptr("r", offset=offset),
                                stream.access_ptr("r", offset=start),
                                results.pointer(first, place, part.start),
                                stream.access_ptr("r", offset=start + count * tile_words),
                                *([room] if product.copies else []),
                            )
                            T.evaluate(T.call_extern("int32", kernels[part.width].name, *call))
                results.take(runs[0][0], places[-1] + PIXELS * runs[-1][1])

            def pack_run(first: tirx.Expr | int, count: int, start: int, group: int) -> None:
                if in_order:
                    to = stream.access_ptr("w", offset=start)
                    pixels_in = (T.address_of(x[source.offset(first)]), window.run_bytes, count)
                    T.evaluate(T.call_extern("int32", pack.name, to, *pixels_in))
                    return
                with T.serial(count) as tile:
                    pixel = first + tile * PIXELS
                    to = stream.access_ptr("w", offset=start + tile * tile_words)
                    windows = (source.offset(pixel + i) + group * group_in for i in range(PIXELS))
                    T.evaluate(T.call_extern("int32", pack.name, to, *(T.address_of(x[w]) for w in windows)))

            if blocks:
                with T.serial(extents[0][0] if extents else blocks) as number:
                    block([(number * (PIXELS * tiles), tiles)])
            for runs in behind:
                block(runs)
            results.end()
    order = [(number * PIXELS * tiles, (number + 1) * PIXELS * tiles) for number in range(blocks)]
    order += [(runs[0][0], runs[-1][0] + PIXELS * runs[-1][1]) for runs in behind]
    spans = [(int(source.offset(first)), (end - 1) * step + channels) for first, end in order]
    used = [pack, *(kernels[width] for width in sorted({part.width for part in parts})), *results.microkernels]
    func = builder.get().with_attr({**texts(used), "tinyml.schedule": ConvGemm.__name__})
    macs = pixels * channels * window.runs * window.run_bytes
    method = _method(parts, product, window, tiles, pack)
    overlaps = [overlap(spans, read_first=len(groups) == 1)]
    rereads = {
        kernels[part.width].name: Rereads(
            part.width * window.products * product.value_bytes,
            blocks * tiles + sum(count for runs in behind for _, count in runs),
            blocks + sum(len(runs) for runs in behind),
        )
        for part in parts
        if not copies
    }
    passed = [flat(arguments[0], input_step), *map(relax.const, [values, *extent])]
    return results.finish(Kernel("conv2d", func, passed, macs, method, overlaps, rereads=rereads))


def _least_tiles(source: Source) -> int:
    """Return how many tiles a block has at least: see `_blocks`."""
    return 2 if source.pixels % PIXELS else 1


def _blocks(pixels: int, tiles: int) -> tuple[int, list[list[tuple[int, int]]]]:
    """Cut the pixels into blocks of ``tiles``, and smaller ones behind them: their runs, first pixel and tiles.

    The last tile ends with the last pixel. Where it begins before the end of the one in front, a few pixels are
    computed twice; both are then of one block, which needs two tiles, so that what they read has been packed before
    one of them writes: the output may lie over the input.
    """
    size = PIXELS * tiles
    blocks, rest = divmod(pixels, size)
    if rest % PIXELS == 0:
        return blocks, [[(pixels - rest, rest // PIXELS)]] if rest else []
    if rest < PIXELS:
        blocks, rest = blocks - 1, rest + size
    first, whole = pixels - rest, rest // PIXELS
    ahead = whole // 2 if whole == tiles else 0
    end = [(first + PIXELS * ahead, whole - ahead), (pixels - PIXELS, 1)]
    return blocks, [*([[(first, ahead)]] if ahead else []), end]


def _method(parts: Sequence[Part], product: Product, window: Window, tiles: int, pack: Microkernel) -> Method:
    paired, alone = (sum(part.stop - part.start for part in parts if part.pairs is pairs) for pairs in (True, False))
    channels = " and ".join(f"{n} channels {how}" for n, how in ((paired, "in pairs"), (alone, "alone")) if n)
    scratch = f"{PIXELS * tiles} windows of {window.products}, {product.layout}"
    return Method(f"matrix product of {PIXELS} pixels by {channels}", scratch, [pack.name])
