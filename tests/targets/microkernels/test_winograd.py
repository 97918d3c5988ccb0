"""Winograd convolution: exact piece by piece and as a whole, for any shape and at the bounds; refused beyond them."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import tvm_tinyml as tinyml
from benchmarks.int8_graph import Int8Graph, Network
from tests.compile.toolchains import HostLibrary, compile_objects, cross_compile
from tests.simulated import needs_simulator
from tests.targets.microkernels.alone import Argument, on_core, on_host
from tvm_tinyml.library import Library
from tvm_tinyml.options import BuildOptions
from tvm_tinyml.pipeline import compile_model
from tvm_tinyml.reference import operators
from tvm_tinyml.session import Session
from tvm_tinyml.targets.cortex_m import cortex_m
from tvm_tinyml.targets.cortex_m.microkernels import winograd
from tvm_tinyml.targets.cortex_m.microkernels.microkernel import Microkernel
from tvm_tinyml.targets.cortex_m.microkernels.output import choose_output, rounding_constant
from tvm_tinyml.targets.cortex_m.microkernels.winograd import Algorithm
from tvm_tinyml.targets.cortex_m.microkernels.winograd_filter import winograd_filter
from tvm_tinyml.targets.cortex_m.microkernels.winograd_forms import F2, F4
from tvm_tinyml.targets.cortex_m.microkernels.winograd_input import scratch_bytes, winograd_input
from tvm_tinyml.targets.cortex_m.microkernels.winograd_output import winograd_columns, winograd_rows
from tvm_tinyml.targets.cortex_m.microkernels.winograd_products import winograd_products
from tvm_tinyml.targets.cortex_m.recipes.winograd import Winograd

pytestmark = needs_simulator

Ints = NDArray[np.int64]
CORES = ("cortex-m4", "cortex-m7", "cortex-m33")


def by_frequency(array: Ints) -> Ints:
    """[row, column, ...] -> [frequency, ...] in the order of storage: column by column."""
    return array.swapaxes(0, 1).reshape(-1, *array.shape[2:])


def words(array: Ints) -> Ints:
    """[frequency, lane, K] -> [step, frequency, lane, half]."""
    frequencies, lanes, k = array.shape
    return array.reshape(frequencies, lanes, k // 2, 2).transpose(2, 0, 1, 3)


def wrapped(array: Ints) -> NDArray[np.int32]:
    return (array & 0xFFFF_FFFF).astype(np.uint32).view(np.int32)


def corner(form: Algorithm) -> Ints:
    patch = np.zeros((form.patch, form.patch), np.int64)
    patch[-2:, -2:] = winograd.CORNER
    return patch


def transformed(matrix: Ints, array: Ints) -> Ints:
    """Both sides: [row, column, ...] -> [row, column, ...]."""
    return np.einsum("ai,bj,ij...->ab...", matrix, matrix, array)


FORMS = pytest.mark.parametrize("form", [F2, F4], ids=["2x2", "4x4"])


# --- mathematics ------------------------------------------------------------------------------------------------------


@FORMS
def test_the_matrices_compute_a_convolution(form: Algorithm, rng: np.random.Generator) -> None:
    w, d = rng.integers(-128, 128, (3, 3)), rng.integers(-128, 128, (form.patch, form.patch))
    found = transformed(form.output, transformed(form.filter, w) * transformed(form.input, d))
    windows = np.lib.stride_tricks.sliding_window_view(d, (3, 3))
    odd = 9 if form.inverse else 1
    assert odd * (form.inverse or 1) % 2**32 == 1
    scale = 2 ** np.array(form.shifts)
    np.testing.assert_array_equal(found, odd * np.outer(scale, scale) * (windows * w).sum(axis=(2, 3)))


@FORMS
def test_both_sides_are_int16_and_low_halves_do_not_borrow(form: Algorithm) -> None:
    filters = np.kron(form.filter, form.filter)  # every frequency as a row of factors
    assert 128 * np.abs(filters).sum(axis=1).max() < 2**15
    inputs = np.kron(form.input, form.input)
    added = inputs @ corner(form).ravel()
    np.testing.assert_array_equal(added, winograd.CORNER)
    lowest, highest = 255 * np.minimum(inputs, 0).sum(axis=1), 255 * np.maximum(inputs, 0).sum(axis=1)
    assert (added + lowest).min() >= 0
    assert (added + highest).max() < 2**15


@FORMS
def test_only_one_frequency_sees_a_constant(form: Algorithm) -> None:
    seen = np.zeros(form.patch, np.int64)
    seen[winograd.CONSTANT] = form.input[winograd.CONSTANT].sum()
    np.testing.assert_array_equal(form.input.sum(axis=1), seen)


# --- pieces -----------------------------------------------------------------------------------------------------------


@FORMS
@pytest.mark.parametrize("core", CORES)
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("fill", [None, -128, 127])
def test_filters_are_transformed(
    form: Algorithm, core: str, channels: int, fill: int | None, rng: np.random.Generator, tmp_path: Path
) -> None:
    k = 12
    weight = rng.integers(-128, 128, (channels, k, 9)) if fill is None else np.full((channels, k, 9), fill)
    u = transformed(form.filter, weight.reshape(channels, k, 3, 3).transpose(2, 3, 0, 1))
    expected = np.full((k // 2, form.frequencies, 2, 2), 99)
    expected[:, :, :channels] = words(by_frequency(u))
    packed = np.frombuffer(winograd.pack_filters(weight).tobytes(), np.int32)
    arguments = [packed, np.full(expected.shape, 99, np.int16), k // 2, channels]
    np.testing.assert_array_equal(on_core(core, winograd_filter(form), arguments)[1], expected)
    np.testing.assert_array_equal(on_host(winograd_filter(form), arguments, tmp_path)[1], expected)


PLACES = {
    "inside": (2, 3),
    "at the borders": (0, 5),
    "above": (-1, 2),
    "left": (3, -1),
    "below and right": (5, 8),
    "a corner": (-5, -5),
    "all but a row outside": (-3, 3),
    "all outside": (-7, 3),
    "all outside, right": (2, 11),
}


@FORMS
@pytest.mark.parametrize("core", CORES)
@pytest.mark.parametrize("where", PLACES)
def test_inputs_are_transformed(form: Algorithm, core: str, where: str, rng: np.random.Generator) -> None:
    for channels in (8, 9, 10, 11, 16):
        arguments, expected = inputs(form, where, channels, rng)
        found = on_core(core, winograd_input(form), arguments, misaligned=[0])[1]
        np.testing.assert_array_equal(found, expected)


@FORMS
@pytest.mark.parametrize("where", PLACES)
def test_the_inputs_in_c_are_the_same(form: Algorithm, where: str, rng: np.random.Generator, tmp_path: Path) -> None:
    arguments, expected = inputs(form, where, 11, rng)
    np.testing.assert_array_equal(on_host(winograd_input(form), arguments, tmp_path)[1], expected)


def inputs(
    form: Algorithm, where: str, channels: int, rng: np.random.Generator
) -> tuple[list[Argument], NDArray[np.int64]]:
    """A tile as the first of four; what the others have stays."""
    (row, column), pad, height, width = PLACES[where], 12, 9, 11
    zero_point = int(rng.choice([-128, -3, 127]))
    x = rng.integers(-128, 128, (height, width, channels)).astype(np.int8)
    bordered = np.pad(x.astype(np.int64), ((pad, pad), (pad, pad), (0, 0)), constant_values=zero_point)
    patch = bordered[pad + row :, pad + column :][: form.patch, : form.patch] + 128
    firsts = [min(first, channels - 4) for first in range(0, channels, 4)]
    patch = patch[:, :, [first + i for first in firsts for i in (0, 2, 1, 3)]]
    patch[:, :, 0::2] += corner(form)[:, :, None]
    expected = np.full((2 * len(firsts), form.frequencies, 4, 2), 99)
    expected[:, :, :1] = words(by_frequency(transformed(form.input, patch))[:, None])
    geometry = np.array([height, width, channels, zero_point % 256 * 0x0101_0101]).astype(np.uint32)
    scratch = np.zeros(scratch_bytes(form, channels) // 4, np.int32)
    return [x, np.full(expected.shape, 99, np.int16), row, column, scratch, geometry], expected


@FORMS
@pytest.mark.parametrize("core", CORES)
@pytest.mark.parametrize("tiles", [1, 2, 4])
@pytest.mark.parametrize("mixed", [False, True])
def test_products_of_any_length_are_exact(
    form: Algorithm, core: str, tiles: int, mixed: bool, rng: np.random.Generator
) -> None:
    for steps in (2, 8, 10, 16, 18, 20, 26, 34, 50):
        kernel, arguments, expected = products(form, steps, tiles, mixed, rng)
        np.testing.assert_array_equal(on_core(core, kernel, arguments)[2], expected)


@pytest.mark.parametrize("tiles", [1, 2, 4])
def test_the_products_in_c_are_the_same(tiles: int, rng: np.random.Generator, tmp_path: Path) -> None:
    kernel, arguments, expected = products(F4, 6, tiles, False, rng)
    np.testing.assert_array_equal(on_host(kernel, arguments, tmp_path)[2], expected)


def products(
    form: Algorithm, steps: int, tiles: int, mixed: bool, rng: np.random.Generator
) -> tuple[Microkernel, list[Argument], NDArray[np.int32]]:
    """Any int16, so that sums wrap; sums of tiles that are left out stay."""
    u = rng.integers(-(2**15), 2**15, (steps, form.frequencies, 2, 2)).astype(np.int16)
    v = rng.integers(-(2**15), 2**15, (steps, form.frequencies, 4, 2)).astype(np.int16)
    expected = wrapped(np.einsum("sfch,sfth->ftc", u.astype(np.int64), v.astype(np.int64)))
    expected[:, tiles:] = 99
    kernel = winograd_products(form.frequencies, steps, tiles, mixed=mixed)
    return kernel, [u, v, np.full(expected.shape, 99, np.int32)], expected


OUTPUTS = {
    "plain": (-128, -128, 127),
    "zero point above the clamp": (127, -128, 127),
    "clamped": (-20, -20, 60),
    "clamped below the zero point": (3, -100, 90),
}


@FORMS
@pytest.mark.parametrize("core", CORES)
@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize(("tiles", "channels"), [(1, 1), (6, 2)])
def test_sums_become_outputs(
    form: Algorithm, core: str, output: str, tiles: int, channels: int, rng: np.random.Generator
) -> None:
    problem = Sums(form, output, tiles, channels, rng)
    columned = on_core(core, winograd_columns(form), problem.columns())[0]
    found = on_core(core, problem.kernel, problem.rows(columned), misaligned=[1])[1]
    np.testing.assert_array_equal(found, problem.expected)


@FORMS
@pytest.mark.parametrize("output", OUTPUTS)
def test_the_outputs_in_c_are_the_same(form: Algorithm, output: str, rng: np.random.Generator, tmp_path: Path) -> None:
    problem = Sums(form, output, 3, 2, rng)
    folders = [tmp_path / name for name in ("columns", "rows")]
    for folder in folders:
        folder.mkdir()
    columned = on_host(winograd_columns(form), problem.columns(), folders[0])[0]
    found = on_host(problem.kernel, problem.rows(columned), folders[1])[1]
    np.testing.assert_array_equal(found, problem.expected)


class Sums:
    """Tiles beside each other, four a block of sums; the sums come from the formula, the outputs from the reference."""

    def __init__(self, form: Algorithm, output: str, tiles: int, channels: int, rng: np.random.Generator) -> None:
        k, (zero_point, low, high) = 8, OUTPUTS[output]
        x = rng.integers(-128, 128, (tiles, form.patch, form.patch, k)).astype(np.int8)
        weight = rng.integers(-128, 128, (channels, k, 9))
        bias, multiplier = rng.integers(-20000, 20000, channels), rng.integers(1 << 30, 1 << 31, channels)
        shift = rng.integers(7, 12, channels)
        filters = weight.transpose(0, 2, 1).reshape(channels, 3, 3, k).astype(np.int8)
        scales = [values.astype(np.int32) for values in (bias, multiplier, -shift)]
        settings = {"input_zero_point": 0, "output_zero_point": zero_point, "clamp_min": low, "clamp_max": high}
        window = {"strides": (1, 1), "padding": (0, 0, 0, 0), "dilation": (1, 1), "groups": 1}
        self.expected = operators.conv2d(x, filters, *scales, **window, **settings).transpose(1, 0, 2, 3)  # type: ignore
        self.kernel = winograd_rows(form, choose_output(zero_point, low, high))
        self._counts = tiles, channels
        self._strides = channels, tiles * form.tile * channels
        constant = rounding_constant(shift, np.full(channels, zero_point))
        self._parameters = winograd.pack_parameters(form, weight, bias, multiplier, constant, shift)
        self._places = np.zeros((tiles, 2), np.int32)
        self._sums = np.zeros((-(-tiles // 4), form.frequencies, 4, 2), np.int32)
        u = transformed(form.filter, weight.reshape(channels, k, 3, 3).transpose(2, 3, 0, 1))
        for tile in range(tiles):
            patch = x[tile].astype(np.int64) + 128
            patch[..., 0::2] += corner(form)[:, :, None]
            products = np.einsum("abk,abok->abo", transformed(form.input, patch), u)
            self._sums[tile // 4, :, tile % 4, :channels] = wrapped(by_frequency(products))
            self._places[tile] = tile // 4 * self._sums[0].nbytes + tile % 4 * 8, tile * form.tile * channels

    def columns(self) -> list[Argument]:
        return [self._sums, self._places, self._parameters, *self._counts]

    def rows(self, columned: NDArray[np.int32]) -> list[Argument]:
        y = np.zeros(self.expected.shape, np.int8)
        return [columned, y, self._places, self._parameters, *self._counts, *self._strides]


def test_layers_share_what_does_not_depend_on_them() -> None:
    """Two layers with different shapes and channels: only the products differ."""
    graph = Int8Graph(0)
    x = graph.conv(graph.input((1, 8, 7, 8), (0.05, 0)), 12, (3, 3), activation="RELU")
    network = graph.finish("layers", graph.conv(x, 8, (3, 3), padding="VALID", activation="RELU"))
    text = build(network, recipe=Winograd(algorithms=[F4], least_gain=ANY)).sources["tvmgen_m.c"]
    functions = {line.split("(")[0] for line in text.split("static void ")[1:]}
    products = {"tinyml_winograd_products_grouped_36_4_4", "tinyml_winograd_products_grouped_36_6_4"}
    shared = {f"tinyml_winograd4_{name}" for name in ("filter", "input", "columns", "rows_r")}
    assert {name for name in functions if name.startswith("tinyml_winograd")} == products | shared


# --- layers -----------------------------------------------------------------------------------------------------------


ANY = -10.0
"""A gain that every layer has."""


def layer(seed: int, shape: tuple[int, ...], channels: int, **settings: object) -> Network:
    graph = Int8Graph(seed)
    zero_point = int(graph.rng.choice([-128, -7, 0, 127]))
    return graph.finish("layer", graph.conv(graph.input(shape, (0.05, zero_point)), channels, (3, 3), **settings))  # type: ignore[arg-type]


def build(network: Network, target: str = "cortex-m4", recipe: Winograd | None = None) -> Library:
    """Build with this recipe in place of the target's own of its kind."""
    chosen = cortex_m(target)
    recipes = chosen.recipes("time")
    others = [other for other in recipes["tinyml.conv2d"] if other.name != Winograd.__name__]
    ours = {**recipes, "tinyml.conv2d": (recipe or Winograd(), *others)}
    model = tinyml.load(network.data, name="m")
    return compile_model(model, dataclasses.replace(chosen, recipes=lambda _goal: ours), BuildOptions(goal="time"))


