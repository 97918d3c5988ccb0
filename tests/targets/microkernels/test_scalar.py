"""Kernels for cores without the DSP extension: each alone on its core and in C, at its bounds, refused beyond them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import tvm_tinyml as tinyml
from benchmarks.int8_graph import Int8Graph, Network
from tests.compile.toolchains import HostLibrary
from tests.targets.microkernels.alone import Argument, on_core, on_host
from tvm_tinyml.arithmetic import multiply_by_quantized_multiplier, quantize_multiplier
from tvm_tinyml.benchmark import bench
from tvm_tinyml.targets.cortex_m.microkernels import (
    scalar_add,
    scalar_dense,
    scalar_dense_short,
    scalar_depthwise,
    scalar_depthwise_short,
    scalar_gemm,
    scalar_gemm_short,
    scalar_output_short,
    scalar_pack,
    scalar_planes,
)
from tvm_tinyml.targets.cortex_m.microkernels.affine import Function
from tvm_tinyml.targets.cortex_m.microkernels.microkernel import Microkernel
from tvm_tinyml.targets.cortex_m.microkernels.output import choose_output
from tvm_tinyml.targets.cortex_m.microkernels.pack import Window
from tvm_tinyml.targets.cortex_m.microkernels.scalar_pack import Walk
from tvm_tinyml.targets.cortex_m.recipes.scalar_conv import cut_into_blocks

pytest.importorskip("capstone", reason="needs the simulator: pip install tvm_tinyml[sim]")

Ints = NDArray[np.int64]
LONG, SHORT = "cortex-m3", "cortex-m0plus"
CORES = (LONG, SHORT)
OUTPUTS = {
    "plain": (-128, -128, 127),
    "zero point above the clamp": (5, -128, 127),
    "clamped": (-20, -20, 60),
    "clamped below the zero point": (3, -100, 90),
}


class Channels:
    """Weights and scales of some channels: sums spread over all outputs and beyond."""

    def __init__(
        self, rng: np.random.Generator, channels: int, k: int, output: str = "plain", weight: int | None = None
    ) -> None:
        self.zero, self.low, self.high = OUTPUTS[output]
        drawn = rng.integers(-127, 128, (channels, k))
        self.weight = drawn if weight is None else np.full_like(drawn, weight)
        self.bias = rng.integers(-3000, 3000, channels)
        spread = np.sqrt(k) * 5000
        scales = [quantize_multiplier(float(scale)) for scale in rng.uniform(30, 300, channels) / spread]
        self.multiplier = np.array([multiplier for multiplier, _ in scales])
        self.shift = np.array([-shift for _, shift in scales])
        self.zero_point = np.full(channels, self.zero)
        self.output = choose_output(self.zero, self.low, self.high)

    def outputs(self, sums: Ints) -> NDArray[np.int8]:
        """From sums, [..., O], without the bias."""
        value = multiply_by_quantized_multiplier(sums + self.bias, self.multiplier, -self.shift)
        return np.clip(value.astype(np.int64) + self.zero, self.low, self.high).astype(np.int8)

    @property
    def scale(self) -> tuple[Ints, Ints, Ints, Ints]:
        return self.bias, self.multiplier, self.shift, self.zero_point

    def short(self) -> tuple[scalar_output_short.ShortOutput, Ints]:
        """The epilogue of the Armv6-M."""
        fitted = scalar_output_short.fit(self.weight, *self.scale, self.low, self.high)
        assert fitted is not None
        return fitted


def words(x: Ints, pixels: int) -> NDArray[np.int32]:
    """Activations [pixels, K], K even, in the order of the kernels."""
    pairs = x.reshape(-1, pixels, x.shape[1] // 2, 2).transpose(0, 2, 1, 3)
    return np.ascontiguousarray(pairs[..., 0] + 65536 * pairs[..., 1]).astype(np.int32).ravel()


# --- the matrix product -----------------------------------------------------------------------------------------------


def product(core: str, channels: Channels, x: Ints, width: int = 1) -> tuple[Microkernel, list[Argument]]:
    """Return the kernel and its arguments; the third is the output."""
    count, steps = len(channels.bias), channels.weight.shape[1] // 2
    if core == LONG:
        kernel = scalar_gemm.gemm(steps, channels.output, width)
        constants = scalar_gemm.pack(channels.weight, *channels.scale, width)
        stream, spread = words(x, scalar_gemm.PIXELS), scalar_gemm.spread_words(steps, width)
    else:
        output, scales = channels.short()
        kernel, constants = scalar_gemm_short.gemm(steps, output), scalar_gemm_short.pack(channels.weight, scales)
        stream, spread = words(x, scalar_gemm_short.PIXELS), scalar_gemm_short.spread_words(steps)
    y, copy = np.zeros((len(x), count), np.int8), np.zeros(spread, np.int32)
    return kernel, [constants.ravel(), stream, y, (stream, stream.nbytes), len(constants), copy, steps, count]


def check_product(core: str, channels: Channels, x: Ints, width: int = 1, folder: Path | None = None) -> None:
    kernel, arguments = product(core, channels, x, width)
    found = (
        on_core(core, kernel, arguments, misaligned=[2])[2] if folder is None else on_host(kernel, arguments, folder)[2]
    )
    np.testing.assert_array_equal(found, channels.outputs(x @ channels.weight.T))


FORMS = [(LONG, 1), (LONG, 2), (SHORT, 1)]


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize(("core", "width"), FORMS)
def test_any_length_is_exact(core: str, width: int, output: str, rng: np.random.Generator) -> None:
    for k in (2, 4, 6, 8, 14, 20, 22, 24, 30, 34, 46, 64, 94, 128):
        x = rng.integers(-128, 128, (12 * int(rng.integers(1, 3)), k))
        check_product(core, Channels(rng, 2 * int(rng.integers(1, 4)), k, output), x, width)


@pytest.mark.parametrize("weight", [-127, 127])
@pytest.mark.parametrize("pixel", [-128, 127])
@pytest.mark.parametrize(("core", "width"), FORMS)
def test_extremes_are_exact(core: str, width: int, pixel: int, weight: int, rng: np.random.Generator) -> None:
    for output in OUTPUTS:
        check_product(core, Channels(rng, 2, 36, output, weight), np.full((12, 36), pixel), width)


@pytest.mark.parametrize("weights", [(-128, -127), (-127, -128), (-128, 127), (127, -128)])
@pytest.mark.parametrize(("core", "width"), FORMS)
def test_the_largest_pairs_of_weights_are_exact(
    core: str, width: int, weights: tuple[int, int], rng: np.random.Generator
) -> None:
    channels = Channels(rng, 2, 8)
    channels.weight[:] = np.tile(weights, 4)
    assert scalar_gemm.fits(channels.weight)
    for pixels in ((-128, -128), (-128, 127), (127, -128), (127, 127)):
        check_product(core, channels, np.tile(pixels, (12, 4)), width)


def test_a_pair_that_does_not_fit_is_told() -> None:
    weights = np.array([[0, -128, -128, 5]])
    assert scalar_gemm.fits(weights)  # they are no pair
    assert not scalar_gemm.fits(weights[:, 1:3])


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize(("core", "width"), FORMS)
def test_the_body_in_c_does_the_same(
    core: str, width: int, output: str, rng: np.random.Generator, tmp_path: Path
) -> None:
    for k in (6, 24, 66):
        folder = tmp_path / str(k)
        folder.mkdir()
        check_product(core, Channels(rng, 4, k, output), rng.integers(-128, 128, (12, k)), width, folder)


def test_equal_names_are_equal_code(rng: np.random.Generator) -> None:
    """Lengths whose loops have the same body share a function, in both forms."""
    output, (short, _) = choose_output(-128, -128, 127), Channels(rng, 1, 8).short()
    assert scalar_gemm.gemm(32, output, 2) == scalar_gemm.gemm(288, output, 2)
    assert scalar_gemm_short.gemm(30, short) == scalar_gemm_short.gemm(300, short)


# --- the short epilogue -----------------------------------------------------------------------------------------------


def staircase(channels: Channels, sums: Ints) -> NDArray[np.int8]:
    """What the epilogue computes of sums, [N], for the only channel: its arithmetic, in Python's integers."""
    output, scales = channels.short()
    lower, upper, highest, first, *rest, bias = (int(word) for word in scales[0])
    p, lower = lower >> 24, lower & 0xFFFFFF
    found = []
    for total in sums:
        t = min(max(int(total) + bias, 0), highest)
        assert t * lower < 1 << 32
        bits = t * upper + (t * lower >> p) + first & 0xFFFF_FFFF
        if output.signed:
            bits = bits + (rest[0] if bits >> 31 else 0) + rest[1] & 0xFFFF_FFFF
        found.append((bits >> output.bits & 255 ^ 128) - 128)
    return np.array(found, np.int8)


