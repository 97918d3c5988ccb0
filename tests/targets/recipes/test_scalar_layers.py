"""Layers of cores without the DSP extension: of any shape exact, and left to the schedules where they do not fit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import tvm_tinyml as tinyml
from benchmarks.int8_graph import Int8Graph, Network
from tests.compile.toolchains import HostLibrary
from tests.simulated import needs_simulator
from tests.targets.microkernels.scalar_channels import CORES
from tvm_tinyml.benchmark import bench
from tvm_tinyml.targets.cortex_m.recipes.scalar_conv import cut_into_blocks

pytestmark = needs_simulator


def built(network: Network, target: str, **options: object) -> tuple[list[str], int]:
    """Schedules that a layer is made of, and how many of its bytes differ."""
    model = tinyml.load(network.data, name="layer")
    library = tinyml.build(model, target, **options)  # type: ignore[arg-type]
    figures = bench(library, model)
    return [layer["schedule"] for layer in library.metadata["layers"]], figures["reference"]["differing"]


def convolution(
    shape: tuple[int, ...], channels: int, kernel: tuple[int, int] = (1, 1), seed: int = 0, **settings: object
) -> Network:
    graph = Int8Graph(seed)
    x = graph.input(shape, (0.05, -4))
    return graph.finish("layer", graph.conv(x, channels, kernel, **settings))  # type: ignore[arg-type]


LAYERS: dict[str, Callable[[], Network]] = {
    "pointwise": lambda: convolution((1, 5, 5, 16), 10),
    "odd channels": lambda: convolution((1, 4, 5, 7), 5),
    "one channel": lambda: convolution((1, 6, 3, 3), 1, (3, 3)),
    "padded": lambda: convolution((1, 9, 7, 4), 6, (3, 3)),
    "strides": lambda: convolution((1, 11, 12, 3), 8, (3, 3), strides=(2, 3)),
    "dilation": lambda: convolution((1, 9, 9, 5), 4, (2, 3), dilation=(2, 3)),
    "groups": lambda: convolution((1, 6, 7, 9), 15, (3, 3), groups=3),
    "images": lambda: convolution((3, 5, 7, 6), 4, (3, 2), strides=(2, 1)),
    "many blocks": lambda: convolution((1, 40, 21, 8), 4, (3, 3)),
    "dead channels": lambda: convolution((1, 4, 3, 8), 6, dead=[0, 3, 5]),
}


def separable(shape: tuple[int, ...], kernel: tuple[int, int], **settings: object) -> Network:
    graph = Int8Graph(1)
    x = graph.input(shape, (0.05, -4))
    return graph.finish("layer", graph.depthwise(x, kernel, **settings))  # type: ignore[arg-type]


DEPTHWISE: dict[str, Callable[[], Network]] = {
    "padded": lambda: separable((1, 9, 7, 5), (3, 3)),
    "not padded": lambda: separable((1, 9, 7, 5), (3, 3), padding="VALID"),
    "one row": lambda: separable((1, 3, 9, 3), (3, 3), padding="VALID"),
    "one pixel": lambda: separable((1, 3, 3, 3), (3, 3), padding="VALID"),
    "strides": lambda: separable((1, 13, 12, 4), (3, 3), strides=(2, 2)),
    "different strides": lambda: separable((1, 13, 12, 4), (5, 2), padding="VALID", strides=(1, 3)),
    "dilation": lambda: separable((1, 12, 13, 3), (3, 3), dilation=(2, 3)),
    "multiplier": lambda: separable((1, 6, 5, 3), (3, 3), multiplier=3),
    "images": lambda: separable((2, 6, 5, 3), (3, 3)),
    "large window": lambda: separable((1, 15, 14, 2), (9, 10)),
    "many blocks": lambda: separable((1, 64, 50, 2), (3, 3)),
    "more border than image": lambda: separable((1, 2, 2, 3), (5, 5)),
}


@pytest.mark.parametrize("target", CORES)
@pytest.mark.parametrize("name", LAYERS)
def test_convolutions_of_any_kind_are_exact(name: str, target: str) -> None:
    schedules, differing = built(LAYERS[name](), target)
    assert differing == 0
    assert "ScalarConv" in schedules


@pytest.mark.parametrize("target", CORES)
@pytest.mark.parametrize("name", ["padded", "groups", "images"])
def test_layers_in_c_do_the_same(name: str, target: str, tmp_path: Path) -> None:
    for network in (LAYERS[name](), DEPTHWISE[name]() if name in DEPTHWISE else DEPTHWISE["multiplier"]()):
        folder = tmp_path / str(network.macs)
        folder.mkdir()
        library = tinyml.build(tinyml.load(network.data, name="layer"), target)
        inputs = network.random_inputs(1)
        found = HostLibrary(library, folder, misalign=1).run(inputs)[0]
        np.testing.assert_array_equal(found, network.run(inputs)[0].reshape(found.shape))


@pytest.mark.parametrize("target", CORES)
def test_every_number_of_pixels_is_covered(target: str) -> None:
    for pixels in (4, 5, 6, 7, 9, 11, 13, 23):
        schedules, differing = built(convolution((1, 1, pixels, 3), 3, seed=pixels), target)
        assert (schedules, differing) == (["ScalarConv"], 0)


@pytest.mark.parametrize("tile", [3, 4])
def test_blocks_cover_all_pixels_and_no_others(tile: int) -> None:
    for pixels in range(tile, 300):
        for most in (1, 2, 3, 5, 12):
            covered: set[int] = set()
            for run in cut_into_blocks(pixels, tile, most):
                assert run.tiles <= most
                for i in range(run.count):
                    start = run.start + i * run.tiles * tile
                    covered |= set(range(start, start + run.tiles * tile))
            assert covered == set(range(pixels))


@pytest.mark.parametrize("target", CORES)
@pytest.mark.parametrize("name", DEPTHWISE)
def test_depthwise_convolutions_of_any_kind_are_exact(name: str, target: str) -> None:
    for goal in ("time", "ram"):
        schedules, differing = built(DEPTHWISE[name](), target, goal=goal)
        assert differing == 0
        assert "ScalarDepthwise" in schedules


def sums(kind: str, a: tuple[int, ...], b: tuple[int, ...], seed: int, activation: str) -> Network:
    graph = Int8Graph(seed)
    x, y = graph.input(a, (0.05, -4)), graph.input(b, (0.11, 7))
    return graph.finish("layer", getattr(graph, kind)(x, y, activation=activation))


@pytest.mark.parametrize("target", CORES)
@pytest.mark.parametrize("activation", ["NONE", "RELU"])
@pytest.mark.parametrize("kind", ["add", "sub"])
def test_sums_of_tensors_are_exact(kind: str, activation: str, target: str) -> None:
    for seed in range(3):
        schedules, differing = built(sums(kind, (1, 5, 3, 7), (1, 5, 3, 7), seed, activation), target)
        assert (schedules, differing) == (["ScalarSum"], 0)
    schedules, differing = built(sums(kind, (1, 5, 3, 7), (1, 1, 1, 7), 0, activation), target)
    assert differing == 0
    assert "ScalarSum" not in schedules  # it does not broadcast


@pytest.mark.parametrize("target", CORES)
def test_dense_layers_and_few_pixels_are_exact(target: str) -> None:
    for rows, length, units in ((1, 64, 10), (1, 9, 1), (2, 640, 13), (2, 33, 6), (7, 20, 5)):
        graph = Int8Graph(rows)
        network = graph.finish("layer", graph.dense(graph.input((rows, length), (0.05, -4)), units))
        schedules, differing = built(network, target)
        assert (schedules, differing) == (["ScalarDense" if rows < 3 else "ScalarConv"], 0)
    for shape, kernel in (((1, 3, 4, 7), (3, 3)), ((2, 5, 5, 3), (5, 5)), ((1, 1, 2, 8), (1, 1))):
        schedules, differing = built(convolution(shape, 8, kernel, padding="VALID"), target)
        assert (schedules, differing) == (["ScalarDense"], 0)


REFUSED: dict[str, Callable[[], Network]] = {
    "pair of weights": lambda: convolution((1, 4, 3, 8), 2, weights=np.full((2, 1, 1, 8), -128, np.int8)),
    "large scale": lambda: convolution((1, 4, 3, 8), 4, effective_scale=2.5, output=(0.5, 3)),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_fit_is_left_to_the_schedules(name: str) -> None:
    for target in CORES:
        schedules, differing = built(REFUSED[name](), target)
        assert differing == 0
        assert "ScalarConv" not in schedules


@pytest.mark.parametrize("target", CORES)
def test_small_flash_gets_schedules(target: str) -> None:
    schedules, differing = built(convolution((1, 4, 3, 8), 6), target, goal="flash")
    assert differing == 0
    assert "ScalarConv" not in schedules