def check(network: Network, library: Library, inputs: list[NDArray[np.int8]]) -> None:
    """Every byte equals the reference's, from buffers at odd addresses, in a pool that begins with garbage."""
    session = Session(library.metadata, library.objects, misalign=1)
    (found,) = session.run(inputs).outputs
    np.testing.assert_array_equal(found.ravel(), network.run(inputs)[0].ravel())


def kernels_of(library: Library) -> str:
    """Side of the tiles of a library's only layer."""
    assert schedules(library) == ["Winograd"]
    return library.sources["tvmgen_m.c"].split("tinyml_winograd")[1][0]


def schedules(library: Library) -> list[str]:
    return [entry["schedule"] for entry in library.metadata["layers"]]


@FORMS
@pytest.mark.parametrize("core", CORES)
@pytest.mark.parametrize("seed", range(6))
def test_layers_of_any_shape_are_exact(form: Algorithm, core: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    shape = (int(rng.choice([1, 1, 2])), *rng.integers(6, 20, 2).tolist(), int(rng.integers(8, 40)))
    settings = {"padding": rng.choice(["SAME", "VALID"]), "activation": rng.choice(["NONE", "RELU", "RELU6"])}
    network = layer(seed, shape, int(rng.integers(8, 20)), **settings)
    recipe = Winograd(
        int(rng.choice([20, 32, 48, 200])) * 1024, least_gain=ANY, mixed=core == "cortex-m7", algorithms=[form]
    )
    library = build(network, core, recipe)
    assert schedules(library) == ["Winograd"]
    check(network, library, network.random_inputs(seed))


@FORMS
@pytest.mark.parametrize(("height", "width"), [(4, 4), (4, 5), (5, 7), (7, 6), (6, 13), (9, 4)])
@pytest.mark.parametrize("padding", ["SAME", "VALID"])
def test_sides_that_are_no_multiple_of_a_tile_overlap(form: Algorithm, height: int, width: int, padding: str) -> None:
    grown = 2 if padding == "VALID" else 0
    network = layer(3, (1, height + grown, width + grown, 8), 9, padding=padding)
    library = build(network, recipe=Winograd(least_gain=ANY, algorithms=[form]))
    assert schedules(library) == ["Winograd"]
    check(network, library, network.random_inputs(1))


@FORMS
@pytest.mark.parametrize("weight", [-128, -127, 127])
@pytest.mark.parametrize("pixel", [-128, 127])
def test_extreme_weights_and_inputs_are_exact(form: Algorithm, weight: int, pixel: int) -> None:
    weights = np.full((8, 3, 3, 64), weight, np.int8)
    network = layer(1, (1, 6, 6, 64), 8, weights=weights, activation="NONE")
    library = build(network, recipe=Winograd(algorithms=[form], least_gain=ANY))
    assert schedules(library)[-1].startswith("Winograd")  # which unpacks weights that are all the same
    check(network, library, [np.full_like(x, pixel) for x in network.random_inputs(0)])


def test_a_dead_channel_stays_in_the_recipe() -> None:
    network = layer(2, (1, 8, 8, 8), 9, dead=[0, 3, 8])
    library = build(network)
    assert schedules(library) == ["Winograd"]
    check(network, library, network.random_inputs(0))


@FORMS
def test_on_the_host_the_c_form_gives_the_reference_bytes(form: Algorithm, tmp_path: Path) -> None:
    recipe = Winograd(algorithms=[form], least_gain=ANY)
    for seed, shape, channels in ((0, (1, 7, 9, 10), 9), (1, (2, 8, 8, 36), 12)):
        network = layer(seed, shape, channels)
        inputs = network.random_inputs(seed)
        (found,) = HostLibrary(build(network, recipe=recipe), tmp_path / str(seed), misalign=1).run(inputs)
        np.testing.assert_array_equal(found.ravel(), network.run(inputs)[0].ravel())


@FORMS
def test_on_the_core_gcc_makes_the_same_bytes_of_the_c_form(form: Algorithm, tmp_path: Path) -> None:
    network = layer(4, (1, 7, 10, 12), 9)
    library = build(network, recipe=Winograd(algorithms=[form], least_gain=ANY))
    session = Session(library.metadata, cross_compile(library, tmp_path, "cortex-m4"), misalign=1)
    inputs = network.random_inputs(0)
    (found,) = session.run(inputs).outputs
    np.testing.assert_array_equal(found.ravel(), network.run(inputs)[0].ravel())


@FORMS
def test_both_compilers_take_the_c_form_without_a_warning(form: Algorithm, tmp_path: Path) -> None:
    library = build(layer(4, (2, 7, 10, 12), 9), recipe=Winograd(algorithms=[form], least_gain=ANY))
    for compiler in ("gcc", "clang"):
        assert compile_objects(library, tmp_path / compiler, compiler, ("-O2",))


@pytest.mark.parametrize("channels", [2, 3])
def test_few_output_channels_are_worth_it(channels: int) -> None:
    network = layer(5, (1, 12, 12, 16), channels)
    library = build(network)
    assert schedules(library) == ["Winograd"]
    check(network, library, network.random_inputs(0))


# --- what is refused --------------------------------------------------------------------------------------------------


def test_sums_that_may_wrap_are_refused() -> None:
    """9 * 124 * 127 * 255 > 2**25: a channel of large weights of one sign, with zero point and bias at the end."""
    weights = np.random.default_rng(0).integers(-20, 21, (8, 3, 3, 240)).astype(np.int8)
    fits = layer(0, (1, 8, 8, 240), 8, weights=weights)
    four, both = (Winograd(400 * 1024, algorithms=forms) for forms in ([F4], [F4, F2]))
    assert kernels_of(build(fits, recipe=both)) == "4"
    weights[5] = 127
    wraps = layer(0, (1, 8, 8, 240), 8, weights=weights)
    assert "Winograd" not in schedules(build(wraps, recipe=four))
    library = build(wraps, recipe=both)
    assert kernels_of(library) == "2"  # whose sums may be larger
    check(wraps, library, [np.full_like(x, 127) for x in wraps.random_inputs(0)])


def test_scales_that_the_epilogue_cannot_do_are_refused() -> None:
    assert "Winograd" not in schedules(build(layer(0, (1, 8, 8, 8), 8, output=(0.5, 3), effective_scale=1.5)))


@pytest.mark.parametrize(
    ("shape", "channels", "settings"),
    [
        ((1, 1, 8, 8), 8, {}),  # fewer rows than a tile
        ((1, 8, 8, 4), 8, {}),  # few input channels
        ((1, 8, 8, 8), 8, {"strides": (2, 2)}),
        ((1, 8, 8, 8), 8, {"dilation": (2, 2)}),
        ((1, 8, 8, 16), 8, {"groups": 2}),
    ],
    ids=["rows", "inputs", "strides", "dilation", "groups"],
)
def test_other_convolutions_are_refused(shape: tuple[int, ...], channels: int, settings: dict[str, object]) -> None:
    assert "Winograd" not in schedules(build(layer(0, shape, channels, **settings)))


def test_a_layer_that_is_faster_as_a_matrix_product_is_refused() -> None:
    """Too few tiles for as many filters."""
    few, many = layer(0, (1, 5, 5, 64), 64), layer(0, (1, 8, 8, 64), 64)
    assert "Winograd" not in schedules(build(few, recipe=Winograd(algorithms=[F4])))
    assert schedules(build(few, recipe=Winograd(algorithms=[F4], least_gain=ANY))) == ["Winograd"]
    assert schedules(build(many, recipe=Winograd(algorithms=[F4]))) == ["Winograd"]


def test_scratch_stays_within_its_bound() -> None:
    """A smaller one is used as well as it can be, at last with smaller tiles; one that holds no stripe is refused."""
    network = layer(0, (1, 16, 16, 32), 32)
    sizes = []
    for kib, tile in ((48, "4"), (24, "4"), (16, "4"), (12, "2")):
        library = build(network, recipe=Winograd(kib * 1024))
        assert kernels_of(library) == tile
        sizes.append(library.metadata["pools"]["sram"]["size_bytes"])
        assert sizes[-1] <= kib * 1024
        check(network, library, network.random_inputs(0))
    assert sizes == sorted(sizes, reverse=True)
    assert "Winograd" not in schedules(build(network, recipe=Winograd(4 * 1024)))
