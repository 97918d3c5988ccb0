"""Depthwise kernels of cores without the DSP extension: any window, and all extremes of both halves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.simulated import needs_simulator
from tests.targets.microkernels.alone import Argument, on_core, on_host
from tests.targets.microkernels.scalar_channels import CORES, LONG, OUTPUTS, Channels, Ints, plane_of
from tvm_tinyml.targets.cortex_m.microkernels import (
    scalar_depthwise,
    scalar_depthwise_short,
)
from tvm_tinyml.targets.cortex_m.microkernels.microkernel import Microkernel

pytestmark = needs_simulator

KERNELS = [
    (3, 3, 1, 1),
    (3, 3, 2, 2),
    (1, 5, 1, 1),
    (5, 1, 2, 1),
    (2, 2, 1, 2),
    (5, 5, 1, 1),
    (7, 4, 3, 1),
    (1, 1, 1, 1),
]


def depthwise(
    core: str,
    window: scalar_depthwise.Window,
    channels: Channels,
    columns: int,
    plane: Ints,
    outputs: int = scalar_depthwise.MOST_OUTPUTS,
) -> tuple[Microkernel, list[Argument], NDArray[np.int8]]:
    """Return the kernel for the only channel, its arguments, of which the last is the output, and what comes out.

    plane : [2, rows, columns] of pixels, the lower half first.
    outputs : pairs of a tile.
    """
    rows = (plane.shape[1] - window.kernel_h) // window.stride_h + 1
    step, row_step = 3, 3 * columns + 4
    geometry = scalar_depthwise.Geometry(columns, rows, step, row_step, row_step * rows, 4 * plane.shape[2])
    y = np.full(2 * rows * row_step, 77, np.int8)
    expected = y.copy().reshape(2, rows, row_step)
    weight = channels.weight[0].reshape(window.kernel_h, window.kernel_w)
    for row in range(rows):
        for column in range(columns):
            at = row * window.stride_h, column * window.stride_w
            inputs = plane[:, at[0] : at[0] + window.kernel_h, at[1] : at[1] + window.kernel_w]
            expected[:, row, step * column] = channels.outputs((inputs * weight).sum(axis=(1, 2))[:, None])[:, 0]
    if core == LONG:
        kernel = scalar_depthwise.depthwise(window, columns, channels.output, outputs)
        numbers = scalar_depthwise.numbers(window, geometry, outputs)
        constants = scalar_depthwise.pack(channels.weight, *channels.scale)
    else:
        output, scales = channels.short()
        kernel, numbers = (
            scalar_depthwise_short.depthwise(window, output),
            scalar_depthwise_short.numbers(window, geometry),
        )
        constants = scalar_depthwise_short.pack(channels.weight, scales)
    packed = plane_of(plane[0], plane[1])
    return kernel, [constants.ravel(), np.array(numbers, np.int32), packed, y], expected.ravel()


@pytest.mark.parametrize("shape", KERNELS)
@pytest.mark.parametrize("core", CORES)
def test_any_window_is_convolved(
    core: str, shape: tuple[int, int, int, int], rng: np.random.Generator, tmp_path: Path
) -> None:
    window = scalar_depthwise.Window(*shape)
    for columns, output in zip((1, 2, 3, 5, 7, 9), (*OUTPUTS, *OUTPUTS), strict=False):
        size = (2, 2 * window.stride_h + window.kernel_h, (columns - 1) * window.stride_w + window.kernel_w)
        channels = Channels(rng, 1, window.taps, output)
        kernel, arguments, expected = depthwise(core, window, channels, columns, rng.integers(-128, 128, size))
        np.testing.assert_array_equal(on_core(core, kernel, arguments, misaligned=[3])[3], expected)
        if columns in (2, 5):
            folder = tmp_path / str(columns)
            folder.mkdir()
            np.testing.assert_array_equal(on_host(kernel, arguments, folder)[3], expected)


@pytest.mark.parametrize("outputs", [1, 2])
@pytest.mark.parametrize("shape", KERNELS)
def test_smaller_tiles_do_the_same_with_less_code(
    shape: tuple[int, int, int, int], outputs: int, rng: np.random.Generator, tmp_path: Path
) -> None:
    window = scalar_depthwise.Window(*shape)
    channels = Channels(rng, 1, window.taps, next(iter(OUTPUTS)))
    for columns in (1, 2, 3, 5, 8):
        size = (2, 2 * window.stride_h + window.kernel_h, (columns - 1) * window.stride_w + window.kernel_w)
        plane = rng.integers(-128, 128, size)
        kernel, arguments, expected = depthwise(LONG, window, channels, columns, plane, outputs)
        np.testing.assert_array_equal(on_core(LONG, kernel, arguments, misaligned=[3])[3], expected)
        if columns == 5:
            np.testing.assert_array_equal(on_host(kernel, arguments, tmp_path)[3], expected)
            largest = scalar_depthwise.depthwise(window, columns, channels.output)
            assert len(kernel.assembly) < len(largest.assembly)


@pytest.mark.parametrize("weight", [-127, 0, 127])
@pytest.mark.parametrize("core", CORES)
def test_extremes_are_convolved(core: str, weight: int, rng: np.random.Generator) -> None:
    """All pairs of the smallest and the largest pixel in both halves."""
    window = scalar_depthwise.Window(3, 3, 1, 1)
    for output in OUTPUTS:
        for lower, upper in ((-128, -128), (-128, 127), (127, -128), (127, 127)):
            plane = np.stack([np.full((5, 5), lower), np.full((5, 5), upper)])
            channels = Channels(rng, 1, window.taps, output, weight)
            kernel, arguments, expected = depthwise(core, window, channels, 3, plane)
            np.testing.assert_array_equal(on_core(core, kernel, arguments)[3], expected)


def test_weights_that_cannot_be_doubled_are_told() -> None:
    assert scalar_depthwise.fits(np.array([[-127, 127]]))
    assert not scalar_depthwise.fits(np.array([[-128, 0]]))
