"""Weights of four bits made bytes: any runs of each form of code, both forms."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from tests.passes.narrow_weights import WAYS, words
from tests.simulated import needs_simulator, on_cores
from tests.targets.microkernels.alone import on_core, on_host
from tvm_tinyml.passes.weight_codes import Form, encoded
from tvm_tinyml.targets.cortex_m.microkernels.microkernel import Microkernel
from tvm_tinyml.targets.cortex_m.microkernels.unpack import unpack
from tvm_tinyml.targets.cortex_m.microkernels.unpack_short import unpack_short

pytestmark = needs_simulator

CORES = on_cores("cortex-m0plus", "cortex-m3", "cortex-m4", "cortex-m7", "cortex-m33", "cortex-m55")


@pytest.mark.parametrize("core", CORES)
@pytest.mark.parametrize(("form", "pairs"), WAYS)
def test_runs_of_any_length_come_out_as_they_were(
    core: str, form: Form, pairs: bool, rng: np.random.Generator
) -> None:
    ways = {"cortex-m0plus": unpack_short, "cortex-m3": partial(unpack, dsp=False)}
    kernel = ways.get(core, partial(unpack, dsp=True))(form, pairs=pairs)
    for _ in range(4):
        values, coding = words(rng, form, pairs=pairs)
        code = encoded(values, coding, form, pairs=pairs)
        np.testing.assert_array_equal(on_core(core, kernel, [np.zeros_like(values), code])[0], values)


@pytest.mark.parametrize("way", [unpack_short, partial(unpack, dsp=False), partial(unpack, dsp=True)])
@pytest.mark.parametrize(("form", "pairs"), WAYS)
def test_the_body_in_c_does_the_same(
    form: Form, pairs: bool, way: Callable[..., Microkernel], rng: np.random.Generator, tmp_path: Path
) -> None:
    values, coding = words(rng, form, pairs=pairs)
    code = encoded(values, coding, form, pairs=pairs)
    kernel = way(form, pairs=pairs)
    np.testing.assert_array_equal(on_host(kernel, [np.zeros_like(values), code], tmp_path)[0], values)
