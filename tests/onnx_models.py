"""Seeded ONNX models in QDQ form of one operator each, with random shapes and parameters.

Every function takes a seed and returns an `OnnxNetwork`; whole networks are in `benchmarks.onnx_networks`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np

from benchmarks.onnx_networks import OnnxNetwork, QdqGraph

__all__ = ["MODELS", "OnnxNetwork", "QdqGraph"]

T = TypeVar("T")


class _Draw(QdqGraph):
    """A graph that also draws shapes and options."""

    def __init__(self, seed: int, opset: int = 17) -> None:
        kind = np.random.default_rng(seed)
        super().__init__(
            seed,
            activations="uint8" if kind.random() < 0.3 else "int8",
            per_channel=kind.random() < 0.7,
            opset=opset,
        )

    def pick(self, choices: Sequence[T]) -> T:
        return choices[int(self.rng.integers(len(choices)))]

    def size(self, low: int, high: int) -> int:
        """From low to high, both included."""
        return int(self.rng.integers(low, high + 1))

    def image(self, channels: int | None = None) -> str:
        return self.input((self.pick((1, 1, 2)), channels or self.pick((1, 3, 6)), self.size(5, 9), self.size(5, 9)))

    def tensor(self) -> str:
        """An input of one to four dimensions, or the NHWC result of a convolution."""
        if self.rng.random() < 0.4:
            return self.conv(self.image(), 4)
        return self.input([self.size(2, 6) for _ in range(self.size(1, 4))])

    def window(self) -> dict[str, Any]:
        strides = [self.size(1, 2), self.size(1, 2)]
        mode = self.pick(("pads", "pads", "VALID", "SAME_UPPER", "SAME_LOWER"))
        if mode == "pads":
            return {"strides": strides, "pads": [self.size(0, 1) for _ in range(4)]}
        return {"strides": strides, "auto_pad": mode}

    def end(self, name: str, y: str) -> OnnxNetwork:
        """Finish with `y`, quantized unless it is already."""
        return self.finish(name, self.quantized(y))


def conv(seed: int) -> OnnxNetwork:
    g = _Draw(seed)
    group = g.pick((1, 1, 2))
    kernel = g.pick(((1, 1), (3, 3), (2, 3)))
    options: dict[str, Any] = {"group": group, "activation": g.pick((None, "Relu")), "bias": g.rng.random() < 0.7}
    return g.finish("conv", g.conv(g.image(group * 3), group * 4, kernel, **options, **g.window()))


def dilated_conv(seed: int) -> OnnxNetwork:
    g = _Draw(seed)
    return g.finish("dilated_conv", g.conv(g.image(), 4, dilations=[g.size(1, 2), g.size(1, 2)], pads=[1, 0, 2, 1]))


def depthwise(seed: int) -> OnnxNetwork:
    g = _Draw(seed)
    channels = g.pick((1, 3, 5))
    return g.finish("depthwise", g.conv(g.image(channels), channels * g.pick((1, 2)), group=channels, **g.window()))


def conv_float_bias(seed: int) -> OnnxNetwork:
    g = _Draw(seed)
    weight = g.weight(g.rng.normal(size=(4, 3, 3, 3)))
    return g.end("conv_float_bias", g.node("Conv", g.image(3), weight, g.constant(g.rng.normal(size=4).astype("f"))))


def conv_uint8_weight(seed: int) -> OnnxNetwork:
    g = _Draw(seed)
    values = g.constant(g.rng.integers(0, 256, (4, 3, 3, 3)).astype(np.uint8))
    parameters = g.constant(np.float32(0.01)), g.constant(np.uint8(128))
    return g.end("conv_uint8_weight", g.node("Conv", g.image(3), g.node("DequantizeLinear", values, *parameters)))


def conv_quantized_weight(seed: int) -> OnnxNetwork:
    """A float weight behind QuantizeLinear, as training with fake quantization exports it."""
    g = _Draw(seed)
    values = g.constant(g.rng.normal(size=(4, 3, 3, 3)).astype(np.float32))
    parameters = g.constant(np.full(4, 0.03, np.float32)), g.constant(np.zeros(4, np.int8))
    integers = g.node("QuantizeLinear", values, *parameters, axis=0)
    weight = g.node("DequantizeLinear", integers, *parameters, axis=0)
    return g.end("conv_quantized_weight", g.node("Conv", g.image(3), weight))


def conv_batch_norm(seed: int) -> OnnxNetwork:
    g = _Draw(seed)
    y = g.node("Conv", g.image(3), g.weight(g.rng.normal(size=(4, 3, 3, 3))))
    draws = [g.rng.normal(size=4) for _ in range(3)] + [g.rng.uniform(0.5, 2, 4)]
    y = g.node("BatchNormalization", y, *[g.constant(d.astype(np.float32)) for d in draws], epsilon=1e-3)
    return g.end("conv_batch_norm", g.node("Relu", y))


def conv_clip(seed: int) -> OnnxNetwork:
    g = _Draw(seed)
    y = g.node("Conv", g.image(3), g.weight(g.rng.normal(size=(4, 3, 3, 3))))
    return g.end("conv_clip", g.node("Clip", y, g.constant(np.float32(-1.5)), g.constant(np.float32(2.5))))


def conv_max_pool(seed: int) -> OnnxNetwork:
    """Pooling between a convolution and its quantization."""
    g = _Draw(seed)
    y = g.node("Conv", g.image(3), g.weight(g.rng.normal(size=(4, 3, 3, 3))))
    return g.end("conv_max_pool", g.node("MaxPool", g.node("Relu", y), kernel_shape=[2, 2]))


def conv_transpose(seed: int) -> OnnxNetwork:
    g = _Draw(seed)
    group = g.pick((1, 1, 2, 3))
    kernel, strides = [g.size(1, 4), g.size(1, 4)], [g.size(1, 3), g.size(1, 3)]
    x = g.image(group * g.pick((1, 2)))
    options: dict[str, Any] = {"group": group, "activation": g.pick((None, "Relu")), "bias": g.rng.random() < 0.7}
    options |= {"strides": strides, "output_padding": [g.size(0, s - 1) for s in strides]}
    match g.pick(("pads", "pads", "dilations", "VALID", "SAME_UPPER", "SAME_LOWER", "output_shape")):
        case "pads":
            options |= {"pads": [g.size(0, k - 1) for k in (*kernel, *kernel)]}
        case "dilations":
            options |= {"dilations": [g.size(1, 2), g.size(1, 2)]}
        case "output_shape":
            size = g.values[x].shape[2:]
            options |= {"output_shape": [n * s - g.size(0, 1) for n, s in zip(size, strides, strict=True)]}
        case mode:
            options |= {"auto_pad": mode}
    return g.finish("conv_transpose", g.conv_transpose(x, group * g.pick((1, 3)), kernel, **options))


def conv_transpose_batch_norm(seed: int) -> OnnxNetwork:
    g = _Draw(seed)
    y = g.node("ConvTranspose", g.image(3), g.weight(g.rng.normal(size=(3, 4, 2, 2)), axis=1), strides=[2, 2])
    draws = [g.rng.normal(size=4) for _ in range(3)] + [g.rng.uniform(0.5, 2, 4)]
    y = g.node("BatchNormalization", y, *[g.constant(d.astype(np.float32)) for d in draws], epsilon=1e-3)
    return g.end("conv_transpose_batch_norm", g.node("Relu", y))


def gemm(seed: int) -> OnnxNetwork:
    g = _Draw(seed)
    depth, units, transposed = g.size(2, 40), g.size(2, 12), g.size(0, 1)
    shape = (units, depth) if transposed else (depth, units)
    weight = g.weight(g.rng.normal(size=shape), axis=1 - transposed)
    x = g.input((g.size(1, 3), depth))
    bias = [g.bias(g.rng.normal(size=units), x, weight)] if g.rng.random() < 0.7 else []
    return g.end("gemm", g.node("Gemm", x, weight, *bias, transB=transposed))


def gemm_batch_norm(seed: int) -> OnnxNetwork:
    g = _Draw(seed)
    y = g.node("Gemm", g.input((2, 12)), g.weight(g.rng.normal(size=(5, 12))), transB=1)
    draws = [g.rng.normal(size=5) for _ in range(3)] + [g.rng.uniform(0.5, 2, 5)]
    y = g.node("BatchNormalization", y, *[g.constant(d.astype(np.float32)) for d in draws], epsilon=1e-3)
    return g.end("gemm_batch_norm", g.node("Relu", y))


def flat_gemm(seed: int) -> OnnxNetwork:
    """A dense layer on a flattened image: rows of the weight are channels first."""
    g = _Draw(seed)
    x = g.conv(g.image(), 4)
    shape = g.constant(np.array([0, -1], np.int64))
    x = g.pick((lambda: g.node("Flatten", x), lambda: g.node("Reshape", x, shape)))()
    return g.finish("flat_gemm", g.gemm(x, 5))


def matmul(seed: int) -> OnnxNetwork:
    g = _Draw(seed)
    depth, units = g.size(2, 20), g.size(2, 12)
    x = g.input((*[g.size(1, 3) for _ in range(g.size(1, 3))], depth))
    y = g.node("MatMul", x, g.weight(g.rng.normal(size=(depth, units)), axis=1))
    bias = g.pick((None, "float", "int32"))
    if bias == "float":
        y = g.node("Add", g.constant(g.rng.normal(size=units).astype(np.float32)), y)
    elif bias == "int32":
        parameters = g.constant(np.float32(1e-3)), g.constant(np.int32(0))
        integers = g.constant(g.rng.integers(-999, 999, units).astype(np.int32))
        y = g.node("Add", y, g.node("DequantizeLinear", integers, *parameters))
    return g.end("matmul", g.node("Relu", y))


def matmul_transposed_weight(seed: int) -> OnnxNetwork:
    g = _Draw(seed)
    weight = g.node("Transpose", g.weight(g.rng.normal(size=(6, 9)), axis=0), perm=[1, 0])
    return g.end("matmul_transposed_weight", g.node("MatMul", g.input((2, 9)), weight))


def binary(seed: int) -> OnnxNetwork:
    g = _Draw(seed)
    kind = g.pick(("Add", "Sub", "Mul"))
    shape = [1, 4, g.size(1, 5), g.size(2, 5)]
    other = [n if g.rng.random() < 0.6 else 1 for n in shape][g.size(0, 2) :]
    pair = [g.input(shape), g.input(other)]
    if g.rng.random() < 0.5:
        pair[0] = g.conv(pair[0], 4, (1, 1))
    if g.rng.random() < 0.3:
        pair[1] = g.conv(g.input((1, 2, *shape[2:])), 4, (1, 1))
    y = g.node(kind, *(pair if g.rng.random() < 0.5 else pair[::-1]))
    return g.end("binary", g.node("Relu", y) if g.rng.random() < 0.4 else y)


def constant_operand(seed: int) -> OnnxNetwork:
    g = _Draw(seed)
    x = g.conv(g.image(), 4)
    if g.rng.random() < 0.3:
        other = g.constant(np.float32(g.rng.normal()))
    else:
        integers = g.constant(g.rng.integers(0, 100, (4, 1, 1)).astype(g.activations))
        parameters = g.constant(np.float32(0.02)), g.constant(np.array(7, g.activations))
        other = g.node("DequantizeLinear", integers, *parameters)
        other = g.node("Reshape", other, g.constant(np.array([1, 4, 1, 1], np.int64)))
    return g.end("constant_operand", g.node(g.pick(("Add", "Mul", "Sub")), x, other))


def divide(seed: int) -> OnnxNetwork:
    g = _Draw(seed)
    return g.end("divide", g.node("Div", g.conv(g.image(), 4), g.constant(np.float32(g.rng.uniform(0.5, 3)))))


def unary(kind: str, **attributes: Any) -> Callable[[int], OnnxNetwork]:
    def build(seed: int) -> OnnxNetwork:
        g = _Draw(seed)
        return g.end(kind.lower(), g.node(kind, g.tensor(), **attributes))

    return build


def prelu(seed: int) -> OnnxNetwork:
    g = _Draw(seed)
    return g.end("prelu", g.node("PRelu", g.tensor(), g.constant(np.array([0.2], np.float32))))


def clip(seed: int) -> OnnxNetwork:
    g = _Draw(seed)
    low, high = g.constant(np.float32(-0.5)), g.constant(np.float32(1.0))
    return g.end("clip", g.node("Clip", g.tensor(), *g.pick((("", high), (low,), (low, high)))))


def softmax(seed: int) -> OnnxNetwork:
    g = _Draw(seed)
    x = g.tensor()
    axis = g.size(-1, g.values[x].ndim - 1)
    return g.finish("softmax", g.requantized(g.node("Softmax", x, axis=axis), 1 / 256, np.iinfo(g.activations).min))


def softmax_to_any_scale(seed: int) -> OnnxNetwork:
    """As tools write it: the scale is 1/255, or fits what was seen; the zero point is any."""
    g = _Draw(seed)
    limits = np.iinfo(g.activations)
    x = g.requantized(g.input((g.size(1, 9), g.size(1, 40)), quantized=False), float(g.rng.uniform(0.01, 0.3)), 0)
    scale = g.pick((1 / 255, 1 / 255, 1 / 128, 0.0031, 0.05, 0.7, 1e-5))
    y = g.node("Softmax", x, axis=-1)
    return g.finish("softmax_to_any_scale", g.requantized(y, scale, g.size(limits.min, limits.max)))


def pool(kind: str) -> Callable[[int], OnnxNetwork]:
    def build(seed: int) -> OnnxNetwork:
        g = _Draw(seed)
        return g.end(kind.lower(), g.node(kind, g.image(), kernel_shape=[g.size(2, 3), g.size(2, 3)], **g.window()))

    return build


def global_pool(kind: str) -> Callable[[int], OnnxNetwork]:
    def build(seed: int) -> OnnxNetwork:
        g = _Draw(seed)
        return g.end(kind.lower(), g.node(kind, g.image()))

    return build


def reduce(kind: str) -> Callable[[int], OnnxNetwork]:
    def build(seed: int) -> OnnxNetwork:
        g = _Draw(seed, opset=18)
        x = g.conv(g.image(), 4) if g.rng.random() < 0.5 else g.image()
        axes = g.pick(((2, 3), (-1, -2), (1,), (1, 3), (0, 1, 2, 3), (-1,)))
        y = g.node(kind, x, g.constant(np.array(axes, np.int64)), keepdims=g.size(0, 1))
        return g.end(kind.lower(), y)

    return build


def reshape(seed: int) -> OnnxNetwork:
    g = _Draw(seed)
    x = g.tensor()
    size = g.values[x].size
    first = g.pick([n for n in range(1, size + 1) if size % n == 0])
    return g.finish("reshape", g.quantized(g.node("Reshape", x, g.constant(np.array([first, -1], np.int64)))))


def reshape_and_back(seed: int) -> OnnxNetwork:
    """An image flattened, computed with, and an image again."""
    g = _Draw(seed)
    x = g.conv(g.image(), 4)
    flat = g.node("Flatten", x)
    y = g.quantized(g.node("Add", flat, flat) if g.rng.random() < 0.5 else g.node("Neg", flat))
    y = g.node("Reshape", y, g.constant(np.array(g.values[x].shape, np.int64)))
    return g.finish("reshape_and_back", g.conv(y, 3))


def computed_shape(seed: int) -> OnnxNetwork:
    """A shape computed from another tensor's, as tracing exports it."""
    g = _Draw(seed)
    x = g.conv(g.input((1, 3, 6, 6), batch="batch"), 4)
    batch = g.node("Gather", g.node("Shape", x), g.constant(np.array([0], np.int64)))
    shape = g.node("Concat", batch, g.constant(np.array([-1], np.int64)), axis=0)
    return g.finish("computed_shape", g.quantized(g.node("Reshape", x, shape)))


