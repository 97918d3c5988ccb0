"""Random chains of the convolutions between which tensors may have layouts of their own; seeded."""

from __future__ import annotations

import numpy as np

from benchmarks.int8_graph import Int8Graph, Network

WIDTHS = (6, 8, 10, 12, 12, 13, 16, 20)
"""Rows of whole tiles and of parts of one, even and odd."""


def layout_network(seed: int) -> Network:
    """Build two to four times a depthwise and a pointwise convolution, behind a convolution of any kind.

    Some tensors are read twice, some depthwise convolutions have a border, a stride, or no activation.
    """
    rng = np.random.default_rng(seed)
    graph = Int8Graph(seed, samples=2)
    size = int(rng.integers(8, 16)), int(rng.choice(WIDTHS))
    x = graph.input((1, *size, int(rng.integers(1, 9))), (0.05, int(rng.integers(-128, 128))))
    x = graph.conv(x, _channels(rng), ((1, 1), (3, 3))[int(rng.integers(2))], activation=_activation(rng))
    for _ in range(int(rng.integers(2, 5))):
        small = min(x.shape[1:3]) < 5
        padding = "SAME" if small or rng.random() < 0.7 else "VALID"
        strides = (2, 2) if not small and rng.random() < 0.25 else (1, 1)
        x = graph.depthwise(x, (3, 3), strides=strides, padding=padding, activation=_activation(rng))
        before, x = x, graph.conv(x, _channels(rng), (1, 1), activation=_activation(rng))
        if before.shape == x.shape and rng.random() < 0.5:
            x = graph.add(before, x)
    return graph.finish("layouts", x)


def _channels(rng: np.random.Generator) -> int:
    return int(rng.choice([1, 2, 7, 8, 17, 28, 32, 37, 40, 48]))


def _activation(rng: np.random.Generator) -> str:
    return str(rng.choice(["RELU", "RELU6", "NONE"]))
