"""Sums and pools by affine functions: exact for every size, proven for every value, refused where no function fits."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import tvm_tinyml as tinyml
from benchmarks.int8_graph import Int8Graph, Network
from tests.simulated import needs_simulator, on_cores
from tests.targets.microkernels.alone import Argument, on_core, on_host
from tvm_tinyml.arithmetic import multiply_by_quantized_multiplier
from tvm_tinyml.benchmark import bench
from tvm_tinyml.device import Simulator, assemble
from tvm_tinyml.device.memory import MemoryMap
from tvm_tinyml.targets.cortex_m.microkernels.add import BYTE_SCALE, add
from tvm_tinyml.targets.cortex_m.microkernels.affine import FRACTION_BITS, Affine, Function, Rounding, fit
from tvm_tinyml.targets.cortex_m.microkernels.microkernel import Microkernel
from tvm_tinyml.targets.cortex_m.microkernels.output import choose_output, rounding_constant
from tvm_tinyml.targets.cortex_m.microkernels.pool import AffineSum, ScaledSum, Taps, average, largest

pytestmark = needs_simulator

Int8 = NDArray[np.int8]
CORES = on_cores("cortex-m4", "cortex-m7", "cortex-m33", "cortex-m55")
BYTES = BYTE_SCALE * np.arange(-128, 128)
ROUNDINGS = [
    Rounding(20, False, -128, 127),
    Rounding(20, True, -128, 127),
    Rounding(17, False, -5, 100),
    Rounding(13, True, -128, -3),
]


def affine(rng: np.random.Generator, rounding: Rounding, slopes: list[float]) -> Affine:
    """An affine function of random offset."""
    one = 1 << rounding.shift
    factors = tuple(int(slope * 2.0 ** (rounding.shift + FRACTION_BITS)) for slope in slopes)
    return Affine(rounding, factors, int(rng.integers(-20 * one, 20 * one)), int(rng.integers(-30 * one, 30 * one)))


def computed(function: Affine, *values: NDArray[Any]) -> Int8:
    """Its results, element by element."""
    products = [factor * v.astype(np.int64) >> 16 for factor, v in zip(function.factors, values, strict=True)]
    total = function.offset + sum(products)
    if function.rounding.corrected:
        total = total + (total >> 31) + function.constant
    return np.clip(total >> function.rounding.shift, function.rounding.low, function.rounding.high).astype(np.int8)


# Affine functions ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("corrected", [False, True])
def test_a_function_is_found_for_sums_with_and_without_halves(corrected: bool) -> None:
    """Half of a sum of two bytes has halves, which go away from zero on both sides; other parts of it have none."""
    slope = 0.5 if corrected else 0.5123
    real = slope * (np.arange(-128, 128)[:, None] + np.arange(-128, 128))
    expected = np.clip(np.copysign(np.floor(np.abs(real) + 0.5), real) + 3, -128, 127).astype(np.int64)
    found = fit(Function([BYTES, BYTES], [slope / BYTE_SCALE] * 2, 0.0, 3, -128, 127, expected))
    assert found is not None
    assert found.rounding.corrected == corrected
    np.testing.assert_array_equal(computed(found, BYTES[:, None], BYTES[None, :]), expected)


def test_one_result_that_no_function_has_is_enough_for_none() -> None:
    expected = np.clip(np.arange(-128, 128), -100, 100)
    function = Function([BYTES], [1 / BYTE_SCALE], 0.0, 0, -100, 100, expected)
    assert fit(function) is not None
    expected[130] += 1
    assert fit(function) is None


def test_a_slope_too_steep_for_a_word_is_none() -> None:
    expected = np.where(np.arange(-128, 128) < 0, -128, 127)
    assert fit(Function([BYTES], [2.0**15], 2.0**14, 0, -128, 127, expected)) is None


# Sums ---------------------------------------------------------------------------------------------------------


def sum_call(rng: np.random.Generator, rounding: Rounding, size: int) -> tuple[Microkernel, list[Argument], Int8]:
    function = affine(rng, rounding, [0.7 / BYTE_SCALE, -0.4 / BYTE_SCALE])
    a, b = (rng.integers(-128, 128, size).astype(np.int8) for _ in range(2))
    expected = computed(function, BYTE_SCALE * a.astype(np.int64), BYTE_SCALE * b.astype(np.int64))
    return add(rounding), [function.words, a, b, np.zeros(size, np.int8), size], expected


@pytest.mark.parametrize("core", CORES)
@pytest.mark.parametrize("rounding", ROUNDINGS, ids=lambda r: r.name)
def test_sums_of_any_size_are_exact(core: str, rounding: Rounding, rng: np.random.Generator) -> None:
    for size in (*range(1, 19), 64, 100):
        kernel, arguments, expected = sum_call(rng, rounding, size)
        found = on_core(core, kernel, arguments, misaligned=[1, 2, 3])[3]
        np.testing.assert_array_equal(found, expected)


def test_every_pair_of_elements_is_exact(rng: np.random.Generator) -> None:
    rounding = ROUNDINGS[1]
    function = affine(rng, rounding, [0.9 / BYTE_SCALE, 0.8 / BYTE_SCALE])
    a, b = (side.ravel().astype(np.int8) for side in np.meshgrid(np.arange(-128, 128), np.arange(-128, 128)))
    expected = computed(function, BYTE_SCALE * a.astype(np.int64), BYTE_SCALE * b.astype(np.int64))
    found = on_core("cortex-m4", add(rounding), [function.words, a, b, np.zeros_like(a), a.size])[3]
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("rounding", ROUNDINGS, ids=lambda r: r.name)
def test_sums_in_c_are_the_same(rounding: Rounding, rng: np.random.Generator, tmp_path: Path) -> None:
    kernel, arguments, expected = sum_call(rng, rounding, 37)
    np.testing.assert_array_equal(on_host(kernel, arguments, tmp_path)[3], expected)


# Pools --------------------------------------------------------------------------------------------------------

CHANNELS = (1, 2, 3, 4, 5, 7, 8, 12, 13, 16, 23, 28, 31, 32, 64)
SUM_ROUNDINGS = [dataclasses.replace(rounding, shift=shift) for shift, rounding in enumerate(ROUNDINGS, start=11)]
OUTPUTS = [(-128, -128, 127), (9, -128, 127), (-20, -20, 60)]
WINDOWS = [(1, 1), (1, 2), (2, 2), (3, 3), (2, 5), (1, 7), (4, 4), (3, 8)]


def taps_of(window: tuple[int, int], channels: int, wide: bool) -> Taps:
    """A window in an image as wide as itself, or wider by two pixels."""
    rows, columns = window
    return Taps.of(rows, columns, (columns + 2 * wide) * channels, channels)


def image_of(rng: np.random.Generator, taps: Taps) -> tuple[Int8, Int8]:
    """An image that ends with the window's last pixel, and the window's pixels, [taps, channels]."""
    starts = (taps.row_stride * np.arange(taps.rows)[:, None] + taps.channels * np.arange(taps.columns)).ravel()
    image = rng.integers(-128, 128, int(starts[-1]) + taps.channels).astype(np.int8)
    return image, image[starts[:, None] + np.arange(taps.channels)]


def average_call(
    rng: np.random.Generator, taps: Taps, rounding: Rounding, *, short: bool = False
) -> tuple[Microkernel, list[Argument], Int8]:
    function = affine(rng, rounding, [1.1 / taps.number])
    image, pixels = image_of(rng, taps)
    expected = computed(function, pixels.astype(np.int64).sum(axis=0))
    return (
        average(taps, AffineSum(rounding), short=short),
        [np.append(function.words, np.int32(0)), image, np.zeros(taps.channels, np.int8)],
        expected,
    )


def scaled_call(
    rng: np.random.Generator, taps: Taps, i: int, *, short: bool = False
) -> tuple[Microkernel, list[Argument], Int8]:
    zero_point, low, high = OUTPUTS[i % len(OUTPUTS)]
    left_shift, offset, multiplier = i % 3, int(rng.integers(-128 * taps.number, 128 * taps.number)), (5 << 28) + i
    shift = 1 + (taps.number - 1).bit_length() + left_shift
    image, pixels = image_of(rng, taps)
    raised = (pixels.astype(np.int64).sum(axis=0) + offset) << left_shift
    scaled = multiply_by_quantized_multiplier(raised, multiplier, -shift)
    expected = (scaled + zero_point).clip(low, high).astype(np.int8)
    constant = rounding_constant(np.array([shift]), np.array([zero_point]))[0]
    words = np.array([offset, multiplier, constant, shift], np.int32)
    scaling = ScaledSum(choose_output(zero_point, low, high), left_shift)
    return average(taps, scaling, short=short), [words, image, np.zeros(taps.channels, np.int8)], expected


def largest_call(rng: np.random.Generator, taps: Taps, low: int, high: int) -> tuple[Microkernel, list[Argument], Int8]:
    image, pixels = image_of(rng, taps)
    return largest(taps, low, high), [image, np.zeros(taps.channels, np.int8)], pixels.max(axis=0).clip(low, high)


@pytest.mark.parametrize("core", CORES)
@pytest.mark.parametrize("window", WINDOWS, ids=str)
@pytest.mark.parametrize("short", [False, True])
def test_averages_of_any_number_of_channels_are_exact(
    core: str, window: tuple[int, int], short: bool, rng: np.random.Generator
) -> None:
    for i, channels in enumerate(CHANNELS):
        taps = taps_of(window, channels, wide=i % 2 == 0)
        rounding = SUM_ROUNDINGS[i % len(SUM_ROUNDINGS)]
        calls = average_call(rng, taps, rounding, short=short), scaled_call(rng, taps, i, short=short)
        for kernel, arguments, expected in calls:
            np.testing.assert_array_equal(on_core(core, kernel, arguments, misaligned=[1, 2])[2], expected)


@pytest.mark.parametrize("core", CORES)
@pytest.mark.parametrize("window", WINDOWS, ids=str)
def test_largest_elements_of_any_number_of_channels_are_exact(
    core: str, window: tuple[int, int], rng: np.random.Generator
) -> None:
    for i, channels in enumerate(CHANNELS):
        taps = taps_of(window, channels, wide=i % 2 == 0)
        low, high = ((-128, 127), (-20, 60), (5, 127), (-128, -3))[i % 4]
        kernel, arguments, expected = largest_call(rng, taps, low, high)
        np.testing.assert_array_equal(on_core(core, kernel, arguments, misaligned=[0, 1])[1], expected)


@pytest.mark.parametrize("value", [-128, 127])
def test_the_largest_window_does_not_overflow(value: int, rng: np.random.Generator) -> None:
    taps = Taps.of(16, 16, 16 * 20, 20)
    kernel, arguments, _ = average_call(rng, taps, SUM_ROUNDINGS[0])
    arguments[0] = np.array([1 << 19, 1 << 10, 0, 0], np.int32)  # 2**11 / 256 for each unit of the sum, and a half
    arguments[1] = np.full(256 * 20, value, np.int8)
    assert (on_core("cortex-m4", kernel, arguments)[2] == value).all()


@pytest.mark.parametrize("channels", [1, 3, 4, 5, 23])
def test_pools_read_nothing_behind_their_input(channels: int, rng: np.random.Generator) -> None:
    """The image ends where memory does, so that one byte more is a fault."""
    taps = taps_of((3, 5), channels, wide=True)
    kernel, (image, y), expected = largest_call(rng, taps, -128, 127)
    assert isinstance(image, np.ndarray)
    assert isinstance(y, np.ndarray)
    with Simulator("cortex-m4") as simulator:
        simulator.load([assemble(f"{kernel.as_assembly()}\n.global {kernel.name}", "cortex-m4")])
        start, to = MemoryMap().ram.end - image.nbytes, simulator.allocate(y.nbytes)
        simulator.write(start, image.tobytes())
        simulator.call(kernel.name, start, to)
        np.testing.assert_array_equal(np.frombuffer(simulator.read(to, y.nbytes), np.int8), expected)


def test_pools_in_c_are_the_same(rng: np.random.Generator, tmp_path: Path) -> None:
    for i, (window, channels) in enumerate([((1, 1), 3), ((3, 3), 16), ((2, 5), 7), ((3, 8), 20)]):
        taps = taps_of(window, channels, wide=i % 2 == 0)
        calls = {
            "affine": average_call(rng, taps, SUM_ROUNDINGS[i]),
            "scaled": scaled_call(rng, taps, i),
            "largest": largest_call(rng, taps, *((-128, 127), (-20, 60))[i % 2]),
        }
        for name, (kernel, arguments, expected) in calls.items():
            folder = tmp_path / f"{name}{i}"
            folder.mkdir()
            np.testing.assert_array_equal(on_host(kernel, arguments, folder)[-1], expected)


# Layers -------------------------------------------------------------------------------------------------------


def schedules_of(network: Network, target: str = "cortex-m4") -> list[str]:
    """Return the layers' schedules; the bytes are compared with the reference."""
    model = tinyml.load(network.data, name="layer")
    library = tinyml.build(model, target)
    assert bench(library, model)["reference"]["differing"] == 0
    return [layer["schedule"] for layer in library.metadata["layers"]]


