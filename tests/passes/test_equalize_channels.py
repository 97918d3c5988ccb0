"""EqualizeChannels: the outputs stay, channels become alike."""

from __future__ import annotations

import numpy as np
import pytest
from tvm import IRModule

from benchmarks.int8_graph import Int8Graph
from tests.quantization.networks import NETWORKS, FloatNetwork, of
from tvm_tinyml.passes.equalize_channels import EqualizeChannels, column_peaks, equalizable
from tvm_tinyml.quantization.equalize import equalized
from tvm_tinyml.reference.evaluate import evaluate, trace


def chain(activation: str = "RELU") -> FloatNetwork:
    """A convolution, one in two groups, a depthwise one with two results a channel."""
    graph = Int8Graph(2, samples=2)
    x = graph.conv(graph.input((1, 7, 6, 3)), 4, (3, 3), activation=activation)
    x = graph.conv(x, 6, (1, 1), groups=2, activation=activation)
    return of(graph.finish("chain", graph.depthwise(x, (3, 3), multiplier=2)))


def outputs(module: IRModule, network: FloatNetwork) -> np.ndarray:
    return evaluate(module, [network.samples[:, 0]])[0]


@pytest.mark.parametrize("make", [chain, *NETWORKS.values()])
def test_the_outputs_stay(make: object) -> None:
    network = make()  # type: ignore[operator]
    pairs = equalizable(network.model.module["main"])
    rng = np.random.default_rng(0)
    factors = {
        name: rng.uniform(0.2, 5, first.bias.value.numpy().shape).astype(np.float32)
        for name, (first, _) in pairs.items()
    }
    once = EqualizeChannels(factors)(network.model.module)
    expected = outputs(network.model.module, network)
    np.testing.assert_allclose(outputs(once, network), expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())
    # Twice multiplies twice, and still nothing changes outside.
    twice = EqualizeChannels(factors)(once)
    np.testing.assert_allclose(outputs(twice, network), expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())


def test_a_channel_is_divided_by_its_factor() -> None:
    network = chain()
    (name, (first, _)), *_ = equalizable(network.model.module["main"]).items()
    factor = np.array([1, 2, 4, 8], np.float32)
    module = EqualizeChannels({name: factor})(network.model.module)
    before, after = (
        next(value for var, value in trace(m, [network.samples[0]]).items() if var.name == name)
        for m in (network.model.module, module)
    )
    assert first.name == name
    np.testing.assert_allclose(after * factor, before, rtol=1e-5, atol=1e-6)


def test_channels_that_are_unlike_become_alike() -> None:
    network = chain()
    (name, (_, second)), *_ = equalizable(network.model.module["main"]).items()
    unlike = EqualizeChannels({name: np.array([0.05, 1, 3, 20], np.float32)})(network.model.module)
    alike = equalized(unlike, [network.samples])

    def spread(module: IRModule) -> float:
        peaks = next(v for var, v in trace(module, [network.samples[:, 0]]).items() if var.name == name).max(
            axis=(0, 1, 2)
        )
        weights = column_peaks(equalizable(module["main"])[name][1])
        return float(np.ptp(np.log(peaks / weights)))

    assert second.is_layer
    # Not equal: the weights that read it are divided as well, for the tensor behind them.
    assert spread(alike) < 0.5 < 3 < spread(unlike)


def test_what_is_limited_or_read_twice_is_left_alone() -> None:
    assert not equalizable(chain("RELU6").model.module["main"])
    names = set(equalizable(NETWORKS["branches"]().model.module["main"]))
    assert not names & {"conv_2d_1", "mul_1", "add_1"}, "read by a concat, a product, a sum"
