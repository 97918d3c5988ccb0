"""Dense layers with weights of four bits: exact for every length and width and at the bounds, refused beyond them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.int8_graph import Int8Graph, Network
from tests.passes.narrow_weights import weights
from tests.simulated import needs_simulator
from tests.targets.microkernels.alone import Argument, on_core, on_host
from tests.targets.microkernels.test_dense import OUTPUTS, built
from tvm_tinyml.passes.weight_codes import Kind
from tvm_tinyml.reference import operators
from tvm_tinyml.targets.cortex_m.microkernels import dense_narrow, dense_rows
from tvm_tinyml.targets.cortex_m.microkernels.microkernel import Microkernel
from tvm_tinyml.targets.cortex_m.microkernels.output import choose_output

pytestmark = needs_simulator

CORES = ("cortex-m4", "cortex-m7", "cortex-m33")
FORMS = [
    *(("nibbles", channels) for channels in range(1, 9)),
    *((form, channels) for form in ("scaled", "table") for channels in range(1, 5)),
]
UNIT = {"nibbles": 1, "scaled": 2, "table": 4}
"""Words of activations that a form takes at once."""


class Problem:
    """One row of activations, weights as they are stored, and what comes out."""

    def __init__(self, rng: np.random.Generator, form: str, words: int, channels: int, output: str) -> None:
        zero_point, low, high = OUTPUTS[output]
        self.form, self.output = form, choose_output(zero_point, low, high)
        self.x = rng.integers(-128, 128, 2 * words)
        self.bits = rng.integers(*((0, 16) if form == "table" else (-8, 8)), (channels, 2 * words))
        self.numbers = rng.integers(-128, 128, 16)
        self.multipliers = rng.integers(1, 17, (channels, -(-words // dense_narrow.GROUP_WORDS)))
        self.bias = rng.integers(-20000, 20000, channels)
        self.multiplier = rng.integers(1 << 30, 1 << 31, channels)
        self.shift = rng.integers(1, 12, channels)
        self.zero_point = np.full(channels, zero_point)
        self._clamp = {"output_zero_point": zero_point, "clamp_min": low, "clamp_max": high}

    @property
    def weight(self) -> NDArray[np.int8]:
        match self.form:
            case "table":
                return self.numbers[self.bits].astype(np.int8)
            case "scaled":
                of_inputs = self.multipliers.repeat(dense_narrow.GROUP, axis=1)[:, : self.bits.shape[1]]
                return (self.bits * of_inputs).astype(np.int8)
            case _:
                return self.bits.astype(np.int8)

    @property
    def expected(self) -> NDArray[np.int8]:
        scales = [values.astype(np.int32) for values in (self.bias, self.multiplier, -self.shift)]
        return operators.dense(self.x.astype(np.int8)[None], self.weight, *scales, **self._clamp)[0]

    @property
    def sums(self) -> NDArray[np.int32]:
        """What `row_sums` makes."""
        words = len(self.x) // 2 if self.form == "nibbles" else dense_narrow.GROUP_WORDS
        groups = np.pad(self.x, (0, -len(self.x) % (2 * words))).reshape(-1, 2 * words)
        return (-8 * groups.sum(axis=1)).astype(np.int32)

    def call(self, at_once: int, shared: bool) -> tuple[Microkernel, list[Argument]]:
        if shared:
            self.multiplier[:], self.shift[:] = self.multiplier[0], self.shift[0]
        scales = dense_rows.scale_words(self.multiplier, self.shift, self.zero_point)
        rest = self.bias, None if shared else scales, at_once
        match self.form:
            case "nibbles":
                kernel = dense_narrow.dense_nibbles(at_once, self.output, shared=shared)
                constants = dense_narrow.pack_nibbles(self.bits, *rest)
            case "scaled":
                kernel = dense_narrow.dense_scaled(at_once, self.output, shared=shared)
                constants = dense_narrow.pack_scaled(self.bits, self.multipliers, *rest)
            case _:
                kernel = dense_narrow.dense_table(at_once, self.output, shared=shared)
                constants = dense_narrow.pack_table(self.bits, *rest)
        y, words = np.zeros(len(self.bits), np.int8), len(self.x) // 2
        behind = [] if self.form == "table" else [self.sums.view(np.int16)]
        row = np.concatenate([self.x.astype(np.int16), *behind])
        arguments: list[Argument] = [np.concatenate([*([scales[0]] if shared else []), constants.ravel()])]
        arguments += [row, y, (y, y.nbytes), words]
        return kernel, [*arguments, *([table_of(self.numbers)] if self.form == "table" else [])]


def table_of(numbers: NDArray[np.int64]) -> NDArray[np.int16]:
    pairs = np.arange(256)
    return np.stack([numbers[pairs % 16], numbers[pairs // 16]], axis=1).astype(np.int16)


def check(problem: Problem, core: str, at_once: int, shared: bool) -> None:
    kernel, arguments = problem.call(at_once, shared)
    np.testing.assert_array_equal(on_core(core, kernel, arguments, misaligned=[2])[2], problem.expected)


@pytest.mark.parametrize("core", CORES)
@pytest.mark.parametrize(("form", "at_once"), FORMS)
@pytest.mark.parametrize("shared", [True, False])
def test_any_length_is_exact(core: str, form: str, at_once: int, shared: bool, rng: np.random.Generator) -> None:
    """Every number of words behind the unrolled loop, groups that are whole and one that is not."""
    for i, units in enumerate([1, 2, 3, 7, 8, 9, 16, 21, 40]):
        output, passes = list(OUTPUTS)[i % len(OUTPUTS)], int(rng.integers(1, 4))
        check(Problem(rng, form, UNIT[form] * units, at_once * passes, output), core, at_once, shared)


@pytest.mark.parametrize("core", CORES)
@pytest.mark.parametrize("x", [-128, 127])
@pytest.mark.parametrize("bits", [-8, 7])
@pytest.mark.parametrize("form", ["nibbles", "scaled"])
def test_the_largest_sums_are_exact(core: str, form: str, x: int, bits: int, rng: np.random.Generator) -> None:
    """The fourth channel of a word has the least room for its sum."""
    words = (dense_narrow.LARGEST_SUMS[3] - 20000) // (8 * 128) // 2
    problem = Problem(rng, form, int(words // 2 * 2), 8, "zero point above the clamp")
    problem.x[:], problem.bits[:] = x, bits
    check(problem, core, {"nibbles": 8, "scaled": 4}[form], False)


@pytest.mark.parametrize(("form", "at_once"), FORMS)
@pytest.mark.parametrize("shared", [True, False])
def test_the_body_in_c_does_the_same(
    form: str, at_once: int, shared: bool, rng: np.random.Generator, tmp_path: Path
) -> None:
    output = "zero point above the clamp" if shared else "clamped"
    problem = Problem(rng, form, UNIT[form] * 11, 3 * at_once, output)
    kernel, arguments = problem.call(at_once, shared)
    np.testing.assert_array_equal(on_host(kernel, arguments, tmp_path)[2], problem.expected)


@pytest.mark.parametrize(("words", "at_once"), [(1, 1), (2, 2), (5, 5), (16, 16), (18, 16), (64, 16), (37, 37), (9, 4)])
def test_rows_are_added_up(words: int, at_once: int, rng: np.random.Generator, tmp_path: Path) -> None:
    x = rng.integers(-128, 128, 2 * words).astype(np.int16)
    groups = np.pad(x, (0, -2 * words % (2 * at_once))).reshape(-1, 2 * at_once)
    expected = (-8 * groups.sum(axis=1)).astype(np.int32)
    arguments: list[Argument] = [np.zeros_like(expected), x, words, at_once]
    for core in CORES:
        np.testing.assert_array_equal(on_core(core, dense_narrow.row_sums(), arguments)[0], expected)
    np.testing.assert_array_equal(on_host(dense_narrow.row_sums(), arguments, tmp_path)[0], expected)


def test_the_table_has_all_pairs(rng: np.random.Generator, tmp_path: Path) -> None:
    numbers = rng.integers(-128, 128, 16).astype(np.int32)
    arguments: list[Argument] = [np.zeros((256, 2), np.int16), numbers]
    for found in (
        *(on_core(core, dense_narrow.pair_table(), arguments) for core in CORES),
        on_host(dense_narrow.pair_table(), arguments, tmp_path),
    ):
        np.testing.assert_array_equal(found[0], table_of(numbers))


def layer(seed: int, length: int, weight: NDArray[np.int8], rows: int = 1, **settings: object) -> Network:
    graph = Int8Graph(seed)
    x = graph.input((rows, length), (0.05, -4))
    return graph.finish("layer", graph.dense(x, len(weight), weights=weight, **settings))


@pytest.mark.parametrize("kind", list(Kind))
@pytest.mark.parametrize(("length", "channels"), [(64, 64), (47, 50), (150, 17), (33, 65)])
@pytest.mark.parametrize("rows", [1, 2])
def test_layers_read_four_bits(kind: Kind, length: int, channels: int, rows: int, rng: np.random.Generator) -> None:
    schedules, functions = built(layer(channels, length, weights(rng, kind, (channels, length)), rows))
    form = {Kind.PLAIN: "nibbles", Kind.SCALED: "scaled", Kind.TABLE: "table"}[kind]
    assert schedules == ["DenseNarrow"]
    assert any(name.startswith(f"tinyml_dense_{form}") for name in functions)


@pytest.mark.parametrize("kind", list(Kind))
def test_convolutions_of_a_few_pixels_are_dense_layers(kind: Kind, rng: np.random.Generator) -> None:
    graph = Int8Graph(3)
    x = graph.input((1, 5, 7, 16), (0.05, -4))
    weight = weights(rng, kind, (24, 5, 6, 16), group=32)
    schedules, _ = built(graph.finish("layer", graph.conv(x, 24, (5, 6), padding="VALID", weights=weight)))
    assert schedules == ["DenseNarrow"]


@pytest.mark.parametrize("target", ["cortex-m4+nofp", "cortex-m33+nofp"])
@pytest.mark.parametrize("kind", list(Kind))
def test_cores_without_floating_point_registers(kind: Kind, target: str, rng: np.random.Generator) -> None:
    schedules, _ = built(layer(1, 70, weights(rng, kind, (45, 70))), target)
    assert schedules == ["DenseNarrow"]


def test_sums_too_large_for_the_fourth_channel_are_told_apart_group_by_group(rng: np.random.Generator) -> None:
    weight = weights(rng, Kind.PLAIN, (16, 600))
    weight[3] = 7
    _, functions = built(layer(2, 600, weight))
    assert any(name.startswith("tinyml_dense_scaled") for name in functions)
    assert not any(name.startswith("tinyml_dense_nibbles") for name in functions)


def test_a_small_table_does_not_pay(rng: np.random.Generator) -> None:
    schedules, _ = built(layer(2, 60, weights(rng, Kind.TABLE, (20, 60))))
    assert schedules == ["DenseRows + Unpack"]


def test_scales_that_the_epilogue_cannot_do_are_left_to_the_schedules(rng: np.random.Generator) -> None:
    weight = weights(rng, Kind.PLAIN, (16, 64))
    schedules, _ = built(layer(0, 64, weight, output=(0.5, 3), effective_scale=1.5))
    assert "DenseNarrow" not in schedules


def test_a_channel_that_the_epilogue_cannot_do_is_computed_by_a_loop(rng: np.random.Generator) -> None:
    weight = weights(rng, Kind.PLAIN, (16, 64))
    scales = np.where(np.arange(16) == 5, 1.5, 0.01)
    schedules, _ = built(layer(0, 64, weight, per_channel=True, output=(0.5, 3), effective_scale=scales))
    assert schedules == ["DenseNarrow + Outliers"]