@pytest.mark.parametrize("scale", [1.0, 0.6, 0.3, 0.011, 0.0042, 0.0011])
@pytest.mark.parametrize("output", OUTPUTS)
def test_every_sum_is_scaled_as_the_reference_does(output: str, scale: float, rng: np.random.Generator) -> None:
    channels = Channels(rng, 1, 4, output)
    multiplier, shift = quantize_multiplier(scale)
    channels.multiplier[:], channels.shift[:], channels.bias[:] = multiplier, -shift, int(40 / scale)
    channels.weight[:] = -(-int(300 / scale) // 512)
    reach = 128 * int(np.abs(channels.weight).sum())
    sums = np.arange(-reach, reach, max(1, reach // 40000))
    np.testing.assert_array_equal(staircase(channels, sums), channels.outputs(sums[:, None])[:, 0])


def test_sums_far_from_all_outputs_are_scaled_exactly(rng: np.random.Generator) -> None:
    """A bias beyond all weights: the sums take few values, none of them near zero."""
    for bias in (10_000_000, -10_000_000, 99_000_000):
        channels = Channels(rng, 1, 9)
        channels.bias[:], channels.shift[:] = bias, 18
        sums = np.arange(-9 * 127 * 128, 9 * 127 * 128, 997)
        np.testing.assert_array_equal(staircase(channels, sums), channels.outputs(sums[:, None])[:, 0])


def test_what_two_multiplications_cannot_scale_is_refused(rng: np.random.Generator) -> None:
    channels = Channels(rng, 1, 4000, weight=127)
    channels.shift[:] = 16
    assert scalar_output_short.fit(channels.weight, *channels.scale, -128, 127) is None
    channels.shift[:], channels.bias[:] = 6, 1 << 30
    assert scalar_output_short.fit(channels.weight, *channels.scale, -128, 127) is None


# --- packing ----------------------------------------------------------------------------------------------------------


WINDOWS = [
    *(Window.of(1, 1, n, n, n) for n in (1, 2, 3, 4, 5, 8, 9, 15, 16, 31, 64)),
    Window.of(3, 3, 3, 60, 3),  # a row of three pixels is one run
    Window.of(2, 3, 5, 70, 10),  # dilation
    Window.of(3, 2, 8, 5000, 1200),  # far apart
    Window.of(4, 1, 7, 7, 7),  # rows that join
    Window.of(2, 2, 15, 300, 40),
]


@pytest.mark.parametrize("window", WINDOWS, ids=str)
@pytest.mark.parametrize(("core", "pixels"), [(LONG, 3), (SHORT, 4)])
def test_windows_are_gathered_in_order(
    core: str, pixels: int, window: Window, rng: np.random.Generator, tmp_path: Path
) -> None:
    walk, tiles, left = Walk(width=5, column=4, row=333), 3, 2
    positions = np.arange(pixels * tiles) + walk.width - left
    starts = positions // walk.width * walk.row + positions % walk.width * walk.column
    starts -= starts[0]
    reach = (window.rows - 1) * window.row_stride + (window.columns - 1) * window.column_stride + window.run_bytes
    image = rng.integers(-128, 128, int(starts[-1]) + reach).astype(np.int8)
    runs = window.row_stride * np.arange(window.rows)[:, None] + window.column_stride * np.arange(window.columns)
    inside = np.array([image[start + run : start + run + window.run_bytes] for start in starts for run in runs.ravel()])
    x = inside.reshape(len(starts), -1).astype(np.int64)
    order = scalar_pack.order(window)
    expected = words(np.where(order < 0, 0, x[:, order]), pixels)

    kernel = scalar_pack.pack_words(window, walk, pixels, narrow=core == SHORT)
    arguments: list[Argument] = [np.zeros_like(expected), image, left, tiles]
    np.testing.assert_array_equal(on_core(core, kernel, arguments, misaligned=[1])[0], expected)
    np.testing.assert_array_equal(on_host(kernel, arguments, tmp_path)[0], expected)


def plane_of(lower: Ints, upper: Ints) -> NDArray[np.int32]:
    return (lower + scalar_planes.OFFSET + 65536 * upper).astype(np.int32)


@pytest.mark.parametrize("columns", [1, 2, 5, 8])
@pytest.mark.parametrize("core", CORES)
def test_both_halves_of_a_plane_are_joined(core: str, columns: int, rng: np.random.Generator, tmp_path: Path) -> None:
    rows, channels, gap = 3, 7, 2
    x = rng.integers(-128, 128, (2, rows, columns * channels + 3)).astype(np.int8)
    x[0, 0, 0], x[1, 0, 0] = -128, 127
    border = np.array([-5], np.int8)
    row_gap = x.shape[2] - columns * channels
    kernel = scalar_planes.pack_plane(narrow=core == SHORT)
    for inside in ((True, True), (False, True), (True, False)):
        steps = [(channels, row_gap) if is_inside else (0, 0) for is_inside in inside]
        (step0, gap0), (step1, gap1) = steps
        numbers = scalar_planes.Pixels(rows, columns, step0, gap0, step1, gap1, 4 * gap).numbers()
        halves = [x[i, :, : columns * channels : channels].astype(np.int64) for i in range(2)]
        lower, upper = (
            half if is_inside else np.full_like(half, -5) for half, is_inside in zip(halves, inside, strict=True)
        )
        expected = np.pad(plane_of(lower, upper), ((0, 0), (0, gap)), constant_values=99)
        sources: list[Argument] = [x[i].copy() if inside[i] else border for i in range(2)]
        arguments = [np.full_like(expected, 99), *sources, np.array(numbers, np.int32)]
        folder = tmp_path / str(inside)
        folder.mkdir()
        np.testing.assert_array_equal(on_core(core, kernel, arguments, misaligned=[1, 2])[0], expected)
        np.testing.assert_array_equal(on_host(kernel, arguments, folder)[0], expected)


# --- depthwise --------------------------------------------------------------------------------------------------------

KERNELS = [
    (3, 3, 1, 1),
    (3, 3, 2, 2),
    (1, 5, 1, 1),
    (5, 1, 2, 1),
    (2, 2, 1, 2),
    (5, 5, 1, 1),
    (7, 4, 3, 1),
    (1, 1, 1, 1),
]


def depthwise(
    core: str, window: scalar_depthwise.Window, channels: Channels, columns: int, plane: Ints
) -> tuple[Microkernel, list[Argument], NDArray[np.int8]]:
    """Return the kernel for the only channel, its arguments, of which the last is the output, and what comes out.

    plane : [2, rows, columns] of pixels, the lower half first.
    """
    rows = (plane.shape[1] - window.kernel_h) // window.stride_h + 1
    step, row_step = 3, 3 * columns + 4
    geometry = scalar_depthwise.Geometry(columns, rows, step, row_step, row_step * rows, 4 * plane.shape[2])
    y = np.full(2 * rows * row_step, 77, np.int8)
    expected = y.copy().reshape(2, rows, row_step)
    weight = channels.weight[0].reshape(window.kernel_h, window.kernel_w)
    for row in range(rows):
        for column in range(columns):
            at = row * window.stride_h, column * window.stride_w
            inputs = plane[:, at[0] : at[0] + window.kernel_h, at[1] : at[1] + window.kernel_w]
            expected[:, row, step * column] = channels.outputs((inputs * weight).sum(axis=(1, 2))[:, None])[:, 0]
    if core == LONG:
        kernel = scalar_depthwise.depthwise(window, columns, channels.output)
        numbers = scalar_depthwise.numbers(window, geometry)
        constants = scalar_depthwise.pack(channels.weight, *channels.scale)
    else:
        output, scales = channels.short()
        kernel, numbers = (
            scalar_depthwise_short.depthwise(window, output),
            scalar_depthwise_short.numbers(window, geometry),
        )
        constants = scalar_depthwise_short.pack(channels.weight, scales)
    packed = plane_of(plane[0], plane[1])
    return kernel, [constants.ravel(), np.array(numbers, np.int32), packed, y], expected.ravel()


@pytest.mark.parametrize("shape", KERNELS)
@pytest.mark.parametrize("core", CORES)
def test_any_window_is_convolved(
    core: str, shape: tuple[int, int, int, int], rng: np.random.Generator, tmp_path: Path
) -> None:
    window = scalar_depthwise.Window(*shape)
    for columns, output in zip((1, 2, 3, 5, 7, 9), (*OUTPUTS, *OUTPUTS), strict=False):
        size = (2, 2 * window.stride_h + window.kernel_h, (columns - 1) * window.stride_w + window.kernel_w)
        channels = Channels(rng, 1, window.taps, output)
        kernel, arguments, expected = depthwise(core, window, channels, columns, rng.integers(-128, 128, size))
        np.testing.assert_array_equal(on_core(core, kernel, arguments, misaligned=[3])[3], expected)
        if columns in (2, 5):
            folder = tmp_path / str(columns)
            folder.mkdir()
            np.testing.assert_array_equal(on_host(kernel, arguments, folder)[3], expected)


@pytest.mark.parametrize("weight", [-127, 0, 127])
@pytest.mark.parametrize("core", CORES)
def test_extremes_are_convolved(core: str, weight: int, rng: np.random.Generator) -> None:
    """All pairs of the smallest and the largest pixel in both halves."""
    window = scalar_depthwise.Window(3, 3, 1, 1)
    for output in OUTPUTS:
        for lower, upper in ((-128, -128), (-128, 127), (127, -128), (127, 127)):
            plane = np.stack([np.full((5, 5), lower), np.full((5, 5), upper)])
            channels = Channels(rng, 1, window.taps, output, weight)
            kernel, arguments, expected = depthwise(core, window, channels, 3, plane)
            np.testing.assert_array_equal(on_core(core, kernel, arguments)[3], expected)


def test_weights_that_cannot_be_doubled_are_told() -> None:
    assert scalar_depthwise.fits(np.array([[-127, 127]]))
    assert not scalar_depthwise.fits(np.array([[-128, 0]]))


# --- dense ------------------------------------------------------------------------------------------------------------


def row(core: str, channels: Channels, x: Ints, at_once: int) -> tuple[Microkernel, list[Argument]]:
    """Return the kernel for a row of activations, and its arguments; the third is the output."""
    if core == LONG:
        kernel = scalar_dense.dense(at_once, channels.output)
        bias, scale = channels.bias, scalar_dense.scale_words(*channels.scale[1:])
    else:
        output, words = channels.short()
        kernel, bias, scale = scalar_dense_short.dense(at_once, output), words[:, -1], words[:, :-1]
    constants = scalar_dense.pack(channels.weight, bias, scale, at_once).ravel()
    padded = np.zeros(-(-len(x) // scalar_dense.K_MULTIPLE) * scalar_dense.K_MULTIPLE, np.uint8)
    padded[: len(x)] = x + 128
    y, moved = np.zeros(len(channels.bias), np.int8), np.array([padded.sum(dtype=np.int64)], np.int32)
    return kernel, [constants, padded, y, (y, y.nbytes), len(padded), moved]


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("core", CORES)
def test_any_row_is_exact(core: str, output: str, rng: np.random.Generator, tmp_path: Path) -> None:
    for at_once in range(1, scalar_dense.MOST_CHANNELS + 1):
        k = int(rng.integers(1, 70))
        channels, x = Channels(rng, 2 * at_once, k, output), rng.integers(-128, 128, k)
        kernel, arguments = row(core, channels, x, at_once)
        expected = channels.outputs(channels.weight @ x)
        np.testing.assert_array_equal(on_core(core, kernel, arguments, misaligned=[1, 2])[2], expected)
        folder = tmp_path / str(at_once)
        folder.mkdir()
        np.testing.assert_array_equal(on_host(kernel, arguments, folder)[2], expected)


@pytest.mark.parametrize("weight", [-128, 127])
@pytest.mark.parametrize("pixel", [-128, 127])
@pytest.mark.parametrize("core", CORES)
def test_extreme_rows_are_exact(core: str, pixel: int, weight: int, rng: np.random.Generator) -> None:
    channels, x = Channels(rng, 6, 640, weight=weight), np.full(640, pixel)
    kernel, arguments = row(core, channels, x, 6)
    np.testing.assert_array_equal(on_core(core, kernel, arguments)[2], channels.outputs(channels.weight @ x))


@pytest.mark.parametrize("core", CORES)
def test_bytes_are_moved_and_summed(core: str, rng: np.random.Generator, tmp_path: Path) -> None:
    x = rng.integers(-128, 128, 37).astype(np.int8)
    x[:2] = -128, 127
    arguments: list[Argument] = [np.zeros(37, np.uint8), x, 37, np.array([1000], np.int32)]
    for found in (
        on_core(core, scalar_dense.flip(), arguments, misaligned=[0, 1]),
        on_host(scalar_dense.flip(), arguments, tmp_path),
    ):
        np.testing.assert_array_equal(found[0], x.astype(np.int64) + 128)
        assert found[2] == 1000 + (x.astype(np.int64) + 128).sum()


# --- sums of tensors --------------------------------------------------------------------------------------------------

SUMS = [
    scalar_add.Sum((1 << 20, 1 << 19), 3 << 19, 20, -128, 127),
    scalar_add.Sum((-(1 << 21), 1 << 20), -(5 << 20), 21, -128, 127),
    scalar_add.Sum((1 << 21, 1 << 21), 1 << 20, 21, -20, 60),
    scalar_add.Sum((3000, -2900), 7, 12, 0, 127),
]


@pytest.mark.parametrize("form", SUMS, ids=str)
@pytest.mark.parametrize("core", CORES)
def test_any_number_of_elements_is_added(
    core: str, form: scalar_add.Sum, rng: np.random.Generator, tmp_path: Path
) -> None:
    for size in (1, 3, 4, 5, 8, 30):
        a, b = rng.integers(-128, 128, (2, size)).astype(np.int8)
        a[0], b[0] = 127, -128
        total = form.factors[0] * a.astype(np.int64) + form.factors[1] * b.astype(np.int64) + form.offset
        expected = np.clip(total >> form.shift, form.low, form.high)
        kernel = scalar_add.add(form, narrow=core == SHORT)
        arguments: list[Argument] = [form.words, a, b, np.zeros(size, np.int8), size]
        np.testing.assert_array_equal(on_core(core, kernel, arguments, misaligned=[1, 2, 3])[3], expected)
        folder = tmp_path / str(size)
        folder.mkdir()
        np.testing.assert_array_equal(on_host(kernel, arguments, folder)[3], expected)


def test_a_sum_that_is_not_affine_is_refused() -> None:
    values = [np.arange(-128, 128)] * 2
    expected = np.clip(values[0][:, None] + values[1][None, :], -128, 127)
    function = Function(values, [1.0, 1.0], 0.0, 0, -128, 127, expected)
    assert scalar_add.fit(function) is not None
    expected[128, 128] += 1  # 0 + 0
    assert scalar_add.fit(function) is None


# --- whole layers -----------------------------------------------------------------------------------------------------


def built(network: Network, target: str, **options: object) -> tuple[list[str], int]:
    """Schedules that a layer is made of, and how many of its bytes differ."""
    model = tinyml.load(network.data, name="layer")
    library = tinyml.build(model, target, **options)  # type: ignore[arg-type]
    figures = bench(library, model)
    return [layer["schedule"] for layer in library.metadata["layers"]], figures["reference"]["differing"]


def convolution(
    shape: tuple[int, ...], channels: int, kernel: tuple[int, int] = (1, 1), seed: int = 0, **settings: object
) -> Network:
    graph = Int8Graph(seed)
    x = graph.input(shape, (0.05, -4))
    return graph.finish("layer", graph.conv(x, channels, kernel, **settings))  # type: ignore[arg-type]


LAYERS: dict[str, Callable[[], Network]] = {
    "pointwise": lambda: convolution((1, 5, 5, 16), 10),
    "odd channels": lambda: convolution((1, 4, 5, 7), 5),
    "one channel": lambda: convolution((1, 6, 3, 3), 1, (3, 3)),
    "padded": lambda: convolution((1, 9, 7, 4), 6, (3, 3)),
    "strides": lambda: convolution((1, 11, 12, 3), 8, (3, 3), strides=(2, 3)),
    "dilation": lambda: convolution((1, 9, 9, 5), 4, (2, 3), dilation=(2, 3)),
    "groups": lambda: convolution((1, 6, 7, 9), 15, (3, 3), groups=3),
    "images": lambda: convolution((3, 5, 7, 6), 4, (3, 2), strides=(2, 1)),
    "many blocks": lambda: convolution((1, 40, 21, 8), 4, (3, 3)),
    "dead channels": lambda: convolution((1, 4, 3, 8), 6, dead=[0, 3, 5]),
}


def separable(shape: tuple[int, ...], kernel: tuple[int, int], **settings: object) -> Network:
    graph = Int8Graph(1)
    x = graph.input(shape, (0.05, -4))
    return graph.finish("layer", graph.depthwise(x, kernel, **settings))  # type: ignore[arg-type]


DEPTHWISE: dict[str, Callable[[], Network]] = {
    "padded": lambda: separable((1, 9, 7, 5), (3, 3)),
    "not padded": lambda: separable((1, 9, 7, 5), (3, 3), padding="VALID"),
    "one row": lambda: separable((1, 3, 9, 3), (3, 3), padding="VALID"),
    "one pixel": lambda: separable((1, 3, 3, 3), (3, 3), padding="VALID"),
    "strides": lambda: separable((1, 13, 12, 4), (3, 3), strides=(2, 2)),
    "different strides": lambda: separable((1, 13, 12, 4), (5, 2), padding="VALID", strides=(1, 3)),
    "dilation": lambda: separable((1, 12, 13, 3), (3, 3), dilation=(2, 3)),
    "multiplier": lambda: separable((1, 6, 5, 3), (3, 3), multiplier=3),
    "images": lambda: separable((2, 6, 5, 3), (3, 3)),
    "large window": lambda: separable((1, 15, 14, 2), (9, 10)),
    "many blocks": lambda: separable((1, 64, 50, 2), (3, 3)),
    "more border than image": lambda: separable((1, 2, 2, 3), (5, 5)),
}


@pytest.mark.parametrize("target", CORES)
@pytest.mark.parametrize("name", LAYERS)
def test_convolutions_of_any_kind_are_exact(name: str, target: str) -> None:
    schedules, differing = built(LAYERS[name](), target)
    assert differing == 0
    assert "ScalarConv" in schedules


@pytest.mark.parametrize("target", CORES)
@pytest.mark.parametrize("name", ["padded", "groups", "images"])
def test_layers_in_c_do_the_same(name: str, target: str, tmp_path: Path) -> None:
    for network in (LAYERS[name](), DEPTHWISE[name]() if name in DEPTHWISE else DEPTHWISE["multiplier"]()):
        folder = tmp_path / str(network.macs)
        folder.mkdir()
        library = tinyml.build(tinyml.load(network.data, name="layer"), target)
        inputs = network.random_inputs(1)
        found = HostLibrary(library, folder, misalign=1).run(inputs)[0]
        np.testing.assert_array_equal(found, network.run(inputs)[0].reshape(found.shape))


@pytest.mark.parametrize("target", CORES)
def test_every_number_of_pixels_is_covered(target: str) -> None:
    for pixels in (4, 5, 6, 7, 9, 11, 13, 23):
        schedules, differing = built(convolution((1, 1, pixels, 3), 3, seed=pixels), target)
        assert (schedules, differing) == (["ScalarConv"], 0)


@pytest.mark.parametrize("tile", [3, 4])
def test_blocks_cover_all_pixels_and_no_others(tile: int) -> None:
    for pixels in range(tile, 300):
        for most in (1, 2, 3, 5, 12):
            covered: set[int] = set()
            for run in cut_into_blocks(pixels, tile, most):
                assert run.tiles <= most
                for i in range(run.count):
                    start = run.start + i * run.tiles * tile
                    covered |= set(range(start, start + run.tiles * tile))
            assert covered == set(range(pixels))


@pytest.mark.parametrize("target", CORES)
@pytest.mark.parametrize("name", DEPTHWISE)
def test_depthwise_convolutions_of_any_kind_are_exact(name: str, target: str) -> None:
    for goal in ("time", "ram"):
        schedules, differing = built(DEPTHWISE[name](), target, goal=goal)
        assert differing == 0
        assert "ScalarDepthwise" in schedules


def sums(kind: str, a: tuple[int, ...], b: tuple[int, ...], seed: int, activation: str) -> Network:
    graph = Int8Graph(seed)
    x, y = graph.input(a, (0.05, -4)), graph.input(b, (0.11, 7))
    return graph.finish("layer", getattr(graph, kind)(x, y, activation=activation))


@pytest.mark.parametrize("target", CORES)
@pytest.mark.parametrize("activation", ["NONE", "RELU"])
@pytest.mark.parametrize("kind", ["add", "sub"])
def test_sums_of_tensors_are_exact(kind: str, activation: str, target: str) -> None:
    for seed in range(3):
        schedules, differing = built(sums(kind, (1, 5, 3, 7), (1, 5, 3, 7), seed, activation), target)
        assert (schedules, differing) == (["ScalarSum"], 0)
    schedules, differing = built(sums(kind, (1, 5, 3, 7), (1, 1, 1, 7), 0, activation), target)
    assert differing == 0
    assert "ScalarSum" not in schedules  # it does not broadcast


@pytest.mark.parametrize("target", CORES)
def test_dense_layers_and_few_pixels_are_exact(target: str) -> None:
    for rows, length, units in ((1, 64, 10), (1, 9, 1), (2, 640, 13), (2, 33, 6), (7, 20, 5)):
        graph = Int8Graph(rows)
        network = graph.finish("layer", graph.dense(graph.input((rows, length), (0.05, -4)), units))
        schedules, differing = built(network, target)
        assert (schedules, differing) == (["ScalarDense" if rows < 3 else "ScalarConv"], 0)
    for shape, kernel in (((1, 3, 4, 7), (3, 3)), ((2, 5, 5, 3), (5, 5)), ((1, 1, 2, 8), (1, 1))):
        schedules, differing = built(convolution(shape, 8, kernel, padding="VALID"), target)
        assert (schedules, differing) == (["ScalarDense"], 0)


REFUSED: dict[str, tuple[Callable[[], Network], Sequence[str]]] = {
    "pair of weights": (lambda: convolution((1, 4, 3, 8), 2, weights=np.full((2, 1, 1, 8), -128, np.int8)), CORES),
    "large scale": (lambda: convolution((1, 4, 3, 8), 4, effective_scale=2.5, output=(0.5, 3)), CORES),
    "small scale": (lambda: convolution((1, 4, 3, 8), 4, effective_scale=2.0**-30, output=(0.5, 3)), [LONG]),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_fit_is_left_to_the_schedules(name: str) -> None:
    network, targets = REFUSED[name]
    for target in targets:
        schedules, differing = built(network(), target)
        assert differing == 0
        assert "ScalarConv" not in schedules


@pytest.mark.parametrize("target", CORES)
def test_small_flash_gets_schedules(target: str) -> None:
    schedules, differing = built(convolution((1, 4, 3, 8), 6), target, goal="flash")
    assert differing == 0
    assert "ScalarConv" not in schedules
