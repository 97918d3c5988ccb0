"""onnxruntime as the reference for ONNX models: all quantized tensors of a run, and networks taught with it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from benchmarks.onnx_networks import OnnxNetwork
from tvm_tinyml.frontend.qdq import identifier
from tvm_tinyml.model import TensorSpec

Array = NDArray[Any]


@dataclass(frozen=True)
class Quantized:
    """What onnxruntime made of one tensor: integers as int8, and the reals in units of the scale they are rounded from.

    Zero points are not in `reals`.
    """

    integers: Array
    reals: Array


class Runtime:
    """A model in onnxruntime, run node by node as the file has it: no optimization, one thread.

    `keep` names float tensors whose values are asked for besides.
    """

    def __init__(self, model: onnx.ModelProto, *keep: str) -> None:
        ort = pytest.importorskip("onnxruntime", reason="the reference for ONNX models")
        given = {value.name for value in (*model.graph.input, *model.graph.initializer)}
        constants = {c.name: onnx.numpy_helper.to_array(c) for c in model.graph.initializer}
        nodes = [n for n in model.graph.node if n.op_type == "QuantizeLinear" and n.input[0] not in given]
        self._tensors = {n.output[0]: (n.input[0], constants[n.input[1]]) for n in nodes}
        wanted = [*keep, *(name for n in nodes for name in (n.output[0], n.input[0]))]
        have = {value.name for value in model.graph.output}
        more = onnx.ModelProto()
        more.CopyFrom(model)
        more.graph.output.extend(onnx.ValueInfoProto(name=name) for name in dict.fromkeys(wanted) if name not in have)
        options = ort.SessionOptions()
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        self._session = ort.InferenceSession(more.SerializeToString(), options, providers=["CPUExecutionProvider"])
        self._names = [output.name for output in self._session.get_outputs()]

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Return the model's outputs and all tensors that are quantized, by name."""
        return dict(zip(self._names, self._session.run(None, dict(inputs)), strict=True))

    def quantized(self, values: Mapping[str, Array]) -> Iterator[tuple[tuple[str, str], Quantized]]:
        """Yield what `run` returned for each quantized tensor, with the names that a variable of ours may have for it.

        A tensor that is quantized after the fact (moved elements, in another scale) is called after its integers.
        """
        for name, (source, scale) in self._tensors.items():
            result = Quantized(as_int8(values[name]), values[source] / scale)
            yield (identifier(name, "tensor"), identifier(source, "tensor")), result


def as_int8(values: Array) -> Array:
    """Return 8-bit integers as int8; those of uint8 are 128 less."""
    return (values.astype(np.int16) - 128).astype(np.int8) if values.dtype == np.uint8 else values


def quantize(x: Array, spec: TensorSpec) -> Array:
    """Quantize as onnxruntime does, halves to even."""
    assert spec.scale is not None
    assert spec.zero_point is not None
    limits = np.iinfo(spec.dtype)
    return np.clip(np.rint(x / np.float32(spec.scale)) + spec.zero_point, limits.min, limits.max).astype(spec.dtype)


# Networks with something to tell apart ------------------------------------------------------------------------

CLASSES, LESSONS = 10, 400


def picture(shape: tuple[int, ...], seed: int) -> Array:
    """Return an image of class ``seed % 10``: the class's own pattern of coarse squares under noise."""
    _, channels, height, width = shape
    rng = np.random.default_rng([0, seed % CLASSES])
    squares = 1.5 * rng.normal(size=(channels, 4, 4)) + rng.normal(size=(channels, 1, 1))
    pattern = np.kron(squares, np.ones((-(-height // 4), -(-width // 4))))[:, :height, :width]
    noise = 0.2 * np.random.default_rng([1, seed]).normal(size=shape)
    return np.asarray(pattern + noise, np.float32)


def taught(network: OnnxNetwork) -> OnnxNetwork:
    """Return the network with its last layer fitted to tell the classes of `picture` apart.

    With random weights most inputs end in the same class, or in two with one probability.
    """
    model = onnx.ModelProto()
    model.CopyFrom(network.model)
    maker = {output: node for node in model.graph.node for output in node.output}
    gemm = next(node for node in model.graph.node if node.op_type == "Gemm" and node.output[0] == _logits(model))
    features, weight, bias = gemm.input
    ((name, shape),) = network.shapes.items()
    runtime = Runtime(model, features)
    x = np.concatenate([runtime.run({name: picture(shape, seed)})[features] for seed in range(LESSONS)])
    targets = np.eye(CLASSES)[np.arange(LESSONS) % CLASSES]
    mean = x.mean(axis=0)
    centred = x - mean
    ridge = 0.03 * np.trace(centred.T @ centred) / x.shape[1] * np.eye(x.shape[1])
    matrix = 8.0 * np.linalg.solve(centred.T @ centred + ridge, centred.T @ (targets - 0.1)).T
    offset = -matrix @ mean
    logits = x @ matrix.T + offset

    constants = {c.name: c for c in model.graph.initializer}

    def store(constant: str, values: Array) -> None:
        dtype = onnx.numpy_helper.to_array(constants[constant]).dtype
        constants[constant].CopyFrom(onnx.numpy_helper.from_array(values.astype(dtype), constant))

    scales = np.abs(matrix).max(axis=1).astype(np.float32) / 127
    x_scale = onnx.numpy_helper.to_array(constants[_quantization(maker, features)[0]])
    store(maker[weight].input[0], np.rint(matrix / scales[:, None]))
    store(maker[weight].input[1], scales)
    store(maker[bias].input[0], np.rint(offset / (x_scale * scales)))
    store(maker[bias].input[1], x_scale * scales)
    quantize_node = next(node for node in model.graph.node if list(node.input[:1]) == [gemm.output[0]])
    limits = np.iinfo(onnx.numpy_helper.to_array(constants[quantize_node.input[2]]).dtype)
    scale = (logits.max() - logits.min()) / 255
    store(quantize_node.input[1], np.asarray(scale, np.float32))
    store(quantize_node.input[2], np.asarray(np.rint(limits.min - logits.min() / scale)))
    return OnnxNetwork(network.name, model, network.shapes)


def _logits(model: onnx.ModelProto) -> str:
    return str([node.output[0] for node in model.graph.node if node.op_type == "Gemm"][-1])


def _quantization(maker: Mapping[str, onnx.NodeProto], name: str) -> tuple[str, str]:
    """Return the constants that hold scale and zero point of a tensor, through nodes that move elements."""
    node = maker[name]
    while node.op_type != "DequantizeLinear":
        node = maker[node.input[0]]
    return node.input[1], node.input[2]
