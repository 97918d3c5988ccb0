"""Random networks that put images together and cut them along channels, and read parts and wholes again; seeded."""

from __future__ import annotations

import numpy as np

from benchmarks.int8_graph import Int8Graph, Network, Quantization, Value

SHARED: Quantization = (0.05, -7)
"""Of all tensors: what is put together must have one."""


def channel_network(seed: int) -> Network:
    """Build eight to thirteen operators on images of one size, and one on what nothing has read."""
    rng = np.random.default_rng(seed)
    graph = Int8Graph(seed, samples=2)
    batch, height, width = int(rng.choice([1, 1, 2])), int(rng.integers(2, 9)), int(rng.integers(2, 9))
    images = [graph.input((batch, height, width, int(rng.integers(2, 10))), SHARED)]
    unread = {images[0].index: images[0]}
    for _ in range(int(rng.integers(8, 14))):
        images += _operator(graph, rng, images, unread)
    together = graph.concat([*unread.values()] or images[-2:], 3)
    outputs = [_conv(graph, rng, together), *([together] if rng.random() < 0.3 else [])]
    return graph.finish("channels", *outputs)


def _operator(graph: Int8Graph, rng: np.random.Generator, images: list[Value], unread: dict[int, Value]) -> list[Value]:
    def draw() -> Value:
        newest = rng.random() < 0.5
        x = images[-1] if newest else images[int(rng.integers(len(images)))]
        unread.pop(x.index, None)
        return x

    x = draw()
    channels = x.shape[3]
    alike = [image for image in images if image.shape == x.shape and image is not x]
    same = {"strides": (1, 1), "padding": "SAME"}
    match rng.choice([*["conv"] * 2, "depthwise", "pool", "sum", "lookup", *["concat"] * 3, *["cut"] * 2]):
        case "conv":
            found = [_conv(graph, rng, x)]
        case "depthwise":
            kernel = (int(rng.integers(1, 4)), int(rng.integers(1, 4)))
            found = [graph.depthwise(x, kernel, activation="RELU", output=SHARED, multiplier=int(rng.integers(1, 3)))]
        case "pool":
            kernel = (1, 1) if rng.random() < 0.5 else (3, 2)
            found = [(graph.max_pool if rng.random() < 0.5 else graph.avg_pool)(x, kernel, **same)]
        case "sum" if alike:
            found = [graph.add(x, alike[int(rng.integers(len(alike)))], output=SHARED)]
        case "concat":
            others = [draw() for _ in range(int(rng.integers(1, 4)))]
            found = [graph.concat([x, *others], 3)] if sum(v.shape[3] for v in (x, *others)) < 60 else []
        case "cut" if channels % 2 == 0 and rng.random() < 0.5:
            found = graph.split(x, 2, 3)
        case "cut" if channels > 2:
            first = int(rng.integers(1, channels - 1))
            begin = (0, 0, 0, first)
            found = [graph.slice(x, begin, (*x.shape[:3], int(rng.integers(1, channels - first + 1))))]
        case _:
            found = [graph.relu(x, output=SHARED)]
    unread |= {value.index: value for value in found}
    return found


def _conv(graph: Int8Graph, rng: np.random.Generator, x: Value) -> Value:
    kernel = (1, 1) if rng.random() < 0.6 else (3, 3)
    activation = str(rng.choice(["NONE", "RELU"]))
    groups = 2 if x.shape[3] % 2 == 0 and x.shape[3] > 2 and rng.random() < 0.2 else 1
    return graph.conv(x, 2 * int(rng.integers(1, 6)), kernel, activation=activation, output=SHARED, groups=groups)
