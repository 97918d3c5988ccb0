"""Dense layers row by row: exact for every length and width and at the bounds of the trick, refused beyond them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import tvm_tinyml as tinyml
from benchmarks.int8_graph import Int8Graph, Network
from tests.simulated import needs_simulator
from tests.targets.microkernels.alone import Argument, on_core, on_host
from tvm_tinyml.benchmark import bench
from tvm_tinyml.device import Simulator, assemble
from tvm_tinyml.device.memory import MemoryMap
from tvm_tinyml.reference import operators
from tvm_tinyml.targets.cortex_m.microkernels import dense_rows, gemm
from tvm_tinyml.targets.cortex_m.microkernels.microkernel import Microkernel
from tvm_tinyml.targets.cortex_m.microkernels.output import choose_output
from tvm_tinyml.targets.cortex_m.microkernels.pack import Window

pytestmark = needs_simulator

CORES = ("cortex-m4", "cortex-m7", "cortex-m33")
OUTPUTS = {
    "plain": (-128, -128, 127),
    "zero point above the clamp": (127, -128, 127),
    "clamped": (-20, -20, 60),
    "clamped below the zero point": (3, -100, 90),
}
FORMS = [("pairs", channels) for channels in range(1, 9)] + [("single", channels) for channels in range(1, 5)]


class Problem:
    """One row of activations, weights and scales for some channels, and what comes out."""

    def __init__(self, rng: np.random.Generator, k: int, channels: int, output: str, **extreme: int) -> None:
        zero_point, low, high = OUTPUTS[output]
        self.output = choose_output(zero_point, low, high)
        self.x = np.full(k, extreme["x"]) if "x" in extreme else rng.integers(-128, 128, k)
        self.w = np.full((channels, k), extreme["w"]) if "w" in extreme else rng.integers(-127, 128, (channels, k))
        self.bias = rng.integers(-20000, 20000, channels)
        self.multiplier = rng.integers(1 << 30, 1 << 31, channels)
        self.shift = rng.integers(1, 12, channels)
        self.zero_point = np.full(channels, zero_point)
        self._clamp = {"output_zero_point": zero_point, "clamp_min": low, "clamp_max": high}

    def share_scale(self) -> None:
        self.multiplier[:], self.shift[:] = self.multiplier[0], self.shift[0]

    @property
    def expected(self) -> NDArray[np.int8]:
        scales = [values.astype(np.int32) for values in (self.bias, self.multiplier, -self.shift)]
        return operators.dense(self.x.astype(np.int8)[None], self.w.astype(np.int8), *scales, **self._clamp)[0]

    def call(self, form: str, at_once: int, shared: bool) -> tuple[Microkernel, list[Argument]]:
        if shared:
            self.share_scale()
        scales = dense_rows.scale_words(self.multiplier, self.shift, self.zero_point)
        make, pack = {
            "pairs": (dense_rows.dense_pairs, dense_rows.pack_pairs),
            "single": (dense_rows.dense_single, dense_rows.pack_single),
        }[form]
        constants = pack(self.w, self.bias, None if shared else scales, at_once).ravel()
        y = np.zeros(len(self.w), np.int8)
        arguments: list[Argument] = [np.concatenate([scales[0], constants]) if shared else constants]
        arguments += [self.x.astype(np.int16), y, (y, y.nbytes), len(self.x) // 2]
        return make(at_once, self.output, shared=shared), arguments


def check(problem: Problem, core: str, form: str, at_once: int, shared: bool) -> None:
    kernel, arguments = problem.call(form, at_once, shared)
    found = on_core(core, kernel, arguments, misaligned=[2])[2]
    np.testing.assert_array_equal(found, problem.expected)


@pytest.mark.parametrize("core", CORES)
@pytest.mark.parametrize(("form", "at_once"), FORMS)
@pytest.mark.parametrize("shared", [True, False])
def test_any_length_is_exact(core: str, form: str, at_once: int, shared: bool, rng: np.random.Generator) -> None:
    """Every number of words behind the unrolled loop, which runs never, once and several times."""
    for i, words in enumerate([*range(1, 10), 16, 21, 34, 64]):
        output = list(OUTPUTS)[i % len(OUTPUTS)]
        k = 2 * words if form == "pairs" else 4 * words
        check(Problem(rng, k, at_once * int(rng.integers(1, 4)), output), core, form, at_once, shared)


@pytest.mark.parametrize("core", CORES)
@pytest.mark.parametrize("x", [-128, 127])
@pytest.mark.parametrize("w", [-127, 127])
def test_the_largest_sums_of_a_pair_are_exact(core: str, x: int, w: int, rng: np.random.Generator) -> None:
    k = (gemm.LARGEST_ODD_SUM - 20000) // (127 * 128) // 2 * 2
    check(Problem(rng, k, 8, "zero point above the clamp", x=x, w=w), core, "pairs", 8, False)


@pytest.mark.parametrize("core", CORES)
@pytest.mark.parametrize("x", [-128, 127])
def test_single_channels_take_any_weight_and_larger_sums(core: str, x: int, rng: np.random.Generator) -> None:
    check(Problem(rng, 4096, 4, "plain", x=x, w=-128), core, "single", 4, True)


@pytest.mark.parametrize(("form", "at_once"), FORMS)
@pytest.mark.parametrize("shared", [True, False])
def test_the_body_in_c_does_the_same(
    form: str, at_once: int, shared: bool, rng: np.random.Generator, tmp_path: Path
) -> None:
    problem = Problem(rng, 44, 3 * at_once, "zero point above the clamp" if shared else "clamped")
    kernel, arguments = problem.call(form, at_once, shared)
    np.testing.assert_array_equal(on_host(kernel, arguments, tmp_path)[2], problem.expected)


def widened(x: NDArray[np.int8]) -> NDArray[np.int16]:
    order = Window.of(1, 1, len(x), len(x), len(x)).order()
    return np.where(order < 0, 0, x[np.maximum(order, 0)]).astype(np.int16)


@pytest.mark.parametrize("core", CORES)
def test_any_number_of_bytes_is_widened_in_order(core: str, rng: np.random.Generator) -> None:
    kernel = dense_rows.widen()
    for size in range(1, 35):
        x = rng.integers(-128, 128, size).astype(np.int8)
        expected = widened(x)
        found = on_core(core, kernel, [np.zeros_like(expected), x, size], misaligned=[1])[0]
        np.testing.assert_array_equal(found, expected)


def test_widening_in_c_does_the_same(rng: np.random.Generator, tmp_path: Path) -> None:
    for size in (1, 2, 3, 4, 23):
        x = rng.integers(-128, 128, size).astype(np.int8)
        (tmp_path / str(size)).mkdir()
        expected = widened(x)
        found = on_host(dense_rows.widen(), [np.zeros_like(expected), x, size], tmp_path / str(size))[0]
        np.testing.assert_array_equal(found, expected)


def test_widening_reads_nothing_behind_its_input() -> None:
    """The input ends where memory does, so that one byte more is a fault."""
    kernel, end = dense_rows.widen(), MemoryMap().ram.end
    with Simulator("cortex-m4") as simulator:
        simulator.load([assemble(f"{kernel.as_assembly()}\n.global {kernel.name}", "cortex-m4")])
        for size in range(1, 20):
            simulator.call(kernel.name, simulator.allocate(2 * size + 2), end - size, size)


def layer(
    seed: int, length: int, channels: int, *, rows: int = 1, x: tuple[float, int] = (0.05, -4), **settings: Any
) -> Network:
    graph = Int8Graph(seed)
    return graph.finish("layer", graph.dense(graph.input((rows, length), x), channels, **settings))


def built(network: Network, target: str = "cortex-m4") -> tuple[list[str], list[str]]:
    """Schedules and microkernels that a layer is made of; its bytes are compared with the reference."""
    model = tinyml.load(network.data, name="layer")
    library = tinyml.build(model, target)
    functions = [line.split("(")[0] for line in library.sources["tvmgen_layer.c"].split("static void ")[1:]]
    assert bench(library, model)["reference"]["differing"] == 0
    return [layer["schedule"] for layer in library.metadata["layers"]], sorted(set(functions))


@pytest.mark.parametrize("channels", range(1, 18))
def test_every_number_of_outputs_and_of_products_is_covered(channels: int, rng: np.random.Generator) -> None:
    for i, target in enumerate(CORES):
        length = 1 if channels == 1 else (7 * channels + 5 * i) % 19 + 1
        zero_point = int(rng.choice([-128, 127, 5]))
        network = layer(
            channels, length, channels, x=(0.05, zero_point), per_channel=i > 0, activation=("NONE", "RELU", "RELU6")[i]
        )
        schedules, _ = built(network, target)
        assert schedules == ["DenseRows"]


@pytest.mark.parametrize("rows", range(1, 7))
def test_a_few_rows_are_computed_one_by_one_and_many_as_a_matrix_product(rows: int) -> None:
    schedules, _ = built(layer(rows, 13, 5, rows=rows))
    assert schedules == ["DenseRows" if rows <= 3 else "ConvGemm"]


@pytest.mark.parametrize(
    ("shape", "channels", "kernel", "settings"),
    [
        ((1, 1, 1, 20), 10, (1, 1), {}),
        ((1, 1, 3, 5), 3, (1, 1), {}),
        ((2, 5, 4, 3), 9, (5, 4), {}),
        ((1, 7, 7, 3), 4, (3, 3), {"dilation": (3, 3)}),
        ((1, 6, 5, 2), 8, (2, 3), {"strides": (5, 2)}),
        ((1, 5, 7, 1), 7, (5, 5), {}),
    ],
)
def test_convolutions_of_a_few_pixels_are_dense_layers(
    shape: tuple[int, ...], channels: int, kernel: tuple[int, int], settings: dict[str, Any]
) -> None:
    graph = Int8Graph(3)
    x = graph.input(shape, (0.05, -4))
    schedules, _ = built(graph.finish("layer", graph.conv(x, channels, kernel, padding="VALID", **settings)))
    assert schedules == ["DenseRows"]


def test_one_scale_for_all_channels_is_stored_once() -> None:
    """Twelve bytes a channel less."""
    sizes = []
    for per_channel in (False, True):
        model = tinyml.load(layer(1, 32, 64, per_channel=per_channel).data, name="layer")
        sizes.append(tinyml.build(model, "cortex-m4").metadata["flash_bytes"]["weights"])
    assert sizes[1] - sizes[0] == 64 * 12 - 12


@pytest.mark.parametrize(("channels", "form"), [(1, "single"), (2, "pairs"), (3, "single"), (4, "pairs"), (5, "pairs")])
def test_a_lone_channel_among_few_has_no_zeros_for_a_partner(channels: int, form: str) -> None:
    _, functions = built(layer(1, 32, channels))
    assert f"tinyml_dense_{form}_{channels}_c_shared" in functions


def test_outputs_in_dozens_take_one_kernel() -> None:
    _, functions = built(layer(1, 32, 12))
    assert len([name for name in functions if name.startswith("tinyml_dense")]) == 1


def test_channels_too_large_for_a_pair_are_computed_alone() -> None:
    """255 * sum|w| beyond 2**23 in one odd channel: its pass, and no other."""
    weights = np.random.default_rng(5).integers(-20, 21, (18, 600)).astype(np.int8)
    weights[3] = 127
    schedules, functions = built(layer(0, 600, 18, weights=weights))
    assert schedules == ["DenseRows"]
    assert [n.split("_")[2:4] for n in functions if n.startswith("tinyml_dense")] == [
        ["pairs", "6"],
        ["single", "2"],
        ["single", "4"],
    ]


def test_large_sums_of_even_channels_need_no_guard() -> None:
    weights = np.random.default_rng(5).integers(-20, 21, (8, 600)).astype(np.int8)
    weights[2] = 127
    _, functions = built(layer(0, 600, 8, weights=weights))
    assert not any("single" in name for name in functions)


@pytest.mark.parametrize("length", [1, 2, 5, 7, 9])
def test_weights_that_do_not_fit_a_half_are_computed_alone(length: int) -> None:
    """Lengths that leave half of the last word of four weights empty."""
    weights = np.full((5, length), -128, np.int8)
    schedules, functions = built(layer(0, length, 5, weights=weights))
    assert schedules == ["DenseRows"]
    assert not any("dense_pairs" in name for name in functions)


def test_dead_channels_stay_in_the_recipe() -> None:
    schedules, _ = built(layer(0, 16, 8, dead=[0, 3, 4], activation="RELU"))
    assert schedules == ["DenseRows"]


def test_scales_that_the_epilogue_cannot_do_are_left_to_the_schedules() -> None:
    schedules, _ = built(layer(0, 16, 8, output=(0.5, 3), effective_scale=1.5))
    assert schedules != ["DenseRows"]


@pytest.mark.parametrize("target", ["cortex-m4+nodsp", "cortex-m3"])
def test_cores_without_what_it_needs_get_something_else(target: str) -> None:
    schedules, _ = built(layer(0, 16, 8), target)
    assert schedules != ["DenseRows"]
