"""Nearest resizing becomes reading at known positions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tvm import IRModule, relax

from tests.passes.graphs import calls, int8, integer, names, same
from tvm_tinyml.arithmetic import nearest_indices
from tvm_tinyml.errors import ModelError
from tvm_tinyml.passes import ResizeToGather
from tvm_tinyml.passes.resize_to_gather import positions
from tvm_tinyml.reference.evaluate import evaluate

MODES = ("asymmetric", "half_pixel", "pytorch_half_pixel", "align_corners")
ROUNDINGS = ("floor", "ceil", "round_prefer_floor", "round_prefer_ceil")


def resize(mode: str = "half_pixel", rounding: str = "round_prefer_ceil", **options: Any) -> IRModule:
    given = {"layout": "NHWC", "method": "nearest_neighbor", **options}
    return integer(
        lambda x: relax.op.image.resize2d(
            x, (7, 3), coordinate_transformation_mode=mode, rounding_method=rounding, **given
        ),
        (1, 4, 5, 2),
    )


def test_a_resize_becomes_one_gather_with_constant_positions() -> None:
    module = ResizeToGather()(resize())
    assert names(module) == ["tinyml.gather2d"]
    (call,) = calls(module)
    assert call.args[1].value.numpy().tolist() == nearest_indices(4, 7, False, True).tolist()
    assert call.args[2].value.numpy().tolist() == nearest_indices(5, 3, False, True).tolist()
    assert str(call.args[1].value.dtype) == "int32"


@pytest.mark.parametrize("mode", MODES)
def test_the_gather_reads_what_the_resize_read(rng: np.random.Generator, mode: str) -> None:
    module = resize(mode)
    x = int8(rng, 1, 4, 5, 2)
    np.testing.assert_array_equal(evaluate(ResizeToGather()(module), [x])[0], evaluate(module, [x])[0])


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("rounding", ROUNDINGS)
def test_positions_are_those_of_onnxruntime(mode: str, rounding: str) -> None:
    onnxruntime = pytest.importorskip("onnxruntime", reason="needs onnxruntime: pip install tvm_tinyml[dev]")
    from onnx import TensorProto, helper

    sizes = [(size, resized) for size in (1, 2, 3, 5, 8, 10) for resized in (1, 2, 3, 4, 7, 8, 10, 16, 21)]
    inputs = [helper.make_tensor_value_info(f"x{i}", TensorProto.FLOAT, [1, 1, 1, n]) for i, (n, _) in enumerate(sizes)]
    outputs = [helper.make_tensor_value_info(f"y{i}", TensorProto.FLOAT, None) for i in range(len(sizes))]
    options = {"mode": "nearest", "coordinate_transformation_mode": mode, "nearest_mode": rounding}
    nodes = [helper.make_node("Resize", [f"x{i}", "", "", f"s{i}"], [f"y{i}"], **options) for i in range(len(sizes))]
    constants = [helper.make_tensor(f"s{i}", TensorProto.INT64, [4], [1, 1, 1, m]) for i, (_, m) in enumerate(sizes)]
    graph = helper.make_graph(nodes, "resize", inputs, outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    feed = {f"x{i}": np.arange(n, dtype=np.float32).reshape(1, 1, 1, n) for i, (n, _) in enumerate(sizes)}
    for (size, resized), theirs in zip(sizes, session.run(None, feed), strict=True):
        ours = positions(size, resized, mode, rounding)
        assert ours.tolist() == theirs.reshape(-1).astype(int).tolist(), (size, resized)


def test_positions_stay_inside_the_image() -> None:
    for mode in MODES:
        for rounding in ROUNDINGS:
            for size in range(1, 9):
                for resized in range(1, 20):
                    found = positions(size, resized, mode, rounding)
                    assert found.shape == (resized,)
                    assert found.min() >= 0
                    assert found.max() < size


def test_another_method_is_refused() -> None:
    with pytest.raises(ModelError, match="method 'linear' in NHWC; known is 'nearest_neighbor' in NHWC"):
        ResizeToGather()(resize(method="linear"))


def test_another_layout_is_refused() -> None:
    with pytest.raises(ModelError, match="method 'nearest_neighbor' in NCHW"):
        ResizeToGather()(resize(layout="NCHW"))


def test_what_is_no_resize_stays() -> None:
    module = integer(lambda x: relax.op.strided_slice(x, [1], [0], [2]), (1, 4, 5, 2))
    assert same(ResizeToGather()(module), module)


def test_twice_is_once_and_attributes_stay() -> None:
    module = resize()
    before = module.script(show_meta=True)
    once = ResizeToGather()(module)
    assert same(ResizeToGather()(once), once)
    assert once.attrs["tinyml.reference"] == "tflite"
    assert module.script(show_meta=True) == before
