"""Channels that no microkernel fits: a loop computes a few of them exactly, and the layer keeps its recipe."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import tvm_tinyml as tinyml
from benchmarks.int8_graph import Int8Graph, Network
from tests.compile.toolchains import HostLibrary
from tests.simulated import needs_helium, needs_simulator, on_cores
from tvm_tinyml.benchmark import bench

pytestmark = needs_simulator

CORES = on_cores("cortex-m4", "cortex-m7", "cortex-m4+nofp", "cortex-m55", "cortex-m3", "cortex-m0plus")
LARGE = 37.0
"""A scale that no epilogue can do; the others are ordinary."""


def layer(
    kind: str,
    shape: tuple[int, ...],
    channels: int,
    outliers: Sequence[int],
    kernel: tuple[int, int] = (1, 1),
    scale: float = LARGE,
    **settings: object,
) -> Network:
    """Two layers, so that the input of the second lies where the memory plan puts it; the second has the outliers."""
    graph = Int8Graph(7)
    x = graph.input(shape, (0.05, -4))
    between = {"output": (2.0**-4, -4)}
    x = graph.dense(x, shape[1], **between) if kind == "dense" else graph.depthwise(x, (1, 1), **between)
    scales = np.full(channels, 0.004)
    scales[list(outliers)] = scale
    settings = {"effective_scale": scales, "output": (0.5, 3), "per_channel": True, **settings}
    if kind == "dense":
        y = graph.dense(x, channels, **settings)
    elif kind == "depthwise":
        y = graph.depthwise(x, kernel, multiplier=channels // shape[3], **settings)  # type: ignore[arg-type]
    else:
        y = graph.conv(x, channels, kernel, **settings)  # type: ignore[arg-type]
    return graph.finish("layer", y)


def built(network: Network, target: str) -> tuple[str, int]:
    """The schedule of the last layer, and how many bytes differ from the reference."""
    model = tinyml.load(network.data, name="layer")
    library = tinyml.build(model, target)
    return library.metadata["layers"][-1]["schedule"], bench(library, model)["reference"]["differing"]


LAYERS: dict[str, Callable[[], Network]] = {
    "pointwise": lambda: layer("conv", (1, 5, 3, 9), 13, [0, 12]),
    "winograd": lambda: layer("conv", (1, 9, 8, 8), 9, [4], (3, 3)),
    "padded": lambda: layer("conv", (1, 9, 7, 4), 6, [5], (3, 5), strides=(2, 1), activation="RELU"),
    "dilated images": lambda: layer("conv", (2, 9, 8, 3), 8, [3], (3, 2), dilation=(2, 3)),
    "groups": lambda: layer("conv", (1, 6, 7, 6), 12, [2, 7], (3, 3), groups=2),
    "few pixels": lambda: layer("conv", (1, 3, 3, 5), 8, [1], (3, 3), padding="VALID"),
    "depthwise": lambda: layer("depthwise", (1, 9, 7, 13), 13, [3, 12], (3, 3), activation="RELU6"),
    "depthwise, strides": lambda: layer("depthwise", (2, 9, 10, 9), 9, [8], (5, 3), strides=(2, 3)),
    "depthwise, several of a channel": lambda: layer("depthwise", (1, 6, 5, 8), 16, [0, 15], (3, 3)),
    "dense": lambda: layer("dense", (1, 33), 12, [0, 11]),
    "dense, many rows": lambda: layer("dense", (9, 20), 7, [4]),
}


@pytest.mark.parametrize("core", CORES)
@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_keeps_its_recipe(name: str, core: str) -> None:
    if core == "cortex-m55" and name in ("groups", "depthwise, several of a channel"):
        pytest.skip("Helium has no recipe for it")
    schedule, differing = built(LAYERS[name](), core)
    assert schedule.endswith(" + Outliers")
    assert differing == 0


@pytest.mark.parametrize("name", LAYERS)
def test_the_c_form_does_the_same_at_the_ends_of_the_range(name: str, tmp_path: Path) -> None:
    network = LAYERS[name]()
    library = HostLibrary(tinyml.build(tinyml.load(network.data, name="layer"), "cortex-m4"), tmp_path, misalign=1)
    for inputs in (network.random_inputs(1), *(_filled(network, value) for value in (-128, 127))):
        found = library.run(inputs)[0]
        np.testing.assert_array_equal(found, network.run(inputs)[0].reshape(found.shape))


def _filled(network: Network, value: int) -> list[NDArray[np.int8]]:
    return [np.full_like(x, value) for x in network.random_inputs(0)]


@pytest.mark.parametrize(("channels", "schedule"), [(6, "ConvGemm + Outliers"), (5, "DotProductTile")])
def test_few_channels_are_left_to_the_schedules(channels: int, schedule: str) -> None:
    """For more than one channel in six the loop would not pay."""
    assert built(layer("conv", (1, 4, 4, 8), channels, [2]), "cortex-m4") == (schedule, 0)


def test_a_scale_that_a_layer_shares_is_left_to_the_schedules() -> None:
    assert built(layer("conv", (1, 4, 4, 8), 6, range(6)), "cortex-m4") == ("DotProductTile", 0)


@pytest.mark.parametrize(("scale", "kept"), [(0.5 - 2**-20, True), (0.5, False)])
def test_a_scale_of_a_half_is_the_first_that_a_correction_by_the_sign_cannot_do(scale: float, kept: bool) -> None:
    schedule, differing = built(layer("conv", (1, 4, 4, 8), 8, [2], scale=scale), "cortex-m4")
    assert (schedule, differing) == ("ConvGemm" if kept else "ConvGemm + Outliers", 0)


@pytest.mark.parametrize(("scale", "kept"), [(1 - 2**-20, True), (1.0, False)])
def test_without_the_correction_a_scale_of_one_is_the_first(scale: float, kept: bool) -> None:
    """The clamp begins at the zero point."""
    network = layer("conv", (1, 4, 4, 8), 8, [2], scale=scale, output=(0.5, -128), activation="RELU")
    schedule, differing = built(network, "cortex-m4")
    assert (schedule, differing) == ("ConvGemm" if kept else "ConvGemm + Outliers", 0)


@pytest.mark.parametrize("core", CORES)
@pytest.mark.parametrize("kind", ["conv", "depthwise", "dense"])
def test_channels_with_next_to_no_scale_are_constants(kind: str, core: str) -> None:
    shape = (4, 16) if kind == "dense" else (1, 5, 4, 8)
    schedule, differing = built(layer(kind, shape, 8, range(0, 8, 2), (1, 1), 2.0**-30), core)
    assert "Outliers" not in schedule
    assert any(name in schedule for name in ("Conv", "Depthwise"))
    assert differing == 0


def test_sums_too_large_for_a_shift_of_23_are_outliers() -> None:
    """Between 2**23 and 2**25, times 2**-24: an output of more than one value."""
    weights = np.random.default_rng(0).integers(-9, 10, (8, 1, 1, 1200)).astype(np.int8)
    weights[3] = 127
    network = layer("conv", (1, 2, 2, 1200), 8, [3], scale=2.0**-24, weights=weights, bias=False)
    assert built(network, "cortex-m4") == ("ConvGemm + Outliers", 0)


@pytest.mark.parametrize("core", ["cortex-m3", "cortex-m0plus"])
def test_two_least_weights_side_by_side_are_an_outlier_without_smlad(core: str) -> None:
    weights = np.random.default_rng(0).integers(-99, 99, (8, 1, 1, 6)).astype(np.int8)
    weights[5, ..., :2] = -128
    assert built(layer("conv", (1, 4, 3, 6), 8, [], weights=weights), core) == ("ScalarConv + Outliers", 0)
    weights[5, ..., 1] = -127
    assert built(layer("conv", (1, 4, 3, 6), 8, [], weights=weights), core) == ("ScalarConv", 0)


def test_a_weight_that_cannot_be_doubled_is_an_outlier_on_an_m3() -> None:
    weights = np.random.default_rng(0).integers(-99, 99, (8, 3, 3, 1)).astype(np.int8)
    weights[7, 2, 2] = -128
    network = layer("depthwise", (1, 6, 5, 8), 8, [], (3, 3), weights=weights)
    assert built(network, "cortex-m3") == ("ScalarDepthwise + Outliers", 0)
    assert built(network, "cortex-m0plus") == ("ScalarDepthwise", 0)  # its weights are not doubled


@needs_helium
def test_two_taps_too_large_for_16_bits_are_an_outlier_with_helium() -> None:
    weights = np.random.default_rng(0).integers(-99, 99, (8, 3, 3, 1)).astype(np.int8)
    weights[2, 0, :2] = -128
    network = layer("depthwise", (1, 6, 5, 8), 8, [], (3, 3), weights=weights, padding="VALID")
    assert built(network, "cortex-m55") == ("HeliumDepthwise + Outliers", 0)
    weights[2, 0, 1] = 127
    network = layer("depthwise", (1, 6, 5, 8), 8, [], (3, 3), weights=weights, padding="VALID")
    assert built(network, "cortex-m55") == ("HeliumDepthwise", 0)


def test_a_channel_that_two_multiplications_cannot_scale_is_an_outlier_on_an_m0plus() -> None:
    """Sums too large for as many bits of the multiplier as the steps need."""
    weights = np.random.default_rng(0).integers(-9, 10, (8, 1, 1, 4000)).astype(np.int8)
    weights[1] = 127
    network = layer("conv", (1, 2, 2, 4000), 8, [1], scale=2.0**-17 * 0.7, weights=weights, bias=False)
    assert built(network, "cortex-m0plus") == ("ScalarConv + Outliers", 0)
