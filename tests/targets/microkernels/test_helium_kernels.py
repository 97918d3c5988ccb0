"""Helium's microkernels: exact at every length and at the bounds, on the core and in C."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import tvm_tinyml as tinyml
from benchmarks.int8_graph import Int8Graph, Network
from tests.compile.toolchains import cross_compile
from tests.simulated import needs_simulator
from tests.targets.microkernels.alone import Argument, on_core, on_host
from tvm_tinyml.benchmark import bench
from tvm_tinyml.device.engines import needs_qemu
from tvm_tinyml.reference import operators
from tvm_tinyml.session import Session
from tvm_tinyml.targets.cortex_m.microkernels import helium_depthwise, helium_gemm, helium_runs
from tvm_tinyml.targets.cortex_m.microkernels.helium_pack import helium_pack
from tvm_tinyml.targets.cortex_m.microkernels.microkernel import Microkernel
from tvm_tinyml.targets.cortex_m.microkernels.output import choose_output
from tvm_tinyml.targets.cortex_m.microkernels.pack import Window

pytestmark = needs_simulator
CORE = "cortex-m55"
on_the_core = pytest.mark.skipif(needs_qemu(CORE), reason="the project's own engine is not built")

Bytes = NDArray[np.int8]
OUTPUTS = {
    "plain": (-128, -128, 127),
    "zero point above the clamp": (127, -128, 127),
    "clamped": (-20, -20, 60),
    "clamped below the zero point": (3, -100, 90),
}


class Product:
    """Pixels that lie ``stride`` bytes apart, weights and scales of some channels, and what comes out."""

    def __init__(
        self, rng: np.random.Generator, pixels: int, k: int, channels: int, output: str, stride: int = 0
    ) -> None:
        zero_point, low, high = OUTPUTS[output]
        self.k, self.stride, self.output = k, stride or k, choose_output(zero_point, low, high)
        self.x = rng.integers(-128, 128, self.stride * (pixels - 1) + k).astype(np.int8)
        self.w = rng.integers(-127, 128, (channels, k))
        self.bias, self.shift = rng.integers(-20000, 20000, channels), rng.integers(1, 12, channels)
        self.multiplier = rng.integers(1 << 30, 1 << 31, channels)
        self.zero_point, self.low, self.high = np.full(channels, zero_point), low, high

    def expected(self) -> Bytes:
        x = np.lib.stride_tricks.sliding_window_view(self.x, self.k)[:: self.stride]
        scales = [values.astype(np.int32) for values in (self.bias, self.multiplier, -self.shift)]
        w, zero_point = self.w.astype(np.int8), int(self.zero_point[0])
        return operators.dense(x, w, *scales, output_zero_point=zero_point, clamp_min=self.low, clamp_max=self.high)

    def call(self, pixels: int = 2) -> tuple[Microkernel, list[Argument]]:
        channels = len(self.w)
        constants = helium_gemm.pack(self.w, self.bias, self.multiplier, self.shift, self.zero_point)
        count = (len(self.x) - self.k) // self.stride + 1
        y = np.zeros((count, channels), np.int8)
        kernel = helium_gemm.helium_gemm(helium_gemm.steps_of(self.k), self.output, pixels=pixels)
        numbers = helium_gemm.numbers(self.k, self.stride, channels)
        return kernel, [constants, self.x, y, count, len(constants), *numbers]


@on_the_core
@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("pixels", [1, 2])
def test_products_of_any_length_are_exact(pixels: int, output: str, rng: np.random.Generator) -> None:
    for k in (1, 7, 15, 16, 17, 31, 32, 33, 48, 63, 64, 100):
        for channels, stride in ((4, 0), (5, k + 3), (12, 0)):
            problem = Product(rng, 2 * pixels, k, channels, output, stride)
            np.testing.assert_array_equal(
                on_core(CORE, *problem.call(pixels), misaligned=[1, 2])[2], problem.expected()
            )


def call_runs(problem: Product, runs: int, run_bytes: int) -> tuple[Microkernel, list[Argument]]:
    """The kernel of runs that touch: as if they were one."""
    scales = (problem.bias, problem.multiplier, problem.shift, problem.zero_point)
    constants, channels = helium_gemm.pack(helium_runs.widened(problem.w, runs), *scales), len(problem.w)
    kernel = helium_runs.helium_runs(helium_gemm.steps_of(run_bytes), problem.output)
    numbers = helium_runs.numbers(run_bytes, runs, run_bytes, problem.stride, channels)
    return kernel, [constants, problem.x, np.zeros((4, channels), np.int8), 4, len(constants), *numbers]


@on_the_core
@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize(("runs", "run_bytes"), [(3, 9), (2, 16), (3, 48), (2, 50), (5, 33), (1, 20), (2, 80)])
def test_windows_of_several_runs_are_exact(
    runs: int, run_bytes: int, output: str, rng: np.random.Generator, tmp_path: Path
) -> None:
    problem = Product(rng, 4, runs * run_bytes, 7, output)
    kernel, arguments = call_runs(problem, runs, run_bytes)
    for found in (on_core(CORE, kernel, arguments, misaligned=[1, 2])[2], on_host(kernel, arguments, tmp_path)[2]):
        np.testing.assert_array_equal(found, problem.expected())


@pytest.mark.parametrize("output", OUTPUTS)
def test_the_body_in_c_of_products_does_the_same(output: str, rng: np.random.Generator, tmp_path: Path) -> None:
    for k in (5, 16, 30, 40, 80):
        problem = Product(rng, 4, k, 7, output, k + 2)
        folder = tmp_path / str(k)
        folder.mkdir()
        np.testing.assert_array_equal(on_host(*problem.call(), folder)[2], problem.expected())


def test_equal_names_are_equal_code() -> None:
    """Lengths whose loops have the same body share a function, in both forms."""
    output = choose_output(-128, -128, 127)
    assert helium_gemm.helium_gemm(4, output) == helium_gemm.helium_gemm(16, output)
    assert helium_gemm.helium_gemm(5, output) == helium_gemm.helium_gemm(7, output)
    assert helium_runs.helium_runs(3, output) == helium_runs.helium_runs(9, output)
    assert helium_runs.helium_runs(4, output) == helium_runs.helium_runs(12, output)


@on_the_core
@pytest.mark.parametrize("x", [-128, 127])
@pytest.mark.parametrize("w", [-128, 127])
def test_extreme_values_are_exact(x: int, w: int, rng: np.random.Generator) -> None:
    problem = Product(rng, 4, 75, 8, "zero point above the clamp")
    problem.x[:] = x
    problem.w[:] = w
    for kernel, arguments in (problem.call(), problem.call(pixels=1), call_runs(problem, 3, 25)):
        np.testing.assert_array_equal(on_core(CORE, kernel, arguments)[2], problem.expected())


WINDOWS = [
    Window.of(3, 3, 3, 60, 3),  # a row of three pixels is one run, shorter than a vector
    Window.of(2, 3, 5, 70, 10),  # dilation
    Window.of(3, 2, 16, 5000, 1200),  # far apart
    Window.of(2, 1, 40, 90, 40),
    Window.of(2, 1, 127, 300, 127),
    Window.of(2, 2, 130, 600, 200),  # too long to be copied by vectors at offsets
]


@on_the_core
@pytest.mark.parametrize("window", WINDOWS, ids=str)
def test_windows_become_contiguous(window: Window, rng: np.random.Generator, tmp_path: Path) -> None:
    rows, columns = window.row_stride * np.arange(window.rows), window.column_stride * np.arange(window.columns)
    order = (rows[:, None, None] + columns[:, None] + np.arange(window.run_bytes)).ravel()
    image = rng.integers(-128, 128, order.max() + 1).astype(np.int8)
    arguments: list[Argument] = [np.zeros(len(order), np.int8), image]
    for found in (
        on_core(CORE, helium_pack(window), arguments, misaligned=[0, 1])[0],
        on_host(helium_pack(window), arguments, tmp_path)[0],
    ):
        np.testing.assert_array_equal(found, image[order])


def layer(seed: int = 0, shape: tuple[int, ...] = (1, 4, 3, 8), channels: int = 6, **settings: object) -> Network:
    graph, kernel = Int8Graph(seed), settings.pop("kernel", (1, 1))
    return graph.finish("layer", graph.conv(graph.input(shape, (0.05, -4)), channels, kernel, **settings))  # type: ignore[arg-type]


def built(network: Network) -> tuple[str, int]:
    """Schedule of the last layer, and how many of the network's bytes differ."""
    model = tinyml.load(network.data, name="layer")
    library = tinyml.build(model, CORE)
    return library.metadata["layers"][-1]["schedule"], bench(library, model)["reference"]["differing"]


