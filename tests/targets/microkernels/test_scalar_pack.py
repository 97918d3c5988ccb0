"""Packing on cores without the DSP extension: windows become words, and both halves of an image a plane."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.simulated import needs_simulator
from tests.targets.microkernels.alone import Argument, on_core, on_host
from tests.targets.microkernels.scalar_channels import CORES, LONG, SHORT, plane_of, words
from tvm_tinyml.targets.cortex_m.microkernels import (
    scalar_pack,
    scalar_planes,
)
from tvm_tinyml.targets.cortex_m.microkernels.pack import Window
from tvm_tinyml.targets.cortex_m.microkernels.scalar_pack import Walk

pytestmark = needs_simulator

WINDOWS = [
    *(Window.of(1, 1, n, n, n) for n in (1, 2, 3, 4, 5, 8, 9, 15, 16, 31, 64)),
    Window.of(3, 3, 3, 60, 3),  # a row of three pixels is one run
    Window.of(2, 3, 5, 70, 10),  # dilation
    Window.of(3, 2, 8, 5000, 1200),  # far apart
    Window.of(4, 1, 7, 7, 7),  # rows that join
    Window.of(2, 2, 15, 300, 40),
]


@pytest.mark.parametrize("window", WINDOWS, ids=str)
@pytest.mark.parametrize(("core", "pixels"), [(LONG, 3), (SHORT, 4)])
def test_windows_are_gathered_in_order(
    core: str, pixels: int, window: Window, rng: np.random.Generator, tmp_path: Path
) -> None:
    walk, tiles, left = Walk(width=5, column=4, row=333), 3, 2
    positions = np.arange(pixels * tiles) + walk.width - left
    starts = positions // walk.width * walk.row + positions % walk.width * walk.column
    starts -= starts[0]
    reach = (window.rows - 1) * window.row_stride + (window.columns - 1) * window.column_stride + window.run_bytes
    image = rng.integers(-128, 128, int(starts[-1]) + reach).astype(np.int8)
    runs = window.row_stride * np.arange(window.rows)[:, None] + window.column_stride * np.arange(window.columns)
    inside = np.array([image[start + run : start + run + window.run_bytes] for start in starts for run in runs.ravel()])
    x = inside.reshape(len(starts), -1).astype(np.int64)
    order = scalar_pack.order(window)
    expected = words(np.where(order < 0, 0, x[:, order]), pixels)

    kernel = scalar_pack.pack_words(window, walk, pixels, narrow=core == SHORT)
    arguments: list[Argument] = [np.zeros_like(expected), image, left, tiles]
    np.testing.assert_array_equal(on_core(core, kernel, arguments, misaligned=[1])[0], expected)
    np.testing.assert_array_equal(on_host(kernel, arguments, tmp_path)[0], expected)


@pytest.mark.parametrize("columns", [1, 2, 5, 8])
@pytest.mark.parametrize("core", CORES)
def test_both_halves_of_a_plane_are_joined(core: str, columns: int, rng: np.random.Generator, tmp_path: Path) -> None:
    rows, channels, gap = 3, 7, 2
    x = rng.integers(-128, 128, (2, rows, columns * channels + 3)).astype(np.int8)
    x[0, 0, 0], x[1, 0, 0] = -128, 127
    border = np.array([-5], np.int8)
    row_gap = x.shape[2] - columns * channels
    kernel = scalar_planes.pack_plane(narrow=core == SHORT)
    for inside in ((True, True), (False, True), (True, False)):
        steps = [(channels, row_gap) if is_inside else (0, 0) for is_inside in inside]
        (step0, gap0), (step1, gap1) = steps
        numbers = scalar_planes.Pixels(rows, columns, step0, gap0, step1, gap1, 4 * gap).numbers()
        halves = [x[i, :, : columns * channels : channels].astype(np.int64) for i in range(2)]
        lower, upper = (
            half if is_inside else np.full_like(half, -5) for half, is_inside in zip(halves, inside, strict=True)
        )
        expected = np.pad(plane_of(lower, upper), ((0, 0), (0, gap)), constant_values=99)
        sources: list[Argument] = [x[i].copy() if inside[i] else border for i in range(2)]
        arguments = [np.full_like(expected, 99), *sources, np.array(numbers, np.int32)]
        folder = tmp_path / str(inside)
        folder.mkdir()
        np.testing.assert_array_equal(on_core(core, kernel, arguments, misaligned=[1, 2])[0], expected)
        np.testing.assert_array_equal(on_host(kernel, arguments, folder)[0], expected)
