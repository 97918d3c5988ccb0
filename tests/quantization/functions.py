"""Float networks of ONNX with the functions that MobileNetV3 and speech networks have, seeded."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from benchmarks.onnx_networks import OnnxNetwork, QdqGraph
from tests.float_models import float_onnx
from tests.quantization.networks import FloatNetwork
from tvm_tinyml.frontend import load


def mobile() -> FloatNetwork:
    """Convolutions with hard swish, squeeze and excitation by hard sigmoid, a sum."""
    g = QdqGraph(4)

    def swish(x: str) -> str:
        return g.quantized(g.node("HardSwish", x))

    x = swish(g.conv(g.input((1, 3, 12, 10)), 8, strides=[2, 2], pads=[1, 1, 1, 1]))
    y = swish(g.conv(swish(g.conv(x, 16, (1, 1))), 16, group=16, pads=[1, 1, 1, 1]))
    squeezed = g.conv(g.quantized(g.node("GlobalAveragePool", y)), 4, (1, 1), activation="Relu")
    gate = g.quantized(g.node("HardSigmoid", g.conv(squeezed, 16, (1, 1)), alpha=1 / 6, beta=0.5))
    y = g.conv(g.quantized(g.node("Mul", y, gate)), 8, (1, 1))
    x = swish(g.quantized(g.node("Add", x, y)))
    flat = g.node("Flatten", g.quantized(g.node("GlobalAveragePool", x)))
    return _float(g.finish("mobile", g.gemm(flat, 6)))


def speech() -> FloatNetwork:
    """Magnitudes, convolutions over time with leaky ReLU and PReLU, gates, decays exp(-abs(x))."""
    g = QdqGraph(5)

    def function(kind: str, x: str, *more: str, **attributes: float) -> str:
        return g.quantized(g.node(kind, x, *more, **attributes))

    x = function("LeakyRelu", g.conv(function("Abs", g.input((1, 4, 1, 20))), 12, (1, 3)), alpha=0.2)
    x = function("PRelu", g.conv(x, 12, (1, 3)), g.constant(np.array([0.3], np.float32)))
    silu = function("Mul", x, function("Sigmoid", x))
    gated = function("Mul", function("Tanh", g.conv(silu, 8, (1, 1))), function("Sigmoid", g.conv(silu, 8, (1, 1))))
    decay = function("Exp", function("Neg", function("Abs", gated)))
    y = g.conv(function("Mul", silu, g.conv(decay, 12, (1, 1))), 8, (1, 3), strides=[1, 2])
    return _float(g.finish("speech", g.gemm(g.node("Flatten", y), 6)))


def _float(network: OnnxNetwork) -> FloatNetwork:
    model = load(float_onnx(network.model), name="net")
    (spec,) = model.inputs
    return FloatNetwork(model, np.random.default_rng(0).normal(0, 1, (64, *spec.shape)).astype(np.float32))


NETWORKS: dict[str, Callable[[], FloatNetwork]] = {"mobile": mobile, "speech": speech}
