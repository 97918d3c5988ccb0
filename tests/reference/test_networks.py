"""The four random networks of the size of MLPerf Tiny."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
import pytest

from benchmarks import networks
from benchmarks.int8_graph import Network
from tests.reference_interpreter import ReferenceInterpreter, needs_interpreter

NETWORKS: dict[str, tuple[Callable[[], Network], int]] = {
    "kws": (networks.keyword_spotting, 2_656_768),
    "vww": (networks.visual_wake_words, 7_489_664),
    "vww with dead channels": (lambda: networks.visual_wake_words(dead_share=0.8), 7_489_664),
    "ic": (networks.image_classification, 12_501_632),
    "ad": (networks.anomaly_detection, 264_192),
}


@cache
def built(name: str) -> Network:
    return NETWORKS[name][0]()


@pytest.fixture(params=NETWORKS)
def named(request: pytest.FixtureRequest) -> tuple[str, Network]:
    return request.param, built(request.param)


@needs_interpreter
def test_every_tensor_of_a_network_equals_the_interpreters(named: tuple[str, Network]) -> None:
    _, network = named
    interpreter = ReferenceInterpreter(network.data, keep_tensors=True)
    for seed in range(3):
        inputs = network.random_inputs(seed)
        outputs = interpreter.run(inputs)
        for index, ours in network.run_all(inputs).items():
            assert np.array_equal(ours, interpreter.tensor(index)), f"tensor {index}"
        for ours, theirs in zip(network.run(inputs), outputs, strict=True):
            assert np.array_equal(ours, theirs)


def test_macs_are_those_of_mlperf_tiny(named: tuple[str, Network]) -> None:
    name, network = named
    assert network.macs == NETWORKS[name][1]


@pytest.mark.parametrize("name", ["kws", "vww", "ic", "ad"])
def test_activations_neither_saturate_nor_die(name: str) -> None:
    network = built(name)
    values = network.run_all(network.random_inputs(1))
    for index, value in values.items():
        if value.size < 128 or index == network.inputs[0].index:
            continue
        assert np.mean(value == 127) < 0.03, f"tensor {index} saturates"
        assert np.mean(value == -128) < 0.75, f"tensor {index} dies"
        channels = value.reshape(-1, value.shape[-1])
        if len(channels) >= 25:
            assert np.mean(channels.std(axis=0) == 0) < 0.05, f"channels of tensor {index} are constant"


def test_four_of_five_channels_are_dead_where_asked() -> None:
    network = built("vww with dead channels")
    values = network.run_all(network.random_inputs(1))
    images = [v for v in values.values() if v.ndim == 4 and v.shape[1] > 1 and v.shape[3] > 3]
    assert len(images) == 27
    for image in images:
        constant = np.mean(image.reshape(-1, image.shape[3]).std(axis=0) == 0)
        assert 0.74 < constant < 0.9


def test_another_seed_gives_another_network() -> None:
    assert networks.anomaly_detection(0).data != networks.anomaly_detection(1).data
    assert networks.anomaly_detection(1).data == networks.anomaly_detection(1).data
