"""Edges of planes are filled, and nothing else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.simulated import needs_simulator
from tests.targets.microkernels.alone import on_core, on_host
from tests.targets.microkernels.test_gemm import UNTOUCHED
from tvm_tinyml.targets.cortex_m.microkernels.fill_edges import fill_edges

pytestmark = needs_simulator


@pytest.mark.parametrize("length", [1, 2, 3, 4, 5, 7, 8, 12, 13, 96])
@pytest.mark.parametrize("edges", [1, 2, 5])
def test_edges_of_any_length_are_filled_and_nothing_between(length: int, edges: int, tmp_path: Path) -> None:
    y = np.full((edges, length + 3), UNTOUCHED, np.int8)
    expected = y.copy()
    expected[:, :length] = -86
    arguments = [y, int(np.frombuffer(np.int8([-86] * 4).tobytes(), np.int32)[0]), length, length + 3, edges]
    for core in ("cortex-m3", "cortex-m4", "cortex-m7", "cortex-m33"):
        np.testing.assert_array_equal(on_core(core, fill_edges(), arguments, misaligned=[0])[0], expected)
    np.testing.assert_array_equal(on_host(fill_edges(), arguments, tmp_path)[0], expected)
