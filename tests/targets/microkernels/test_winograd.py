"""Winograd F(4x4, 3x3): exact piece by piece and as a whole, for any shape and at the bounds; refused beyond them."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import tvm_tinyml as tinyml
from benchmarks.int8_graph import Int8Graph, Network
from tests.compile.toolchains import HostLibrary
from tests.targets.microkernels.alone import Argument, on_core, on_host
from tvm_tinyml.library import Library
from tvm_tinyml.options import BuildOptions
from tvm_tinyml.pipeline import compile_model
from tvm_tinyml.reference import operators
from tvm_tinyml.session import Session
from tvm_tinyml.targets.cortex_m import cortex_m
from tvm_tinyml.targets.cortex_m.microkernels import winograd
from tvm_tinyml.targets.cortex_m.microkernels.microkernel import Microkernel
from tvm_tinyml.targets.cortex_m.microkernels.output import Output, choose_output, rounding_constant
from tvm_tinyml.targets.cortex_m.microkernels.winograd_filter import winograd_filter
from tvm_tinyml.targets.cortex_m.microkernels.winograd_input import scratch_bytes, winograd_input
from tvm_tinyml.targets.cortex_m.microkernels.winograd_output import winograd_columns, winograd_rows
from tvm_tinyml.targets.cortex_m.microkernels.winograd_products import winograd_products
from tvm_tinyml.targets.cortex_m.recipes.winograd import Winograd

pytest.importorskip("unicorn", reason="needs unicorn: pip install tvm_tinyml[sim]")

Ints = NDArray[np.int64]
CORES = ("cortex-m4", "cortex-m7", "cortex-m33")


def by_frequency(array: Ints) -> Ints:
    """[row, column, ...] -> [frequency, ...] in the order of storage."""
    return np.stack([array[f % 6, winograd.COLUMNS[f // 6]] for f in range(winograd.FREQUENCIES)])


def words(array: Ints) -> Ints:
    """[frequency, lane, K] -> [step, frequency, lane, half]."""
    frequencies, lanes, k = array.shape
    return array.reshape(frequencies, lanes, k // 2, 2).transpose(2, 0, 1, 3)


def wrapped(array: Ints) -> NDArray[np.int32]:
    return (array & 0xFFFF_FFFF).astype(np.uint32).view(np.int32)


def corner() -> Ints:
    patch = np.zeros((6, 6), np.int64)
    patch[4:, 4:] = winograd.CORNER
    return patch


# --- mathematics ------------------------------------------------------------------------------------------------------


def test_the_matrices_compute_a_convolution(rng: np.random.Generator) -> None:
    w, d = rng.integers(-128, 128, (3, 3)), rng.integers(-128, 128, (6, 6))
    products = (winograd.FILTER @ w @ winograd.FILTER.T) * (winograd.INPUT @ d @ winograd.INPUT.T)
    windows = np.lib.stride_tricks.sliding_window_view(d, (3, 3))
    scale = 3 << np.array(winograd.SHIFTS)
    expected = np.outer(scale, scale) * (windows * w).sum(axis=(2, 3))
    np.testing.assert_array_equal(winograd.OUTPUT @ products @ winograd.OUTPUT.T, expected)
    assert 9 * winograd.INVERSE_OF_9 % 2**32 == 1


def test_both_sides_are_int16_and_low_halves_do_not_borrow() -> None:
    filters = np.kron(winograd.FILTER, winograd.FILTER)  # every frequency as a row of factors
    assert 128 * np.abs(filters).sum(axis=1).max() < 2**15
    inputs = np.kron(winograd.INPUT, winograd.INPUT)
    added = inputs @ corner().ravel()
    lowest, highest = 255 * np.minimum(inputs, 0).sum(axis=1), 255 * np.maximum(inputs, 0).sum(axis=1)
    assert (added + lowest).min() >= 0
    assert (added + highest).max() < 2**15
    assert lowest.min() >= -(2**15)


# --- pieces -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("core", CORES)
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("fill", [None, -128, 127])
def test_filters_are_transformed(
    core: str, channels: int, fill: int | None, rng: np.random.Generator, tmp_path: Path
) -> None:
    k = 12
    weight = rng.integers(-128, 128, (channels, k, 9)) if fill is None else np.full((channels, k, 9), fill)
    u = np.einsum("ai,bj,okij->abok", winograd.FILTER, winograd.FILTER, weight.reshape(channels, k, 3, 3))
    expected = np.full((k // 2, winograd.FREQUENCIES, 2, 2), 99)
    expected[:, :, :channels] = words(by_frequency(u))
    packed = np.frombuffer(winograd.pack_filters(weight).tobytes(), np.int32)
    arguments = [packed, np.full(expected.shape, 99, np.int16), k // 2, channels]
    np.testing.assert_array_equal(on_core(core, winograd_filter(), arguments)[1], expected)
    np.testing.assert_array_equal(on_host(winograd_filter(), arguments, tmp_path)[1], expected)


PLACES = {
    "inside": (2, 3),
    "at the borders": (0, 5),
    "above": (-1, 2),
    "left": (3, -1),
    "below and right": (5, 8),
    "a corner": (-5, -5),
    "all outside": (-7, 3),
    "all outside, right": (2, 11),
}


@pytest.mark.parametrize("core", CORES)
@pytest.mark.parametrize("where", PLACES)
def test_inputs_are_transformed(core: str, where: str, rng: np.random.Generator, tmp_path: Path) -> None:
    height, width = 9, 11
    for channels in (8, 9, 10, 11, 16):
        zero_point = int(rng.choice([-128, -3, 127]))
        (row, column), pad = PLACES[where], 12
        x = rng.integers(-128, 128, (height, width, channels)).astype(np.int8)
        bordered = np.pad(x.astype(np.int64), ((pad, pad), (pad, pad), (0, 0)), constant_values=zero_point)
        patch = bordered[pad + row :, pad + column :][:6, :6] + 128
        firsts = [min(first, channels - 4) for first in range(0, channels, 4)]
        patch = patch[:, :, [first + i for first in firsts for i in (0, 2, 1, 3)]]
        patch[:, :, 0::2] += corner()[:, :, None]
        v = np.einsum("ai,bj,ijk->abk", winograd.INPUT, winograd.INPUT, patch)
        expected = np.full((2 * len(firsts), winograd.FREQUENCIES, 4, 2), 99)
        expected[:, :, :1] = words(by_frequency(v)[:, None])
        geometry = np.array([height, width, channels, zero_point % 256 * 0x0101_0101]).astype(np.uint32)
        scratch = np.zeros(scratch_bytes(channels) // 4, np.int32)
        arguments = [x, np.full(expected.shape, 99, np.int16), row, column, scratch, geometry]
        np.testing.assert_array_equal(on_core(core, winograd_input(), arguments, misaligned=[0])[1], expected)
        np.testing.assert_array_equal(on_host(winograd_input(), arguments, tmp_path)[1], expected)


@pytest.mark.parametrize("core", CORES)
@pytest.mark.parametrize("tiles", [1, 2, 4])
@pytest.mark.parametrize("mixed", [False, True])
def test_products_of_any_length_are_exact(core: str, tiles: int, mixed: bool, rng: np.random.Generator) -> None:
    for steps in (2, 4, 8, 10, 16, 18, 20, 24, 26, 34, 50):
        kernel, arguments, expected = products(steps, tiles, mixed, rng)
        np.testing.assert_array_equal(on_core(core, kernel, arguments)[2], expected)


@pytest.mark.parametrize("tiles", [1, 2, 4])
def test_the_products_in_c_are_the_same(tiles: int, rng: np.random.Generator, tmp_path: Path) -> None:
    kernel, arguments, expected = products(6, tiles, False, rng)
    np.testing.assert_array_equal(on_host(kernel, arguments, tmp_path)[2], expected)


def products(
    steps: int, tiles: int, mixed: bool, rng: np.random.Generator
) -> tuple[Microkernel, list[Argument], NDArray[np.int32]]:
    """Any int16, so that sums wrap; sums of tiles that are left out stay."""
    u = rng.integers(-(2**15), 2**15, (steps, winograd.FREQUENCIES, 2, 2)).astype(np.int16)
    v = rng.integers(-(2**15), 2**15, (steps, winograd.FREQUENCIES, 4, 2)).astype(np.int16)
    expected = wrapped(np.einsum("sfch,sfth->ftc", u.astype(np.int64), v.astype(np.int64)))
    expected[:, tiles:] = 99
    return winograd_products(steps, tiles, mixed=mixed), [u, v, np.full(expected.shape, 99, np.int32)], expected


OUTPUTS = {
    "plain": (-128, -128, 127),
    "zero point above the clamp": (5, -128, 127),
    "clamped": (-20, -20, 60),
    "clamped below the zero point": (3, -100, 90),
}


@pytest.mark.parametrize("core", CORES)
@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize(("tiles", "channels"), [(1, 1), (3, 2), (4, 2), (6, 1)])
def test_sums_become_outputs(
    core: str, output: str, tiles: int, channels: int, rng: np.random.Generator, tmp_path: Path
) -> None:
    """Tiles beside each other, four a block of sums, whose sums come from the plain formula."""
    k, (zero_point, low, high) = 8, OUTPUTS[output]
    quads = -(-tiles // 4)
    x = rng.integers(-128, 128, (tiles, 6, 6, k)).astype(np.int8)
    weight = rng.integers(-128, 128, (channels, k, 9))
    bias, multiplier = rng.integers(-20000, 20000, channels), rng.integers(1 << 30, 1 << 31, channels)
    shift = rng.integers(7, 12, channels)
    filters = weight.transpose(0, 2, 1).reshape(channels, 3, 3, k).astype(np.int8)
    scales = [values.astype(np.int32) for values in (bias, multiplier, -shift)]
    settings = {"input_zero_point": 0, "output_zero_point": zero_point, "clamp_min": low, "clamp_max": high}
    window = {"strides": (1, 1), "padding": (0, 0, 0, 0), "dilation": (1, 1), "groups": 1}
    expected = operators.conv2d(x, filters, *scales, **window, **settings)  # type: ignore[arg-type]

    u = np.einsum("ai,bj,okij->abok", winograd.FILTER, winograd.FILTER, weight.reshape(channels, k, 3, 3))
    patches = x.astype(np.int64) + 128
    patches[..., 0::2] += corner()[:, :, None]
    v = np.einsum("ai,bj,tijk->abtk", winograd.INPUT, winograd.INPUT, patches)
    sums = np.zeros((quads, winograd.FREQUENCIES, 4, 2), np.int32)
    products = by_frequency(np.einsum("abtk,abok->abto", v, u))
    places = np.zeros((tiles, 2), np.int32)
    for tile in range(tiles):
        sums[tile // 4, :, tile % 4, :channels] = wrapped(products[:, tile])
        places[tile] = tile // 4 * sums[0].nbytes + tile % 4 * 8, tile * 4 * channels
    constant = rounding_constant(shift, np.full(channels, zero_point))
    parameters = winograd.pack_parameters(weight, bias, multiplier, constant, shift)
    y = np.zeros((4, tiles, 4, channels), np.int8)
    rows = winograd_rows(choose_output(zero_point, low, high))
    strides = channels, tiles * 4 * channels

    columned = on_core(core, winograd_columns(), [sums, places, parameters, tiles, channels])[0]
    found = on_core(core, rows, [columned, y, places, parameters, tiles, channels, *strides], misaligned=[1])[1]
    np.testing.assert_array_equal(found, expected.transpose(1, 0, 2, 3))
    folders = [tmp_path / name for name in ("columns", "rows")]
    for folder in folders:
        folder.mkdir()
    columned = on_host(winograd_columns(), [sums, places, parameters, tiles, channels], folders[0])[0]
    found = on_host(rows, [columned, y, places, parameters, tiles, channels, *strides], folders[1])[1]
    np.testing.assert_array_equal(found, expected.transpose(1, 0, 2, 3))


def test_equal_names_are_equal_code() -> None:
    """Layers share all kernels but the products, and those with an equal number of channels."""
    assert winograd_input() == winograd_input()
    assert winograd_filter() == winograd_filter()
    assert winograd_rows(Output(False, -128, 127)) != winograd_rows(Output(True, -128, 127))


# --- layers -----------------------------------------------------------------------------------------------------------


ANY = -10.0
"""A gain that every layer has."""


def layer(seed: int, shape: tuple[int, ...], channels: int, **settings: object) -> Network:
    graph = Int8Graph(seed)
    zero_point = int(graph.rng.choice([-128, -7, 0, 127]))
    return graph.finish("layer", graph.conv(graph.input(shape, (0.05, zero_point)), channels, (3, 3), **settings))  # type: ignore[arg-type]


def build(network: Network, target: str = "cortex-m4", recipe: Winograd | None = None) -> Library:
    """Build with Winograd's recipe before all others."""
    chosen = cortex_m(target)
    recipes = chosen.recipes("time")
    ours = {**recipes, "tinyml.conv2d": (recipe or Winograd(), *recipes["tinyml.conv2d"])}
    model = tinyml.load(network.data, name="m")
    return compile_model(model, dataclasses.replace(chosen, recipes=lambda _goal: ours), BuildOptions(goal="time"))


