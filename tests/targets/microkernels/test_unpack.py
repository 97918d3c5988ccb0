"""Weights of four bits made bytes: any runs, both forms."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.simulated import needs_simulator, on_cores
from tests.targets.microkernels.alone import on_core, on_host
from tvm_tinyml.passes.pack_weights import packed
from tvm_tinyml.targets.cortex_m.microkernels.unpack import unpack

pytestmark = needs_simulator

CORES = on_cores("cortex-m3", "cortex-m4", "cortex-m7", "cortex-m33", "cortex-m55")


def drawn(rng: np.random.Generator) -> NDArray[np.int32]:
    """Words of which some runs have four bits a byte, and others have all."""
    parts = []
    for _ in range(int(rng.integers(1, 6))):
        narrow = rng.integers(-8, 8, 4 * int(rng.integers(0, 40))).astype(np.int8).view("<i4")
        wide = rng.integers(-(2**31), 2**31, int(rng.integers(0, 9))).astype(np.int32)
        parts += [narrow, wide]
    return np.concatenate([*parts, np.full(300, -1, np.int32)])  # so much that packing pays


@pytest.mark.parametrize("core", CORES)
def test_runs_of_any_length_come_out_as_they_were(core: str, rng: np.random.Generator) -> None:
    for _ in range(8):
        values = drawn(rng)
        words = packed(values)
        assert words is not None
        kernel = unpack(dsp=core != "cortex-m3")
        np.testing.assert_array_equal(on_core(core, kernel, [np.zeros_like(values), words])[0], values)


@pytest.mark.parametrize("dsp", [False, True])
def test_the_body_in_c_does_the_same(dsp: bool, rng: np.random.Generator, tmp_path: Path) -> None:
    values = drawn(rng)
    words = packed(values)
    assert words is not None
    np.testing.assert_array_equal(on_host(unpack(dsp=dsp), [np.zeros_like(values), words], tmp_path)[0], values)