@on_the_core
@pytest.mark.parametrize(
    ("shape", "channels", "settings"),
    [
        ((1, 1, 1, 40), 10, {}),  # one pixel
        ((1, 3, 5, 16), 8, {}),  # an odd number of pixels, in order
        ((2, 3, 3, 5), 4, {}),
        ((1, 7, 5, 8), 4, {"strides": (2, 2)}),
        ((2, 9, 8, 3), 5, {"kernel": (3, 3), "strides": (2, 1)}),
        ((1, 9, 8, 7), 9, {"kernel": (3, 2), "dilation": (2, 2)}),
        ((1, 8, 8, 90), 6, {"kernel": (3, 3)}),  # a window that scratch holds few of
        ((1, 6, 6, 8), 7, {"kernel": (3, 3), "dead": [0, 3, 6]}),
    ],
)
def test_convolutions_are_exact(shape: tuple[int, ...], channels: int, settings: dict[str, object]) -> None:
    assert built(layer(1, shape, channels, **settings)) == ("HeliumConv", 0)


@on_the_core
@pytest.mark.parametrize("pixels", range(1, 9))
def test_every_number_of_pixels_is_covered(pixels: int) -> None:
    assert built(layer(pixels, (1, 1, pixels, 3), 4)) == ("HeliumConv", 0)


