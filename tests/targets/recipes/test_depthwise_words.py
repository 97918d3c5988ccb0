"""Depthwise layers of few taps: the reference's bytes, which layers are taken, and what choices and memory allow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tvm_tinyml as tinyml
from benchmarks.int8_graph import Int8Graph, Network
from tests.compile.toolchains import HostLibrary
from tests.image_networks import depthwise_layer
from tests.simulated import needs_simulator
from tvm_tinyml.benchmark import bench
from tvm_tinyml.choice import Choice
from tvm_tinyml.library import Library
from tvm_tinyml.options import BuildOptions
from tvm_tinyml.pipeline import integer_graph, lower_graph, package
from tvm_tinyml.targets.cortex_m import cortex_m

pytestmark = needs_simulator

CORES = ("cortex-m4", "cortex-m7", "cortex-m33", "cortex-m4+nofp", "cortex-m7+nofp")
FEW_TAPS = ((1, 1), (1, 2), (3, 1), (2, 2), (1, 5), (2, 3), (7, 1), (2, 4))


def built(network: Network, target: str = "cortex-m4", **options: Any) -> Library:
    """Build a network whose bytes are those of the reference."""
    model = tinyml.load(network.data, name="layer")
    library = tinyml.build(model, target, **options)
    assert bench(library, model)["reference"]["differing"] == 0
    return library


def schedules(library: Library) -> list[str]:
    return [each["schedule"] for each in library.metadata["layers"]]


@pytest.mark.parametrize("core", CORES)
@pytest.mark.parametrize("kernel", FEW_TAPS)
def test_any_stride_dilation_and_number_of_channels_gives_the_reference_bytes(
    core: str, kernel: tuple[int, int], rng: np.random.Generator
) -> None:
    cases = ((1, "NONE", 127), (2, "RELU", -128), (1, "RELU6", 3), (4, "NONE", -4), (8, "RELU", 0))
    for i, (multiplier, activation, zero_point) in enumerate(cases):
        strides, dilation = (((1, 1), (1, 1)), ((2, 1), (1, 1)), ((1, 1), (2, 3)), ((3, 2), (1, 1)))[i % 4]
        least = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
        size = least[0] + int(rng.integers(0, 9)), least[1] + int(rng.integers(0, 9))
        network = depthwise_layer(
            size,
            int(rng.integers(4, 41)) // multiplier + 1 + 3 * (multiplier == 1),
            kernel,
            seed=i,
            batch=(1, 3)[i % 2],
            zero_point=zero_point,
            multiplier=multiplier,
            strides=strides,
            dilation=dilation,
            activation=activation,
            padding="VALID",
            per_channel=i % 2 == 0,
        )
        (schedule,) = schedules(built(network, core))
        assert schedule.removesuffix(" + Outliers") == "DepthwiseWords"  # of one tap, its weight may be next to nothing


@pytest.mark.parametrize("core", CORES[:2])
@pytest.mark.parametrize("weight", [-128, 127])
@pytest.mark.parametrize("zero_point", [-128, 127])
def test_weights_at_the_ends_of_their_range_are_exact(core: str, weight: int, zero_point: int) -> None:
    """With inputs at both ends, too: bench tries them beside random ones."""
    for multiplier in (1, 2):
        weights = np.full((6 * multiplier, 2, 2, 1), weight, np.int8)
        weights[::2, 0] = -weights[::2, 1] - 1
        settings = {"weights": weights, "multiplier": multiplier, "zero_point": zero_point}
        network = depthwise_layer((5, 6), 6, (2, 2), padding="VALID", **settings)
        library = built(network, core)
        assert schedules(library) == ["DepthwiseWords"]


@pytest.mark.parametrize(
    ("kernel", "channels", "padding", "multiplier", "expected", "dual"),
    [
        ((1, 5), 8, "SAME", 1, ["Pad", "DepthwiseWords"], ["Pad", "DepthwiseWords"]),
        ((2, 3), 8, "SAME", 1, ["Depthwise"], ["Pad", "DepthwiseWords"]),
        ((2, 4), 8, "VALID", 1, ["DepthwiseWords"], ["DepthwiseWords"]),
        ((3, 3), 8, "VALID", 1, ["Depthwise"], ["Depthwise"]),
        ((3, 3), 8, "SAME", 1, ["Depthwise"], ["Depthwise"]),
        ((2, 2), 3, "VALID", 1, ["Depthwise"], ["Depthwise"]),  # less than a group
        ((2, 2), 2, "SAME", 1, ["Depthwise"], ["Depthwise"]),
        ((2, 2), 2, "VALID", 2, ["DepthwiseWords"], ["DepthwiseWords"]),
        ((2, 2), 4, "VALID", 3, ["Depthwise"], ["Depthwise"]),  # a group has inputs in no order
    ],
)
def test_planes_keep_what_they_are_faster_for(
    kernel: tuple[int, int], channels: int, padding: str, multiplier: int, expected: list[str], dual: list[str]
) -> None:
    network = depthwise_layer((7, 8), channels, kernel, padding=padding, multiplier=multiplier, activation="RELU")
    assert schedules(built(network, "cortex-m4")) == expected
    assert schedules(built(network, "cortex-m7")) == dual
    assert "DepthwiseWords" not in schedules(built(network, "cortex-m4", goal="flash"))


def test_a_scale_above_one_is_left_to_the_schedules() -> None:
    """With a border and without."""
    for padding in ("SAME", "VALID"):
        settings = {"output": (0.1, -128), "activation": "RELU", "padding": padding}
        network = depthwise_layer((6, 6), 4, (1, 3), effective_scale=2.5, **settings)
        assert not {"Depthwise", "DepthwiseWords"} & set(schedules(built(network)))


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
def test_an_outlier_is_computed_by_a_loop(padding: str) -> None:
    """With a border the planes take such a layer: their loop needs none."""
    scales = np.full(12, 0.004)
    scales[3] = 37.0
    network = depthwise_layer((6, 7), 12, (2, 2), effective_scale=scales, output=(0.5, 3), padding=padding)
    name = "Depthwise" if padding == "SAME" else "DepthwiseWords"
    assert schedules(built(network)) == [f"{name} + Outliers"]


@pytest.mark.parametrize("core", ["cortex-m4", "cortex-m7"])
def test_layers_of_as_many_taps_share_their_code(core: str) -> None:
    """Whatever their windows, sizes and channels; a width that is odd is no other code."""
    graph = Int8Graph(0, samples=2)
    x = graph.input((1, 14, 13, 8), (0.05, -4))
    for kernel, dilation in (((2, 2), (1, 1)), ((1, 4), (1, 1)), ((4, 1), (2, 1))):
        x = graph.depthwise(x, kernel, dilation=dilation, padding="VALID", activation="RELU")
    text = built(graph.finish("layer", x), core).sources["tvmgen_layer.c"]
    assert text.count("static void tinyml_depthwise_words_") == 2  # assembly and C of one function


@pytest.mark.parametrize("settings", [{}, {"strides": (2, 2)}, {"dilation": (2, 1), "multiplier": 2}])
def test_layers_in_c_give_the_reference_bytes(settings: dict[str, Any], tmp_path: Path) -> None:
    network = depthwise_layer((9, 8), 7, (2, 2), batch=2, activation="RELU", **settings)
    library = tinyml.build(tinyml.load(network.data, name="layer"), "cortex-m4")
    ends = ([np.full_like(x, value) for x in network.random_inputs(0)] for value in (-128, 127))
    for inputs in (network.random_inputs(1), *ends):
        found = HostLibrary(library, tmp_path, misalign=1).run(inputs)[0]
        np.testing.assert_array_equal(found, network.run(inputs)[0].reshape(found.shape))


def chosen(network: Network, choice: Choice) -> tuple[list[str], Choice]:
    """Build a layer by a choice; its schedules, and what was chosen, if its bytes are those of the reference."""
    model = tinyml.load(network.data, name="layer")
    options, target = BuildOptions(goal="time", emit="lib"), cortex_m("cortex-m4")
    program = lower_graph(integer_graph(model, options), model, target, options, lambda calls: [choice for _ in calls])
    library = package(program, target, options)
    assert bench(library, model)["reference"]["differing"] == 0
    return schedules(library), [kernel.choice for kernel in program.kernels.values()][-1]


def test_a_choice_decides_between_words_and_planes() -> None:
    network = depthwise_layer((7, 8), 6, (2, 2), activation="RELU")
    assert chosen(network, {"kernel": "Depthwise"})[0] == ["Depthwise"]
    assert chosen(network, {"kernel": "DepthwiseWords"})[0] == ["Pad", "DepthwiseWords"]
    network = depthwise_layer((7, 8), 6, (2, 3), activation="RELU")
    assert chosen(network, {"kernel": "DepthwiseWords"})[0] == ["Pad", "DepthwiseWords"]


@pytest.mark.parametrize("rows", [1, 2, 3, 4, 6])
@pytest.mark.parametrize("shift", ["common", "own"])
def test_every_choice_of_knobs_is_exact_and_told(rows: int, shift: str) -> None:
    """A rest of rows behind the last whole block is a block of its own."""
    choice: Choice = {"kernel": "DepthwiseWords", "rows": rows, "shift": shift}
    network = depthwise_layer((12, 9), 6, (2, 2), padding="VALID", activation="RELU", batch=2)
    assert chosen(network, choice) == (["DepthwiseWords"], choice)


def test_knobs_that_are_none_are_refused() -> None:
    network = depthwise_layer((12, 9), 6, (2, 2), padding="VALID", activation="RELU")
    assert "DepthwiseWords" not in chosen(network, {"kernel": "DepthwiseWords", "rows": 7})[0]
    # The output has halves of negative numbers, which a common shift does not correct.
    network = depthwise_layer((12, 9), 6, (2, 2), padding="VALID", output=(0.5, 3))
    assert "DepthwiseWords" not in chosen(network, {"kernel": "DepthwiseWords", "shift": "common"})[0]


@pytest.mark.parametrize("goal", ["time", "balanced", "ram"])
@pytest.mark.parametrize("padding", ["SAME", "VALID"])
def test_the_output_may_lie_over_the_input(goal: str, padding: str, rng: np.random.Generator) -> None:
    """Between two other layers, so that memory is planned; as much as rows are behind each other, and no more."""
    for multiplier, strides in ((1, (1, 1)), (2, (1, 1)), (1, (2, 1))):
        graph = Int8Graph(int(rng.integers(99)), samples=2)
        x = graph.conv(graph.input((2, 20, 11, 4), (0.05, -4)), 10, (1, 1), activation="RELU")
        x = graph.depthwise(x, (2, 2), multiplier=multiplier, strides=strides, padding=padding, activation="RELU")
        library = built(graph.finish("layer", graph.conv(x, 4, (1, 1))), goal=goal)
        assert "DepthwiseWords" in schedules(library)
        if goal == "time" and padding == "VALID" and multiplier == 1:
            _, h, w, _ = x.shape
            assert library.metadata["ram_bytes"]["workspace"] < 2 * (20 * 11 + h * w) * 10


def test_the_method_says_how_a_layer_is_computed() -> None:
    library = built(depthwise_layer((12, 9), 6, (2, 2), padding="VALID", activation="RELU"))
    method = library.metadata["layers"][-1]["method"]
    assert method["algorithm"].startswith("depthwise, 4 channels of 2 pixels at once, ")
    assert method["algorithm"].endswith(", one shift")
    assert not method["scratch"]
