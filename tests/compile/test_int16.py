"""16x8 networks: every operator gives the reference bytes on every core in both forms; what is not there says so."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tvm.ir import assert_structural_equal

import tvm_tinyml as tinyml
from benchmarks import networks
from benchmarks.int8_graph import Int8Graph, Network
from benchmarks.tflite_builder import TFLiteBuilder
from tests.compile.cores import runnable
from tests.compile.toolchains import HostLibrary, cross_compile
from tests.simulated import needs_simulator
from tests.tflite_models import INT16_MODELS, Int16Graph
from tvm_tinyml import passes
from tvm_tinyml.benchmark import bench
from tvm_tinyml.errors import ModelError
from tvm_tinyml.options import BuildOptions
from tvm_tinyml.pipeline import integer_graph
from tvm_tinyml.reference.evaluate import evaluate
from tvm_tinyml.session import Session
from tvm_tinyml.verification import verify

OPERATORS = [name for name in INT16_MODELS if name not in ("quantize", "dequantize")]  # of float tensors
CORES = ("cortex-m4", "cortex-m0plus", "cortex-m55")
"""The Cortex-M7 and M33 run the kernels of the M4, the M3 has those of the M0+."""

MODELS = {"cortex-m4": 2}


def check(name: str, seed: int, build: Callable[[tinyml.Model], Callable[..., list[np.ndarray]]]) -> None:
    """Compare one model with its answer."""
    network = INT16_MODELS[name](seed)
    inputs = network.random_inputs(seed)
    outputs = build(tinyml.load(network.data, name="m"))(inputs)
    for output, expected in zip(outputs, network.run(inputs), strict=True):
        assert output.dtype == expected.dtype
        np.testing.assert_array_equal(output, expected.reshape(output.shape), f"{name}, seed {seed}")


@needs_simulator
@pytest.mark.parametrize("name", OPERATORS)
@pytest.mark.parametrize("core", runnable(CORES))
def test_an_operator_gives_the_reference_bytes(name: str, core: str) -> None:
    def build(model: tinyml.Model) -> Callable[..., list[np.ndarray]]:
        library = tinyml.build(model, core, emit="lib")
        return lambda inputs: Session(library.metadata, library.objects).run(inputs).outputs

    for seed in range(MODELS.get(core, 1)):
        check(name, seed, build)


@pytest.mark.parametrize("name", OPERATORS)
def test_on_the_host_the_c_form_gives_the_reference_bytes(name: str, tmp_path: Path) -> None:
    check(name, 5, lambda model: HostLibrary(tinyml.build(model, "cortex-m4"), tmp_path).run)


@needs_simulator
@pytest.mark.parametrize("name", ("conv", "deep_conv", "depthwise", "dense", "narrow_bias", "softmax", "tanh"))
@pytest.mark.parametrize("target", ("cortex-m0plus", "cortex-m4"))
def test_on_the_core_gcc_makes_the_same_bytes_of_the_c_form(name: str, target: str, tmp_path: Path) -> None:
    def build(model: tinyml.Model) -> Callable[..., list[np.ndarray]]:
        library = tinyml.build(model, target)
        objects = cross_compile(library, tmp_path, target)
        return lambda inputs: Session(library.metadata, objects).run(inputs).outputs

    check(name, 6, build)


@pytest.mark.parametrize("name", OPERATORS)
def test_passes_over_integers_change_no_byte(name: str) -> None:
    def build(model: tinyml.Model) -> Callable[..., list[np.ndarray]]:
        return lambda inputs: evaluate(integer_graph(model, BuildOptions()), inputs)

    for seed in range(4):
        check(name, seed, build)


PASSES = (
    passes.FoldQuantization(),
    passes.TransposedToConvolutions(),
    passes.FoldConstants(),
    passes.SimplifyTransposes(),
    passes.SimplifyReshapes(),
    passes.TabulateFunctions(),
    passes.FuseLookups(),
    passes.FoldPads(),
    passes.RemoveDeadChannels(),
    passes.ResizeToGather(),
    passes.MovesToViews(),
)


@pytest.mark.parametrize("name", ["dead_conv", "transpose_conv", "mul", "softmax", "pad", "concat", "resize_nearest"])
def test_passes_twice_are_passes_once(name: str) -> None:
    module = tinyml.load(INT16_MODELS[name](1).data, name="m").module
    for each in PASSES:
        module = each(module)
        assert_structural_equal(each(module), module)


def test_a_function_of_one_int16_tensor_is_no_table() -> None:
    graph = Int16Graph(0.0001)
    x = graph.input((64, 1024), (0.0256, 0))
    model = tinyml.load(graph.finish("square", graph.mul(x, x)).data, name="m")
    calls = integer_graph(model, BuildOptions())["main"].body.blocks[0].bindings
    assert [str(binding.value.op.name) for binding in calls] == ["tinyml.multiply"]


@needs_simulator
@pytest.mark.parametrize(
    "network", [networks.keyword_spotting, networks.image_classification, networks.anomaly_detection]
)
def test_a_network_gives_the_reference_bytes(network: Callable[..., Network]) -> None:
    model = tinyml.load(network(dtype="int16").data, name="m")
    assert {spec.dtype for spec in (*model.inputs, *model.outputs)} == {"int16"}
    assert verify(model, tinyml.build(model, "cortex-m4", emit="lib"), samples=1).differing == 0


@needs_simulator
@pytest.mark.parametrize("goal", ["ram", "flash", "time"])
@pytest.mark.parametrize("io", ["caller", "workspace"])
def test_a_network_gives_the_reference_bytes_with_every_goal(goal: str, io: str) -> None:
    model = tinyml.load(_mixed().data, name="m")
    assert verify(model, tinyml.build(model, "cortex-m4", emit="lib", goal=goal, io=io)).differing == 0


def _mixed() -> Network:
    """Eight bits outside, 16 inside, with channels that are put together and taken apart."""
    graph = Int8Graph(0, samples=2)
    x = graph.input((1, 9, 8, 4), (0.05, 3))
    graph.dtype = "int16"
    x = graph.requantize(x, (x.scale / 200, 0), "int16")
    left, right = graph.split(x, 2, 3)
    y = graph.concat([graph.max_pool(left, (3, 3), strides=(1, 1), padding="SAME"), right], 3)
    y = graph.depthwise(graph.conv(y, 6, (3, 3), activation="RELU"), (3, 3), strides=(2, 2), activation="RELU6")
    y = graph.dense(graph.reshape(y, (1, 5 * 4 * 6)), 7)
    return graph.finish("mixed", graph.requantize(graph.softmax(y), (1 / 256, -128), "int8"))


@needs_simulator
@pytest.mark.parametrize(("kind", "most_cycles_per_mac"), [("pointwise", 2.5), ("dense", 2.5), ("spatial", 2.5)])
def test_layers_of_64_channels_are_fast(kind: str, most_cycles_per_mac: float) -> None:
    graph = Int8Graph(0, samples=2, dtype="int16")
    if kind == "dense":
        y = graph.dense(graph.input((1, 64)), 64, activation="RELU")
    else:
        window = (1, 1) if kind == "pointwise" else (3, 3)
        y = graph.conv(graph.input((1, 9, 5, 64)), 64, window, activation="RELU", padding="VALID")
    network = graph.finish(kind, y)
    library = tinyml.build(tinyml.load(network.data, name="m"), "cortex-m4", emit="lib")
    assert bench(library)["cycles"] < most_cycles_per_mac * network.macs + 500  # of run and its call


@needs_simulator
def test_a_pointer_to_halves_that_is_odd_is_refused() -> None:
    network = INT16_MODELS["add"](0)
    library = tinyml.build(tinyml.load(network.data, name="m"), "cortex-m4")
    assert "need the alignment of their type" in library.header
    with pytest.raises(tinyml.errors.DeviceError, match="-2"):
        Session(library.metadata, library.objects, misalign=1).run(network.random_inputs(0))


def one_layer(bias_dtype: str = "int64", output_dtype: str = "int16", zero_point: int = 0, scale: float = 0.1) -> bytes:
    """Return a dense layer of an int16 input."""
    builder = TFLiteBuilder()
    x = builder.tensor("x", (1, 4), "int16", scales=0.001, zero_point=zero_point)
    w = builder.tensor("w", (2, 4), "int8", scales=0.01, data=np.full((2, 4), 127, np.int8))
    b = builder.tensor("b", (2,), bias_dtype, scales=1e-5, data=np.ones(2, bias_dtype))
    y = builder.tensor("y", (1, 2), output_dtype, scales=scale)
    builder.operator("FULLY_CONNECTED", [x, w, b], [y], "FullyConnectedOptions")
    return builder.finish([x], [y])


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (one_layer(zero_point=1), "'x' is int16 with zero point 1, 0 is supported"),
        (one_layer(bias_dtype="int16"), "the bias 'b' is int16, int32 or int64 is supported with inputs of int16"),
        (one_layer(output_dtype="int8"), "dense: inputs and result are int16, int8"),
        (one_layer(scale=1e-8), "channel 0 is 128 or more"),
    ],
)
def test_what_is_wrong_with_a_layer_is_said(model: bytes, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        tinyml.build(tinyml.load(model, name="m"), "cortex-m4")


def test_a_logistic_function_of_another_scale_is_refused() -> None:
    builder = TFLiteBuilder()
    x, y = (builder.tensor(name, (1, 4), "int16", scales=0.001) for name in "xy")
    builder.operator("LOGISTIC", [x], [y])
    with pytest.raises(ModelError, match="logistic of an int16 tensor gives scale 1 / 32768"):
        tinyml.build(tinyml.load(builder.finish([x], [y]), name="m"), "cortex-m4")
