"""Functions of int16 tensors: near to the real ones, and the reference's bytes on every core in both forms."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import tvm_tinyml as tinyml
from tests.compile.cores import runnable
from tests.compile.toolchains import HostLibrary, cross_compile
from tests.int16_functions import CASES, HARD_SWISH, NUMBERS, Case, over
from tests.passes.graphs import names
from tests.simulated import needs_simulator
from tvm_tinyml.errors import ModelError
from tvm_tinyml.frontend.qdq import QdqBuilder, Quantization
from tvm_tinyml.passes import FoldQuantization
from tvm_tinyml.reference.evaluate import evaluate
from tvm_tinyml.session import Session


def reference(name: str) -> np.ndarray:
    """Return what a case is for every number."""
    (result,) = evaluate(FoldQuantization()(CASES[name].model().module), [NUMBERS])
    return np.asarray(result)


@pytest.mark.parametrize("name", CASES)
def test_a_function_is_one_operator(name: str) -> None:
    assert names(FoldQuantization()(CASES[name].model().module)) == [f"tinyml.{CASES[name].operator}"]


@pytest.mark.parametrize("name", CASES)
def test_every_number_is_near_to_the_real_function(name: str) -> None:
    exact, result = CASES[name].exact(), reference(name)
    inside = np.abs(exact) <= 32767
    assert inside.any()
    assert np.abs(result - exact)[inside].max() <= CASES[name].units + 1e-6
    assert np.abs(result - np.clip(exact, -32768, 32767)).max() <= CASES[name].units + 1  # at an end of the range


def test_zero_and_the_ends_of_a_hard_swish_are_exact() -> None:
    (result,) = evaluate(FoldQuantization()(Case(**HARD_SWISH, input_scale=over(8), output_scale=over(8), units=0)
                                            .model().module), [NUMBERS])  # fmt: skip
    at = dict(zip(NUMBERS.ravel().tolist(), result.ravel().tolist(), strict=True))
    assert (at[0], at[-32768], at[32640]) == (0, 0, 32640)


@needs_simulator
@pytest.mark.parametrize("core", runnable(("cortex-m4", "cortex-m0plus", "cortex-m55")))
@pytest.mark.parametrize("name", CASES)
def test_a_core_gives_the_reference_bytes_for_every_number(name: str, core: str) -> None:
    library = tinyml.build(CASES[name].model(), core, emit="lib")
    (result,) = Session(library.metadata, library.objects).run([NUMBERS]).outputs
    np.testing.assert_array_equal(result, reference(name))


@pytest.mark.parametrize("name", CASES)
def test_on_the_host_the_c_form_gives_the_reference_bytes_for_every_number(name: str, tmp_path: Path) -> None:
    (result,) = HostLibrary(tinyml.build(CASES[name].model(), "cortex-m4"), tmp_path).run([NUMBERS])
    np.testing.assert_array_equal(result, reference(name))


@needs_simulator
@pytest.mark.parametrize("name", ["leaky_relu that rises on both sides", "abs", "hard_sigmoid", "hard_swish", "exp"])
@pytest.mark.parametrize("target", ["cortex-m0plus", "cortex-m4"])
def test_on_the_core_gcc_makes_the_same_bytes_of_the_c_form(name: str, target: str, tmp_path: Path) -> None:
    library = tinyml.build(CASES[name].model(), target)
    (result,) = Session(library.metadata, cross_compile(library, tmp_path, target)).run([NUMBERS]).outputs
    np.testing.assert_array_equal(result, reference(name))


@pytest.mark.parametrize("name", ["leaky_relu", "abs", "negative", "hard_sigmoid", "hard_swish", "exp"])
def test_a_change_of_type_inside_of_a_function_is_refused(name: str) -> None:
    q = QdqBuilder("onnx")
    x = q.input("x", (1, 4), "int16", Quantization(0.001, 0, "int16"))
    q.output("y", q.apply(CASES[name].function, x, to=Quantization(0.1, 3), name="y"), "int8")
    operator = {"leaky_relu": "nn.leakyrelu"}.get(name, name)
    with pytest.raises(ModelError, match=rf"{operator}: inputs and result are int16, int8. Quantize them to one type"):
        FoldQuantization()(q.finish("m").module)
