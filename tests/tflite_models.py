"""Seeded TFLite models of one operator each, with random shapes and quantization, and the operators' extremes.

Every function takes a seed and returns a `Network`: the flatbuffer and its answer by the numpy reference. The four
networks of MLPerf Tiny are in `benchmarks.networks`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextvars import ContextVar
from typing import Any, TypeVar

import numpy as np

from benchmarks.int8_graph import Int8Graph, Network, Quantization, Step, Value
from benchmarks.tflite_builder import TFLiteBuilder

__all__ = ["INT16_MODELS", "MODELS", "Int8Graph", "Int16Graph", "Network", "TFLiteBuilder"]

T = TypeVar("T")
ACTIVATIONS = ("NONE", "RELU", "RELU6", "RELU_N1_TO_1")
CHANNELS = (1, 3, 5, 8)


_DTYPE = ContextVar("dtype", default="int8")
"""Type of the activations of what is drawn."""


class _Draw(Int8Graph):
    """A graph that also draws shapes and options."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed, samples=2, dtype=_DTYPE.get())

    def pick(self, choices: Sequence[T]) -> T:
        return choices[int(self.rng.integers(len(choices)))]

    def size(self, low: int, high: int) -> int:
        """From low to high, both included."""
        return int(self.rng.integers(low, high + 1))

    def image(self, channels: int | None = None, quantization: Quantization | None = None) -> Value:
        shape = (self.pick((1, 1, 2)), self.size(5, 12), self.size(5, 12), channels or self.pick(CHANNELS))
        return self.input(shape, quantization)

    def vector_or_image(self, quantization: Quantization | None = None) -> Value:
        rank = self.size(1, 4)
        return self.input([self.size(1, 6) for _ in range(rank - 1)] + [self.size(2, 40)], quantization)

    def window(self) -> dict[str, Any]:
        """Strides, padding and dilation; TFLite dilates only where it does not stride."""
        strided = self.rng.random() < 0.5
        strides = (self.size(1, 3), self.size(1, 3)) if strided else (1, 1)
        dilation = (1, 1) if strided else (self.size(1, 2), self.size(1, 2))
        return {"strides": strides, "dilation": dilation, "padding": self.pick(("SAME", "VALID"))}

    def kernel(self) -> tuple[int, int]:
        return self.pick(((1, 1), (3, 3), (2, 3), (3, 1)))

    def broadcast_pair(self) -> tuple[Value, Value]:
        """Two inputs, or an input and a constant, whose shapes broadcast."""
        shape = [self.size(1, 4), self.size(2, 6), self.size(2, 6), self.pick(CHANNELS)][self.size(0, 3) :]
        other = [n if self.rng.random() < 0.6 else 1 for n in shape]
        if self.rng.random() < 0.3:
            other = other[self.size(0, len(other) - 1) :]
        if self.rng.random() < 0.5:
            other = list(shape)
        quantization = self.near_scales(2)
        second = self.constant if self.rng.random() < 0.3 else self.input
        pair = self.input(shape, quantization[0]), second(other, quantization[1])
        return pair if self.rng.random() < 0.5 else (pair[1], pair[0])

    def near_scales(self, count: int) -> list[Quantization]:
        """Quantizations whose scales are equal or at most a factor of 2**6 apart."""
        base = 2.0 ** self.rng.uniform(-8, -4)
        spread = self.pick((0.0, 1.0, 6.0))
        return [(base * 2.0 ** self.rng.uniform(0, spread), self.random_quantization()[1]) for _ in range(count)]


def conv(seed: int) -> Network:
    g = _Draw(seed)
    channels = g.pick((*CHANNELS, 16))
    layer: dict[str, Any] = {
        "activation": g.pick(ACTIVATIONS),
        "bias": g.rng.random() < 0.8,
        "per_channel": g.rng.random() < 0.8,
    }
    return g.finish("conv", g.conv(g.image(), channels, g.kernel(), **g.window(), **layer))