@on_the_core
def test_scales_that_the_epilogue_cannot_do_are_left_to_the_schedules() -> None:
    schedule, differing = built(layer(output=(0.5, 3), effective_scale=1.5))
    assert schedule != "HeliumConv"
    assert differing == 0


@on_the_core
@pytest.mark.parametrize("channels", [1, 3])
def test_fewer_channels_than_lanes_are_left_to_the_schedules(channels: int) -> None:
    schedule, differing = built(layer(channels=channels))
    assert schedule != "HeliumConv"
    assert differing == 0


class Windows:
    """An image [height, width, channels], a filter of each channel, and what comes out of a row of windows."""

    def __init__(self, rng: np.random.Generator, kernel: tuple[int, int], channels: int, output: str) -> None:
        zero_point, low, high = OUTPUTS[output]
        self.kernel, self.output = kernel, choose_output(zero_point, low, high)
        self.x = rng.integers(-128, 128, (kernel[0], 9, channels)).astype(np.int8)
        self.w = rng.integers(-127, 128, (channels, kernel[0] * kernel[1]))
        self.bias, self.shift = rng.integers(-20000, 20000, channels), rng.integers(1, 9, channels)
        self.multiplier = rng.integers(1 << 30, 1 << 31, channels)
        self.zero_point, self.low, self.high = np.full(channels, zero_point), low, high

    def expected(self) -> Bytes:
        w = self.w.reshape(-1, *self.kernel, 1).astype(np.int8)
        bias, multiplier, shift = (values.astype(np.int32) for values in (self.bias, self.multiplier, -self.shift))
        zero_point, low, high = int(self.zero_point[0]), self.low, self.high
        convolve = functools.partial(operators.conv2d, groups=len(w), output_zero_point=zero_point)
        y: Bytes = convolve(self.x[None], w, bias, multiplier, shift, clamp_min=low, clamp_max=high)
        return np.asarray(y[0, 0], np.int8)

    def call(self) -> tuple[Microkernel, list[Argument]]:
        (rows, columns), channels = self.kernel, len(self.w)
        constants = helium_depthwise.pack(self.w, self.bias, self.multiplier, self.shift, self.zero_point)
        pixels = self.x.shape[1] - columns + 1
        row_step = (self.x.shape[1] - columns + 1) * channels
        kernel = helium_depthwise.helium_depthwise(rows, columns, self.output)
        y = np.zeros((pixels, channels), np.int8)
        return kernel, [constants, self.x, y, pixels, len(constants), channels, channels, channels, row_step]


