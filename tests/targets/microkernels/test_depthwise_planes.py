"""Depthwise convolutions of planes as they lie: any width and border, both strides, outputs in pixels and in tiles."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.simulated import needs_simulator
from tests.targets.microkernels.alone import Argument, on_core, on_host
from tests.targets.microkernels.test_depthwise import CORES, FORMS, SHARED_SHIFT, Problem
from tests.targets.microkernels.test_gemm import UNTOUCHED, interleave, whole_halves
from tvm_tinyml.device import Simulator, assemble
from tvm_tinyml.device.memory import MemoryMap
from tvm_tinyml.targets.cortex_m.microkernels.depthwise_column import STRIDES, OutputRows
from tvm_tinyml.targets.cortex_m.microkernels.depthwise_planes import LONGEST, PlaneSlide, pack_planes
from tvm_tinyml.targets.cortex_m.microkernels.microkernel import Microkernel
from tvm_tinyml.targets.cortex_m.microkernels.scaled_output import ScaledOutput

pytestmark = needs_simulator

SIDES = list(itertools.product((False, True), repeat=2))
BORDER = -37


class Planes(Problem):
    """A depthwise convolution of so many outputs, with a border on some sides of its rows."""

    def __init__(
        self,
        rng: np.random.Generator,
        outputs: tuple[int, int],
        stride: int,
        sides: tuple[bool, bool],
        form: str,
        **options: int,
    ) -> None:
        rows, columns = outputs
        size = (stride * (rows - 1) + 3, stride * (columns - 1) + 3)
        super().__init__(rng, size, (3, 3), (stride, stride), form, **options)
        self.outputs, self.sides = outputs, sides
        self.x[:, :, : int(sides[0])] = BORDER
        self.x[:, :, size[1] - int(sides[1]) :] = BORDER

    @property
    def lying(self) -> NDArray[np.int8]:
        """The planes without a border at their sides: from the first window on to what may be loaded behind."""
        left, right = map(int, self.sides)
        inner = self.x[0, :, left : self.x.shape[2] - right].transpose(2, 0, 1).astype(np.int8)
        return np.concatenate([[55] * left, inner.ravel(), np.full(inner.shape[2] + 4 - left, 66)]).astype(np.int8)

    def call(self, *, tiles: int = 0, gap: int = 0) -> tuple[Microkernel, list[Argument]]:
        """Return the kernel and its arguments.

        tiles : bytes of a value where the output is what a matrix product multiplies; every second product of it, as
            one call writes them.
        gap : bytes between the pixels of the output.
        """
        (rows, columns), channels, stride = self.outputs, self.channels, self.strides[0]
        row_bytes = self.x.shape[2] - sum(self.sides)
        if tiles:
            size = 2 * channels * tiles
            steps = (1, 3, 4 * size - 5) if tiles == 1 else (4, 4, 4 * size - 12)
            row_step, channel_step = columns * size, 8 * tiles
        else:
            pixel = channels + gap
            row_step, steps, channel_step, size = columns * pixel, (pixel,) * 3, 1, pixel
        kernel = PlaneSlide(
            OutputRows.of(stride, row_step, rows, LONGEST), row_bytes, *self.sides, tile_bytes=tiles, output=self.output
        )
        numbers = kernel.numbers(rows, columns, steps, row_bytes * self.x.shape[1], channel_step, BORDER)
        y = np.full(rows * columns * size, UNTOUCHED, np.int8)
        return kernel.microkernel(), [numbers, pack_planes(self.scales, self.output), self.lying, y, channels]

    def in_tiles(self, value_bytes: int) -> NDArray[np.int8]:
        """The output in the order of `gemm` or `gemm_halves`, with products in between that nobody writes."""
        pixels = self.expected.reshape(-1, self.channels).astype(np.int64)
        spread = np.zeros((len(pixels), 2 * self.channels), np.int64)
        spread[:, ::2] = pixels
        if value_bytes == 2:
            halves = whole_halves(spread).reshape(-1, 2, 2)
            halves[:, 1] = UNTOUCHED
            return halves.ravel()
        found = interleave(spread).reshape(-1, self.channels, 2, 2, 2)
        found[:, :, :, 1] = UNTOUCHED
        return found.ravel()


@pytest.mark.parametrize("core", CORES)
@pytest.mark.parametrize("stride", STRIDES)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("sides", SIDES)
def test_planes_of_any_height_and_width_are_exact(
    core: str, stride: int, form: str, sides: tuple[bool, bool], rng: np.random.Generator
) -> None:
    """Every number of rows behind the unrolled loop, which runs never, once and several times."""
    for rows in range(1, 10):
        outputs = rows, 2 + (rows + stride + sum(sides)) % 5
        problem = Planes(rng, outputs, stride, sides, form, channels=1 + rows % 4)
        kernel, arguments = problem.call()
        found = on_core(core, kernel, arguments, misaligned=[2, 3] if rows % 2 else [3])[3]
        np.testing.assert_array_equal(found, problem.expected.ravel())


@pytest.mark.parametrize("core", CORES)
@pytest.mark.parametrize("stride", STRIDES)
@pytest.mark.parametrize("sides", SIDES)
@pytest.mark.parametrize("tiles", [1, 2])
def test_outputs_in_tiles_are_in_the_order_of_the_matrix_product(
    core: str, stride: int, sides: tuple[bool, bool], tiles: int, rng: np.random.Generator
) -> None:
    for rows, columns in itertools.product((1, 2, 3, 7, 8), (4, 8, 12)):
        form = "scaled" if tiles == 1 else FORMS[(rows + columns) % len(FORMS)]
        problem = Planes(rng, (rows, columns), stride, sides, form, channels=1 + rows % 4)
        kernel, arguments = problem.call(tiles=tiles)
        found = on_core(core, kernel, arguments, misaligned=[2])[3]
        np.testing.assert_array_equal(found, problem.in_tiles(tiles))


@pytest.mark.parametrize("stride", STRIDES)
@pytest.mark.parametrize("gap", [1500, 5000])
def test_rows_of_outputs_may_be_far_apart(stride: int, gap: int, rng: np.random.Generator) -> None:
    """Beyond the largest offset of a store within a turn, and of one instruction that adds."""
    problem = Planes(rng, (5, 2), stride, (True, True), "scaled", channels=4)
    kernel, arguments = problem.call(gap=gap)
    found = on_core("cortex-m4", kernel, arguments, misaligned=[3])[3].reshape(5, 2, -1)
    np.testing.assert_array_equal(found[:, :, :4], problem.expected)
    assert (found[:, :, 4:] == UNTOUCHED).all()


@pytest.mark.parametrize("stride", STRIDES)
@pytest.mark.parametrize(("x", "w"), list(itertools.product((-128, 127), (-128, 127))))
@pytest.mark.parametrize("form", ["scaled", "zero point above the clamp"])
def test_the_largest_products_are_exact(stride: int, x: int, w: int, form: str, rng: np.random.Generator) -> None:
    problem = Planes(rng, (4, 4), stride, (True, True), form, x=x, w=w)
    for core in CORES:
        kernel, arguments = problem.call(tiles=int(form == "scaled"))
        expected = problem.in_tiles(1) if form == "scaled" else problem.expected.ravel()
        np.testing.assert_array_equal(on_core(core, kernel, arguments, misaligned=[2, 3])[3], expected)


@pytest.mark.parametrize("stride", STRIDES)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("sides", SIDES)
def test_planes_in_c_do_the_same(
    stride: int, form: str, sides: tuple[bool, bool], rng: np.random.Generator, tmp_path: Path
) -> None:
    for rows, columns in ((7, 4), (2, 3), (4, 8)):
        problem = Planes(rng, (rows, columns), stride, sides, form, channels=3)
        tiles = (1 if form == "scaled" else 2) if columns % 4 == 0 else 0
        kernel, arguments = problem.call(tiles=tiles)
        folder = tmp_path / str(rows)
        folder.mkdir()
        expected = problem.in_tiles(tiles) if tiles else problem.expected.ravel()
        np.testing.assert_array_equal(on_host(kernel, arguments, folder)[3], expected)


@pytest.mark.parametrize("tiles", [0, 1])
@pytest.mark.parametrize(("low", "high"), [(-128, 127), (-20, 60), (5, 127), (-128, -100)])
def test_any_clamp_is_kept_with_signs_flipped(tiles: int, low: int, high: int, rng: np.random.Generator) -> None:
    problem = Planes(rng, (4, 4), 1, (True, True), "scaled")
    _, arguments = problem.call(tiles=tiles)
    output = ScaledOutput(SHARED_SHIFT, low, high)
    rows = OutputRows.of(1, 4 * problem.channels * (1 + tiles), 4, LONGEST)
    clamped = PlaneSlide(rows, 4, True, True, tiles, output).microkernel()
    problem.clamp_to(low, high)
    expected = problem.in_tiles(1) if tiles else problem.expected.ravel()
    np.testing.assert_array_equal(on_core("cortex-m4", clamped, arguments, misaligned=[2])[3], expected)


@pytest.mark.parametrize("stride", STRIDES)
def test_a_row_and_a_word_are_read_behind_the_last_plane_and_no_more(stride: int, rng: np.random.Generator) -> None:
    """Memory ends where the planes and what may be loaded behind them do."""
    problem = Planes(rng, (5, 4), stride, (True, True), "scaled", channels=3)
    kernel, (numbers, constants, planes, y, channels) = problem.call()
    with Simulator("cortex-m4") as simulator:
        simulator.load([assemble(f"{kernel.as_assembly()}\n.global {kernel.name}", "cortex-m4")])
        places = [simulator.place_constant(numbers.tobytes()), simulator.place_constant(constants.tobytes())]
        places += [MemoryMap().ram.end - planes.nbytes, simulator.allocate(y.nbytes)]
        simulator.write(places[2], planes.tobytes())
        simulator.call(kernel.name, *places, channels)
        found = np.frombuffer(simulator.read(places[3], y.nbytes), np.int8)
    np.testing.assert_array_equal(found, problem.expected.ravel())
