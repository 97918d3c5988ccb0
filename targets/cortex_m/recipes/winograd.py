"""3x3 convolution by Winograd's algorithm, exactly: a quarter of the products, or four ninths in less scratch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from tvm import relax, tirx
from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as T

from tvm_tinyml.choice import NONE, Knobs, Space
from tvm_tinyml.passes.integer_ops import Attributes, shape_of, span, window_extent
from tvm_tinyml.passes.kernels.kernel import Kernel, Method, Recipe
from tvm_tinyml.targets.cortex_m.microkernels import winograd
from tvm_tinyml.targets.cortex_m.microkernels.microkernel import Microkernel, texts
from tvm_tinyml.targets.cortex_m.microkernels.output import Output, choose_output, exact, rounding_constant
from tvm_tinyml.targets.cortex_m.microkernels.winograd import Algorithm
from tvm_tinyml.targets.cortex_m.microkernels.winograd_filter import winograd_filter
from tvm_tinyml.targets.cortex_m.microkernels.winograd_forms import F2, F4
from tvm_tinyml.targets.cortex_m.microkernels.winograd_input import FEWEST_CHANNELS, scratch_bytes, winograd_input
from tvm_tinyml.targets.cortex_m.microkernels.winograd_output import winograd_columns, winograd_rows
from tvm_tinyml.targets.cortex_m.microkernels.winograd_products import SUM_BYTES, winograd_products
from tvm_tinyml.targets.cortex_m.recipes.channels import Channels
from tvm_tinyml.targets.cortex_m.recipes.depthwise_geometry import Index
from tvm_tinyml.targets.cortex_m.recipes.overlap import overlap

TOLERANCE = 0.02
"""A plan may take so much longer than the fastest if it needs less scratch."""

STRIPE_CYCLES = 450
"""For each stripe and pair of channels: calls, and code that a flash cache of 1 KiB reads again."""

_QUAD = winograd.TILES


@dataclass(frozen=True)
class Costs:
    """Cycles of the transforms on a Cortex-M4: of a filter's word, of a tile and its word, of a tile's channel."""

    filter_word: int
    input_tile: int
    input_word: int
    output: int


COSTS = {F2.tile: Costs(79, 100, 170, 122), F4.tile: Costs(148, 200, 375, 345)}


@dataclass(frozen=True)
class Tiling:
    """A layer, with its output cut into tiles.

    The last row and the last column of tiles end with the output; where the side is no multiple of a tile, they begin
    before the end of the ones in front, and a few outputs are computed twice.
    """

    algorithm: Algorithm
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
        return -(-self.out_h // self.algorithm.tile)

    @property
    def columns(self) -> int:
        """Tiles in a row of an image."""
        return -(-self.out_w // self.algorithm.tile)

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

    def place(self, number: Index) -> tuple[Index, Index, Index]:
        """Return the image of a tile, and the row and column of its first output."""
        tile = self.algorithm.tile
        row, column = number // self.columns, number % self.columns
        image: Index = 0
        if self.batch > 1:
            image, row = row // self.rows, row % self.rows
        y, x = row * tile, column * tile
        return (
            image,
            _smaller(y, self.out_h - tile) if self.out_h % tile else y,
            _smaller(x, self.out_w - tile) if self.out_w % tile else x,
        )


def _smaller(a: Index, b: int) -> Index:
    return min(a, b) if isinstance(a, int) else tirx.min(a, b)


@dataclass(frozen=True)
class Plan:
    """How much is transformed at once.

    Attributes
    ----------
    quads : whose inputs lie in scratch: a stripe.
    all_filters : the filters of all output channels lie in scratch from the beginning on; otherwise they are
        transformed for each stripe, a pair of channels at a time.
    """

    tiling: Tiling
    quads: int
    all_filters: bool

    @property
    def stripes(self) -> int:
        """In all."""
        return -(-self.tiling.quads // self.quads)

    @property
    def filters(self) -> int:
        """Pairs of channels whose filters lie in scratch."""
        return self.tiling.pairs if self.all_filters else 1

    @property
    def knobs(self) -> dict[str, int | str]:
        """What makes the plan."""
        filters = "all" if self.all_filters else "pair"
        return {"tile": self.tiling.algorithm.tile, "quads": self.quads, "filters": filters}

    def has(self, knobs: Knobs) -> bool:
        """Return whether the plan has these among its knobs."""
        return all(self.knobs.get(name) == value for name, value in knobs.items())

    @property
    def kind(self) -> str:
        """What plans of other stripes have in common."""
        tile = self.tiling.algorithm.tile
        return f"F({tile}x{tile}), {'all filters' if self.all_filters else 'filters of a pair'} in scratch"

    @property
    def scratch_bytes(self) -> int:
        """Bytes of scratch; sums take the place of what the inputs' transform needs."""
        tiling, frequencies = self.tiling, self.tiling.algorithm.frequencies
        filters = self.filters * tiling.steps * frequencies * 8
        inputs = self.quads * tiling.steps * frequencies * 16
        sums = self.quads * frequencies * SUM_BYTES
        places = 8 * _QUAD * self.quads
        return filters + inputs + max(sums, scratch_bytes(tiling.algorithm, tiling.channels_in)) + places

    @property
    def cycles(self) -> int:
        """Estimate of the cycles of a Cortex-M4, within a few percent."""
        tiling, costs = self.tiling, COSTS[self.tiling.algorithm.tile]
        filters = costs.filter_word * winograd.CHANNELS * tiling.pairs * tiling.steps
        inputs = tiling.tiles * (costs.input_word * tiling.steps + costs.input_tile)
        step_cycles = 16 * (tiling.quads - 1) + {1: 6, 2: 9, _QUAD: 16}[tiling.last_tiles]
        products = tiling.pairs * tiling.algorithm.frequencies * (step_cycles * tiling.steps + 18 * tiling.quads)
        outputs = tiling.tiles * tiling.channels * costs.output
        turns = 1 if self.all_filters else self.stripes
        return turns * filters + inputs + products + outputs + STRIPE_CYCLES * tiling.pairs * self.stripes