def squeeze(seed: int) -> OnnxNetwork:
    g = _Draw(seed)
    x = g.quantized(g.node("GlobalAveragePool", g.image()))
    y = g.node("Squeeze", x, g.constant(np.array([2, 3], np.int64)))
    return g.finish("squeeze", g.quantized(g.node("Unsqueeze", y, g.constant(np.array([0, -1], np.int64)))))


def transpose(seed: int) -> OnnxNetwork:
    g = _Draw(seed)
    x = g.tensor()
    order = [int(i) for i in g.rng.permutation(g.values[x].ndim)]
    return g.finish("transpose", g.quantized(g.node("Transpose", x, perm=order)))


def channels_last(seed: int) -> OnnxNetwork:
    """A convolution between transposes, as exports from NHWC frameworks have it."""
    g = _Draw(seed)
    x = g.node("Transpose", g.input((1, 7, 6, 3)), perm=[0, 3, 1, 2])
    return g.finish("channels_last", g.node("Transpose", g.conv(x, 4), perm=[0, 2, 3, 1]))


def concat(seed: int) -> OnnxNetwork:
    g = _Draw(seed)
    x = g.image(3)
    parts = [g.conv(x, 4), g.conv(x, g.pick((4, 4, 2))), g.quantized(g.node("Slice", x, *_range(g, (1, 1), (-1, -1))))]
    return g.end("concat", g.node("Concat", *parts, axis=g.pick((1, -3))))