def grouped_conv(seed: int) -> Network:
    g = _Draw(seed)
    groups, depth, filters = g.pick((2, 4)), g.pick((1, 2, 3)), g.pick((1, 2, 3))
    x = g.image(groups * depth)
    return g.finish("grouped_conv", g.conv(x, groups * filters, g.kernel(), groups=groups, **g.window()))


def deep_conv(seed: int) -> Network:
    """More products per output than float32 holds exactly."""
    g = _Draw(seed)
    x = g.input((1, 4, 4, 200), (0.1, g.pick((-128, 127))))
    weights = g.pick((None, np.full((3, 3, 3, 200), -128, np.int8), np.full((3, 3, 3, 200), 127, np.int8)))
    return g.finish("deep_conv", g.conv(x, 3, (3, 3), weights=weights))


def depthwise(seed: int) -> Network:
    g = _Draw(seed)
    layer: dict[str, Any] = {
        "activation": g.pick(ACTIVATIONS),
        "bias": g.rng.random() < 0.8,
        "per_channel": g.rng.random() < 0.8,
    }
    y = g.depthwise(g.image(), g.kernel(), multiplier=g.pick((1, 1, 2, 3)), **g.window(), **layer)
    return g.finish("depthwise", y)


def transpose_conv(seed: int) -> Network:
    g = _Draw(seed)
    kernel, strides = (g.size(1, 5), g.size(1, 5)), (g.size(1, 3), g.size(1, 3))
    x = g.input((g.pick((1, 1, 2)), g.size(1, 6), g.size(1, 6), g.pick(CHANNELS)))
    padding = g.pick(("SAME", "VALID"))
    # One element less than Keras gives is still a size from which a convolution leads to that of the input.
    shorter = [g.size(0, 1) if s > 1 and n > 1 else 0 for s, n in zip(strides, x.shape[1:3], strict=True)]
    more = [0 if padding == "SAME" else max(k - s, 0) for k, s in zip(kernel, strides, strict=True)]
    size = [x.shape[1 + i] * strides[i] + more[i] - shorter[i] for i in range(2)]
    layer: dict[str, Any] = {
        "activation": g.pick(ACTIVATIONS),
        "bias": g.rng.random() < 0.8,
        "per_channel": g.rng.random() < 0.8,
    }
    options: dict[str, Any] = {"strides": strides, "padding": padding, "size": (size[0], size[1])}
    return g.finish("transpose_conv", g.transpose_conv(x, g.pick((*CHANNELS, 16)), kernel, **options, **layer))


def upsampling_conv(seed: int) -> Network:
    """A transposed convolution as networks have it: enough channels that phases of unlike filters are taken apart."""
    g = _Draw(seed)
    x = g.input((1, g.size(3, 6), g.size(3, 6), g.pick((8, 11, 16))))
    kernel, padding = g.pick(((3, 3), (3, 2), (4, 4), (5, 3))), g.pick(("SAME", "SAME", "VALID"))
    return g.finish(
        "upsampling_conv",
        g.transpose_conv(x, g.pick((8, 9)), kernel, strides=(2, 2), padding=padding, activation="RELU"),
    )


def dense(seed: int) -> Network:
    g = _Draw(seed)
    x = g.input((*[g.size(1, 3) for _ in range(g.size(1, 2))], g.size(1, 70)))
    layer: dict[str, Any] = {
        "activation": g.pick(ACTIVATIONS),
        "bias": g.rng.random() < 0.7,
        "per_channel": g.rng.random() < 0.5,
    }
    return g.finish("dense", g.dense(x, g.size(1, 20), **layer))


