"""The C form: builds without a warning, computes the same bytes, and does nothing undefined."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import tvm_tinyml as tinyml
from benchmarks.int8_graph import Network
from benchmarks.networks import anomaly_detection, image_classification, keyword_spotting
from tests.compile.operators import models_of
from tests.compile.toolchains import SANITIZERS, HostLibrary, compile_objects, cross_compile, need
from tvm_tinyml.artifacts.folder import write_folder
from tvm_tinyml.session import Session

Array = NDArray[Any]

SMALL = ("conv", "grouped_conv", "depthwise", "transpose_conv", "upsampling_conv", "dense", "add", "mul", "avg_pool",
         "mean", "sum_", "softmax", "extreme_scale", "extreme_arithmetic", "requantize", "pad", "concat", "split",
         "strided_slice", "transpose", "resize_nearest")  # fmt: skip


def build(name: str, first_seed: int, target: str = "cortex-m4") -> tuple[tinyml.Library, list[Array], list[Array]]:
    """Return a library of a one-operator model, inputs and expected outputs."""
    seed, network, model = next(models_of(name, 1, first_seed))
    inputs = network.random_inputs(seed)
    shapes = [spec.shape for spec in model.outputs]
    expected = [e.reshape(shape) for e, shape in zip(network.run(inputs), shapes, strict=True)]
    return tinyml.build(model, target), inputs, expected


@pytest.mark.parametrize("name", SMALL)
def test_on_the_host_the_c_form_gives_the_reference_bytes(name: str, tmp_path: Path) -> None:
    library, inputs, expected = build(name, 1)
    for output, reference in zip(HostLibrary(library, tmp_path, misalign=1).run(inputs), expected, strict=True):
        np.testing.assert_array_equal(output, reference)


@pytest.mark.parametrize("name", ("conv", "depthwise", "dense", "extreme_scale", "softmax"))
@pytest.mark.parametrize("target", ("cortex-m0plus", "cortex-m4", "cortex-m33+nodsp"))
def test_on_the_core_gcc_makes_the_same_bytes_of_the_c_form(name: str, target: str, tmp_path: Path) -> None:
    library, inputs, expected = build(name, 2, target)
    session = Session(library.metadata, cross_compile(library, tmp_path, target))
    for output, reference in zip(session.run(inputs).outputs, expected, strict=True):
        np.testing.assert_array_equal(output, reference)


@pytest.mark.parametrize(
    ("network", "compiler"), ((keyword_spotting, "gcc"), (image_classification, "clang"), (anomaly_detection, "gcc"))
)
def test_both_compilers_take_whole_networks_without_a_warning(network, compiler: str, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    library = tinyml.build(tinyml.load(network().data, name="m"), "cortex-m4")
    assert compile_objects(library, tmp_path, compiler, ("-O2",))


@pytest.mark.parametrize(("io", "weights"), [("caller", "flash"), ("workspace", "ram")])
def test_a_network_runs_clean_under_sanitizers(io: str, weights: str, tmp_path: Path) -> None:
    network = keyword_spotting()
    library = tinyml.build(tinyml.load(network.data, name="m"), "cortex-m4", io=io, weights=weights)
    inputs = network.random_inputs(3)
    printed = run_sanitized(library, inputs[0], tmp_path)
    assert printed == network.run(inputs)[0].reshape(-1).tolist()


@pytest.mark.parametrize("name", ("conv", "depthwise", "extreme_scale", "softmax", "avg_pool"))
def test_an_operator_runs_clean_under_sanitizers(name: str, tmp_path: Path) -> None:
    library, inputs, expected = build(name, 3)
    assert run_sanitized(library, inputs[0], tmp_path) == expected[0].reshape(-1).tolist()


def check_on_host(library: tinyml.Library, network: Network, folder: Path) -> None:
    """Compare the C form's bytes on the host with the reference, plain and under sanitizers."""
    inputs = network.random_inputs(3)
    expected = network.run(inputs)
    for output, reference in zip(HostLibrary(library, folder / "host").run(inputs), expected, strict=True):
        np.testing.assert_array_equal(output, reference.reshape(output.shape))
    assert run_sanitized(library, inputs[0], folder / "sane") == expected[0].reshape(-1).tolist()


def run_sanitized(library: tinyml.Library, array: Array, folder: Path) -> list[int]:
    """Build a program around the library with the sanitizers on, run it twice in one process, return what it prints."""
    metadata = library.metadata
    in_pool = metadata["inputs"][0]["workspace_offset"] is not None
    numbers = ", ".join(str(value) for value in array.reshape(-1).tolist())
    main = f"""
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "tvmgen_m.h"
static const int8_t values[] = {{{numbers}}};
int main(void) {{
  int8_t *source = malloc(TVMGEN_M_INPUT_0_SIZE), *result = malloc(TVMGEN_M_OUTPUT_0_SIZE);
  void *sram = aligned_alloc(16, TVMGEN_M_WORKSPACE_SIZE + 16u - TVMGEN_M_WORKSPACE_SIZE % 16u);
  struct tvmgen_m_inputs inputs = {{source}};
  struct tvmgen_m_outputs outputs = {{result}};
  struct tvmgen_m_workspace_pools pools = {{sram}};
  for (int turn = 0; turn < 2; ++turn) {{
    memset(sram, 0xA5, TVMGEN_M_WORKSPACE_SIZE);
    {"int8_t *to = tvmgen_m_input_0(&pools);" if in_pool else "int8_t *to = source;"}
    memcpy(to, values, sizeof values);
    if (tvmgen_m_run(&inputs, &outputs, &pools) != 0) return 1;
  }}
  {"const int8_t *from = tvmgen_m_output_0(&pools);" if in_pool else "const int8_t *from = result;"}
  for (unsigned i = 0; i < TVMGEN_M_OUTPUT_0_SIZE; ++i) printf("%d ", from[i]);
  if (tvmgen_m_run(NULL, NULL, NULL) != TVMGEN_M_ERROR_NULL) return 2;
  free(source); free(result); free(sram);
  return 0;
}}
"""
    objects = compile_objects(library, folder, "gcc", SANITIZERS)
    source = folder / "main.c"
    source.write_text(main)
    program = folder / "program"
    include = f"-I{folder}/library/include"
    command = [need("gcc"), "-std=c11", *SANITIZERS, include, source, *objects, "-o", program]
    subprocess.run(command, check=True, capture_output=True)
    done = subprocess.run([program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [int(word) for word in done.stdout.split()]


def test_the_header_is_c99_and_cpp(tmp_path: Path) -> None:
    library = tinyml.build(tinyml.load(keyword_spotting().data, name="m"), "cortex-m4", io="workspace")
    write_folder(tmp_path / "o", {"metadata.json": "{}", "m.h": library.header})
    for language, standard in (("c", "c99"), ("c++", "c++11")):
        flags = ["-x", language, f"-std={standard}", "-Wall", "-Wextra", "-Werror", "-pedantic", "-fsyntax-only"]
        subprocess.run([need("gcc"), *flags, tmp_path / "o" / "m.h"], check=True)