def check(network: Network, library: Library, inputs: list[NDArray[np.int8]]) -> None:
    """Every byte equals the reference's, from buffers at odd addresses, in a pool that begins with garbage."""
    session = Session(library.metadata, library.objects, misalign=1)
    (found,) = session.run(inputs).outputs
    np.testing.assert_array_equal(found.ravel(), network.run(inputs)[0].ravel())


def schedules(library: Library) -> list[str]:
    return [entry["schedule"] for entry in library.metadata["layers"]]


@pytest.mark.parametrize("core", CORES)
@pytest.mark.parametrize("seed", range(8))
def test_layers_of_any_shape_are_exact(core: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    shape = (int(rng.choice([1, 1, 2])), *rng.integers(6, 20, 2).tolist(), int(rng.integers(8, 40)))
    settings = {"padding": rng.choice(["SAME", "VALID"]), "activation": rng.choice(["NONE", "RELU", "RELU6"])}
    network = layer(seed, shape, int(rng.integers(8, 20)), **settings)
    recipe = Winograd(int(rng.choice([20, 32, 48, 200])) * 1024, least_gain=ANY, mixed=core == "cortex-m7")
    library = build(network, core, recipe)
    assert schedules(library) == ["Winograd"]
    check(network, library, network.random_inputs(seed))


@pytest.mark.parametrize(("height", "width"), [(4, 4), (4, 5), (5, 7), (7, 6), (6, 13), (9, 4)])
@pytest.mark.parametrize("padding", ["SAME", "VALID"])
def test_sides_that_are_no_multiple_of_a_tile_overlap(height: int, width: int, padding: str) -> None:
    grown = 2 if padding == "VALID" else 0
    network = layer(3, (1, height + grown, width + grown, 8), 9, padding=padding)
    library = build(network, recipe=Winograd(least_gain=ANY))
    assert schedules(library) == ["Winograd"]
    check(network, library, network.random_inputs(1))


@pytest.mark.parametrize("weight", [-128, -127, 127])
@pytest.mark.parametrize("pixel", [-128, 127])
def test_extreme_weights_and_inputs_are_exact(weight: int, pixel: int) -> None:
    weights = np.full((8, 3, 3, 64), weight, np.int8)
    network = layer(1, (1, 6, 6, 64), 8, weights=weights, activation="NONE")
    library = build(network)
    assert schedules(library) == ["Winograd"]
    check(network, library, [np.full_like(x, pixel) for x in network.random_inputs(0)])


def test_a_dead_channel_stays_in_the_recipe() -> None:
    network = layer(2, (1, 8, 8, 8), 9, dead=[0, 3, 8])
    library = build(network)
    assert schedules(library) == ["Winograd"]
    check(network, library, network.random_inputs(0))


def test_on_the_host_the_c_form_gives_the_reference_bytes(tmp_path: Path) -> None:
    for seed, shape, channels in ((0, (1, 7, 9, 10), 9), (1, (2, 8, 8, 36), 12)):
        network = layer(seed, shape, channels)
        inputs = network.random_inputs(seed)
        (found,) = HostLibrary(build(network), tmp_path / str(seed), misalign=1).run(inputs)
        np.testing.assert_array_equal(found.ravel(), network.run(inputs)[0].ravel())


# --- what is refused --------------------------------------------------------------------------------------------------


def test_sums_that_may_wrap_are_refused() -> None:
    """9 * 124 * 127 * 255 > 2**25: a channel of large weights of one sign, with zero point and bias at the end."""
    weights = np.random.default_rng(0).integers(-20, 21, (8, 3, 3, 240)).astype(np.int8)
    fits = layer(0, (1, 6, 6, 240), 8, weights=weights)
    assert schedules(build(fits, recipe=Winograd(400 * 1024))) == ["Winograd"]
    weights[5] = 127
    wraps = layer(0, (1, 6, 6, 240), 8, weights=weights)
    assert "Winograd" not in schedules(build(wraps, recipe=Winograd(400 * 1024)))


@pytest.mark.parametrize("scale", [1.5, 2.0**-30])
def test_scales_that_the_epilogue_cannot_do_are_refused(scale: float) -> None:
    assert "Winograd" not in schedules(build(layer(0, (1, 8, 8, 8), 8, output=(0.5, 3), effective_scale=scale)))


@pytest.mark.parametrize(
    ("shape", "channels", "settings"),
    [
        ((1, 3, 8, 8), 8, {}),  # fewer rows than a tile
        ((1, 8, 8, 4), 8, {}),  # few input channels
        ((1, 8, 8, 8), 4, {}),  # few output channels
        ((1, 8, 8, 8), 8, {"strides": (2, 2)}),
        ((1, 8, 8, 8), 8, {"dilation": (2, 2)}),
        ((1, 8, 8, 16), 8, {"groups": 2}),
    ],
    ids=["rows", "inputs", "outputs", "strides", "dilation", "groups"],
)
def test_other_convolutions_are_refused(shape: tuple[int, ...], channels: int, settings: dict[str, object]) -> None:
    assert "Winograd" not in schedules(build(layer(0, shape, channels, **settings)))


def test_a_layer_that_is_faster_as_a_matrix_product_is_refused() -> None:
    """Too few tiles for as many filters."""
    few, many = layer(0, (1, 5, 5, 64), 64), layer(0, (1, 8, 8, 64), 64)
    assert "Winograd" not in schedules(build(few))
    assert schedules(build(few, recipe=Winograd(least_gain=ANY))) == ["Winograd"]
    assert schedules(build(many)) == ["Winograd"]


def test_scratch_stays_within_its_bound() -> None:
    """A smaller one is used as well as it can be; one that holds no stripe is refused."""
    network = layer(0, (1, 16, 16, 16), 16)
    sizes = []
    for kib in (48, 24, 12):
        library = build(network, recipe=Winograd(kib * 1024))
        assert schedules(library) == ["Winograd"]
        sizes.append(library.metadata["pools"]["sram"]["size_bytes"])
        assert sizes[-1] <= kib * 1024 + 64  # buffers are aligned
        check(network, library, network.random_inputs(0))
    assert sizes == sorted(sizes, reverse=True)
    assert "Winograd" not in schedules(build(network, recipe=Winograd(4 * 1024)))
