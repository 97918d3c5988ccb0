"""Small float networks with samples, seeded: made of quantized ones, so that their numbers are of a sensible size."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import networks
from benchmarks.int8_graph import Int8Graph, Network
from tests.float_models import float_tflite
from tvm_tinyml.frontend import load
from tvm_tinyml.model import Model


@dataclass(frozen=True)
class FloatNetwork:
    """A float network.

    Attributes
    ----------
    samples : float32 [64, *shape].
    """

    model: Model
    samples: NDArray[np.float32]


def of(network: Network, seed: int = 0, scale: float = 1.0) -> FloatNetwork:
    """Return the float form of a network with one input."""
    model = load(float_tflite(network.data), name="net")
    (spec,) = model.inputs
    samples = np.random.default_rng(seed).normal(0, scale, (64, *spec.shape))
    return FloatNetwork(model, samples.astype(np.float32))


def branches() -> FloatNetwork:
    """All that shares scales or has fixed ones: concat, pools, pad, reshape, sigmoid, softmax, sums and products."""
    graph = Int8Graph(3, samples=2)
    x = graph.input((1, 8, 8, 4), (0.05, 0))
    a = graph.conv(x, 6, (3, 3), activation="RELU")
    b = graph.conv(x, 2, (1, 1))
    joined = graph.max_pool(graph.concat([a, b], 3), (2, 2), strides=(2, 2))
    gate = graph.logistic(graph.conv(joined, 8, (1, 1)))
    gated = graph.mul(joined, gate)
    total = graph.add(gated, graph.depthwise(gated, (3, 3), activation="RELU6"))
    pooled = graph.reshape(graph.avg_pool(total, (4, 4), strides=(4, 4)), (1, 8))
    return of(graph.finish("branches", graph.softmax(graph.dense(pooled, 5))))


def cnn() -> FloatNetwork:
    graph = Int8Graph(1, samples=2)
    x = graph.conv(graph.input((1, 10, 9, 3), (0.03, 5)), 8, (3, 3), strides=(2, 2), activation="RELU")
    x = graph.conv(graph.depthwise(x, (3, 3), activation="RELU"), 12, (1, 1), activation="RELU", bias=False)
    x = graph.mean(x, (1, 2))
    return of(graph.finish("cnn", graph.dense(x, 7)))


def four_layers() -> FloatNetwork:
    """Layers of which all can have weights of four bits."""
    graph = Int8Graph(2, samples=2)
    x = graph.input((1, 5, 5, 32), (0.03, 5))
    for channels in (48, 64, 32):
        x = graph.conv(x, channels, (1, 1), activation="RELU")
    return of(graph.finish("layers", graph.dense(graph.mean(x, (1, 2)), 10)))


def keyword_spotting() -> FloatNetwork:
    return of(networks.keyword_spotting())


NETWORKS: dict[str, Callable[[], FloatNetwork]] = {"branches": branches, "cnn": cnn}


def integers(samples: NDArray[Any], model: Model) -> NDArray[Any]:
    """Quantize samples of the one input of a model."""
    (spec,) = model.inputs
    assert spec.scale is not None
    assert spec.zero_point is not None
    scaled = samples.astype(np.float64) / spec.scale
    rounded = np.trunc(scaled + np.copysign(0.5, scaled)) + spec.zero_point
    limits = np.iinfo(spec.dtype)
    return np.clip(rounded, limits.min, limits.max).astype(spec.dtype)