def concat_vectors(seed: int) -> OnnxNetwork:
    g = _Draw(seed)
    parts = [g.input((2, g.size(1, 4), 3)) for _ in range(3)]
    return g.end("concat_vectors", g.node("Concat", *parts, axis=1))


def split(seed: int) -> OnnxNetwork:
    g = _Draw(seed, opset=(13, 17)[seed % 2])
    x = g.conv(g.image(), 6)
    sizes = g.pick(((), (g.constant(np.array([1, 3, 2], np.int64)),)))
    parts = g.node("Split", x, *sizes, outputs=3, axis=1)
    return g.finish("split", *[g.quantized(part) for part in parts])


def slice_(seed: int) -> OnnxNetwork:
    g = _Draw(seed)
    x = g.conv(g.image(), 4) if g.rng.random() < 0.5 else g.image()
    steps = [g.size(1, 2), g.size(1, 2)]
    return g.finish("slice", g.quantized(g.node("Slice", x, *_range(g, (0, 1), (9, -1)), g.constant(steps))))


def pad(seed: int) -> OnnxNetwork:
    g = _Draw(seed)
    x = g.tensor()
    pads = g.constant([g.size(0, 2) for _ in range(2 * g.values[x].ndim)])
    value = g.pick(((), (g.constant(np.float32(0.75)),)))
    return g.end("pad", g.node("Pad", x, pads, *value))


