"""Networks and libraries that many tests look at, each built once in a process."""

from __future__ import annotations

from functools import cache
from typing import Any

import tvm_tinyml as tinyml
from benchmarks import networks
from benchmarks.int8_graph import Int8Graph, Network

NETWORKS = {
    "kws": networks.keyword_spotting,
    "vww": networks.visual_wake_words,
    "ic": networks.image_classification,
    "ad": networks.anomaly_detection,
}


def _small() -> Network:
    """One convolution, [1, 4, 5, 2] to [1, 4, 5, 3]."""
    graph = Int8Graph(0, samples=2)
    return graph.finish("small", graph.conv(graph.input((1, 4, 5, 2), (0.5, 3)), 3, (3, 3)))


def _pair() -> Network:
    """The sum of two inputs, input_0 and input_1, both [1, 6]."""
    graph = Int8Graph(1, samples=2)
    return graph.finish("pair", graph.add(graph.input((1, 6), (0.5, 3)), graph.input((1, 6), (0.25, -1))))


def _through() -> Network:
    """An input, one of whose parts and which itself are outputs: what no kernel writes is copied."""
    graph = Int8Graph(2, samples=2)
    x = graph.input((2, 6), (0.5, 3))
    return graph.finish("through", graph.relu(x), graph.reshape(x, (3, 4)))


@cache
def network(name: str) -> Network:
    """Return one of MLPerf Tiny's networks, or a small one: ``small``, ``pair``, ``through``."""
    return {**NETWORKS, "small": _small, "pair": _pair, "through": _through}[name]()


@cache
def model(name: str, called: str | None = None) -> tinyml.Model:
    """Return a network as a model, called as itself unless told."""
    return tinyml.load(network(name).data, name=called or name)


def library(name: str, target: str = "cortex-m4", *, called: str | None = None, **options: Any) -> tinyml.Library:
    """Return the library of a network; only the object form, unlike a user's default, unless told."""
    defaults = {"emit": "lib", "io": "caller", "weights": "flash", "float_abi": None, "goal": "balanced"}
    return _built(name, target, called, tuple(sorted({**defaults, **options}.items())))


@cache
def _built(name: str, target: str, called: str | None, options: tuple[tuple[str, Any], ...]) -> tinyml.Library:
    return tinyml.build(model(name, called), target, **dict(options))
