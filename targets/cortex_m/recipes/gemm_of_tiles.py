"""A pointwise convolution of a tensor in tiles: nothing is packed, and each pair of channels runs over all of it."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from tvm import relax, tirx
from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as T

from tvm_tinyml.choice import Knobs
from tvm_tinyml.passes.integer_ops import Attributes, shape_of
from tvm_tinyml.passes.kernels.kernel import Kernel, Method, Rereads, flat
from tvm_tinyml.passes.tensor_layouts import Tiles
from tvm_tinyml.targets.cortex_m.microkernels import gemm
from tvm_tinyml.targets.cortex_m.microkernels.gemm_walks import K_STEP, PIXELS
from tvm_tinyml.targets.cortex_m.microkernels.microkernel import texts
from tvm_tinyml.targets.cortex_m.microkernels.output import choose_output
from tvm_tinyml.targets.cortex_m.microkernels.product import Product, output_of
from tvm_tinyml.targets.cortex_m.recipes.channels import Channels, product_constants, split
from tvm_tinyml.targets.cortex_m.recipes.results import Results

PACK_CYCLES = {1: 7, 2: 9}
"""What packing a tile takes for each product, by the bytes of a value; counted on a Cortex-M4 by the simulator."""

EPILOGUE_CYCLES = 22
"""By how much that of a pair of channels is longer where values are bytes; for every two products they win a cycle.
Counted on a Cortex-M4 by the simulator, with 16 and with 32 products."""


def tiles_of(arguments: Sequence[relax.Expr], attributes: Attributes, product: Product) -> Tiles | None:
    """Return the input of a pointwise convolution in a product's tiles, or None if it is no whole number of them."""
    batch, height, width, channels = shape_of(arguments[0])
    pointwise = shape_of(arguments[1])[1:3] == [1, 1] == attributes["strides"] and not any(attributes["padding"])
    alone = batch == 1 == attributes["groups"] and "input_step" not in attributes
    tiles = Tiles(height, width, channels, product.value_bytes)
    return tiles if pointwise and alone and width % tiles.PIXELS == 0 else None


def cycles_saved(tiles: Tiles, channels: int, instead: Product) -> int:
    """Return what a convolution to so many channels saves by reading tiles, about.

    Parameters
    ----------
    instead : the product that it would pack NHWC for.
    """
    count = tiles.height * tiles.width // PIXELS
    packing = count * tiles.products * PACK_CYCLES[instead.value_bytes]
    longer = instead.value_bytes - tiles.value_bytes  # 1 where bytes take the place of halves
    return packing - longer * count * -(-channels // 2) * (EPILOGUE_CYCLES - tiles.products // K_STEP)


def multiply_tiles(
    arguments: Sequence[relax.Expr],
    attributes: Attributes,
    layout: Tiles,
    product: Product,
    results: Results,
    *,
    shared: bool,
    copies: bool,
    schedule: str,
) -> Kernel | None:
    """Return the kernel, or None where the product does not fit.

    Parameters
    ----------
    product : whose packed pixels tiles are.
    shared : the code is that for any number of products.
    copies : the weights of a pair are copied to RAM.
    schedule : name of the recipe.
    """
    assert product.value_bytes == layout.value_bytes
    steps, pixels = layout.products // K_STEP, layout.height * layout.width
    channels = shape_of(arguments[1])[0]
    output = choose_output(*(attributes[k] for k in ("output_zero_point", "clamp_min", "clamp_max")))
    layer = Channels.of(arguments, attributes, np.array(layout.order), output)
    parts = split(layer, output, channels, product, shared=shared)
    if parts is None or not product.fits(steps, results.places):
        return None
    epilogue = output_of(product, output, layer.part(), shared=shared)
    constants = [product_constants(product, epilogue, part, layer, results.step) for part in parts]
    offsets = [0, *itertools.accumulate(packed.size for packed in constants)]
    kernels = {width: product.multiply(steps, results.places, epilogue, width, shared) for width in (1, 2)}
    reach = gemm.COPIED_WORDS * -(-steps // gemm.COPIED_WORDS)
    beyond = np.zeros(reach - steps if copies else product.beyond_words, np.int32)
    values = np.concatenate([*constants, beyond])
    with IRBuilder() as builder, T.prim_func(s_tir=True):
        T.func_name("main")
        T.func_attr({"tirx.noalias": True})
        x = T.arg("x", T.Buffer((layout.size_bytes,), "int8"))
        packed = T.arg("constants", T.Buffer((values.size,), "int32"))
        results.parameters()
        with T.sblock("root"):
            T.reads()
            T.writes()
            null = tirx.reinterpret("handle", tirx.IntImm("int64", 0))
            room = T.sblock_alloc_buffer((reach,), "int32").access_ptr("w") if copies else null
            results.begin(pixels)
            for part, offset in zip(parts, offsets, strict=False):
                call = (
                    packed.access_ptr("r", offset=offset),
                    x.access_ptr("r"),
                    results.pointer(0, 0, part.start),
                    x.access_ptr("r", offset=layout.end),
                    *([room] if product.copies else []),
                )
                T.evaluate(T.call_extern("int32", kernels[part.width].name, *call))
            results.take(0, pixels)
            results.end()
    used = [*(kernels[width] for width in sorted({part.width for part in parts})), *results.microkernels]
    func = builder.get().with_attr({**texts(used), "tinyml.schedule": schedule})
    paired, alone = (sum(part.stop - part.start for part in parts if part.pairs is pairs) for pairs in (True, False))
    how = " and ".join(f"{n} channels {way}" for n, way in ((paired, "in pairs"), (alone, "alone")) if n)
    rereads = {
        kernels[part.width].name: Rereads(part.width * layout.products * layout.value_bytes, pixels // PIXELS, 1)
        for part in parts
        if not copies
    }
    knobs: Knobs = {"shared": int(shared), "copies": int(copies)}
    kernel = Kernel(
        "conv2d",
        func,
        [flat(arguments[0], layout=layout), relax.const(values)],
        pixels * channels * layout.channels,
        Method(f"matrix product of {PIXELS} pixels by {how}"),
        rereads=rereads,
        knobs=knobs,
        input_layout=layout,
    )
    return results.finish(kernel)
