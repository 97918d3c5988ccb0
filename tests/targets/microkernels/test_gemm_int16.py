"""Products of int16 and int8: exact for every tile, length and clamp and at the ends of the ranges, in both bodies."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.simulated import needs_simulator
from tests.targets.microkernels.alone import Argument, on_core, on_host
from tvm_tinyml.arithmetic import multiply_by_reduced_multiplier, reduced_multiplier
from tvm_tinyml.targets.cortex_m.microkernels import gemm_int16
from tvm_tinyml.targets.cortex_m.microkernels.gemm_int16 import LARGEST, LEAST, STEP, Shape, Tile
from tvm_tinyml.targets.cortex_m.microkernels.microkernel import Microkernel

TILES = [Tile(2, 2), Tile(2, 1), *(Tile(1, channels) for channels in range(1, 5))]
BOUNDS = {"plain": (LEAST, LARGEST), "relu": (0, LARGEST), "relu6": (0, 19000), "both": (-3000, 200)}


class Problem:
    """Pixels, weights and scales of a few tiles, and what comes out.

    Parameters
    ----------
    right : bits that results are shifted to the right from the product's upper word, of each channel at most.
    """

    def __init__(self, tile: Tile, steps: int, bounds: str, *, left: int = 0, right: int = 15, **ends: int) -> None:
        rng = np.random.default_rng(steps)
        low, high = BOUNDS[bounds]
        channels, pixels, length = 3 * tile.channels, 3 * tile.pixels, STEP * steps
        self.tile, self.shape = tile, Shape(steps, channels + 1, left, low, high)
        self.x = self._drawn(rng, (pixels, length), LEAST, LARGEST, ends.get("x")).astype(np.int16)
        self.w = self._drawn(rng, (channels, length), -127, 127, ends.get("w"))
        self.bias = rng.integers(-(2**20), 2**20, channels)
        self.multiplier = rng.integers(2**30, 2**31, channels)
        self.shift = -1 - (rng.integers(0, right + 1, channels) - left)

    @staticmethod
    def _drawn(
        rng: np.random.Generator, shape: tuple[int, int], low: int, high: int, end: int | None
    ) -> NDArray[np.int64]:
        return rng.integers(low, high + 1, shape) if end is None else np.full(shape, end)

    @property
    def expected(self) -> NDArray[np.int16]:
        sums = self.x.astype(np.int64) @ self.w.T + self.bias
        scaled = multiply_by_reduced_multiplier(sums, self.multiplier, self.shift)
        y = np.zeros((len(self.x), self.shape.step), np.int16)
        y[:, :-1] = np.clip(scaled, self.shape.low, self.shape.high)
        return y

    def call(self) -> tuple[Microkernel, list[Argument]]:
        right = -1 - self.shift + self.shape.left
        multiplier = (reduced_multiplier(self.multiplier).astype(np.int64) << 16) >> right
        constants = gemm_int16.pack(self.w, self.bias, multiplier, self.tile.channels)
        y = np.zeros((len(self.x), self.shape.step), np.int16)
        ends: list[Argument] = [(constants, constants.nbytes), self.x, (self.x, self.x.nbytes), y]
        return gemm_int16.product(self.tile, self.shape), [constants, *ends]


def check_on_core(problem: Problem, core: str) -> None:
    kernel, arguments = problem.call()
    found: list[Any] = on_core(core, kernel, arguments)
    np.testing.assert_array_equal(found[2], problem.expected)


@needs_simulator
@pytest.mark.parametrize("core", ["cortex-m4", "cortex-m7", "cortex-m33"])
@pytest.mark.parametrize("tile", TILES, ids=str)
def test_every_tile_is_exact_for_every_length(tile: Tile, core: str) -> None:
    for steps in (1, 2, 3, 4, 5, 7, 8, 9, 12, 31):
        check_on_core(Problem(tile, steps, "plain"), core)


@needs_simulator
@pytest.mark.parametrize("tile", TILES[:3], ids=str)
@pytest.mark.parametrize("bounds", BOUNDS)
def test_results_are_clamped(tile: Tile, bounds: str) -> None:
    for left in (0, 2):
        check_on_core(Problem(tile, 3, bounds, left=left, right=4), "cortex-m4")


@needs_simulator
@pytest.mark.parametrize("x", [LEAST, LARGEST])
@pytest.mark.parametrize("w", [-128, 127])
def test_the_largest_sums_that_fit_are_exact(x: int, w: int) -> None:
    steps = 2**31 // (2**15 * 128 * STEP) - 1  # with a bias below 2**20
    check_on_core(Problem(Tile(2, 2), steps, "plain", x=x, w=w), "cortex-m4")


@pytest.mark.parametrize("tile", TILES, ids=str)
@pytest.mark.parametrize("bounds", BOUNDS)
def test_the_portable_body_is_exact(tile: Tile, bounds: str, tmp_path: Path) -> None:
    problem = Problem(tile, 5, bounds, left=1, right=3)
    kernel, arguments = problem.call()
    np.testing.assert_array_equal(on_host(kernel, arguments, tmp_path)[2], problem.expected)


def test_what_offsets_do_not_reach_does_not_fit() -> None:
    assert Shape(500, 1000, 0, LEAST, LARGEST).fits
    assert not Shape(501, 4, 0, LEAST, LARGEST).fits
    assert not Shape(4, 1001, 0, LEAST, LARGEST).fits
