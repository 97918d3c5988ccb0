"""The four networks of MLPerf Tiny with seeded random weights: same layers and shapes, fitted scales.

They stand in for the trained models where only shapes and arithmetic matter: tests, examples and benchmarks that must
not depend on downloaded files. ``dtype`` is that of activations, int8 or int16. Shapes: Banbury et al., MLPerf Tiny
Benchmark, NeurIPS 2021.
"""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.int8_graph import Int8Graph, Network, Value


def keyword_spotting(seed: int = 0, dtype: str = "int8") -> Network:
    """Build KWS: a depthwise separable network on a spectrogram of 49x10 values, 12 classes; 2,656,768 MACs."""
    graph = Int8Graph(seed, dtype=dtype)
    x = graph.input((1, 49, 10, 1), (0.58, 83))
    x = graph.conv(x, 64, (10, 4), strides=(2, 2), activation="RELU")
    for _ in range(4):
        x = graph.depthwise(x, (3, 3), activation="RELU")
        x = graph.conv(x, 64, (1, 1), activation="RELU")
    x = graph.avg_pool(x, (x.shape[1], x.shape[2]))
    return _classify(graph, "kws", x, 12)


def visual_wake_words(seed: int = 0, dead_share: float = 0.0, dtype: str = "int8") -> Network:
    """Build VWW: MobileNetV1 of width 0.25 on an image of 96x96x3, 2 classes; 7,489,664 MACs.

    Parameters
    ----------
    dead_share : of the channels of every convolution; their filters are zero and their outputs constant, as training
        with strong weight decay leaves them.
    """
    graph = Int8Graph(seed, dtype=dtype)

    def dead(channels: int) -> Sequence[int]:
        return [int(c) for c in graph.rng.permutation(channels)[: round(dead_share * channels)]]

    x = graph.input((1, 96, 96, 3), (1 / 255, -128))
    gone = dead(8)
    x = graph.conv(x, 8, (3, 3), strides=(2, 2), activation="RELU6", dead=gone)
    blocks = [(16, 1), (32, 2), (32, 1), (64, 2), (64, 1), (128, 2), *[(128, 1)] * 5, (256, 2), (256, 1)]
    for channels, stride in blocks:
        x = graph.depthwise(x, (3, 3), strides=(stride, stride), activation="RELU6", dead=gone)
        gone = dead(channels)
        x = graph.conv(x, channels, (1, 1), activation="RELU6", dead=gone)
    x = graph.avg_pool(x, (x.shape[1], x.shape[2]))
    return _classify(graph, "vww", x, 2)


def image_classification(seed: int = 0, dtype: str = "int8") -> Network:
    """Build IC: a residual network of 8 layers on an image of 32x32x3, 10 classes; 12,501,632 MACs."""
    graph = Int8Graph(seed, dtype=dtype)
    x = graph.input((1, 32, 32, 3), (1.0, -128))
    x = graph.conv(x, 16, (3, 3), activation="RELU")
    for channels, stride in [(16, 1), (32, 2), (64, 2)]:
        y = graph.conv(x, channels, (3, 3), strides=(stride, stride), activation="RELU")
        y = graph.conv(y, channels, (3, 3))
        if stride > 1:
            x = graph.conv(x, channels, (1, 1), strides=(stride, stride))
        x = graph.add(x, y, activation="RELU")
    x = graph.avg_pool(x, (x.shape[1], x.shape[2]))
    return _classify(graph, "ic", x, 10)


def mobilenet_v1(width: float, classes: int = 10, seed: int = 0, dtype: str = "int8") -> Network:
    """Build MobileNetV1 (Howard et al., arXiv:1704.04861, table 1) of a width on an image of 96x96x3."""
    graph = Int8Graph(seed, dtype=dtype)
    x = graph.input((1, 96, 96, 3), (1 / 255, -128))
    x = graph.conv(x, round(32 * width), (3, 3), strides=(2, 2), activation="RELU6")
    blocks = [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1)]
    for channels, stride in blocks:
        x = graph.depthwise(x, (3, 3), strides=(stride, stride), activation="RELU6")
        x = graph.conv(x, round(channels * width), (1, 1), activation="RELU6")
    x = graph.avg_pool(x, (x.shape[1], x.shape[2]))
    return _classify(graph, "mobilenet_v1", x, classes)


def mobilenet_v2(width: float, classes: int = 10, seed: int = 0, dtype: str = "int8") -> Network:
    """Build MobileNetV2 (Sandler et al., arXiv:1801.04381, table 2) of a width on an image of 96x96x3.

    Channels are multiples of 8, and at least 9 tenths of what the width asks for, as in its authors' own code.
    """

    def scaled(channels: int) -> int:
        rounded = max(8, int(channels * width + 4) // 8 * 8)
        return rounded + 8 if rounded < 0.9 * channels * width else rounded

    graph = Int8Graph(seed, dtype=dtype)
    x = graph.input((1, 96, 96, 3), (1 / 255, -128))
    x = graph.conv(x, scaled(32), (3, 3), strides=(2, 2), activation="RELU6")
    stages = [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)]
    for expansion, channels, repeats, first_stride in stages:
        for repeat in range(repeats):
            stride = first_stride if repeat == 0 else 1
            y = graph.conv(x, expansion * x.shape[3], (1, 1), activation="RELU6") if expansion > 1 else x
            y = graph.depthwise(y, (3, 3), strides=(stride, stride), activation="RELU6")
            y = graph.conv(y, scaled(channels), (1, 1))
            x = graph.add(x, y) if stride == 1 and x.shape[3] == y.shape[3] else y
    x = graph.conv(x, max(1280, round(1280 * width)), (1, 1), activation="RELU6")
    x = graph.avg_pool(x, (x.shape[1], x.shape[2]))
    return _classify(graph, "mobilenet_v2", x, classes)


def anomaly_detection(seed: int = 0, dtype: str = "int8") -> Network:
    """Build AD: a dense autoencoder 640-128-128-128-128-8-128-128-128-128-640; 264,192 MACs."""
    graph = Int8Graph(seed, samples=32, dtype=dtype)
    x = graph.input((1, 640), (0.37, 90))
    for units in (128, 128, 128, 128, 8, 128, 128, 128, 128):
        x = graph.dense(x, units, activation="RELU")
    return graph.finish("ad", graph.dense(x, 640))


def _classify(graph: Int8Graph, name: str, x: Value, classes: int) -> Network:
    x = graph.reshape(x, (1, x.shape[3]))
    return graph.finish(name, graph.softmax(graph.dense(x, classes)))
