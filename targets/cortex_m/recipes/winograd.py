"""3x3 convolution by Winograd's F(4x4, 3x3): a quarter of the products, exactly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from tvm import relax, tirx
from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as T

from tvm_tinyml.passes.integer_ops import Attributes, shape_of, window_extent
from tvm_tinyml.passes.kernels.kernel import Kernel
from tvm_tinyml.targets.cortex_m.microkernels import winograd
from tvm_tinyml.targets.cortex_m.microkernels.microkernel import Microkernel, texts
from tvm_tinyml.targets.cortex_m.microkernels.output import Output, choose_output, exact, rounding_constant
from tvm_tinyml.targets.cortex_m.microkernels.winograd_filter import winograd_filter
from tvm_tinyml.targets.cortex_m.microkernels.winograd_input import scratch_bytes, winograd_input
from tvm_tinyml.targets.cortex_m.microkernels.winograd_output import winograd_columns, winograd_rows
from tvm_tinyml.targets.cortex_m.microkernels.winograd_products import SUM_BYTES, winograd_products
from tvm_tinyml.targets.cortex_m.recipes.channels import Channels

FEWEST_CHANNELS = 8
"""Of input and output, below which the transforms cost more than the products save."""

TOLERANCE = 0.02
"""A plan may take so much longer than the fastest if it needs less scratch."""

STRIPE_CYCLES = 450
"""For each stripe and pair of channels: calls, and code that a flash cache of 1 KiB reads again."""

_QUAD = winograd.TILES
_F = winograd.FREQUENCIES


@dataclass(frozen=True)
class Shape:
    """A layer, and its output cut into tiles.

    The last row and the last column of tiles end with the output; where the side is no multiple of a tile, they begin
    before the end of the ones in front, and a few outputs are computed twice.
    """

    batch: int
    height: int
    width: int
    channels_in: int
    channels: int
    top: int
    left: int
    out_h: int
    out_w: int

    @property
    def rows(self) -> int:
        """Tiles in a column of an image."""
        return -(-self.out_h // winograd.TILE)

    @property
    def columns(self) -> int:
        """Tiles in a row of an image."""
        return -(-self.out_w // winograd.TILE)

    @property
    def tiles(self) -> int:
        """In all."""
        return self.batch * self.rows * self.columns

    @property
    def quads(self) -> int:
        """Tiles are multiplied four at a time."""
        return -(-self.tiles // _QUAD)

    @property
    def last_tiles(self) -> int:
        """Tiles that the products of the last quad take: 1, 2 or 4."""
        return (_QUAD, 1, 2, _QUAD)[self.tiles % _QUAD]

    @property
    def steps(self) -> int:
        """Words of two input channels."""
        return 2 * -(-self.channels_in // winograd.STEP)

    @property
    def pairs(self) -> int:
        """Output channels are computed two at a time; a last one alone wastes its neighbour."""
        return -(-self.channels // winograd.CHANNELS)

    def place(self, tile: tirx.Expr) -> tuple[tirx.Expr, tirx.Expr, tirx.Expr]:
        """Return the image of a tile, and the row and column of its first output."""
        row, column = tile // self.columns, tile % self.columns
        image: tirx.Expr = 0
        if self.batch > 1:
            image, row = row // self.rows, row % self.rows
        y, x = row * winograd.TILE, column * winograd.TILE
        return (
            image,
            tirx.min(y, self.out_h - winograd.TILE) if self.out_h % winograd.TILE else y,
            tirx.min(x, self.out_w - winograd.TILE) if self.out_w % winograd.TILE else x,
        )


@dataclass(frozen=True)
class Plan:
    """How much is transformed at once.

    Attributes
    ----------
    quads : whose inputs lie in scratch: a stripe.
    all_filters : the filters of all output channels lie in scratch from the beginning on; otherwise they are
        transformed for each stripe, a pair of channels at a time.
    """

    quads: int
    all_filters: bool

    def scratch_bytes(self, shape: Shape) -> int:
        """Return the bytes of scratch."""
        filters = (shape.pairs if self.all_filters else 1) * shape.steps * _F * 8
        return (
            self.quads * (shape.steps * _F * 16 + _F * SUM_BYTES + 8 * _QUAD)
            + filters
            + scratch_bytes(shape.channels_in)
        )

    def cycles(self, shape: Shape) -> int:
        """Estimate the cycles of a Cortex-M4, within a few percent."""
        stripes = -(-shape.quads // self.quads)
        filters = 148 * winograd.CHANNELS * shape.pairs * shape.steps * (1 if self.all_filters else stripes)
        inputs = shape.tiles * (375 * shape.steps + 200)
        step_cycles = 16 * (shape.quads - 1) + {1: 6, 2: 9, _QUAD: 16}[shape.last_tiles]
        products = shape.pairs * _F * (step_cycles * shape.steps + 18 * shape.quads)
        outputs = shape.tiles * shape.channels * 345
        return filters + inputs + products + outputs + STRIPE_CYCLES * shape.pairs * stripes


def direct_cycles(shape: Shape) -> int:
    """Estimate the cycles of `ConvGemm` on a Cortex-M4: products, epilogues and packing."""
    pixels, length = -(-shape.batch * shape.out_h * shape.out_w // 4) * 4, winograd.TAPS * shape.channels_in
    return int(pixels * (1.01 * length * shape.channels + 9.7 * shape.channels + 1.6 * length))


class Winograd:
    """``tinyml.conv2d`` of 3x3 filters with stride 1, padding included.

    Parameters
    ----------
    scratch_bytes : at most.
    least_gain : of the cycles of `ConvGemm`, by the estimates; less is not worth the scratch and the code.
    mixed : order of instructions for cores that issue two at a time.
    """

    def __init__(self, scratch_bytes: int = 48 * 1024, *, least_gain: float = 0.1, mixed: bool = False) -> None:
        self._scratch_bytes = scratch_bytes
        self._least_gain = least_gain
        self._mixed = mixed

    def lower(self, arguments: Sequence[relax.Expr], attributes: Attributes) -> Kernel | None:
        """Return the kernel, or None where its conditions are not met."""
        shape = _shape(arguments, attributes)
        if shape is None:
            return None
        plan = self._plan(shape)
        if plan is None:
            return None
        output = choose_output(*(attributes[k] for k in ("output_zero_point", "clamp_min", "clamp_max")))
        layer = Channels.of(arguments, attributes, np.arange(winograd.TAPS * shape.channels_in), output)
        alive = layer.multiplier != 0
        if (layer.largest[alive] >= winograd.LARGEST_SUM).any() or not (
            exact(layer.shift, layer.largest, output) | ~alive
        ).all():
            return None
        zero_points = attributes["input_zero_point"] % 256 * 0x0101_0101
        geometry = [shape.height, shape.width, shape.channels_in, zero_points]
        products = {
            tiles: winograd_products(shape.steps, tiles, mixed=self._mixed) for tiles in {_QUAD, shape.last_tiles}
        }
        return _build(arguments, shape, plan, products, output, _pack(layer, shape), geometry)

    def _plan(self, shape: Shape) -> Plan | None:
        """Return the plan with the least scratch among the fast ones, or None if none fits or is fast enough."""
        plans = [Plan(quads, all_filters) for quads in range(1, shape.quads + 1) for all_filters in (False, True)]
        fitting = [plan for plan in plans if plan.scratch_bytes(shape) <= self._scratch_bytes]
        fastest = min((plan.cycles(shape) for plan in fitting), default=0)
        if not fitting or fastest > (1 - self._least_gain) * direct_cycles(shape):
            return None
        fast = [plan for plan in fitting if plan.cycles(shape) <= (1 + TOLERANCE) * fastest]
        return min(fast, key=lambda plan: (plan.scratch_bytes(shape), plan.cycles(shape)))


def _shape(arguments: Sequence[relax.Expr], attributes: Attributes) -> Shape | None:
    batch, height, width, channels_in = shape_of(arguments[0])
    channels, *kernel, _ = shape_of(arguments[1])
    fits = kernel == [3, 3] and attributes["strides"] == attributes["dilation"] == [1, 1] and attributes["groups"] == 1
    if not fits or min(channels_in, channels) < FEWEST_CHANNELS:
        return None
    top, left, bottom, right = attributes["padding"]
    out_h, out_w = window_extent(height, 3, 1, top + bottom), window_extent(width, 3, 1, left + right)
    if min(out_h, out_w) < winograd.TILE:
        return None
    return Shape(batch, height, width, channels_in, channels, top, left, out_h, out_w)


def _pack(layer: Channels, shape: Shape) -> NDArray[np.int32]:
    """Return the words of each pair of channels: two filters, then the parameters of both, [pairs, words]."""
    order = winograd.channel_order(shape.channels_in)
    weight = layer.weight.reshape(shape.channels, winograd.TAPS, shape.channels_in).transpose(0, 2, 1)
    zero = np.zeros((shape.channels, 1, winograd.TAPS), np.int64)
    weight = np.concatenate([weight, zero], axis=1)[:, order]
    constant = rounding_constant(layer.shift, layer.zero_point)
    filters = winograd.pack_filters(weight).view(np.int32)
    parameters = winograd.pack_parameters(weight, layer.bias, layer.multiplier, constant, layer.shift)
    odd = ((0, shape.channels % winograd.CHANNELS), (0, 0))
    return np.concatenate([np.pad(words, odd).reshape(shape.pairs, -1) for words in (filters, parameters)], axis=1)


def _build(
    arguments: Sequence[relax.Expr],
    shape: Shape,
    plan: Plan,
    products: Mapping[int, Microkernel],
    output: Output,
    constants: NDArray[np.int32],
    geometry: Sequence[int],
) -> Kernel:
    """Return the function: inputs of a stripe of tiles; for each pair of channels products, columns and rows."""
    filters, inputs, columns, rows = winograd_filter(), winograd_input(), winograd_columns(), winograd_rows(output)
    channels, steps, pairs = shape.channels, shape.steps, shape.pairs
    image_size = shape.height * shape.width * shape.channels_in
    out_size = shape.batch * shape.out_h * shape.out_w * channels
    pair_words = constants.shape[1]
    filter_words = pair_words - winograd.CHANNELS * winograd.PARAMETERS
    u_size, v_size, m_size = steps * _F * 4, steps * _F * 8, _F * 8  # of a pair and of a quad, in elements
    stripe = _QUAD * plan.quads
    # A loop of calls gains nothing by being unrolled: the compiler does not know an extent that is read from memory.
    numbers = np.array([*geometry, stripe, pairs]).astype(np.uint32).view(np.int32)

    with IRBuilder() as builder, T.prim_func(s_tir=True):
        T.func_name("main")
        T.func_attr({"tirx.noalias": True})
        x = T.arg("x", T.Buffer((shape.batch * image_size,), "int8"))
        packed = T.arg("constants", T.Buffer((constants.size + len(numbers),), "int32"))
        y = T.arg("output", T.Buffer((out_size,), "int8"))
        with T.sblock("root"):
            T.reads()
            T.writes()
            u = T.sblock_alloc_buffer(((pairs if plan.all_filters else 1) * u_size,), "int16")
            v = T.sblock_alloc_buffer((plan.quads * v_size,), "int16")
            m = T.sblock_alloc_buffer((plan.quads * m_size,), "int32")
            places = T.sblock_alloc_buffer((2 * stripe,), "int32")
            scratch = T.sblock_alloc_buffer((scratch_bytes(shape.channels_in) // 4,), "int32")

            # With an extent of its own a pointer leaves behind no variable that nothing uses.
            def at(buffer: tirx.Buffer, offset: tirx.Expr | int = 0) -> tirx.Expr:
                return buffer.access_ptr("rw", offset=offset, extent=1)

            def call(kernel: Microkernel, *args: object) -> None:
                T.evaluate(T.call_extern("int32", kernel.name, *args))

            def transform_filters(pair: tirx.Expr, to: tirx.Expr | int) -> None:
                call(filters, at(packed, pair * pair_words), at(u, to), steps, winograd.CHANNELS)

            def transform_input(first: tirx.Expr, tile: tirx.Expr) -> None:
                image, row, column = shape.place(first + tile)
                quad, lane = tile // _QUAD, tile % _QUAD
                T.buffer_store(places, (quad * m_size + lane * winograd.CHANNELS) * 4, [2 * tile])
                place = ((image * shape.out_h + row) * shape.out_w + column) * channels
                T.buffer_store(places, place, [2 * tile + 1])
                where = at(x, image * image_size), at(v, quad * v_size + lane * 2)
                call(inputs, *where, row - shape.top, column - shape.left, at(scratch), at(packed, constants.size))

            def compute_pair(count: tirx.Expr, pair: tirx.Expr) -> None:
                filters_at = at(u, pair * u_size if plan.all_filters else 0)
                alone = shape.last_tiles < _QUAD
                with T.serial(count // _QUAD if alone else (count + _QUAD - 1) // _QUAD) as quad:
                    call(products[_QUAD], filters_at, at(v, quad * v_size), at(m, quad * m_size))
                if alone:
                    quad = count // _QUAD
                    with T.If(count % _QUAD != 0), T.Then():
                        call(products[shape.last_tiles], filters_at, at(v, quad * v_size), at(m, quad * m_size))
                there = winograd.CHANNELS
                if channels % winograd.CHANNELS:
                    there = tirx.min(there, channels - pair * winograd.CHANNELS)
                which = at(places), at(packed, pair * pair_words + filter_words), count, there
                call(columns, at(m), *which)
                call(rows, at(m), at(y, pair * winograd.CHANNELS), *which, channels, shape.out_w * channels)

            stripe_tiles, all_pairs = (packed[constants.size + len(geometry) + i] for i in range(2))
            if plan.all_filters:
                with T.serial(all_pairs) as pair:
                    transform_filters(pair, pair * u_size)
            with T.serial(-(-shape.tiles // stripe)) as number:
                first = number * stripe
                count = tirx.min(stripe_tiles, shape.tiles - first) if shape.tiles % stripe else stripe_tiles
                with T.serial(count) as tile:
                    transform_input(first, tile)
                with T.serial(all_pairs) as pair:
                    if not plan.all_filters:
                        transform_filters(pair, 0)
                    compute_pair(count, pair)
    used = [filters, inputs, *products.values(), columns, rows]
    func = builder.get().with_attr({**texts(used), "tinyml.schedule": Winograd.__name__})
    flat = relax.op.reshape(arguments[0], (shape.batch * image_size,))
    macs = out_size * winograd.TAPS * shape.channels_in
    return Kernel("conv2d", func, [flat, relax.const(np.concatenate([constants.ravel(), numbers]))], macs)