def summed(
    name: str, scales: tuple[float, float, float], zero_points: tuple[int, int, int], activation: str = "NONE"
) -> Network:
    graph = Int8Graph(0)
    a, b = (graph.input((67, 61), (scales[i], zero_points[i])) for i in range(2))
    output = (scales[2], zero_points[2])
    return graph.finish("layer", getattr(graph, name)(a, b, output=output, activation=activation))


@pytest.mark.parametrize("core", CORES)
@pytest.mark.parametrize("name", ["add", "sub"])
@pytest.mark.parametrize("activation", ["NONE", "RELU"])
def test_sums_of_tensors_are_affine(core: str, name: str, activation: str) -> None:
    assert schedules_of(summed(name, (0.031, 0.0171, 0.0333), (-128, 5, -128), activation), core) == ["Sum"]


@pytest.mark.parametrize("zero_points", [(-128, -128, -128), (127, 127, 127), (3, -5, 7)])
@pytest.mark.parametrize("scales", [(0.5, 0.5, 1.0), (0.5, 0.25, 2.0), (0.0113, 0.9017, 1.3071), (0.9, 0.7, 0.05)])
def test_scales_apart_and_powers_of_two_are_affine(
    scales: tuple[float, float, float], zero_points: tuple[int, int, int]
) -> None:
    assert schedules_of(summed("add", scales, zero_points)) == ["Sum"]


