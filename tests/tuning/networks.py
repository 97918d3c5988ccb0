"""Small networks to tune, and their operators."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

import tvm_tinyml as tinyml
from benchmarks.int8_graph import Int8Graph, Network
from tvm_tinyml.options import BuildOptions
from tvm_tinyml.pipeline import integer_graph
from tvm_tinyml.tuning.workload import Workload, workloads_of

TARGET = "cortex-m4"


@cache
def several() -> Network:
    """Every kind of operator that can be tuned, and some that cannot; no two are alike."""
    graph = Int8Graph(3, samples=2)
    first = graph.conv(graph.input((1, 8, 8, 4), (0.1, -3)), 8, (3, 3), activation="RELU")
    planes = graph.depthwise(first, (3, 3), activation="RELU")
    total = graph.add(first, graph.conv(planes, 8, (1, 1)))
    return graph.finish("several", graph.softmax(graph.dense(graph.mean(total, (1, 2)), 10)))


@cache
def twins() -> Network:
    """Two convolutions that only their weights tell apart, and a dense layer."""
    graph = Int8Graph(4, samples=2)
    quantization = (0.1, -128)
    layer = {"activation": "RELU", "output": quantization, "effective_scale": 0.002}
    x = graph.input((1, 6, 6, 8), quantization)
    for _ in range(2):
        x = graph.conv(x, 8, (3, 3), **layer)
    return graph.finish("twins", graph.dense(graph.reshape(x, (1, 288)), 6))


@cache
def tiny() -> Network:
    """A dense layer, which has a handful of choices."""
    graph = Int8Graph(5, samples=2)
    return graph.finish("tiny", graph.dense(graph.input((1, 3), (0.1, 3)), 7))


def model(network: Network) -> tinyml.Model:
    return tinyml.load(network.data, name=network.name)


def workloads(network: Network) -> list[Workload]:
    """Return the operators of a network in order."""
    return list(workloads_of(integer_graph(model(network), BuildOptions(goal="time"))))


def convolution(
    shape: tuple[int, ...] = (1, 8, 8, 4),
    channels: int = 8,
    kernel: tuple[int, int] = (3, 3),
    *,
    depthwise: bool = False,
    quantization: tuple[float, int] = (0.1, -3),
    seed: int = 0,
    **layer: Any,
) -> Workload:
    """Return a convolution; the rest are options of `Int8Graph.conv`."""
    graph = Int8Graph(seed, samples=2)
    x = graph.input(shape, quantization)
    y = graph.depthwise(x, kernel, **layer) if depthwise else graph.conv(x, channels, kernel, **layer)
    network = graph.finish("convolution", y)
    (workload,) = workloads_of(integer_graph(tinyml.load(network.data), BuildOptions(goal="time")))
    return workload


def dense(rows: int = 1, length: int = 16, units: int = 10, *, seed: int = 0, **layer: Any) -> Workload:
    """Return a dense layer."""
    graph = Int8Graph(seed, samples=2)
    network = graph.finish("dense", graph.dense(graph.input((rows, length), (0.1, 3)), units, **layer))
    (workload,) = workloads_of(integer_graph(tinyml.load(network.data), BuildOptions(goal="time")))
    return workload


def weights(value: int, *shape: int) -> np.ndarray[Any, np.dtype[np.int8]]:
    """Return weights that are all alike."""
    return np.full(shape, value, np.int8)
