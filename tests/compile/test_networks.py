"""Whole networks: ours with random weights on every core, the real MLPerf Tiny ones when they are at hand."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import tvm_tinyml as tinyml
from benchmarks.networks import anomaly_detection, image_classification, keyword_spotting, visual_wake_words
from tests.compile.cores import runnable
from tests.compile.toolchains import HostLibrary, cross_compile
from tests.reference_interpreter import ReferenceInterpreter, needs_interpreter
from tvm_tinyml.samples import xorshift_bytes
from tvm_tinyml.session import Session

OURS = {
    "kws": keyword_spotting,
    "vww": visual_wake_words,
    "ic": image_classification,
    "ad": anomaly_detection,
}
REAL = {
    "kws": "kws_ref_model.tflite",
    "vww": "vww_96_int8.tflite",
    "ic": "pretrainedResnet_quant.tflite",
    "ad": "ad01_int8.tflite",
}
Array = NDArray[Any]


def real(shared: Path, name: str) -> bytes:
    """Return the real model's file."""
    return (shared / "models" / "mlperf_tiny" / REAL[name]).read_bytes()


@cache
def real_library(shared: Path, name: str, core: str = "cortex-m4") -> tinyml.Library:
    """Return the real model's library, which several tests look at."""
    return tinyml.build(tinyml.load(real(shared, name), name=name), core)


def run_many(library: tinyml.Library, inputs: Array) -> Array:
    """Return the first output for each of several inputs."""
    (output,) = library.run({library.metadata["inputs"][0]["name"]: inputs}).values()
    return output


def random_inputs(library: tinyml.Library, count: int) -> Array:
    """Return `count` seeded inputs, [count, *shape]."""
    shape = library.metadata["inputs"][0]["shape"]
    return np.random.default_rng(7).integers(-128, 128, (count, *shape), np.int8)


@pytest.mark.parametrize("core", runnable(["cortex-m4", "cortex-m0plus"]))
@pytest.mark.parametrize("name", OURS)
def test_our_network_gives_the_reference_bytes(name: str, core: str) -> None:
    network = OURS[name]()
    library = tinyml.build(tinyml.load(network.data, name=name), core, emit="lib")
    inputs = network.random_inputs(5)
    np.testing.assert_array_equal(run_many(library, inputs[0]), network.run(inputs)[0])


@pytest.mark.parametrize("name", OURS)
def test_io_in_the_workspace_and_weights_in_ram_change_no_byte(name: str) -> None:
    network = OURS[name]()
    library = tinyml.build(tinyml.load(network.data, name=name), "cortex-m4", io="workspace", weights="ram", emit="lib")
    inputs = network.random_inputs(6)
    np.testing.assert_array_equal(run_many(library, inputs[0]), network.run(inputs)[0])


@pytest.mark.parametrize("core", runnable(["cortex-m0plus", "cortex-m4", "cortex-m7", "cortex-m55"]))
@pytest.mark.parametrize("name", REAL)
def test_a_real_model_gives_the_published_output(shared: Path, name: str, core: str) -> None:
    reference = json.loads((shared / "baselines" / "peers.json").read_text())["reference_outputs"]
    library = real_library(shared, name, core)
    tensor = library.metadata["inputs"][0]
    output = run_many(library, xorshift_bytes(tensor["size_bytes"]).reshape(tensor["shape"])).tobytes()
    if name == "ad":
        assert output[:16].hex() == reference["ad_first16"]
        assert fnv1a32(output) == int(reference["ad_fnv1a32"], 16)
    else:
        assert output.hex() == reference[name]


def fnv1a32(data: bytes) -> int:
    """Return the 32-bit FNV-1a hash."""
    value = 0x811C9DC5
    for byte in data:
        value = (value ^ byte) * 0x01000193 & 0xFFFFFFFF
    return value


@needs_interpreter
@pytest.mark.parametrize("name", REAL)
def test_a_real_model_equals_tflite_micro_over_100_random_inputs(shared: Path, name: str) -> None:
    library = real_library(shared, name)
    inputs = random_inputs(library, 100)
    interpreter = ReferenceInterpreter(real(shared, name))
    expected = np.stack([interpreter.run([x])[0] for x in inputs])
    np.testing.assert_array_equal(run_many(library, inputs), expected)


@needs_interpreter
def test_keyword_spotting_equals_tflite_micro_on_500_recordings(shared: Path) -> None:
    features = np.load(shared / "data" / "kws01" / "kws01_dev.npz")["features"]
    library = real_library(shared, "kws")
    interpreter = ReferenceInterpreter(real(shared, "kws"))
    expected = np.concatenate([interpreter.run([x[None]])[0] for x in features])
    assert len(features) == 500
    np.testing.assert_array_equal(run_many(library, features), expected)


@pytest.mark.parametrize("name", ["kws", "ic"])
def test_the_c_form_of_a_real_model_equals_the_object_form(shared: Path, name: str, tmp_path: Path) -> None:
    library = real_library(shared, name)
    inputs = random_inputs(library, 4)
    expected = run_many(library, inputs)
    on_host = HostLibrary(library, tmp_path / "host")
    built_by_gcc = Session(library.metadata, cross_compile(library, tmp_path / "m4", "cortex-m4"))
    for x, reference in zip(inputs, expected, strict=True):
        np.testing.assert_array_equal(on_host.run([x])[0], reference)
        np.testing.assert_array_equal(built_by_gcc.run([x]).outputs[0], reference)


@pytest.mark.parametrize(
    ("name", "ram_bytes", "cycles"),
    [("kws", 10_000, 5.6e6), ("vww", 32_000, 9.4e6), ("ic", 30_000, 20.7e6), ("ad", 1_500, 0.84e6)],
)
def test_a_real_model_takes_little_ram_if_that_is_the_goal(
    shared: Path, name: str, ram_bytes: int, cycles: float
) -> None:
    model = tinyml.load(real(shared, name), name=name)
    library = tinyml.build(model, "cortex-m4", goal="ram", io="workspace", memory="l4r5zi-120", emit="lib")
    assert library.metadata["ram_bytes"]["total"] <= ram_bytes
    assert library.profile().cycles <= cycles
