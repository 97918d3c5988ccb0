"""Random networks on images in which each row of every tensor depends on a few rows of the input; seeded."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.int8_graph import Int8Graph, Network, Value


def image_network(seed: int) -> Network:
    """Build four to eight operators: convolutions of all kinds, pools, sums with what came before, look-up tables."""
    rng = np.random.default_rng(seed)
    graph = Int8Graph(seed, samples=2)
    height, width, channels = int(rng.integers(9, 22)), int(rng.integers(5, 12)), int(rng.integers(1, 6))
    x = graph.input((1, height, width, channels), (0.05, int(rng.integers(-128, 128))))
    before: list[Value] = [x]
    for _ in range(int(rng.integers(4, 9))):
        x = _operator(graph, rng, x, before)
        before.append(x)
    return graph.finish("image", x)


def depthwise_layer(
    size: tuple[int, int],
    channels: int,
    kernel: tuple[int, int] = (3, 3),
    *,
    seed: int = 0,
    batch: int = 1,
    zero_point: int = -4,
    **settings: Any,
) -> Network:
    """Build one depthwise convolution of an image of `size`."""
    graph = Int8Graph(seed, samples=2)
    x = graph.input((batch, *size, channels), (0.05, zero_point))
    return graph.finish("layer", graph.depthwise(x, kernel, **settings))


def _operator(graph: Int8Graph, rng: np.random.Generator, x: Value, before: list[Value]) -> Value:
    window = {
        "strides": (int(rng.integers(1, 3)),) * 2 if x.shape[1] > 6 and x.shape[2] > 4 else (1, 1),
        "padding": str(rng.choice(["SAME", "VALID"])) if min(x.shape[1:3]) > 4 else "SAME",
    }
    kernel = (int(rng.integers(1, 4)), int(rng.integers(1, 4)))
    alike = [value for value in before if value.shape == x.shape and value is not x]
    match rng.choice(["conv", "conv", "depthwise", "pool", "sum", "sum", "lookup"]):
        case "conv":
            activation = str(rng.choice(["NONE", "RELU"]))
            return graph.conv(x, int(rng.integers(1, 9)), kernel, activation=activation, **window)
        case "depthwise":
            return graph.depthwise(x, kernel, activation="RELU", **window)
        case "pool":
            pool = graph.avg_pool if rng.random() < 0.5 else graph.max_pool
            return pool(x, kernel, **window)
        case "sum" if alike:
            return graph.add(x, alike[int(rng.integers(len(alike)))])
        case _:
            return graph.hard_swish(x)
