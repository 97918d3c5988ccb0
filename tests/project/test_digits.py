"""The model that ships with the package is what it says it is."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

from tvm_tinyml import demo


@pytest.fixture(scope="module")
def model() -> onnx.ModelProto:
    loaded = onnx.load_from_string(demo.digits()[0])
    onnx.checker.check_model(loaded, full_check=True)
    return loaded


def test_digits_is_small_and_static(model: onnx.ModelProto) -> None:
    assert len(demo.digits()[0]) < 100_000
    (opset,) = model.opset_import
    assert (opset.domain, opset.version >= 13) == ("", True)
    for value, shape in [(model.graph.input[0], [1, 1, 8, 8]), (model.graph.output[0], [1, 10])]:
        assert value.type.tensor_type.elem_type == TensorProto.FLOAT
        assert [d.dim_value for d in value.type.tensor_type.shape.dim] == shape


def test_digits_is_qdq_from_end_to_end(model: onnx.ModelProto) -> None:
    nodes = model.graph.node
    producer = {output: node.op_type for node in nodes for output in node.output}
    consumers = Counter((node.op_type, name) for node in nodes for name in node.input)
    assert consumers["QuantizeLinear", "image"] == 1
    assert producer["logits"] == "DequantizeLinear"
    assert not any(node.op_type == "BatchNormalization" for node in nodes)
    for node in nodes:
        if node.op_type not in ("QuantizeLinear", "DequantizeLinear"):
            assert {producer[name] for name in node.input} == {"DequantizeLinear"}, node.name


def test_digits_weights_are_symmetric_with_a_scale_for_each_channel(model: onnx.ModelProto) -> None:
    constants = {c.name: numpy_helper.to_array(c) for c in model.graph.initializer}
    weights = [n for n in model.graph.node if n.op_type == "DequantizeLinear" and constants.get(n.input[0]) is not None]
    assert len(weights) == 12  # six layers, each with weights and a bias
    for node in weights:
        values, scale, zero_point = (constants[name] for name in node.input)
        assert values.dtype == (np.int32 if values.ndim == 1 else np.int8)
        assert scale.shape == (values.shape[0],)
        assert not zero_point.any()


def test_digits_reads_unseen_pictures() -> None:
    ort = pytest.importorskip("onnxruntime")
    data, images, labels = demo.digits()
    session = ort.InferenceSession(data, providers=["CPUExecutionProvider"])
    logits = np.concatenate([session.run(None, {"image": image[None]})[0] for image in images])
    assert np.mean(logits.argmax(axis=1) == labels) >= 0.97


def test_pictures_to_test_with_are_not_those_to_train_on() -> None:
    seen, unseen = demo.split()
    assert {image.tobytes() for image in seen.images}.isdisjoint({image.tobytes() for image in unseen.images})
    assert len(seen.labels) + len(unseen.labels) == 1797
    assert unseen.images.dtype == np.float32
    assert unseen.images.shape[1:] == (1, 8, 8)
    assert 0.0 <= unseen.images.min() < unseen.images.max() <= 1.0


def test_halves_share_no_picture() -> None:
    seen, unseen = demo.halves()
    assert {image.tobytes() for image in seen.images}.isdisjoint({image.tobytes() for image in unseen.images})
    assert (len(seen.labels), len(unseen.labels)) == (898, 899)
