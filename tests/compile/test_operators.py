"""Every operator on every core: bytes equal the numpy reference, which equals tflite-micro (tests/reference)."""

from __future__ import annotations

import numpy as np
import pytest

import tvm_tinyml as tinyml
from tests.compile.cores import runnable
from tests.compile.operators import generators, models_of
from tvm_tinyml.session import Session
from tvm_tinyml.targets.cortex_m.cores import CORES

MODELS = {"cortex-m4": 3, "cortex-m0plus": 2}
"""How many models of an operator are compiled; 1 for the cores not named, which differ in little."""


@pytest.mark.parametrize("name", generators())
@pytest.mark.parametrize("core", runnable(CORES))
def test_an_operator_gives_the_reference_bytes(name: str, core: str) -> None:
    for seed, network, model in models_of(name, MODELS.get(core, 1)):
        library = tinyml.build(model, core, emit="lib")
        inputs = network.random_inputs(seed)
        outputs = library.run({spec.name: x for spec, x in zip(model.inputs, inputs, strict=True)})
        for output, expected in zip(outputs.values(), network.run(inputs), strict=True):
            np.testing.assert_array_equal(output, expected.reshape(output.shape), f"{name}, seed {seed}")


@pytest.mark.parametrize("name", ["conv", "depthwise", "dense", "add", "avg_pool", "softmax", "transpose", "pad"])
@pytest.mark.parametrize("core", ["cortex-m0plus", "cortex-m4"])
def test_callers_buffers_need_no_alignment(name: str, core: str) -> None:
    seed, network, model = next(models_of(name, 1, first_seed=1))
    library = tinyml.build(model, core, emit="lib")
    inputs = network.random_inputs(seed)
    session = Session(library.metadata, library.objects, misalign=1)
    for output, expected in zip(session.run(inputs).outputs, network.run(inputs), strict=True):
        np.testing.assert_array_equal(output, expected.reshape(output.shape))
