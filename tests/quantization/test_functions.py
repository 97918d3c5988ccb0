"""Networks with functions that int16 has no arithmetic of its own for: near to float, and the same on cores."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import tvm_tinyml as tinyml
from tests.compile.cores import runnable
from tests.compile.toolchains import HostLibrary
from tests.passes.graphs import names
from tests.quantization.functions import NETWORKS
from tests.quantization.networks import integers
from tests.simulated import needs_simulator
from tvm_tinyml.passes import FoldQuantization
from tvm_tinyml.reference.evaluate import evaluate
from tvm_tinyml.verification import verify

LEAST = {"int8": 28, "int16x8": 65}
"""Decibels. Weights lose nothing here: those of the float form were integers of 8 bits before."""

OPERATORS = {
    "mobile": {"tinyml.interpolate": 4, "tinyml.requantize": 1},
    "speech": {"tinyml.interpolate": 1, "tinyml.slopes": 5, "tinyml.logistic": 2, "tinyml.tanh": 1},
}


def quantized(name: str, recipe: str) -> tinyml.Model:
    network = NETWORKS[name]()
    return tinyml.quantize(network.model, recipe, calibration=network.samples, observer="min-max")


@pytest.mark.parametrize("recipe", LEAST)
@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_of_functions_is_near_to_its_float_form(name: str, recipe: str) -> None:
    report = quantized(name, recipe).quantization
    assert report is not None
    assert report.decibels > LEAST[recipe]


@pytest.mark.parametrize("name", NETWORKS)
def test_functions_of_int16_are_one_operator_each(name: str) -> None:
    found = names(FoldQuantization()(quantized(name, "int16x8").module))
    assert {operator: found.count(operator) for operator in OPERATORS[name]} == OPERATORS[name]


@needs_simulator
@pytest.mark.parametrize("core", runnable(("cortex-m4", "cortex-m0plus", "cortex-m55")))
@pytest.mark.parametrize("name", NETWORKS)
def test_a_core_gives_the_reference_bytes(name: str, core: str) -> None:
    model = quantized(name, "int16x8")
    assert verify(model, tinyml.build(model, core, emit="lib"), samples=2).differing == 0


@pytest.mark.parametrize("name", NETWORKS)
def test_the_c_form_gives_the_reference_bytes(name: str, tmp_path: Path) -> None:
    model = quantized(name, "int16x8")
    x = integers(NETWORKS[name]().samples[0], model)
    (result,) = HostLibrary(tinyml.build(model, "cortex-m4"), tmp_path).run([x])
    np.testing.assert_array_equal(result, evaluate(FoldQuantization()(model.module), [x])[0])
