"""The guards of the epilogues, each with numbers at its bound and with weights that break it."""

from __future__ import annotations

import re

import numpy as np
import pytest

import tvm_tinyml as tinyml
from benchmarks.int8_graph import Int8Graph
from tests.simulated import needs_simulator
from tvm_tinyml.arithmetic import multiply_by_quantized_multiplier
from tvm_tinyml.benchmark import bench
from tvm_tinyml.library import Library
from tvm_tinyml.targets.cortex_m.microkernels.output import LARGEST_SHIFT, Ints, Output, exact, rounding_constant

ROUNDED, CORRECTED = (Output(corrected=corrected, low=-128, high=127) for corrected in (False, True))
MULTIPLIERS = (1 << 30, (1 << 31) - 1, 1_518_500_250)


def requantized(output: Output, sums: Ints, multiplier: int, shift: int, zero_point: int) -> Ints:
    """What the instructions compute in 32 bits, which wrap."""
    constant = int(rounding_constant(np.array([shift]), np.array([zero_point]))[0])

    def word(value: Ints) -> Ints:
        return (value + 2**31) % 2**32 - 2**31

    high = (word(2 * sums) * multiplier + 2**31) >> 32
    value = word(high + (high >> 31 if output.corrected else 0) + constant)
    return np.clip(value >> shift, output.low, output.high)


def reference(sums: Ints, multiplier: int, shift: int, zero_point: int) -> Ints:
    value = multiply_by_quantized_multiplier(sums, multiplier, -shift).astype(np.int64) + zero_point
    return np.clip(value, -128, 127)


def sums_around_halves(multiplier: int, shift: int, largest: int, rng: np.random.Generator) -> Ints:
    """Sums where outputs change, at the ends and in between."""
    halves = ((np.arange(-300, 300) * 2 + 1) << (31 + max(shift - 1, 0))) // multiplier
    near = halves[:, None] + np.arange(-2, 3)
    ends = np.array([-largest, 1 - largest, 0, largest - 1, largest])
    every = np.concatenate([near.ravel(), ends, rng.integers(-largest, largest + 1, 2000)])
    return every[np.abs(every) <= largest]


@pytest.mark.parametrize("zero_point", [-128, -7, 127])
@pytest.mark.parametrize("shift", [1, 2, 7, LARGEST_SHIFT])
def test_the_epilogue_is_the_reference_within_its_bounds(shift: int, zero_point: int, rng: np.random.Generator) -> None:
    largest = (1 << 30) - 1
    assert exact(np.array([shift]), np.array([largest]), CORRECTED).all()
    for multiplier in MULTIPLIERS:
        sums = sums_around_halves(multiplier, shift, largest, rng)
        expected = reference(sums, multiplier, shift, zero_point)
        np.testing.assert_array_equal(requantized(CORRECTED, sums, multiplier, shift, zero_point), expected)
        # Without the correction the clamp must begin at the zero point.
        found = requantized(ROUNDED, sums, multiplier, shift, zero_point)
        np.testing.assert_array_equal(np.maximum(found, zero_point), np.maximum(expected, zero_point))


def test_halves_of_negative_numbers_need_the_correction() -> None:
    sums = np.array([-24, -8, 8, 24])  # -1.5, -0.5, 0.5, 1.5
    assert reference(sums, 1 << 30, 3, 0).tolist() == [-2, -1, 1, 2]
    assert requantized(CORRECTED, sums, 1 << 30, 3, 0).tolist() == [-2, -1, 1, 2]
    assert requantized(ROUNDED, sums, 1 << 30, 3, 0).tolist() == [-1, 0, 1, 2]


@pytest.mark.parametrize(
    ("shift", "largest", "output", "sums"),
    [
        (0, 1 << 20, CORRECTED, [-2]),  # nothing is rounded, and the correction changes it
        (LARGEST_SHIFT + 2, (1 << 30) - 1, ROUNDED, [(1 << 30) - 1]),  # with a zero point of 127: beyond 32 bits
        (8, 1 << 30, ROUNDED, [1 << 30]),  # doubled, it is negative
    ],
)
def test_beyond_a_bound_the_epilogue_is_wrong_and_refused(
    shift: int, largest: int, output: Output, sums: list[int]
) -> None:
    assert not exact(np.array([shift]), np.array([largest]), output).any()
    values = np.array(sums, np.int64)
    expected = reference(values, MULTIPLIERS[1], shift, 127 if shift > 8 else 0)
    found = requantized(output, values, MULTIPLIERS[1], shift, 127 if shift > 8 else 0)
    assert (found != expected).all()


@needs_simulator
@pytest.mark.parametrize(("zero_point", "form"), [(-128, "r"), (3, "c")])
@pytest.mark.parametrize("kind", ["conv", "depthwise", "dense"])
def test_the_correction_is_left_out_only_where_the_clamp_hides_halves(kind: str, zero_point: int, form: str) -> None:
    """Every sum is a multiple of half a unit of the output."""
    graph = Int8Graph(0)
    x = graph.input((4, 8) if kind == "dense" else (1, 8, 8, 8), (0.5, 0))
    weights = np.full({"conv": (8, 1, 1, 8), "depthwise": (8, 1, 1, 1), "dense": (8, 8)}[kind], 4, np.int8)
    settings = {"weights": weights, "effective_scale": 2.0**-3, "output": (0.5, zero_point), "bias": False}
    make = {"conv": lambda: graph.conv(x, 8, (1, 1), **settings), "dense": lambda: graph.dense(x, 8, **settings)}
    y = make[kind]() if kind in make else graph.depthwise(x, (1, 1), **settings)
    model = tinyml.load(graph.finish("layer", y).data, name="layer")
    library = tinyml.build(model, "cortex-m4")
    outputs = epilogues(library)
    assert outputs <= {form, "s"}  # "s" has no correction
    assert form == "r" or "s" not in outputs
    assert outputs
    assert bench(library, model)["reference"]["differing"] == 0


@needs_simulator
def test_channels_without_a_common_shift_keep_theirs_in_a_register() -> None:
    """A shift of 1 leaves no room for the multiplier of channels with a shift of 12."""
    weights = np.random.default_rng(1).integers(90, 128, (8, 7, 7, 1)).astype(np.int8)
    found = []
    for scale in (0.77 * 2.0**-12, 0.6):
        graph = Int8Graph(0)
        x = graph.input((1, 9, 9, 8), (0.5, -3))
        scales = np.full(8, 0.77 * 2.0**-12)
        scales[5] = scale
        settings = {"weights": weights, "effective_scale": scales, "output": (0.5, -128), "activation": "RELU"}
        model = tinyml.load(graph.finish("layer", graph.depthwise(x, (7, 7), **settings)).data, name="layer")
        library = tinyml.build(model, "cortex-m4")
        assert library.metadata["layers"][-1]["schedule"] == "Depthwise"
        assert bench(library, model)["reference"]["differing"] == 0
        found.append(epilogues(library))
    assert found == [{"s"}, {"r"}]


def epilogues(library: Library) -> set[str]:
    """The epilogues of a library's microkernels: rounded up, corrected, or with a shared shift."""
    names = re.findall(r"tinyml_(?:gemm|dense|slide|depthwise)_\w+", library.sources["tvmgen_layer.c"])
    return {name.removesuffix("_shared").rsplit("_", 1)[1][0] for name in names}
