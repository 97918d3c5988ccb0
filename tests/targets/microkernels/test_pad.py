"""The copy with a border: any row, any border, both forms."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import tvm_tinyml as tinyml
from benchmarks.int8_graph import Int8Graph
from tests.simulated import needs_simulator, on_cores
from tests.targets.microkernels.alone import Argument, on_core, on_host
from tvm_tinyml.benchmark import bench
from tvm_tinyml.targets.cortex_m.microkernels.pad import pad

pytestmark = needs_simulator

CORES = on_cores("cortex-m3", "cortex-m4", "cortex-m7", "cortex-m33")


def call(
    rng: np.random.Generator, rows: int, row: int, borders: tuple[int, int, int]
) -> tuple[list[Argument], NDArray[np.int8]]:
    """Arguments for rows with fillings before, between and behind them, and what comes out."""
    x, (before, between, behind) = rng.integers(-128, 128, (rows, row)).astype(np.int8), borders
    pieces = [np.full(before, -7, np.int8)]
    for number, values in enumerate(x):
        pieces += [values, np.full(behind if number == rows - 1 else between, -7, np.int8)]
    expected = np.concatenate(pieces)
    word = np.array([0xF9F9F9F9], np.uint32).view(np.int32)
    numbers = np.array([rows, before, row, between, behind, *word], np.int32)
    return [np.zeros_like(expected), x, numbers], expected


@pytest.mark.parametrize("core", CORES)
def test_rows_and_fillings_of_any_length_are_copied(core: str, rng: np.random.Generator) -> None:
    for row in (*range(1, 14), 24, 29):
        for rows, borders in ((1, (0, 5, 0)), (2, (9, 1, 4)), (3, (2, 8, 3))):
            arguments, expected = call(rng, rows, row, borders)
            np.testing.assert_array_equal(on_core(core, pad(), arguments, misaligned=[0, 1])[0], expected)


def test_the_body_in_c_does_the_same(rng: np.random.Generator, tmp_path: Path) -> None:
    for number, (rows, row, borders) in enumerate(((1, 13, (0, 5, 0)), (4, 5, (9, 0, 4)), (3, 1, (2, 8, 0)))):
        arguments, expected = call(rng, rows, row, borders)
        folder = tmp_path / str(number)
        folder.mkdir()
        np.testing.assert_array_equal(on_host(pad(), arguments, folder)[0], expected)


@pytest.mark.parametrize("shape", [(1, 5, 4, 3), (2, 4, 5, 3)])
@pytest.mark.parametrize("kernel", [(3, 3), (1, 4), (4, 1)])
@pytest.mark.parametrize("goal", ["flash", "time"])
def test_every_border_of_every_image_is_exact(shape: tuple[int, ...], kernel: tuple[int, int], goal: str) -> None:
    graph = Int8Graph(4)
    network = graph.finish("layer", graph.conv(graph.input(shape, (0.05, -4)), 6, kernel, strides=(2, 2)))
    model = tinyml.load(network.data, name="layer")
    library = tinyml.build(model, "cortex-m4", goal=goal)
    assert "Pad" in [layer["schedule"] for layer in library.metadata["layers"]]
    assert bench(library, model)["reference"]["differing"] == 0
