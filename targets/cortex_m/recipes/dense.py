"""Dense layers: a few rows one by one, many as a matrix product. Convolutions of a few pixels are dense layers, too."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from tvm import relax
from tvm.ir import Expr
from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as T

from tvm_tinyml.choice import NONE, Knobs, Space
from tvm_tinyml.passes.integer_ops import Attributes, shape_of
from tvm_tinyml.passes.kernels.kernel import Kernel, Method, Overlap, Recipe, constant
from tvm_tinyml.targets.cortex_m.microkernels import dense_narrow, dense_rows
from tvm_tinyml.targets.cortex_m.microkernels.dense_rows import MOST_PAIRED
from tvm_tinyml.targets.cortex_m.microkernels.gemm_walks import PIXELS
from tvm_tinyml.targets.cortex_m.microkernels.microkernel import Microkernel, texts
from tvm_tinyml.targets.cortex_m.microkernels.output import Output, choose_output
from tvm_tinyml.targets.cortex_m.microkernels.pack import Window
from tvm_tinyml.targets.cortex_m.recipes.channels import Channels, all_exact, is_pair
from tvm_tinyml.targets.cortex_m.recipes.conv_gemm import Source, geometry
from tvm_tinyml.targets.cortex_m.recipes.overlap import overlap

MOST_ROWS = PIXELS - 1
"""From the next one on a matrix product reads the weights less often."""

_POINTWISE = {"strides": [1, 1], "padding": [0, 0, 0, 0], "dilation": [1, 1], "groups": 1}


class DenseGemm(Recipe):
    """``tinyml.dense`` of as many rows as a recipe for convolutions needs pixels, as a 1x1 convolution over them."""

    def __init__(self, convolution: Recipe) -> None:
        self._convolution = convolution

    def lower(self, arguments: Sequence[relax.Expr], attributes: Attributes, knobs: Knobs = NONE) -> Kernel | None:
        """Return the kernel, or None where its conditions are not met."""
        kernel = self._convolution.lower(*self._pointwise(arguments, attributes), knobs)
        if kernel is None:
            return None
        rows, length = shape_of(arguments[0])
        x = relax.op.reshape(arguments[0], (rows * length,))
        return dataclasses.replace(kernel, kind="dense", arguments=[x, *kernel.arguments[1:]])

    def space(self, arguments: Sequence[relax.Expr], attributes: Attributes) -> Space:
        """See `Recipe.space`: that of the convolution."""
        return self._convolution.space(*self._pointwise(arguments, attributes))

    def guard(self, arguments: Sequence[relax.Expr], attributes: Attributes) -> str:
        """See `Recipe.guard`: that of the convolution."""
        return self._convolution.guard(*self._pointwise(arguments, attributes))

    @staticmethod
    def _pointwise(arguments: Sequence[relax.Expr], attributes: Attributes) -> tuple[Sequence[relax.Expr], Attributes]:
        rows, length = shape_of(arguments[0])
        image = relax.Var("x", relax.TensorType([1, 1, rows, length], "int8"))
        weight = constant(arguments[1])
        filters = relax.const(weight.reshape(len(weight), 1, 1, length))
        return [image, filters, *arguments[2:]], {**attributes, **_POINTWISE}


class DenseRows(Recipe):
    """``tinyml.dense`` of at most three rows, and ``tinyml.conv2d`` of as many pixels without padding and groups.

    Parameters
    ----------
    scratch_bytes : that a widened row may take.

    Knob: ``channels`` at once, in pairs.
    """

    def __init__(self, scratch_bytes: int = 1 << 30) -> None:
        self._scratch_bytes = scratch_bytes

    def lower(self, arguments: Sequence[relax.Expr], attributes: Attributes, knobs: Knobs = NONE) -> Kernel | None:
        """Return the kernel, or None where its conditions are not met."""
        if any(attributes.get("padding", ())) or attributes.get("groups", 1) > 1:
            return None
        is_dense = "groups" not in attributes
        source, window = rows_as_pixels(arguments) if is_dense else geometry(arguments, attributes)
        if source.pixels > MOST_ROWS or 2 * window.products > self._scratch_bytes:
            return None
        if not self.allows(arguments, attributes, knobs):
            return None
        output = choose_output(*(attributes[k] for k in ("output_zero_point", "clamp_min", "clamp_max")))
        layer = Channels.of(arguments, attributes, window.order_of_all(), output)
        if not all_exact(layer, output):
            return None
        count = len(layer.bias)
        best = 6 if count % 6 == 0 and count % MOST_PAIRED else MOST_PAIRED
        at_once = int(knobs.get("channels", min(best, _even(count))))
        runs, shared = _runs(layer, at_once), shares_scale(layer)
        calls = [run.call(layer, output, shared=shared) for run in runs]
        algorithm = f"rows, {max(run.channels for run in runs)} channels at once"
        kind = "dense" if is_dense else "conv2d"
        made = rows_function(kind, arguments[0], source, window, calls, algorithm=algorithm)
        func = made.func.with_attr("tinyml.schedule", DenseRows.__name__)
        return dataclasses.replace(made, func=func, knobs={"channels": at_once})

    def space(self, arguments: Sequence[relax.Expr], attributes: Attributes) -> Space:
        """See `Recipe.space`."""
        if attributes.get("groups", 1) > 1:
            return {}
        return {"channels": list(range(2, min(MOST_PAIRED, _even(shape_of(arguments[1])[0])) + 1, 2))}

    def guard(self, arguments: Sequence[relax.Expr], attributes: Attributes) -> str:
        """See `Recipe.guard`."""
        if attributes.get("groups", 1) > 1:
            return ""
        _, window = rows_as_pixels(arguments) if "groups" not in attributes else geometry(arguments, attributes)
        output = choose_output(*(attributes[k] for k in ("output_zero_point", "clamp_min", "clamp_max")))
        layer = Channels.of(arguments, attributes, window.order_of_all(), output)
        if not all_exact(layer, output):
            return "none"
        pairs = sum(is_pair(layer, even) for even in range(0, len(layer.bias) - 1, 2))
        return f"{pairs} pairs{', one scale' if shares_scale(layer) else ''}"


def _even(channels: int) -> int:
    """Return as many channels, a partner of the last one included."""
    return channels + channels % 2


def rows_as_pixels(arguments: Sequence[relax.Expr]) -> tuple[Source, Window]:
    """Return a dense layer as a 1x1 convolution of an image with one pixel for each row."""
    rows, length = shape_of(arguments[0])
    source = Source(batch=1, out_h=1, out_w=rows, image=rows * length, row=rows * length, column=length)
    return source, Window.of(1, 1, length, length, length)


@dataclass(frozen=True)
class RowCall:
    """One call of a microkernel for each row.

    Attributes
    ----------
    start, stop : the outputs that it computes.
    kernel, constants : what is called, and what it reads, [words].
    words : of the row, widened, zeros at its end included.
    """

    start: int
    stop: int
    kernel: Microkernel
    constants: dense_rows.Words
    words: int


@dataclass(frozen=True)
class _Run:
    """Outputs from ``start`` to ``stop``, so many ``channels`` at once."""

    start: int
    stop: int
    channels: int
    pairs: bool

    def call(self, layer: Channels, output: Output, *, shared: bool) -> RowCall:
        chosen = slice(self.start, self.stop)
        scales = dense_rows.scale_words(layer.multiplier[chosen], layer.shift[chosen], layer.zero_point[chosen])
        weight, bias = layer.weight[chosen], layer.bias[chosen]
        if not self.pairs:
            weight = np.pad(weight, ((0, 0), (0, -weight.shape[1] % 4)))
        pack = dense_rows.pack_pairs if self.pairs else dense_rows.pack_single
        form = dense_rows.dense_pairs if self.pairs else dense_rows.dense_single
        packed = pack(weight, bias, None if shared else scales, self.channels)
        kernel = form(self.channels, output, shared=shared)
        return RowCall(self.start, self.stop, kernel, with_scale(packed, scales, shared=shared), weight.shape[1] // 2)


def with_scale(packed: dense_rows.Words, scales: dense_rows.Words, *, shared: bool) -> dense_rows.Words:
    """Return the constants of a call, with the scale in front that its channels share, if they do."""
    return np.concatenate([*([scales[0]] if shared else []), packed.ravel()])


def shares_scale(layer: Channels) -> bool:
    """Return whether all channels have one scale."""
    scales = dense_rows.scale_words(layer.multiplier, layer.shift, layer.zero_point)
    return bool((scales == scales[0]).all())


def _runs(layer: Channels, size: int) -> list[_Run]:
    """Cut the channels into runs: passes of one size, then what is left; where a pair does not fit, single ones."""
    count = len(layer.bias)
    runs: list[tuple[int, int, bool]] = []
    for start in range(0, count, size):
        stop = min(start + size, count)
        pairs = all(is_pair(layer, even) for even in range(start, stop - 1, 2))
        if runs and runs[-1][2] == pairs:
            start = runs.pop()[0]
        runs.append((start, stop, pairs))
    return [run for start, stop, pairs in runs for run in _passes(start, stop, pairs, size)]


def _passes(start: int, stop: int, pairs: bool, size: int) -> Iterator[_Run]:
    channels = size if pairs else dense_rows.MOST_SINGLE
    whole = stop - (stop - start) % channels
    if whole > start:
        yield _Run(start, whole, channels, pairs)
    rest = stop - whole
    if rest:
        # A channel without a partner is paired with zeros, which are read like weights: too many beside so few.
        yield _Run(whole, stop, rest, pairs and rest not in (1, 3))


def rows_function(
    kind: str,
    x: relax.Expr,
    source: Source,
    window: Window,
    calls: Sequence[RowCall],
    *,
    algorithm: str,
    row_sums: int = 0,
    table: dense_rows.Words | None = None,
) -> Kernel:
    """Return the kernel that widens the window of each pixel and makes its outputs, all channels after another.

    Parameters
    ----------
    row_sums : words of the row whose sum is put behind it, one sum after the other; 0 for none.
    table : numbers of which a table of pairs is made before, and handed to the microkernels; None for none.
    """
    channels, size = calls[-1].stop, source.batch * source.image
    constants = [*([] if table is None else [table]), *(call.constants for call in calls)]
    offsets = [0, *itertools.accumulate(packed.size for packed in constants)]
    widen, add_up, tabulate = dense_rows.widen(), dense_narrow.row_sums(), dense_narrow.pair_table()
    words = window.products // 2
    whole = max(call.words for call in calls)
    sums = -(-whole // row_sums) if row_sums else 0
    with IRBuilder() as builder, T.prim_func(s_tir=True):
        T.func_name("main")
        T.func_attr({"tirx.noalias": True})
        image = T.arg("x", T.Buffer((size,), "int8"))
        packed = T.arg("constants", T.Buffer((offsets[-1],), "int32"))
        y = T.arg("output", T.Buffer((source.pixels * channels,), "int8"))
        with T.sblock("root"):
            T.reads()
            T.writes()
            wide = T.sblock_alloc_buffer((whole + sums,), "int32")
            tables: list[Expr] = []
            if table is not None:
                pairs = T.sblock_alloc_buffer((dense_narrow.TABLE_WORDS,), "int32")
                T.evaluate(T.call_extern("int32", tabulate.name, pairs.access_ptr("w"), packed.access_ptr("r")))
                tables = [pairs.access_ptr("r")]
            for word in range(words, whole):
                T.buffer_store(wide, 0, [word])
            with T.serial(source.pixels) as pixel:
                with T.grid(window.rows, window.columns) as (row, column):
                    to = wide.access_ptr("w", offset=(row * window.columns + column) * (window.products_of_run // 2))
                    run = source.offset(pixel) + row * window.row_stride + column * window.column_stride
                    T.evaluate(T.call_extern("int32", widen.name, to, T.address_of(image[run]), window.run_bytes))
                if row_sums:
                    places = wide.access_ptr("w", offset=whole), wide.access_ptr("r")
                    T.evaluate(T.call_extern("int32", add_up.name, *places, whole, row_sums))
                for call, offset in zip(calls, offsets[len(tables) :], strict=False):
                    bounds = (y.access_ptr("w", offset=pixel * channels + end) for end in (call.start, call.stop))
                    inputs = packed.access_ptr("r", offset=offset), wide.access_ptr("r")
                    T.evaluate(T.call_extern("int32", call.kernel.name, *inputs, *bounds, call.words, *tables))
    used = [widen, *([add_up] if row_sums else []), *([] if table is None else [tabulate])]
    func = builder.get().with_attr(texts([*used, *(call.kernel for call in calls)]))
    macs = source.pixels * channels * window.runs * window.run_bytes
    order = ((int(source.offset(pixel)), (pixel + 1) * channels) for pixel in range(source.pixels))
    overlaps = [overlap(order, read_first=True)]
    if source.pixels == window.runs == 1 and whole == words and not tables:
        # A value takes two bytes where it lay in one: writing from the beginning on catches up with reading at the end.
        overlaps.append(Overlap(0, window.run_bytes, scratch=True))
    arguments = [relax.op.reshape(x, (size,)), relax.const(np.concatenate(constants))]
    method = Method(algorithm, "one window, a value in each half of a word", [kernel.name for kernel in used])
    return Kernel(kind, func, arguments, macs, method, overlaps)