def resize(seed: int) -> OnnxNetwork:
    g = _Draw(seed)
    x = g.image()
    n, c, h, w = g.values[x].shape
    mode = g.pick(("half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel"))
    nearest = g.pick(("floor", "ceil", "round_prefer_floor", "round_prefer_ceil"))
    if g.rng.random() < 0.5:
        target = ["", "", g.constant(np.array([n, c, g.size(2, 2 * h), g.size(2, 2 * w)], np.int64))]
    else:
        target = ["", g.constant(np.array([1, 1, 2, 3], np.float32))]
    y = g.node("Resize", x, *target, coordinate_transformation_mode=mode, nearest_mode=nearest, mode="nearest")
    return g.finish("resize", g.quantized(y))


def integer_interface(seed: int) -> OnnxNetwork:
    """Input and output are integers themselves."""
    g = _Draw(seed)
    limits = np.iinfo(g.activations)
    g.conv(g.integer_input((1, 3, 6, 6), 0.02, g.size(limits.min, limits.max)), 4)
    return g.finish("integer_interface", g.last("QuantizeLinear"))


def shared_dequantize(seed: int) -> OnnxNetwork:
    g = _Draw(seed)
    x = g.image(3)
    return g.end("shared_dequantize", g.node("Add", g.conv(x, 3, (1, 1)), x))