def extreme_scale(seed: int) -> Network:
    """A layer whose effective scale is next to 1, above 1, tiny or flushed to zero; weights at their extremes."""
    g = _Draw(seed)
    effective = g.pick((0.5, 0.75, 1.0 - 2.0**-24, 1.0, 1.5, 2.0, 37.0, 100.0, 2.0**-20, 2.0**-31, 1.3e-10, 1e-12))
    layer: dict[str, Any] = {"effective_scale": effective, "per_channel": g.rng.random() < 0.5}
    layer["output"] = (2.0 ** g.size(-6, 0), g.pick((-128, 127, 3)))
    layer["activation"] = g.pick(ACTIVATIONS)
    kind = g.pick(("conv", "depthwise", "dense"))
    shape = {"conv": (3, 3, 3, 2), "depthwise": (2, 3, 3, 1), "dense": (4, 17)}[kind]
    layer["weights"] = g.pick((None, np.full(shape, -128, np.int8), g.rng.integers(-1, 2, shape).astype(np.int8)))
    quantization = (2.0 ** g.size(-6, 0), g.pick((-128, 127, -3)))
    if kind == "dense":
        return g.finish(kind, g.dense(g.input((1, 17), quantization), 4, **layer))
    x = g.image(2, quantization)
    return g.finish(kind, g.conv(x, 3, (3, 3), **layer) if kind == "conv" else g.depthwise(x, (3, 3), **layer))


def dead_conv(seed: int) -> Network:
    g = _Draw(seed)
    return g.finish("dead_conv", g.conv(g.image(), 8, (3, 3), dead=range(g.size(1, 8)), activation=g.pick(ACTIVATIONS)))


def add(seed: int) -> Network:
    g = _Draw(seed)
    return g.finish("add", g.add(*g.broadcast_pair(), activation=g.pick(ACTIVATIONS)))


def sub(seed: int) -> Network:
    g = _Draw(seed)
    return g.finish("sub", g.sub(*g.broadcast_pair(), activation=g.pick(ACTIVATIONS)))


def mul(seed: int) -> Network:
    g = _Draw(seed)
    return g.finish("mul", g.mul(*g.broadcast_pair(), activation=g.pick(ACTIVATIONS)))


def extreme_arithmetic(seed: int) -> Network:
    """Add, sub and mul with scales far apart, effective scales above 1 and zero points at the ends."""
    g = _Draw(seed)
    name = g.pick(("add", "sub", "mul"))
    a = g.input((3, 40), (2.0 ** g.rng.uniform(-12, 0), g.pick((-128, 127))))
    b = g.input((3, 40), (2.0 ** g.rng.uniform(-12, 0), g.pick((-128, 127))))
    if name == "mul":
        output = (a.scale * b.scale * 2.0 ** g.rng.uniform(-8, 8), g.pick((-128, 127)))
    else:
        output = (max(a.scale, b.scale) * 2.0 ** g.rng.uniform(-10, 6), g.pick((-128, 127)))
    return g.finish(name, getattr(g, name)(a, b, output=output))


def avg_pool(seed: int) -> Network:
    return _pool("avg_pool", seed)


def max_pool(seed: int) -> Network:
    return _pool("max_pool", seed)


def _pool(name: str, seed: int) -> Network:
    g = _Draw(seed)
    kernel = (g.size(1, 5), g.size(1, 5))
    strides = (g.size(1, 3), g.size(1, 3))
    padding, activation = g.pick(("SAME", "VALID")), g.pick(ACTIVATIONS)
    y = getattr(g, name)(g.image(), kernel, strides=strides, padding=padding, activation=activation)
    return g.finish(name, y)


def mean(seed: int) -> Network:
    return _reduce("mean", seed)


def sum_(seed: int) -> Network:
    return _reduce("sum", seed)


def _reduce(name: str, seed: int) -> Network:
    g = _Draw(seed)
    x = g.image()
    axes = g.pick(((1, 2), (2, 1), (1,), (3,), (-1,), (1, 2, 3), (0, 3), (-3, -2)))
    # One in three keeps the scale, as networks with global pooling do.
    output = x.quantization if g.rng.random() < 0.33 else None
    return g.finish(name, getattr(g, name)(x, axes, keep_dims=g.rng.random() < 0.5, output=output))


def logistic(seed: int) -> Network:
    g = _Draw(seed)
    return g.finish("logistic", g.logistic(_all_values(g)))


