"""Blocks that put tensors together or cut them along channels, as known networks have them; seeded random weights.

``python -m benchmarks.channel_blocks`` prints RAM and cycles of each.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import tvm_tinyml as tinyml
from benchmarks.int8_graph import Int8Graph, Network, Quantization, Value
from tvm_tinyml.tables import table

CORE, MEMORY = "cortex-m4", "l4r5zi-120"
SHARED: Quantization = (0.05, -128)
"""Of all tensors that are put together: TFLite wants them to have one."""


def _conv(graph: Int8Graph, x: Value, channels: int, size: int = 1, stride: int = 1) -> Value:
    """Add a convolution whose result may be put together with others."""
    window = {"strides": (stride, stride), "activation": "RELU", "output": SHARED}
    return graph.conv(x, channels, (size, size), **window)


def dense_block(seed: int = 0, layers: int = 4, growth: int = 12) -> Network:
    """Build a dense block behind a stem, and the transition: Huang et al., CVPR 2017, figure 2 with bottlenecks."""
    graph = Int8Graph(seed)
    x = _conv(graph, graph.input((1, 32, 32, 3), (1 / 255, -128)), 24, 3, 2)
    for _ in range(layers):
        y = graph.conv(x, 4 * growth, (1, 1), activation="RELU")
        x = graph.concat([x, _conv(graph, y, growth, 3)], 3)
    x = graph.conv(x, x.shape[3] // 2, (1, 1), activation="RELU")
    return graph.finish("densenet", graph.avg_pool(x, (2, 2), strides=(2, 2)))


def dense_block_of_lists(seed: int = 0, layers: int = 4, growth: int = 12) -> Network:
    """Build the same as a concatenation of all features so far for each layer, as PyTorch's models are written."""
    graph = Int8Graph(seed)
    features = [_conv(graph, graph.input((1, 32, 32, 3), (1 / 255, -128)), 24, 3, 2)]
    for _ in range(layers):
        x = graph.concat(features, 3) if len(features) > 1 else features[0]
        y = graph.conv(x, 4 * growth, (1, 1), activation="RELU")
        features.append(_conv(graph, y, growth, 3))
    x = graph.concat(features, 3)
    return graph.finish("densenet_lists", graph.conv(x, x.shape[3] // 2, (1, 1), activation="RELU"))


def inception_block(seed: int = 0) -> Network:
    """Build a block of four branches: Szegedy et al., CVPR 2015, figure 2b."""
    graph = Int8Graph(seed)
    x = _conv(graph, graph.input((1, 24, 24, 3), (1 / 255, -128)), 48, 3, 2)
    branches = [_conv(graph, x, 16)]
    for reduced, channels, size in ((24, 32, 3), (8, 16, 5)):
        branches.append(_conv(graph, graph.conv(x, reduced, (1, 1), activation="RELU"), channels, size))
    branches.append(_conv(graph, graph.max_pool(x, (3, 3), strides=(1, 1), padding="SAME"), 16))
    x = graph.concat(branches, 3)
    return graph.finish("inception", graph.conv(x, 32, (1, 1), activation="RELU"))


def fire_blocks(seed: int = 0) -> Network:
    """Build two blocks that squeeze and expand: Iandola et al., SqueezeNet, 2016, figure 1."""
    graph = Int8Graph(seed)
    x = graph.conv(graph.input((1, 32, 32, 3), (1 / 255, -128)), 32, (3, 3), strides=(2, 2), activation="RELU")
    for squeezed, expanded in ((16, 32), (16, 32)):
        y = graph.conv(x, squeezed, (1, 1), activation="RELU")
        x = graph.concat([_conv(graph, y, expanded), _conv(graph, y, expanded, 3)], 3)
    return graph.finish("squeezenet", graph.max_pool(x, (2, 2), strides=(2, 2)))


def shuffle_units(seed: int = 0) -> Network:
    """Build a unit with a stride and one with a split: Ma et al., ShuffleNet V2, ECCV 2018, figures 3c and 3d."""
    graph = Int8Graph(seed)
    x = _conv(graph, graph.input((1, 28, 28, 3), (1 / 255, -128)), 24, 3)
    left = _conv(graph, graph.depthwise(x, (3, 3), strides=(2, 2)), 24)
    y = graph.conv(x, 24, (1, 1), activation="RELU")
    right = _conv(graph, graph.depthwise(y, (3, 3), strides=(2, 2)), 24)
    left, right = graph.split(_shuffled(graph, graph.concat([left, right], 3)), 2, 3)
    y = graph.conv(right, 24, (1, 1), activation="RELU")
    right = _conv(graph, graph.depthwise(y, (3, 3)), 24)
    x = _shuffled(graph, graph.concat([left, right], 3))
    return graph.finish("shufflenet", graph.conv(x, 32, (1, 1), activation="RELU"))


def _shuffled(graph: Int8Graph, x: Value) -> Value:
    batch, height, width, channels = x.shape
    x = graph.reshape(x, (batch, height, width, 2, channels // 2))
    return graph.reshape(graph.transpose(x, (0, 1, 2, 4, 3)), (batch, height, width, channels))


def skip_connection(seed: int = 0) -> Network:
    """Build a level of an encoder with its decoder, which puts both together: Ronneberger et al., U-Net, 2015."""
    graph = Int8Graph(seed)
    skip = _conv(graph, graph.input((1, 24, 24, 3), (1 / 255, -128)), 16, 3)
    x = graph.conv(graph.max_pool(skip, (2, 2), strides=(2, 2)), 32, (3, 3), activation="RELU")
    x = _conv(graph, graph.resize_nearest(x, (24, 24)), 16)
    x = graph.concat([skip, x], 3)
    return graph.finish("unet", graph.conv(x, 8, (3, 3), activation="RELU"))


BLOCKS: dict[str, Callable[[], Network]] = {
    "dense block": dense_block,
    "dense block of lists": dense_block_of_lists,
    "inception block": inception_block,
    "fire blocks": fire_blocks,
    "shuffle units": shuffle_units,
    "skip connection": skip_connection,
}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--target", default=CORE)
    parser.add_argument("--memory", default=MEMORY)
    options = parser.parse_args()
    rows = []
    for name, block in BLOCKS.items():
        model = tinyml.load(block().data, name="m")
        for goal in ("time", "balanced", "ram"):
            library = tinyml.build(model, options.target, goal=goal, io="workspace", emit="lib")
            ram, flash = library.metadata["ram_bytes"]["total"], library.metadata["flash_bytes"]["total"]
            rows.append((name, goal, library.profile(memory=options.memory).cycles, ram, flash))
    print(f"{options.target}, {options.memory}, inputs and outputs in the workspace")
    print(table(("block", "goal", "cycles", "RAM", "flash"), rows))


if __name__ == "__main__":
    main()
