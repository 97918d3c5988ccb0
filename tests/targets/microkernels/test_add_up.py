"""The microkernels that add pixels up, against numpy: on simulated cores, and in C."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.simulated import needs_simulator
from tests.targets.microkernels.alone import on_core, on_host
from tvm_tinyml.targets.cortex_m.microkernels.add_up import MOST_PIXELS, add_up

KERNELS = {"cortex-m0plus": add_up(dsp=False), "cortex-m3": add_up(dsp=False), "cortex-m4": add_up(dsp=True)}
SHAPES = [(1, 1), (7, 3), (5, 4), (3, 17), (9, 8), (16, 64), (MOST_PIXELS, 6)]
"""Pixels and channels."""


@needs_simulator
@pytest.mark.parametrize("core", KERNELS)
@pytest.mark.parametrize(("pixels", "channels"), SHAPES)
@pytest.mark.parametrize("fill", [None, -128, 127])
def test_sums_grow_by_a_block_of_pixels(
    core: str, pixels: int, channels: int, fill: int | None, tmp_path: Path
) -> None:
    rng = np.random.default_rng(pixels)
    sums = rng.integers(-(2**20), 2**20, channels).astype(np.int32)
    x = rng.integers(-128, 128, (pixels, channels)) if fill is None else np.full((pixels, channels), fill)
    arguments = [sums, x.astype(np.int8), pixels, channels]
    expected = sums + x.sum(axis=0)
    for found, *_ in (
        on_core(core, KERNELS[core], arguments, misaligned=[1]),
        on_host(KERNELS[core], arguments, tmp_path),
    ):
        np.testing.assert_array_equal(found, expected)