def tanh(seed: int) -> Network:
    g = _Draw(seed)
    return g.finish("tanh", g.tanh(_all_values(g)))


def relu(seed: int) -> Network:
    g = _Draw(seed)
    return g.finish("relu", g.relu(_all_values(g)))


def relu6(seed: int) -> Network:
    g = _Draw(seed)
    return g.finish("relu6", g.relu6(_all_values(g)))


def leaky_relu(seed: int) -> Network:
    g = _Draw(seed)
    x = _all_values(g)
    # With equal scales a slope of a half gives halves, whose rounding shows the order of steps.
    output = g.pick((None, None, (x.scale, g.random_quantization()[1])))
    return g.finish("leaky_relu", g.leaky_relu(x, g.pick((0.01, 0.1, 0.3, 0.5, 1.0, 1.7, -0.2, -0.5)), output))


def abs_(seed: int) -> Network:
    g = _Draw(seed)
    x = _all_values(g)
    output = g.pick((None, (x.scale, g.random_quantization()[1]), (x.scale * 2.0 ** g.size(-6, 6), g.size(-128, 127))))
    return g.finish("abs", g.abs(x, output))


def hard_swish(seed: int) -> Network:
    g = _Draw(seed)
    x = _all_values(g, 2.0 ** g.rng.uniform(-7, -2))
    output = (x.scale * 2.0 ** g.rng.uniform(-3, 2), g.random_quantization()[1])
    return g.finish("hard_swish", g.hard_swish(x, None if x.zero_point < 100 and g.rng.random() < 0.5 else output))


def requantize(seed: int) -> Network:
    g = _Draw(seed)
    types = g.pick((("int8", "int8"), ("int8", "uint8"), ("uint8", "int8")))
    zeros = [g.size(-128, 127) + (128 if t == "uint8" else 0) for t in types]
    scale = 2.0 ** g.rng.uniform(-8, 2)
    x = g.input((4, 256), (scale, zeros[0]), types[0])
    if g.rng.random() < 0.3:  # the change of sign that TFLM does with one exclusive or
        shift = {"uint8": 128, "int8": -128}.get(types[1], 0) if types[0] != types[1] else 0
        return g.finish("requantize", g.requantize(x, (scale, zeros[0] + shift), types[1]))
    ratio = 2.0 ** g.pick((g.rng.uniform(-4, 4), g.size(-4, 4)))  # powers of two give halves
    return g.finish("requantize", g.requantize(x, (scale * ratio, zeros[1]), types[1]))


def quantize(seed: int) -> Network:
    g = _Draw(seed)
    x = g.input((3, 50), (1.0, 0), "float32")
    return g.finish("quantize", g.quantize(x, (2.0 ** g.rng.uniform(-8, -3), g.size(-128, 127))))


def dequantize(seed: int) -> Network:
    g = _Draw(seed)
    return g.finish("dequantize", g.dequantize(_all_values(g)))


def softmax(seed: int) -> Network:
    g = _Draw(seed)
    return g.finish("softmax", g.softmax(g.vector_or_image(), g.pick((1.0, 1.0, 0.5, 2.0))))


def knife_edge(seed: int) -> Network:
    """An operator with scales for which some output lies within float32's precision of a half.

    A multiplier that is wrong in its last bits, say for a quotient rounded to float32, shows here and hardly elsewhere.
    """
    g = _Draw(seed)
    name = g.pick(("relu", "leaky_relu", "requantize", "dense", "conv", "mul"))
    a, b = (float(np.float32(2.0 ** g.rng.uniform(-6, 0))) for _ in range(2))
    ratio = (g.size(1, 120) + 0.5) / g.size(130, 250)  # one of the inputs 130..250 meets a half
    two_factors = name not in ("relu", "requantize")
    output = (float(np.float32(a * (b if two_factors else 1.0) / ratio)), -128)
    if name == "leaky_relu":
        return g.finish(name, g.leaky_relu(g.input((2, 1000), (a, 127)), b, (output[0], 127)))
    x = g.input((1, 1, 2000, 1), (a, -128))
    if name in ("relu", "requantize"):
        return g.finish(name, getattr(g, name)(x, output))
    if name == "mul":
        return g.finish(name, g.mul(x, g.constant((1,), (b, 0)), output=output))
    one = np.ones((1, 1) if name == "dense" else (1, 1, 1, 1), np.int8)
    layer: dict[str, Any] = {"weights": one, "output": output, "effective_scale": a * b / output[0], "bias": False}
    return g.finish(name, g.dense(x, 1, **layer) if name == "dense" else g.conv(x, 1, (1, 1), **layer))