@on_the_core
@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("kernel", [(1, 1), (3, 3), (2, 4), (5, 5), (1, 7)])
def test_depthwise_windows_are_exact(
    kernel: tuple[int, int], output: str, rng: np.random.Generator, tmp_path: Path
) -> None:
    for channels in (8, 13, 32):
        problem = Windows(rng, kernel, channels, output)
        np.testing.assert_array_equal(on_core(CORE, *problem.call(), misaligned=[1, 2])[2], problem.expected())
    np.testing.assert_array_equal(on_host(*problem.call(), tmp_path)[2], problem.expected())


@on_the_core
@pytest.mark.parametrize("x", [-128, 127])
@pytest.mark.parametrize("weights", [(127, 127), (-127, -128), (-128, -127), (-127, -127)])
def test_the_largest_pairs_of_taps_are_exact(x: int, weights: tuple[int, int], rng: np.random.Generator) -> None:
    problem = Windows(rng, (1, 4), 8, "zero point above the clamp")
    problem.x[:] = x
    problem.w[:] = np.tile(weights, 2)
    assert helium_depthwise.fits(problem.w)
    np.testing.assert_array_equal(on_core(CORE, *problem.call())[2], problem.expected())


def depthwise(seed: int, shape: tuple[int, ...], kernel: tuple[int, int], **settings: object) -> Network:
    graph = Int8Graph(seed)
    return graph.finish("layer", graph.depthwise(graph.input(shape, (0.05, -4)), kernel, **settings))  # type: ignore[arg-type]


@on_the_core
@pytest.mark.parametrize(
    ("shape", "kernel", "settings"),
    [
        ((1, 6, 5, 8), (3, 3), {}),
        ((2, 9, 7, 21), (3, 2), {"strides": (2, 1)}),
        ((1, 9, 9, 16), (3, 3), {"dilation": (2, 2)}),
        ((1, 3, 3, 64), (3, 3), {"dead": [0, 9]}),
        ((1, 7, 9, 8), (7, 7), {}),
    ],
)
def test_depthwise_convolutions_are_exact(
    shape: tuple[int, ...], kernel: tuple[int, int], settings: dict[str, object]
) -> None:
    assert built(depthwise(2, shape, kernel, **settings)) == ("HeliumDepthwise", 0)


@on_the_core
def test_pairs_of_taps_too_large_for_16_bits_are_left_to_the_schedules() -> None:
    weights = np.full((8, 1, 2, 1), -128, np.int8)
    schedule, differing = built(depthwise(3, (1, 4, 4, 8), (1, 2), weights=weights))
    assert schedule != "HeliumDepthwise"
    assert differing == 0


@on_the_core
@pytest.mark.parametrize("flags", ["cortex-m55", "cortex-m55+nomve"])
def test_gcc_makes_the_same_bytes_of_the_c_form_with_and_without_helium(flags: str, tmp_path: Path) -> None:
    """Assembly and C bodies of the same library."""
    graph = Int8Graph(4)
    x = graph.conv(graph.input((1, 9, 7, 3), (0.05, -4)), 12, (3, 3), strides=(2, 2))
    network = graph.finish("layers", graph.conv(graph.depthwise(x, (3, 3)), 9, (1, 1)))
    library = tinyml.build(tinyml.load(network.data, name="layers"), CORE)
    inputs = network.random_inputs(1)
    session = Session(library.metadata, cross_compile(library, tmp_path, flags))
    call = session.run(inputs)
    np.testing.assert_array_equal(call.outputs[0], network.run(inputs)[0])
    assert any("helium" in name for name in library.sources["tvmgen_layers.c"].split())
