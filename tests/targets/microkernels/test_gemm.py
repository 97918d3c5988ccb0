"""The matrix product and its packing: exact at every length and at the bounds of the trick, refused beyond them."""

from __future__ import annotations

import itertools
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import tvm_tinyml as tinyml
from benchmarks.int8_graph import Int8Graph, Network
from tests.simulated import needs_simulator
from tests.targets.microkernels.alone import Argument, on_core, on_host
from tvm_tinyml.arithmetic import multiply_by_quantized_multiplier
from tvm_tinyml.benchmark import bench
from tvm_tinyml.reference import operators
from tvm_tinyml.targets.cortex_m.microkernels import gemm, gemm_halves, scaled_output
from tvm_tinyml.targets.cortex_m.microkernels.gemm_halves import BEYOND_WORDS
from tvm_tinyml.targets.cortex_m.microkernels.microkernel import Microkernel
from tvm_tinyml.targets.cortex_m.microkernels.output import Output, choose_output
from tvm_tinyml.targets.cortex_m.microkernels.pack import Window, pack_pixels, pack_window
from tvm_tinyml.targets.cortex_m.microkernels.places import Places
from tvm_tinyml.targets.cortex_m.microkernels.product import Product, RawHalves, WholeHalves, output_of
from tvm_tinyml.targets.cortex_m.microkernels.scaled_output import ScaledOutput, Scales
from tvm_tinyml.targets.cortex_m.recipes.conv_gemm import FEW_PIXELS

pytestmark = needs_simulator

UNTOUCHED = 99
"""What the bytes of an output hold before."""

Ints = NDArray[np.int64]
CORES = ("cortex-m4", "cortex-m7", "cortex-m33")
OUTPUTS = {
    "plain": (-128, -128, 127),
    "zero point above the clamp": (127, -128, 127),
    "clamped": (-20, -20, 60),
    "clamped below the zero point": (3, -100, 90),
}


COMMON, SHARED_SHIFT = "one shift", 10
FORMS = (*OUTPUTS, COMMON)
"""How sums are rounded: with a shift of each channel, or with one of all."""


