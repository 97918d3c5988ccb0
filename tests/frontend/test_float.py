"""Float models: the same importers without quantization, against tflite-micro and onnxruntime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

import tvm_tinyml as tinyml
from benchmarks import networks
from benchmarks.int8_graph import Int8Graph
from benchmarks.onnx_networks import NETWORKS, QdqGraph
from tests import onnx_models, reference_interpreter, tflite_models
from tests.float_models import float_onnx, float_tflite
from tests.reference_interpreter import needs_interpreter
from tvm_tinyml.errors import ModelError
from tvm_tinyml.frontend import load
from tvm_tinyml.inspection import inspect
from tvm_tinyml.passes.float_groups import groups
from tvm_tinyml.reference.evaluate import evaluate, takes_samples

Array = NDArray[Any]

REAL_MODELS = ("ad01_fp32", "pretrainedResnet", "vww_96_float")  # tflite-micro has no kernel for that of KWS


def check_close(computed: list[Array], expected: list[Array]) -> None:
    for y, e in zip(computed, expected, strict=True):
        assert y.dtype == e.dtype == np.float32
        np.testing.assert_allclose(y, e, rtol=2e-5, atol=1e-5 * max(1.0, float(np.abs(e).max(initial=0))))


def drawn(model: Any, seed: int) -> list[Array]:
    rng = np.random.default_rng(seed)
    return [rng.normal(size=spec.shape).astype(np.float32) for spec in model.inputs]


QUANTIZING = {"requantize", "quantize", "dequantize", "knife_edge", "extreme_scale", "integer_interface"}
"""Models that are about quantization."""


@needs_interpreter
@pytest.mark.parametrize("kind", [kind for kind in tflite_models.MODELS if kind not in QUANTIZING])
def test_tflite_operators_compute_what_the_reference_computes(kind: str) -> None:
    for seed in range(3):
        data = float_tflite(tflite_models.MODELS[kind](seed).data)
        model = load(data, name="model")
        assert {spec.dtype for spec in (*model.inputs, *model.outputs)} == {"float32"}
        inputs = drawn(model, seed)
        check_close(evaluate(model.module, inputs), reference_interpreter.run(data, inputs))


@pytest.mark.parametrize("kind", [kind for kind in onnx_models.MODELS if kind not in QUANTIZING])
def test_onnx_operators_compute_what_the_reference_computes(kind: str) -> None:
    ort = pytest.importorskip("onnxruntime", reason="the reference for ONNX models")
    for seed in range(3):
        source = float_onnx(onnx_models.MODELS[kind](seed).model)
        model = load(source)
        inputs = drawn(model, seed)
        feeds = {spec.name: x for spec, x in zip(model.inputs, inputs, strict=True)}
        check_close(evaluate(model.module, inputs), ort.InferenceSession(source.SerializeToString()).run(None, feeds))


@pytest.mark.parametrize("name", NETWORKS)
def test_whole_onnx_networks_compute_what_the_reference_computes(name: str) -> None:
    ort = pytest.importorskip("onnxruntime", reason="the reference for ONNX models")
    source = float_onnx(NETWORKS[name]().model)
    model = load(source)
    inputs = drawn(model, 0)
    feeds = {spec.name: x for spec, x in zip(model.inputs, inputs, strict=True)}
    check_close(evaluate(model.module, inputs), ort.InferenceSession(source.SerializeToString()).run(None, feeds))


@needs_interpreter
@pytest.mark.parametrize("name", REAL_MODELS)
def test_real_models_compute_what_the_reference_computes(shared: Path, name: str) -> None:
    file = shared / "models" / "mlperf_tiny" / f"{name}.tflite"
    if not file.is_file():
        pytest.skip(f"needs the model {file.name}")
    model = load(file)
    inputs = drawn(model, 0)
    check_close(evaluate(model.module, inputs), reference_interpreter.run(file.read_bytes(), inputs))


def test_a_layer_is_one_group_with_a_bias() -> None:
    graph = Int8Graph(0)
    x = graph.conv(graph.input((1, 7, 9, 3)), 8, (3, 3), activation="RELU", bias=False)
    y = graph.dense(graph.reshape(x, (1, 504)), 4)
    module = load(float_tflite(graph.finish("two", y).data)).module
    conv, reshape, dense = groups(module["main"])
    assert [(g.kind, len(g.bindings), g.is_layer, g.moves) for g in (conv, reshape, dense)] == [
        ("relax.nn.conv2d", 3, True, False),
        ("relax.reshape", 1, False, True),
        ("relax.matmul", 3, True, False),
    ]
    assert conv.weight.value.numpy().shape == (8, 3, 3, 3)
    assert not conv.bias.value.numpy().any()
    assert len(conv.product) == 2
    assert dense.weight.value.numpy().shape == (4, 504)
    assert dense.sources == [reshape.name]


def normalized(graph: QdqGraph, x: str) -> str:
    draws = [graph.rng.uniform(0.5, 2.0, 3).astype(np.float32) for _ in range(4)]
    return str(graph.node("BatchNormalization", x, *map(graph.constant, draws), epsilon=1e-3))


def test_batch_normalization_goes_into_the_weights_before_it() -> None:
    graph = QdqGraph(0)
    y = normalized(graph, graph.conv(graph.input((1, 2, 5, 6)), 3))
    source = float_onnx(graph.finish("norm", y).model)
    assert [group.kind for group in groups(load(source).module["main"])][1:2] == ["relax.nn.conv2d"]
    assert "relax.multiply" not in [group.kind for group in groups(load(source).module["main"])]


def test_batch_normalization_elsewhere_is_a_product_and_a_sum() -> None:
    ort = pytest.importorskip("onnxruntime", reason="the reference for ONNX models")
    for channels_last in (False, True):
        graph = QdqGraph(0)
        x = graph.input((1, 3, 5, 6))
        source = float_onnx(
            graph.finish(
                "n", normalized(graph, graph.node("MaxPool", x, kernel_shape=[2, 2]) if channels_last else x)
            ).model
        )
        model = load(source)
        kinds = [group.kind for group in groups(model.module["main"])]
        assert {"relax.multiply", "relax.add"} <= set(kinds)
        (values,) = drawn(model, 0)
        feeds = {model.inputs[0].name: values}
        check_close(evaluate(model.module, [values]), ort.InferenceSession(source.SerializeToString()).run(None, feeds))


@pytest.mark.parametrize("opset", [11, 12, 13, 17, 22])
def test_opsets_of_float_models(opset: int) -> None:
    make = onnx.helper.make_node
    nodes = [
        make("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1]),
        make("Relu", ["c"], ["r"]),
        make("GlobalAveragePool", ["r"], ["g"]),
        make("Flatten", ["g"], ["f"]),
        make("Gemm", ["f", "d", "b"], ["y"], transB=1),
    ]
    rng = np.random.default_rng(0)
    weights = {"w": (4, 3, 3, 3), "d": (5, 4), "b": (5,)}
    constants = [onnx.numpy_helper.from_array(rng.normal(size=s).astype(np.float32), n) for n, s in weights.items()]
    info = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(nodes, "g", [info("x", 1, ["N", 3, 8, 8])], [info("y", 1, ["N", 5])], constants)
    source = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)], ir_version=7)
    model = load(source)
    ort = pytest.importorskip("onnxruntime", reason="the reference for ONNX models")
    (x,) = drawn(model, 0)
    check_close(evaluate(model.module, [x]), ort.InferenceSession(source.SerializeToString()).run(None, {"x": x}))


def test_samples_are_computed_together() -> None:
    for network in (networks.keyword_spotting(), networks.image_classification(), networks.anomaly_detection()):
        model = load(float_tflite(network.data), name="model")
        assert takes_samples(model.module)
        rng = np.random.default_rng(0)
        x = rng.normal(size=(3, *model.inputs[0].shape[1:])).astype(np.float32)
        (together,) = evaluate(model.module, [x])
        alone = np.concatenate([evaluate(model.module, [x[i : i + 1]])[0] for i in range(3)])
        np.testing.assert_allclose(together, alone, rtol=1e-4, atol=1e-5)


def test_a_float_network_is_not_built_but_the_way_is_told() -> None:
    graph = Int8Graph(0)
    model = load(float_tflite(graph.finish("one", graph.conv(graph.input((1, 5, 5, 2)), 3, (3, 3))).data), name="one")
    for use in (tinyml.build, inspect):
        with pytest.raises(
            ModelError, match=r"float network.*tinyml\.quantize\(model, calibration=samples\).*--calibration"
        ):
            use(model)
