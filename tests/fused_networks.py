"""Random networks with sums and averages right behind convolutions; seeded."""

from __future__ import annotations

import numpy as np

from benchmarks.int8_graph import Int8Graph, Network, Value


def fused_network(seed: int) -> Network:
    """Build residual blocks of convolutions of all kinds, and averages over the image at the end."""
    rng = np.random.default_rng(seed)
    graph = Int8Graph(seed, samples=2)
    size, channels = rng.integers(4, 13, 2), int(rng.integers(3, 25))
    x = graph.input((1, *map(int, size), channels), (0.05, int(rng.integers(-128, 128))))
    for _ in range(int(rng.integers(1, 4))):
        x = _block(graph, rng, x)
    averages = [_average(graph, rng, x) for _ in range(2)]
    return graph.finish("fused", x, *averages)


def _block(graph: Int8Graph, rng: np.random.Generator, x: Value) -> Value:
    channels = int(rng.integers(2, 13)) * 2
    y = _conv(graph, rng, x, channels, groups=1) if rng.random() < 0.7 else x
    strides = (2, 2) if rng.random() < 0.2 and min(x.shape[1:3]) > 6 else (1, 1)
    if strides == (2, 2) or rng.random() < 0.2:
        x = graph.conv(x, channels, (1, 1), strides=strides)
        y = graph.conv(y, channels, (3, 3), strides=strides)
    else:
        y = _conv(graph, rng, y, x.shape[3], groups=int(rng.choice([1, 1, 2])))
    activation = str(rng.choice(["NONE", "RELU"]))
    return graph.add(x, y, activation=activation) if rng.random() < 0.5 else graph.add(y, x, activation=activation)


def _conv(graph: Int8Graph, rng: np.random.Generator, x: Value, channels: int, groups: int) -> Value:
    if x.shape[3] % groups or channels % groups:
        groups = 1
    kernel = (int(rng.integers(1, 4)), int(rng.integers(1, 4))) if rng.random() < 0.6 else (1, 1)
    activation = str(rng.choice(["NONE", "RELU", "RELU6"]))
    return graph.conv(x, channels, kernel, groups=groups, activation=activation)


def _average(graph: Int8Graph, rng: np.random.Generator, x: Value) -> Value:
    y = _conv(graph, rng, x, int(rng.integers(4, 40)), groups=1)
    if rng.random() < 0.5:
        return graph.avg_pool(y, (y.shape[1], y.shape[2]), activation=str(rng.choice(["NONE", "RELU"])))
    return graph.mean(y, (1, 2), keep_dims=bool(rng.random() < 0.5))