def interleave(x: Ints) -> NDArray[np.int8]:
    """Activations [pixels, K] in the order of the kernel."""
    pixels, k = x.shape
    tiles = x.reshape(pixels // 4, 2, 2, k // 2, 2).copy()  # tile, pair of pixels, pixel, step, product
    tiles[:, :, 0] ^= -128
    return np.ascontiguousarray(tiles.transpose(0, 3, 1, 4, 2).reshape(-1).astype(np.int8))


def whole_halves(x: Ints) -> NDArray[np.int8]:
    """Activations [pixels, K] in the order of the kernel for cores that issue two instructions at a time."""
    pixels, k = x.shape
    tiles = x.reshape(pixels // 4, 4, k // 2, 2).transpose(0, 2, 1, 3)
    return np.ascontiguousarray(tiles.astype(np.int16)).view(np.int8).ravel()


class Problem:
    """Weights, activations and scales for some channels, and what comes out."""

    def __init__(
        self, rng: np.random.Generator, pixels: int, k: int, channels: int, output: str, **extreme: int
    ) -> None:
        zero_point, low, high = OUTPUTS["plain" if output == COMMON else output]
        self.output: Output | ScaledOutput = choose_output(zero_point, low, high)
        if output == COMMON:
            self.output = ScaledOutput(SHARED_SHIFT, low, high)
        self.x = np.full((pixels, k), extreme["x"]) if "x" in extreme else rng.integers(-128, 128, (pixels, k))
        self.w = np.full((channels, k), extreme["w"]) if "w" in extreme else rng.integers(-127, 128, (channels, k))
        self.bias = rng.integers(-20000, 20000, channels)
        self.multiplier = rng.integers(1 << 30, 1 << 31, channels)
        # Sums of odd channels are raised by 8 bits at most, one more than lies between the shifts.
        self.shift = rng.integers(*((SHARED_SHIFT - 7, SHARED_SHIFT) if output == COMMON else (1, 12)), channels)
        self.zero_point = np.full(channels, zero_point)
        x, w = self.x.astype(np.int8), self.w.astype(np.int8)
        scales = [values.astype(np.int32) for values in (self.bias, self.multiplier, -self.shift)]
        self.expected = operators.dense(x, w, *scales, output_zero_point=zero_point, clamp_min=low, clamp_max=high)

    def call(
        self, *, pairs: bool, copies: bool = False, shared: bool = False, plane: int = 0
    ) -> tuple[Microkernel, list[Argument]]:
        """Return the kernel and its arguments; if `plane`, the output is planes of so many bytes."""
        channels, k = self.w.shape
        constants = RawHalves().constants(self.scales(RawHalves()), self.output, plane or channels, 2 if pairs else 1)
        make = partial(gemm.gemm_pairs if pairs else gemm.gemm_single, planes=plane > 0)
        stream, y = interleave(self.x), np.full((plane or len(self.x)) * channels, UNTOUCHED, np.int8)
        arguments: list[Argument] = [constants, stream, y, (stream, stream.nbytes), 0]
        if copies:
            arguments[0] = np.concatenate([constants, np.zeros(gemm.COPIED_WORDS, np.int32)])
            arguments[4] = np.zeros(-(-k // 16) * 8, np.int32)
        return make(k // 2, self.output, shared=shared), arguments

    def scales(self, product: Product) -> Scales:
        """What a product keeps of the channels."""
        found = product.scales(self.output, (self.w, self.bias, self.multiplier, self.shift, self.zero_point))
        assert found is not None
        return found

    def in_planes(self, plane: int) -> NDArray[np.int8]:
        """The output in planes of so many bytes, of which the first ones are written."""
        planes = np.full((len(self.w), plane), UNTOUCHED, np.int8)
        planes[:, : len(self.x)] = self.expected.T
        return planes.ravel()

    def call_halves(self, width: int, *, mixed: bool, plane: int = 0) -> tuple[Microkernel, list[Argument]]:
        channels, k = self.w.shape
        beyond = np.zeros(BEYOND_WORDS, np.int32)
        product = WholeHalves(mixed=mixed)
        constants = product.constants(self.scales(product), self.output, channels, width)
        stream = np.concatenate([whole_halves(self.x), beyond.view(np.int8)])
        y = np.full((plane or len(self.x)) * channels, UNTOUCHED, np.int8)
        end = stream.nbytes - beyond.nbytes
        arguments: list[Argument] = [np.concatenate([constants, beyond]), stream, y, (stream, end)]
        places = Places(plane or channels, plane > 0)
        return gemm_halves.gemm_halves(k // 2, places, self.output, width, mixed=mixed), arguments


def check(problem: Problem, core: str, *, pairs: bool, copies: bool = False, shared: bool = False) -> None:
    kernel, arguments = problem.call(pairs=pairs, copies=copies, shared=shared)
    found = on_core(core, kernel, arguments, misaligned=[2])[2]
    np.testing.assert_array_equal(found.reshape(problem.expected.shape), problem.expected)


@pytest.mark.parametrize("core", CORES)
@pytest.mark.parametrize("output", FORMS)
@pytest.mark.parametrize("pairs", [True, False])
@pytest.mark.parametrize("shared", [True, False])
def test_any_length_is_exact(core: str, output: str, pairs: bool, shared: bool, rng: np.random.Generator) -> None:
    """The loop that all share is entered at each of its steps."""
    for k in (*range(2, 26, 2), 30, 32, 46, 94, 128):
        problem = Problem(rng, 4 * int(rng.integers(1, 4)), k, 2 * int(rng.integers(1, 4)), output)
        check(problem, core, pairs=pairs, shared=shared)


@pytest.mark.parametrize("core", CORES)
@pytest.mark.parametrize("width", [1, 2])
@pytest.mark.parametrize("plane", [16, 37, 300, 5001])
def test_outputs_in_planes_are_exact(core: str, width: int, plane: int, rng: np.random.Generator) -> None:
    """Planes begin anywhere, and what lies between them is not touched."""
    for k, output in ((2, "plain"), (26, "clamped"), (64, "plain")):
        problem = Problem(rng, 4 * int(rng.integers(1, 5)), k, 2 * int(rng.integers(1, 4)), output)
        calls = [problem.call(pairs=width == 2, shared=shared, plane=plane) for shared in (True, False)]
        calls += [problem.call_halves(width, mixed=mixed, plane=plane) for mixed in (True, False)]
        for kernel, arguments in calls:
            found = on_core(core, kernel, arguments, misaligned=[2])[2]
            np.testing.assert_array_equal(found, problem.in_planes(plane), kernel.name)


@pytest.mark.parametrize("width", [1, 2])
def test_outputs_in_planes_in_c_are_the_same(width: int, rng: np.random.Generator, tmp_path: Path) -> None:
    problem = Problem(rng, 12, 26, 4, "clamped")
    for i, (kernel, arguments) in enumerate(
        (problem.call(pairs=width == 2, plane=21), problem.call_halves(width, mixed=True, plane=21))
    ):
        folder = tmp_path / str(i)
        folder.mkdir()
        np.testing.assert_array_equal(on_host(kernel, arguments, folder)[2], problem.in_planes(21))


@pytest.mark.parametrize("core", CORES)
def test_copied_weights_give_the_same(core: str, rng: np.random.Generator) -> None:
    for k in (22, 32, 130, 134, 250):
        for pairs, shared in itertools.product((True, False), repeat=2):
            check(Problem(rng, 8, k, 4, "plain"), core, pairs=pairs, copies=True, shared=shared)


@pytest.mark.parametrize("pairs", [True, False])
def test_the_longest_sums_and_the_most_channels_have_their_place(pairs: bool, rng: np.random.Generator) -> None:
    """Numbers in halves of a word, with zeros for weights: other sums would be too large."""
    problem = Problem(rng, 4, gemm.LARGEST_HALF // 4 * 2, 2, "plain", w=0)
    for shared in (True, False):
        check(problem, "cortex-m4", pairs=pairs, shared=shared)
    assert gemm.fits(problem.w.shape[1] // 2, gemm.LARGEST_HALF)
    assert not gemm.fits(problem.w.shape[1] // 2 + 1, 2)
    assert not gemm.fits(2, gemm.LARGEST_HALF + 1)


@pytest.mark.parametrize("width", [1, 2])
def test_whole_halves_store_as_far_as_their_offsets_reach(width: int, rng: np.random.Generator) -> None:
    channels = (gemm_halves.FARTHEST_STORE - 1) // 3
    problem = Problem(rng, 4, 2, channels // width * width, "plain")
    kernel, arguments = problem.call_halves(width, mixed=False)
    found = on_core("cortex-m4", kernel, arguments, misaligned=[2])[2]
    np.testing.assert_array_equal(found.reshape(problem.expected.shape), problem.expected)
    assert gemm_halves.fits(channels)
    assert not gemm_halves.fits(channels + 1)


@pytest.mark.parametrize("core", CORES)
@pytest.mark.parametrize("output", FORMS)
@pytest.mark.parametrize("width", [1, 2])
def test_any_length_of_whole_halves_is_exact(core: str, output: str, width: int, rng: np.random.Generator) -> None:
    for k in (2, 4, 14, 18, 30, 32, 34, 62, 96, 128):
        problem = Problem(rng, 4 * int(rng.integers(1, 4)), k, 2 * int(rng.integers(1, 4)), output)
        kernel, arguments = problem.call_halves(width, mixed=k % 4 == 0 or core == "cortex-m7")
        found = on_core(core, kernel, arguments, misaligned=[2])[2]
        np.testing.assert_array_equal(found.reshape(problem.expected.shape), problem.expected)


@pytest.mark.parametrize("width", [1, 2])
def test_the_body_in_c_of_whole_halves_does_the_same(width: int, rng: np.random.Generator, tmp_path: Path) -> None:
    for i, output in enumerate(FORMS):
        problem = Problem(rng, 8, (6, 24, 38, 128, 40)[i], 4, output)
        kernel, arguments = problem.call_halves(width, mixed=i % 2 == 0)
        folder = tmp_path / str(i)
        folder.mkdir()
        found = on_host(kernel, arguments, folder)[2]
        np.testing.assert_array_equal(found.reshape(problem.expected.shape), problem.expected)


@pytest.mark.parametrize("core", CORES)
@pytest.mark.parametrize("x", [-128, 127])
@pytest.mark.parametrize("w", [-127, 127])
def test_the_largest_sums_of_a_pair_are_exact(core: str, x: int, w: int, rng: np.random.Generator) -> None:
    k = (gemm.LARGEST_ODD_SUM - 20000) // (127 * 128) // 2 * 2
    check(Problem(rng, 4, k, 2, "zero point above the clamp", x=x, w=w), core, pairs=True)


@pytest.mark.parametrize("core", CORES)
@pytest.mark.parametrize("x", [-128, 127])
@pytest.mark.parametrize("w", [-128, 127])
def test_single_channels_and_whole_halves_take_any_weight_and_larger_sums(
    core: str, x: int, w: int, rng: np.random.Generator
) -> None:
    for channels, output in ((1, "plain"), (2, "zero point above the clamp")):
        problem = Problem(rng, 4, 4096, channels, output, x=x, w=w)
        check(problem, core, pairs=False)
        kernel, arguments = problem.call_halves(channels, mixed=core == "cortex-m7")
        found = on_core(core, kernel, arguments, misaligned=[2])[2]
        np.testing.assert_array_equal(found.reshape(problem.expected.shape), problem.expected)


@pytest.mark.parametrize("pairs", [True, False])
def test_the_body_in_c_does_the_same(pairs: bool, rng: np.random.Generator, tmp_path: Path) -> None:
    for i, output in enumerate(FORMS):
        problem = Problem(rng, 8, (6, 24, 38, 128, 40)[i], 4, output)
        kernel, arguments = problem.call(pairs=pairs, copies=i % 2 == 1, shared=i < 2)
        folder = tmp_path / str(i)
        folder.mkdir()
        found = on_host(kernel, arguments, folder)[2]
        np.testing.assert_array_equal(found.reshape(problem.expected.shape), problem.expected)


def raised_channel(weight: int, bias: int, multiplier: int, shift: int) -> Scales | None:
    """Constants of one channel of one product with the shared shift."""
    values = (np.array([[weight]]), *(np.array([value]) for value in (bias, multiplier, shift, -128)))
    return scaled_output.raised(ScaledOutput(SHARED_SHIFT, -128, 127), *values)


@pytest.mark.parametrize("shift", range(SHARED_SHIFT - 7, SHARED_SHIFT))
def test_raised_sums_give_the_same_output_for_every_sum(shift: int, rng: np.random.Generator) -> None:
    for _ in range(8):
        bias, multiplier = int(rng.integers(-20000, 20000)), int(rng.integers(1 << 30, 1 << 31))
        scales = raised_channel(100, bias, multiplier, shift)
        assert scales is not None
        sums = 100 * np.arange(-128, 128) + bias
        wanted = multiply_by_quantized_multiplier(sums, np.int64(multiplier), np.int64(-shift)) - 128
        high = (sums << scales.shift[0]) * scales.multiplier[0] >> 32
        found = (high + scales.constant[0]) >> SHARED_SHIFT
        np.testing.assert_array_equal(np.clip(found, -128, 127), np.clip(wanted, -128, 127))


@pytest.mark.parametrize(
    ("weight", "bias", "shift", "fits"),
    [
        (1, 0, SHARED_SHIFT - 7, True),
        (1, 0, SHARED_SHIFT - 8, False),  # further than odd sums come shifted
        (1, 0, SHARED_SHIFT - 1, True),
        (1, 0, SHARED_SHIFT, False),  # nothing is left to round with
        (127, 1 << 22, SHARED_SHIFT - 7, True),
        (127, 1 << 23, SHARED_SHIFT - 7, False),  # beyond 32 bits
        (0, 0, 0, False),
    ],
)
def test_sums_are_raised_only_as_far_as_they_fit(weight: int, bias: int, shift: int, fits: bool) -> None:
    assert (raised_channel(weight, bias, 1 << 30, shift) is not None) == fits


def test_a_dead_channel_has_any_shift() -> None:
    scales = raised_channel(0, 0, 0, 0)
    assert scales is not None
    assert scales.constant[0] >> SHARED_SHIFT == -128


def test_a_layer_keeps_its_channels_shifts_where_one_is_too_far_from_the_others() -> None:
    zeros = np.zeros(2, np.int64)
    layer = (np.ones((2, 2), np.int64), zeros, np.full(2, 1 << 30), np.array([2, 9]), zeros)
    plain = choose_output(-128, -128, 127)
    for product, common in ((RawHalves(), False), (WholeHalves(mixed=False), True)):
        assert isinstance(output_of(product, plain, layer, shared=False), ScaledOutput) == common
    near = (*layer[:3], np.array([3, 9]), layer[4])
    assert output_of(RawHalves(), plain, near, shared=False) == ScaledOutput(SHARED_SHIFT, -128, 127)
    # Code for any number of products is code for any shift, and what rounds negative halves has its own instruction.
    assert output_of(RawHalves(), plain, near, shared=True) == plain
    assert output_of(RawHalves(), choose_output(3, -128, 127), near, shared=False) == choose_output(3, -128, 127)


def test_equal_names_are_equal_code() -> None:
    """Lengths whose loops have the same body share a function, in both forms; or all lengths do."""
    output = Output(corrected=False, low=-128, high=127)
    for make in (gemm.gemm_pairs, gemm.gemm_single):
        assert make(16, output) == make(64, output)
        assert make(3, output, shared=True) == make(64, output, shared=True)


WINDOWS = [
    Window.of(1, 1, n, n, n) for n in (1, 2, 3, 4, 5, 6, 7, 8, 12, 15, 16, 31, 64)
] + [
    Window.of(3, 3, 3, 60, 3),  # a row of three pixels is one run
    Window.of(2, 3, 5, 70, 10),  # dilation
    Window.of(3, 2, 8, 5000, 1200),  # far apart
    Window.of(4, 1, 7, 7, 7),  # rows that join
]  # fmt: skip


def values(window: Window, image: NDArray[np.int8], starts: list[int]) -> Ints:
    """Four pixels' windows, [pixels, runs, products of a run]; 0 where a product has no value."""
    rows, columns = window.row_stride * np.arange(window.rows), window.column_stride * np.arange(window.columns)
    runs = (rows[:, None] + columns).ravel()
    order = window.order()
    x = np.zeros((4, window.runs, len(order)), np.int64)
    for p, start in enumerate(starts):
        for r, run in enumerate(runs):
            x[p, r] = np.where(order < 0, 0, image[start + run + np.maximum(order, 0)])
    return x


def gathered(window: Window, image: NDArray[np.int8], starts: list[int]) -> NDArray[np.int8]:
    order = window.order()
    stream = interleave(values(window, image, starts).reshape(4, -1)).reshape(
        -1, 2, 2, 2
    )  # step, pair of pixels, product, pixel
    dead = np.tile(order < 0, window.runs).reshape(-1, 2)
    stream[np.broadcast_to(dead[:, None, :, None], stream.shape)] = 0
    return stream.ravel()


@pytest.mark.parametrize("window", WINDOWS, ids=str)
def test_windows_are_gathered_in_order(window: Window, rng: np.random.Generator, tmp_path: Path) -> None:
    reach = (window.rows - 1) * window.row_stride + (window.columns - 1) * window.column_stride + window.run_bytes
    image = rng.integers(-128, 128, reach + 9).astype(np.int8)
    starts = [0, 3, 9, 4]  # the third ends where the image ends
    kernel, to = pack_window(window), np.zeros(4 * window.products, np.int8)
    arguments: list[Argument] = [to, image, *((image, start) for start in starts[1:])]
    expected = gathered(window, image, starts)
    for core in CORES:
        np.testing.assert_array_equal(on_core(core, kernel, arguments, misaligned=[1])[0], expected)
    np.testing.assert_array_equal(on_host(kernel, arguments, tmp_path)[0], expected)


@pytest.mark.parametrize("window", WINDOWS, ids=str)
def test_windows_are_gathered_as_whole_halves(window: Window, rng: np.random.Generator, tmp_path: Path) -> None:
    reach = (window.rows - 1) * window.row_stride + (window.columns - 1) * window.column_stride + window.run_bytes
    image = rng.integers(-128, 128, reach + 9).astype(np.int8)
    starts = [0, 3, 9, 4]
    kernel, to = pack_window(window, halves=True), np.zeros(8 * window.products, np.int8)
    arguments: list[Argument] = [to, image, *((image, start) for start in starts[1:])]
    expected = whole_halves(values(window, image, starts).reshape(4, -1))
    for core in CORES:
        np.testing.assert_array_equal(on_core(core, kernel, arguments, misaligned=[1])[0], expected)
    np.testing.assert_array_equal(on_host(kernel, arguments, tmp_path)[0], expected)


@pytest.mark.parametrize("halves", [False, True])
@pytest.mark.parametrize("k", [*range(1, 18), 24, 57, 64, 107])
def test_pixels_in_order_are_gathered(k: int, halves: bool, rng: np.random.Generator, tmp_path: Path) -> None:
    """Any number of values, three tiles: as windows that lie one behind the other."""
    x, window = rng.integers(-128, 128, (12, k)).astype(np.int8), Window.of(1, 1, k, k, k)
    image = x.ravel()
    starts = [[k * (4 * tile + p) for p in range(4)] for tile in range(3)]
    if halves:
        tiles = [whole_halves(values(window, image, of_tile).reshape(4, -1)) for of_tile in starts]
    else:
        tiles = [gathered(window, image, of_tile) for of_tile in starts]
    expected = np.concatenate(tiles)
    kernel, to = pack_pixels(halves=halves), np.zeros_like(expected)
    arguments: list[Argument] = [to, x, k, 3]
    for core in CORES:
        np.testing.assert_array_equal(on_core(core, kernel, arguments, misaligned=[1])[0], expected)
    np.testing.assert_array_equal(on_host(kernel, arguments, tmp_path)[0], expected)


def layer(seed: int = 0, shape: tuple[int, ...] = (1, 4, 3, 8), channels: int = 6, **settings: object) -> Network:
    graph = Int8Graph(seed)
    return graph.finish("layer", graph.conv(graph.input(shape, (0.05, -4)), channels, (1, 1), **settings))  # type: ignore[arg-type]


def built(network: Network, target: str = "cortex-m4") -> tuple[list[str], list[str], int]:
    """Schedules and microkernels that a layer is made of, and how many of its bytes differ."""
    model = tinyml.load(network.data, name="layer")
    library = tinyml.build(model, target)
    functions = [line.split("(")[0] for line in library.sources["tvmgen_layer.c"].split("static void ")[1:]]
    figures = bench(library, model)
    return [l["schedule"] for l in library.metadata["layers"]], functions, figures["reference"]["differing"]


def test_channels_too_large_for_a_pair_are_computed_alone() -> None:
    """255 * sum|w| beyond 2**23 in one odd channel: that one and its neighbour, and no other."""
    rng = np.random.default_rng(5)
    weights = rng.integers(-20, 21, (6, 1, 1, 600)).astype(np.int8)
    weights[3] = 127
    schedules, functions, differing = built(layer(shape=(1, 2, 3, 600), weights=weights))
    assert schedules == ["ConvGemm"]
    assert {name.split("_")[2] for name in functions if name.startswith("tinyml_gemm")} == {"pairs", "single"}
    assert differing == 0


def test_weights_that_do_not_fit_a_half_are_computed_alone() -> None:
    weights = np.full((2, 1, 1, 8), -128, np.int8)
    schedules, functions, differing = built(layer(channels=2, weights=weights))
    assert (schedules, differing) == (["ConvGemm"], 0)
    assert not any("gemm_pairs" in name for name in functions)


def test_a_dead_channel_with_any_bias_and_scale_stays_in_the_recipe() -> None:
    schedules, _, differing = built(layer(dead=[0, 3, 4]))
    assert (schedules, differing) == (["ConvGemm"], 0)


def test_scales_that_the_epilogue_cannot_do_are_left_to_the_schedules() -> None:
    schedules, _, differing = built(layer(output=(0.5, 3), effective_scale=1.5))
    assert "ConvGemm" not in schedules
    assert differing == 0


@pytest.mark.parametrize("target", ["cortex-m4+nodsp", "cortex-m3", "cortex-m0plus"])
def test_cores_without_what_it_needs_get_something_else(target: str) -> None:
    schedules, _, differing = built(layer(), target)
    assert "ConvGemm" not in schedules
    assert differing == 0


@pytest.mark.parametrize("channels", [1, 3, 7])
@pytest.mark.parametrize("pixels", [9, 65])
def test_a_last_channel_of_few_pixels_goes_with_the_one_before_it(pixels: int, channels: int) -> None:
    schedules, functions, differing = built(layer(shape=(1, 1, pixels, 30), channels=channels))
    assert (schedules, differing) == (["ConvGemm"], 0)
    alone = any("gemm_single" in name for name in functions)
    assert alone == (channels == 1 or pixels > FEW_PIXELS)


@pytest.mark.parametrize("pixels", range(4, 40))
def test_every_number_of_pixels_is_covered(pixels: int) -> None:
    """Blocks, a last block that overlaps the one in front, and a last tile alone."""
    schedules, _, differing = built(layer(pixels, shape=(1, 1, pixels, 3), channels=3))
    assert (schedules, differing) == (["ConvGemm"], 0)