def direct_cycles(tiling: Tiling) -> int:
    """Estimate the cycles of `ConvGemm` on a Cortex-M4: products, epilogues and packing."""
    pixels, length = -(-tiling.batch * tiling.out_h * tiling.out_w // 4) * 4, winograd.TAPS * tiling.channels_in
    return int(pixels * (1.01 * length * tiling.channels + 9.7 * tiling.channels + 1.6 * length))


class Winograd(Recipe):
    """``tinyml.conv2d`` of 3x3 filters with stride 1, padding included.

    Parameters
    ----------
    scratch_bytes : at most.
    least_gain : of the cycles of `ConvGemm`, by the estimates; less is not worth the scratch and the code.
    mixed : order of instructions for cores that issue two at a time.
    algorithms : forms to choose from.

    Knobs: ``tile``, the rows of one; ``quads`` of tiles in a stripe; ``filters``, ``all`` if they are transformed
    before, ``pair`` if they are for each stripe again.
    """

    def __init__(
        self,
        scratch_bytes: int = 48 * 1024,
        *,
        least_gain: float = 0.15,
        mixed: bool = False,
        algorithms: Sequence[Algorithm] = (F4, F2),
    ) -> None:
        self._scratch_bytes = scratch_bytes
        self._least_gain = least_gain
        self._mixed = mixed
        self._algorithms = algorithms

    def lower(self, arguments: Sequence[relax.Expr], attributes: Attributes, knobs: Knobs = NONE) -> Kernel | None:
        """Return the kernel, or None where its conditions are not met."""
        tilings = _tilings(arguments, attributes, self._algorithms)
        if not tilings:
            return None
        layer, output, allowed = _channels(arguments, attributes, tilings)
        plans = self._plans(allowed)
        direct = direct_cycles(tilings[0])
        if knobs:
            plan = min((plan for plan in plans if plan.has(knobs)), key=lambda plan: plan.cycles, default=None)
        else:
            plan = self._choose(plans, direct)
        if plan is None:
            return None
        step = attributes.get("output_step", 0)
        kernel = _build(arguments, attributes, plan, layer, output, self._mixed, step or plan.tiling.channels)
        return replace(kernel, method=_method(plan, plans, direct), knobs=plan.knobs, output_step=step)

    def space(self, arguments: Sequence[relax.Expr], attributes: Attributes) -> Space:
        """See `Recipe.space`."""
        tilings = _tilings(arguments, attributes, self._algorithms)
        plans = self._plans(_channels(arguments, attributes, tilings)[2]) if tilings else []
        every = [plan.knobs for plan in plans]
        return {name: sorted({knobs[name] for knobs in every}) for name in ("tile", "quads", "filters") if every}

    def guard(self, arguments: Sequence[relax.Expr], attributes: Attributes) -> str:
        """See `Recipe.guard`."""
        tilings = _tilings(arguments, attributes, self._algorithms)
        if not tilings:
            return ""
        *_, allowed = _channels(arguments, attributes, tilings)
        return " ".join(f"F{tiling.algorithm.tile}" for tiling in allowed) or "none"

    def _plans(self, tilings: Sequence[Tiling]) -> list[Plan]:
        """Return the plans that fit the scratch."""
        every = [plan for tiling in tilings for plan in _plans(tiling)]
        return [plan for plan in every if plan.scratch_bytes <= self._scratch_bytes]

    def _choose(self, fitting: Sequence[Plan], direct: int) -> Plan | None:
        """Return the plan with the least scratch among the fast ones, or None if none fits or is fast enough."""
        fastest = min((plan.cycles for plan in fitting), default=0)
        if not fitting or fastest > (1 - self._least_gain) * direct:
            return None
        fast = [plan for plan in fitting if plan.cycles <= (1 + TOLERANCE) * fastest]
        return min(fast, key=lambda plan: (plan.scratch_bytes, plan.cycles))


def _plans(tiling: Tiling) -> list[Plan]:
    """Return the plans of a tiling: of those with as many stripes the ones with the smallest."""
    sizes = sorted({-(-tiling.quads // -(-tiling.quads // quads)) for quads in range(1, tiling.quads + 1)})
    return [Plan(tiling, quads, all_filters) for quads in sizes for all_filters in (False, True)]


def _method(taken: Plan, fitting: Sequence[Plan], direct: int) -> Method:
    algorithm, tiles = taken.tiling.algorithm, taken.tiling.tiles
    fastest = {plan.kind: plan.cycles for plan in sorted(fitting, key=lambda plan: plan.cycles, reverse=True)}
    estimates = {taken.kind: taken.cycles, **{kind: fastest[kind] for kind in sorted(fastest) if kind != taken.kind}}
    return Method(
        f"Winograd {taken.kind}, {min(_QUAD * taken.quads, tiles)} of {tiles} tiles at a time",
        f"{algorithm.frequencies} frequencies, each a word of two channels for four tiles",
        [winograd_filter(algorithm).name, winograd_input(algorithm).name],
        {**estimates, "matrix product": direct},
    )


def _tilings(arguments: Sequence[relax.Expr], attributes: Attributes, algorithms: Sequence[Algorithm]) -> list[Tiling]:
    batch, height, width, channels_in = shape_of(arguments[0])
    channels, *kernel, _ = shape_of(arguments[1])
    fits = kernel == [3, 3] and attributes["strides"] == attributes["dilation"] == [1, 1] and attributes["groups"] == 1
    if not fits or channels_in < FEWEST_CHANNELS:
        return []
    top, left, bottom, right = attributes["padding"]
    out_h, out_w = window_extent(height, 3, 1, top + bottom), window_extent(width, 3, 1, left + right)
    return [
        Tiling(algorithm, batch, height, width, channels_in, channels, top, left, out_h, out_w)
        for algorithm in algorithms
        if min(out_h, out_w) >= algorithm.tile
    ]


def _channels(
    arguments: Sequence[relax.Expr], attributes: Attributes, tilings: Sequence[Tiling]
) -> tuple[Channels, Output, list[Tiling]]:
    """Return the channels of a layer, their epilogue, and the tilings that are exact for all of them."""
    output = choose_output(*(attributes[k] for k in ("output_zero_point", "clamp_min", "clamp_max")))
    layer = Channels.of(arguments, attributes, np.arange(winograd.TAPS * tilings[0].channels_in), output)
    alive = layer.multiplier != 0
    if not (exact(layer.shift, layer.largest, output) | ~alive).all():
        return layer, output, []
    largest = layer.largest[alive].max(initial=0)
    return layer, output, [tiling for tiling in tilings if largest < tiling.algorithm.largest_sum]


def _pack(tiling: Tiling, layer: Channels) -> NDArray[np.int32]:
    """Return the words of each pair of channels: two filters, then the parameters of both, [pairs, words]."""
    order = winograd.channel_order(tiling.channels_in)
    weight = layer.weight.reshape(tiling.channels, winograd.TAPS, tiling.channels_in).transpose(0, 2, 1)
    zero = np.zeros((tiling.channels, 1, winograd.TAPS), np.int64)
    weight = np.concatenate([weight, zero], axis=1)[:, order]
    constant = rounding_constant(layer.shift, layer.zero_point)
    filters = winograd.pack_filters(weight).view(np.int32)
    scales = layer.multiplier, constant, layer.shift
    parameters = winograd.pack_parameters(tiling.algorithm, weight, layer.bias, *scales)
    odd = ((0, tiling.channels % winograd.CHANNELS), (0, 0))
    return np.concatenate([np.pad(words, odd).reshape(tiling.pairs, -1) for words in (filters, parameters)], axis=1)


def _build(
    arguments: Sequence[relax.Expr],
    attributes: Attributes,
    plan: Plan,
    layer: Channels,
    output: Output,
    mixed: bool,
    step: int,
) -> Kernel:
    """Return the function: inputs of a stripe of tiles; for each pair of channels products, columns and rows.

    Parameters
    ----------
    step : bytes from an output pixel to the next.
    """
    tiling, algorithm, constants = plan.tiling, plan.tiling.algorithm, _pack(plan.tiling, layer)
    filters, inputs = winograd_filter(algorithm), winograd_input(algorithm)
    products = {
        tiles: winograd_products(algorithm.frequencies, tiling.steps, tiles, mixed=mixed)
        for tiles in {_QUAD, tiling.last_tiles}
    }
    columns, rows = winograd_columns(algorithm), winograd_rows(algorithm, output)
    channels, steps = tiling.channels, tiling.steps
    image_size = tiling.height * tiling.width * tiling.channels_in
    pixels = tiling.batch * tiling.out_h * tiling.out_w
    pair_words = constants.shape[1]
    filter_words = pair_words - winograd.CHANNELS * winograd.PARAMETERS
    # Of a pair and of a quad, in elements.
    u_size, v_size, m_size = (algorithm.frequencies * n for n in (4 * steps, 8 * steps, SUM_BYTES // 4))
    stripe = _QUAD * plan.quads
    geometry = [tiling.height, tiling.width, tiling.channels_in, attributes["input_zero_point"] % 256 * 0x0101_0101]
    # A loop of calls gains nothing by being unrolled: the compiler does not know an extent that is read from memory.
    numbers = np.array([*geometry, stripe, tiling.pairs]).astype(np.uint32).view(np.int32)

    with IRBuilder() as builder, T.prim_func(s_tir=True):
        T.func_name("main")
        T.func_attr({"tirx.noalias": True})
        x = T.arg("x", T.Buffer((tiling.batch * image_size,), "int8"))
        packed = T.arg("constants", T.Buffer((constants.size + len(numbers),), "int32"))
        y = T.arg("output", T.Buffer((span([pixels, channels], step),), "int8"))
        with T.sblock("root"):
            T.reads()
            T.writes()
            u = T.sblock_alloc_buffer((plan.filters * u_size,), "int16")
            v = T.sblock_alloc_buffer((plan.quads * v_size,), "int16")
            m = T.sblock_alloc_buffer((plan.quads * m_size,), "int32")
            places = T.sblock_alloc_buffer((2 * stripe,), "int32")
            scratch = T.sblock_alloc_buffer((scratch_bytes(algorithm, tiling.channels_in) // 4,), "int32")

            # With an extent of its own a pointer leaves behind no variable that nothing uses.
            def at(buffer: tirx.Buffer, offset: tirx.Expr | int = 0) -> tirx.Expr:
                return buffer.access_ptr("rw", offset=offset, extent=1)

            def call(kernel: Microkernel, *args: object) -> None:
                T.evaluate(T.call_extern("int32", kernel.name, *args))

            def transform_filters(pair: tirx.Expr, to: tirx.Expr | int) -> None:
                call(filters, at(packed, pair * pair_words), at(u, to), steps, winograd.CHANNELS)

            def transform_input(first: tirx.Expr, tile: tirx.Expr) -> None:
                image, row, column = tiling.place(first + tile)
                quad, lane = tile // _QUAD, tile % _QUAD
                T.buffer_store(places, (quad * m_size + lane * winograd.CHANNELS) * 4, [2 * tile])
                place = ((image * tiling.out_h + row) * tiling.out_w + column) * step
                T.buffer_store(places, place, [2 * tile + 1])
                where = at(x, image * image_size), at(v, quad * v_size + lane * 2)
                corner = row - tiling.top, column - tiling.left
                call(inputs, *where, *corner, at(scratch), at(packed, constants.size))

            def compute_pair(count: tirx.Expr, pair: tirx.Expr) -> None:
                filters_at = at(u, pair * u_size if plan.all_filters else 0)
                alone = tiling.last_tiles < _QUAD
                with T.serial(count // _QUAD if alone else (count + _QUAD - 1) // _QUAD) as quad:
                    call(products[_QUAD], filters_at, at(v, quad * v_size), at(m, quad * m_size))
                if alone:
                    quad = count // _QUAD
                    with T.If(count % _QUAD != 0), T.Then():
                        call(products[tiling.last_tiles], filters_at, at(v, quad * v_size), at(m, quad * m_size))
                there = winograd.CHANNELS
                if channels % winograd.CHANNELS:
                    there = tirx.min(there, channels - pair * winograd.CHANNELS)
                which = at(places), at(packed, pair * pair_words + filter_words), count, there
                call(columns, at(m), *which)
                call(rows, at(m), at(y, pair * winograd.CHANNELS), *which, step, tiling.out_w * step)

            stripe_tiles, pairs = (packed[constants.size + len(geometry) + i] for i in range(2))
            if plan.all_filters:
                with T.serial(pairs) as pair:
                    transform_filters(pair, pair * u_size)
            with T.serial(plan.stripes) as number:
                first = number * stripe
                count = tirx.min(stripe_tiles, tiling.tiles - first) if tiling.tiles % stripe else stripe_tiles
                with T.serial(count) as tile:
                    transform_input(first, tile)
                with T.serial(pairs) as pair:
                    if not plan.all_filters:
                        transform_filters(pair, 0)
                    compute_pair(count, pair)
    used = [filters, inputs, *products.values(), columns, rows]
    func = builder.get().with_attr({**texts(used), "tinyml.schedule": Winograd.__name__})
    flat = relax.op.reshape(arguments[0], (tiling.batch * image_size,))
    macs = pixels * channels * winograd.TAPS * tiling.channels_in
    values = relax.const(np.concatenate([constants.ravel(), numbers]))
    return Kernel("conv2d", func, [flat, values], macs, overlaps=[overlap(_order(plan, step), read_first=True)])


def _order(plan: Plan, step: int) -> Iterator[tuple[int, int]]:
    """Yield of each stripe the first byte that it reads of the input, and the end of what it writes."""
    tiling, stripe = plan.tiling, _QUAD * plan.quads
    for start in range(0, tiling.tiles, stripe):
        places = [tiling.place(number) for number in range(start, min(start + stripe, tiling.tiles))]
        corners = [(i * tiling.height + max(y - tiling.top, 0), max(x - tiling.left, 0)) for i, y, x in places]
        ends = [(i * tiling.out_h + y + tiling.algorithm.tile - 1, x + tiling.algorithm.tile) for i, y, x in places]
        yield (
            min((row * tiling.width + column) * tiling.channels_in for row, column in corners),
            max((row * tiling.out_w + column - 1) * step + tiling.channels for row, column in ends),
        )
