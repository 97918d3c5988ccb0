"""Every operator on every core: bytes equal the numpy reference, which equals tflite-micro (tests/reference)."""

from __future__ import annotations

import inspect
from collections.abc import Callable

import numpy as np
import pytest

import tests.tflite_models as models
import tvm_tinyml as tinyml
from benchmarks.int8_graph import Network
from tvm_tinyml.errors import ModelError
from tvm_tinyml.session import Session
from tvm_tinyml.targets.cortex_m.cores import CORES

SEEDS = range(4)
CORNER_CASES_WE_REFUSE = {"strides below 1", "beta is"}
OTHER = {"sum_", "quantize", "dequantize"}
"""SUM is not among our operators; float interfaces are tested in test_float_interface.py."""


def generators() -> dict[str, Callable[[int], Network]]:
    """Return the generators of one-operator models."""
    return {
        name: function
        for name, function in vars(models).items()
        if inspect.isfunction(function)
        and function.__module__ == models.__name__
        and list(inspect.signature(function).parameters) == ["seed"]
        and name not in OTHER
    }


@pytest.mark.parametrize("name", generators())
@pytest.mark.parametrize("core", CORES)
def test_an_operator_gives_the_reference_bytes(name: str, core: str) -> None:
    compared = 0
    for seed in SEEDS:
        network = generators()[name](seed)
        try:
            model = tinyml.load(network.data)
        except ModelError as error:
            assert any(text in str(error) for text in CORNER_CASES_WE_REFUSE), error
            continue
        library = tinyml.build(model, core, emit="lib")
        inputs = network.random_inputs(seed)
        outputs = library.run({spec.name: x for spec, x in zip(model.inputs, inputs, strict=True)})
        for output, expected in zip(outputs.values(), network.run(inputs), strict=True):
            np.testing.assert_array_equal(output, expected.reshape(output.shape), f"{name}, seed {seed}")
            compared += output.size
    assert compared, f"{name}: every seed was refused"


@pytest.mark.parametrize("name", ["conv", "depthwise", "dense", "add", "avg_pool", "softmax", "transpose", "pad"])
@pytest.mark.parametrize("core", ["cortex-m0plus", "cortex-m4"])
def test_callers_buffers_need_no_alignment(name: str, core: str) -> None:
    network = generators()[name](1)
    library = tinyml.build(tinyml.load(network.data), core, emit="lib")
    inputs = network.random_inputs(1)
    session = Session(library.metadata, library.objects, misalign=1)
    for output, expected in zip(session.run(inputs).outputs, network.run(inputs), strict=True):
        np.testing.assert_array_equal(output, expected.reshape(output.shape))
