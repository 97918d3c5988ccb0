"""Dense rows on cores without the DSP extension: any length and number of channels, and extremes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.simulated import needs_simulator
from tests.targets.microkernels.alone import Argument, on_core, on_host
from tests.targets.microkernels.scalar_channels import CORES, LONG, OUTPUTS, Channels, Ints
from tvm_tinyml.targets.cortex_m.microkernels import (
    scalar_dense,
    scalar_dense_short,
)
from tvm_tinyml.targets.cortex_m.microkernels.microkernel import Microkernel

pytestmark = needs_simulator


def row(core: str, channels: Channels, x: Ints, at_once: int) -> tuple[Microkernel, list[Argument]]:
    """Return the kernel for a row of activations, and its arguments; the third is the output."""
    if core == LONG:
        kernel = scalar_dense.dense(at_once, channels.output)
        bias, scale = channels.bias, scalar_dense.scale_words(*channels.scale[1:])
    else:
        output, words = channels.short()
        kernel, bias, scale = scalar_dense_short.dense(at_once, output), words[:, -1], words[:, :-1]
    constants = scalar_dense.pack(channels.weight, bias, scale, at_once).ravel()
    padded = np.zeros(-(-len(x) // scalar_dense.K_MULTIPLE) * scalar_dense.K_MULTIPLE, np.uint8)
    padded[: len(x)] = x + 128
    y, moved = np.zeros(len(channels.bias), np.int8), np.array([padded.sum(dtype=np.int64)], np.int32)
    return kernel, [constants, padded, y, (y, y.nbytes), len(padded), moved]


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("core", CORES)
def test_any_row_is_exact(core: str, output: str, rng: np.random.Generator, tmp_path: Path) -> None:
    for at_once in range(1, scalar_dense.MOST_CHANNELS + 1):
        k = int(rng.integers(1, 70))
        channels, x = Channels(rng, 2 * at_once, k, output), rng.integers(-128, 128, k)
        kernel, arguments = row(core, channels, x, at_once)
        expected = channels.outputs(channels.weight @ x)
        np.testing.assert_array_equal(on_core(core, kernel, arguments, misaligned=[1, 2])[2], expected)
        folder = tmp_path / str(at_once)
        folder.mkdir()
        np.testing.assert_array_equal(on_host(kernel, arguments, folder)[2], expected)


@pytest.mark.parametrize("weight", [-128, 127])
@pytest.mark.parametrize("pixel", [-128, 127])
@pytest.mark.parametrize("core", CORES)
def test_extreme_rows_are_exact(core: str, pixel: int, weight: int, rng: np.random.Generator) -> None:
    channels, x = Channels(rng, 6, 640, weight=weight), np.full(640, pixel)
    kernel, arguments = row(core, channels, x, 6)
    np.testing.assert_array_equal(on_core(core, kernel, arguments)[2], channels.outputs(channels.weight @ x))


@pytest.mark.parametrize("core", CORES)
def test_bytes_are_moved_and_summed(core: str, rng: np.random.Generator, tmp_path: Path) -> None:
    x = rng.integers(-128, 128, 37).astype(np.int8)
    x[:2] = -128, 127
    arguments: list[Argument] = [np.zeros(37, np.uint8), x, 37, np.array([1000], np.int32)]
    for found in (
        on_core(core, scalar_dense.flip(), arguments, misaligned=[0, 1]),
        on_host(scalar_dense.flip(), arguments, tmp_path),
    ):
        np.testing.assert_array_equal(found[0], x.astype(np.int64) + 128)
        assert found[2] == 1000 + (x.astype(np.int64) + 128).sum()