def pad(seed: int) -> Network:
    return _pad(seed, None)


def padv2(seed: int) -> Network:
    return _pad(seed, int(np.random.default_rng(seed).integers(-128, 128)))


def _pad(seed: int, value: int | None) -> Network:
    g = _Draw(seed)
    x = g.vector_or_image()
    return g.finish("pad", g.pad(x, [(g.size(0, 2), g.size(0, 3)) for _ in x.shape], value))


def reshape(seed: int) -> Network:
    g = _Draw(seed)
    x = g.vector_or_image()
    size = int(np.prod(x.shape))
    first = g.pick([n for n in range(1, size + 1) if size % n == 0])
    return g.finish("reshape", g.reshape(x, (first, size // first)))


def transpose(seed: int) -> Network:
    g = _Draw(seed)
    x = g.vector_or_image()
    return g.finish("transpose", g.transpose(x, [int(i) for i in g.rng.permutation(len(x.shape))]))


def concat(seed: int) -> Network:
    g = _Draw(seed)
    rank = g.size(1, 4)
    axis, shape, quantization = g.size(0, rank - 1), [g.size(1, 6) for _ in range(rank)], g.random_quantization()
    shapes = [[g.size(1, 6) if i == axis else n for i, n in enumerate(shape)] for _ in range(g.size(2, 4))]
    return g.finish("concat", g.concat([g.input(s, quantization) for s in shapes], axis))


def split(seed: int) -> Network:
    g = _Draw(seed)
    rank, parts = g.size(1, 4), g.size(2, 4)
    axis = g.size(0, rank - 1)
    shape = [g.size(1, 4) * (parts if i == axis else 1) for i in range(rank)]
    return g.finish("split", *g.split(g.input(shape), parts, axis))


def slice_(seed: int) -> Network:
    g = _Draw(seed)
    x = g.vector_or_image()
    begin = [g.size(0, n - 1) for n in x.shape]
    return g.finish("slice", g.slice(x, begin, [g.size(1, n - b) for n, b in zip(x.shape, begin, strict=True)]))


def strided_slice(seed: int) -> Network:
    g = _Draw(seed)
    x = g.input([g.size(2, 9) for _ in range(g.size(1, 4))])
    begin, end, strides, shrink = [], [], [], 0
    for axis, n in enumerate(x.shape):
        first, step = g.size(0, n - 1), g.pick((1, 1, 2, 3, -1, -2))
        last = g.size(first + 1, n + 2) if step > 0 else g.size(-n - 2, first - n - 1)
        begin.append(first - n if g.rng.random() < 0.3 else first)
        end.append(last)
        strides.append(step)
        if g.rng.random() < 0.2 and axis:
            shrink |= 1 << axis
            strides[-1] = 1
    masks = {"begin_mask": g.size(0, 15) & ~shrink, "end_mask": g.size(0, 15) & ~shrink, "shrink_axis_mask": shrink}
    return g.finish("strided_slice", g.strided_slice(x, begin, end, strides, **masks))


def resize_nearest(seed: int) -> Network:
    g = _Draw(seed)
    mode = g.pick(({}, {"align_corners": True}, {"half_pixel_centers": True}))
    return g.finish("resize_nearest", g.resize_nearest(g.image(), (g.size(1, 20), g.size(1, 20)), **mode))


def _all_values(g: _Draw, scale: float | None = None) -> Value:
    """An input large enough that random values meet all of int8."""
    drawn = g.random_quantization()
    return g.input((4, 500), (scale or drawn[0], drawn[1]))


MODELS: dict[str, Callable[[int], Network]] = {
    "conv": conv,
    "grouped_conv": grouped_conv,
    "deep_conv": deep_conv,
    "dead_conv": dead_conv,
    "depthwise": depthwise,
    "transpose_conv": transpose_conv,
    "upsampling_conv": upsampling_conv,
    "dense": dense,
    "extreme_scale": extreme_scale,
    "add": add,
    "sub": sub,
    "mul": mul,
    "extreme_arithmetic": extreme_arithmetic,
    "avg_pool": avg_pool,
    "max_pool": max_pool,
    "mean": mean,
    "sum": sum_,
    "logistic": logistic,
    "tanh": tanh,
    "relu": relu,
    "relu6": relu6,
    "leaky_relu": leaky_relu,
    "abs": abs_,
    "hard_swish": hard_swish,
    "requantize": requantize,
    "quantize": quantize,
    "dequantize": dequantize,
    "knife_edge": knife_edge,
    "softmax": softmax,
    "pad": pad,
    "padv2": padv2,
    "reshape": reshape,
    "transpose": transpose,
    "concat": concat,
    "split": split,
    "slice": slice_,
    "strided_slice": strided_slice,
    "resize_nearest": resize_nearest,
}
"""Every generator of this file by its operator's name."""


class Int16Graph(Int8Graph):
    """A 16x8 graph with an input of every int16 number, of a scale of its own.

    Attributes
    ----------
    all_values : the input.
    """

    def __init__(self, scale: float) -> None:
        super().__init__(0, samples=1, dtype="int16")
        numbers = np.arange(-(2**15), 2**15).astype(np.int16).reshape(64, 1024)
        self.all_values = self._value("input", numbers.shape, "int16", (scale, 0), (numbers,), numbers)
        self._steps.append(Step((), (self.all_values.index,), lambda: [numbers]))


def _of_int16(generator: Callable[[int], Network]) -> Callable[[int], Network]:
    def draw(number: int) -> Network:
        token = _DTYPE.set("int16")
        try:
            return generator(number)
        finally:
            _DTYPE.reset(token)

    return draw


def _narrow_bias(number: int) -> Network:
    """A layer whose sums have 32 bits, since its bias has."""
    g = _Draw(number)
    kind = g.pick(("conv", "dense"))
    x = g.image(g.pick((3, 8))) if kind == "conv" else g.input((2, g.size(1, 70)))
    options: dict[str, Any] = {"bias_dtype": "int32", "activation": g.pick(ACTIVATIONS)}
    return g.finish(kind, g.conv(x, 5, g.kernel(), **options) if kind == "conv" else g.dense(x, 5, **options))


def _between_types(number: int) -> Network:
    """A change from one type to another, powers of two among the ratios."""
    g = _Draw(number)
    source, result = g.pick((("int8", "int16"), ("int16", "int8"), ("int16", "int16")))
    x = g.input((4, 500), (2.0 ** g.rng.uniform(-8, 2), g.size(-128, 127)), source)
    ratio = 2.0 ** g.pick((g.rng.uniform(-10, 10), g.size(-9, 9)))
    zero_point = 0 if result == "int16" else g.size(-128, 127)
    return g.finish("requantize", g.requantize(x, (x.scale * ratio, zero_point), result))


_NOT_INT16 = {"extreme_scale", "extreme_arithmetic", "hard_swish", "requantize", "knife_edge"}

INT16_MODELS: dict[str, Callable[[int], Network]] = {
    **{name: _of_int16(generator) for name, generator in MODELS.items() if name not in _NOT_INT16},
    "narrow_bias": _of_int16(_narrow_bias),
    "between_types": _of_int16(_between_types),
}
"""Generators of 16x8 models by operator."""