def dropout(seed: int) -> OnnxNetwork:
    g = _Draw(seed)
    return g.finish("dropout", g.node("Identity", g.conv(g.node("Dropout", g.image()), 3)))


def float_sigmoid(seed: int) -> OnnxNetwork:
    """A float output of a function with a fixed quantization."""
    g = _Draw(seed)
    return g.finish("float_sigmoid", g.node(g.pick(("Sigmoid", "Tanh", "Softmax")), g.input((2, 20))))


def _range(g: QdqGraph, begin: Sequence[int], end: Sequence[int]) -> tuple[str, str, str]:
    return g.constant(list(begin)), g.constant(list(end)), g.constant([2, 3])


MODELS: dict[str, Callable[[int], OnnxNetwork]] = {
    "conv": conv,
    "dilated_conv": dilated_conv,
    "depthwise": depthwise,
    "conv_float_bias": conv_float_bias,
    "conv_uint8_weight": conv_uint8_weight,
    "conv_quantized_weight": conv_quantized_weight,
    "conv_batch_norm": conv_batch_norm,
    "conv_clip": conv_clip,
    "conv_max_pool": conv_max_pool,
    "conv_transpose": conv_transpose,
    "conv_transpose_batch_norm": conv_transpose_batch_norm,
    "gemm": gemm,
    "gemm_batch_norm": gemm_batch_norm,
    "flat_gemm": flat_gemm,
    "matmul": matmul,
    "matmul_transposed_weight": matmul_transposed_weight,
    "binary": binary,
    "constant_operand": constant_operand,
    "divide": divide,
    "abs": unary("Abs"),
    "exp": unary("Exp"),
    "hard_sigmoid": unary("HardSigmoid", alpha=1 / 6, beta=0.5),
    "hard_swish": unary("HardSwish"),
    "leaky_relu": unary("LeakyRelu", alpha=0.3),
    "neg": unary("Neg"),
    "relu": unary("Relu"),
    "sigmoid": unary("Sigmoid"),
    "tanh": unary("Tanh"),
    "prelu": prelu,
    "clip": clip,
    "softmax": softmax,
    "softmax_to_any_scale": softmax_to_any_scale,
    "average_pool": pool("AveragePool"),
    "max_pool": pool("MaxPool"),
    "global_average_pool": global_pool("GlobalAveragePool"),
    "global_max_pool": global_pool("GlobalMaxPool"),
    "reduce_mean": reduce("ReduceMean"),
    "reduce_sum": reduce("ReduceSum"),
    "reshape": reshape,
    "reshape_and_back": reshape_and_back,
    "computed_shape": computed_shape,
    "squeeze": squeeze,
    "transpose": transpose,
    "channels_last": channels_last,
    "concat": concat,
    "concat_vectors": concat_vectors,
    "split": split,
    "slice": slice_,
    "pad": pad,
    "resize": resize,
    "integer_interface": integer_interface,
    "shared_dequantize": shared_dequantize,
    "dropout": dropout,
    "float_sigmoid": float_sigmoid,
}
"""Every generator of this file by its operator's name."""