def test_halves_that_the_first_roundings_decide_are_left_to_the_schedules() -> None:
    """With scales of 2 to 3 many sums are halves but for TFLite's own errors, which no affine function has."""
    assert schedules_of(summed("add", (0.5, 0.75, 1.0), (0, 0, 0))) != ["Sum"]


def test_broadcasting_is_left_to_the_schedules() -> None:
    graph = Int8Graph(0)
    a, b = graph.input((4, 8), (0.5, 3)), graph.input((8,), (0.3, -3))
    assert schedules_of(graph.finish("layer", graph.add(a, b))) != ["Sum"]


@pytest.mark.parametrize("core", CORES)
@pytest.mark.parametrize("name", ["avg_pool", "max_pool"])
@pytest.mark.parametrize(("shape", "kernel", "strides"), [
    ((1, 9, 7, 5), (3, 2), (2, 2)),
    ((2, 8, 8, 16), (2, 2), (2, 2)),
    ((1, 25, 5, 64), (25, 5), (1, 1)),
    ((3, 6, 5, 2), (6, 5), (6, 5)),
])  # fmt: skip
def test_pools_without_padding_are_microkernels(
    core: str, name: str, shape: tuple[int, ...], kernel: tuple[int, int], strides: tuple[int, int]
) -> None:
    graph = Int8Graph(0)
    x = graph.input(shape, (0.05, -4))
    layer = getattr(graph, name)(x, kernel, strides=strides, activation="RELU" if core == "cortex-m4" else "NONE")
    assert schedules_of(graph.finish("layer", layer), core) == ["Pool"]


