"""Sums of tensors on cores without the DSP extension: any number of elements, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.simulated import needs_simulator
from tests.targets.microkernels.alone import Argument, on_core, on_host
from tests.targets.microkernels.scalar_channels import CORES, SHORT
from tvm_tinyml.targets.cortex_m.microkernels import (
    scalar_add,
)
from tvm_tinyml.targets.cortex_m.microkernels.affine import Function

pytestmark = needs_simulator

SUMS = [
    scalar_add.Sum((1 << 20, 1 << 19), 3 << 19, 20, -128, 127),
    scalar_add.Sum((-(1 << 21), 1 << 20), -(5 << 20), 21, -128, 127),
    scalar_add.Sum((1 << 21, 1 << 21), 1 << 20, 21, -20, 60),
    scalar_add.Sum((3000, -2900), 7, 12, 0, 127),
]


@pytest.mark.parametrize("form", SUMS, ids=str)
@pytest.mark.parametrize("core", CORES)
def test_any_number_of_elements_is_added(
    core: str, form: scalar_add.Sum, rng: np.random.Generator, tmp_path: Path
) -> None:
    for size in (1, 3, 4, 5, 8, 30):
        a, b = rng.integers(-128, 128, (2, size)).astype(np.int8)
        a[0], b[0] = 127, -128
        total = form.factors[0] * a.astype(np.int64) + form.factors[1] * b.astype(np.int64) + form.offset
        expected = np.clip(total >> form.shift, form.low, form.high)
        kernel = scalar_add.add(form, narrow=core == SHORT)
        arguments: list[Argument] = [form.words, a, b, np.zeros(size, np.int8), size]
        np.testing.assert_array_equal(on_core(core, kernel, arguments, misaligned=[1, 2, 3])[3], expected)
        folder = tmp_path / str(size)
        folder.mkdir()
        np.testing.assert_array_equal(on_host(kernel, arguments, folder)[3], expected)


def test_a_sum_that_is_not_affine_is_refused() -> None:
    values = [np.arange(-128, 128)] * 2
    expected = np.clip(values[0][:, None] + values[1][None, :], -128, 127)
    function = Function(values, [1.0, 1.0], 0.0, 0, -128, 127, expected)
    assert scalar_add.fit(function) is not None
    expected[128, 128] += 1  # 0 + 0
    assert scalar_add.fit(function) is None