@pytest.mark.parametrize("name", ["mean", "sum"])
@pytest.mark.parametrize("axes", [(1, 2), (1,), (2, 3), (3,), (0, 1, 2), (1, 2, 3)])
def test_means_over_neighbouring_axes_are_microkernels(name: str, axes: tuple[int, ...]) -> None:
    graph = Int8Graph(1)
    x = graph.input((2, 5, 4, 6), (0.05, 11))
    assert schedules_of(graph.finish("layer", getattr(graph, name)(x, axes))) == ["Pool"]


@pytest.mark.parametrize("axes", [(0, 2), (1, 3)])
def test_means_over_other_axes_are_left_to_the_schedules(axes: tuple[int, ...]) -> None:
    graph = Int8Graph(1)
    assert schedules_of(graph.finish("layer", graph.mean(graph.input((2, 5, 4, 6), (0.05, 11)), axes))) != ["Pool"]


def test_what_the_microkernels_cannot_do_is_left_to_the_schedules() -> None:
    """Padding, more than 256 elements in an average, and channels too far apart."""
    graph = Int8Graph(2)
    padded = graph.avg_pool(graph.input((1, 5, 5, 4), (0.05, 1)), (3, 3), strides=(1, 1), padding="SAME")
    assert "Pool" not in schedules_of(graph.finish("layer", padded))
    for shape in ((1, 20, 20, 4), (1, 2, 2, 3000)):
        graph = Int8Graph(2)
        pooled = graph.avg_pool(graph.input(shape, (0.05, 1)), shape[1:3])
        assert "Pool" not in schedules_of(graph.finish("layer", pooled))
