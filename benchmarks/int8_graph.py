"""Random int8 networks that know their answer: written as TFLite, executed by the numpy reference.

A graph is built operator by operator. Each call adds the TFLite operator, remembers how the reference computes it, and
runs it on a few random inputs, from which weight scales, biases and the output scale follow: channels then use the
int8 range well and neither saturate nor die, whatever the depth. Everything comes from one seed.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from benchmarks.tflite_builder import TFLiteBuilder
from tvm_tinyml import arithmetic, reference

Array = NDArray[Any]
Quantization = tuple[float, int]
"""Scale and zero point."""

_PADDING = {"SAME": 0, "VALID": 1}  # numbers of tflite.Padding and tflite.ActivationFunctionType
_ACTIVATION = {"NONE": 0, "RELU": 1, "RELU_N1_TO_1": 2, "RELU6": 3}


@dataclass(frozen=True)
class Value:
    """A tensor of the graph: its number in the file, shape, type, quantization and values for each sample."""

    index: int
    shape: tuple[int, ...]
    dtype: str
    scale: float
    zero_point: int
    samples: tuple[Array, ...]

    @property
    def quantization(self) -> Quantization:
        """Scale and zero point."""
        return self.scale, self.zero_point

    def real(self) -> tuple[Array, ...]:
        """Samples as real numbers."""
        return tuple((x.astype(np.float64) - self.zero_point) * self.scale for x in self.samples)


@dataclass(frozen=True)
class Step:
    """One operator as the reference computes it: tensor numbers in and out, and the function."""

    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    function: Callable[..., Sequence[Array]]


@dataclass(frozen=True)
class Network:
    """A TFLite model with its reference.

    ``data`` is the flatbuffer, ``macs`` counts multiply-accumulates as output elements times filter taps.
    """

    name: str
    data: bytes
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    steps: tuple[Step, ...]
    macs: int

    def random_inputs(self, seed: int) -> list[Array]:
        """One array per input, uniform over the type's range (floats: over the samples' range)."""
        rng = np.random.default_rng(seed)
        return [_random(rng, value.shape, value.dtype) for value in self.inputs]

    def run(self, inputs: Sequence[Array]) -> list[Array]:
        """Execute by the numpy reference; one array per output."""
        values = self.run_all(inputs)
        return [values[value.index] for value in self.outputs]

    def run_all(self, inputs: Sequence[Array]) -> dict[int, Array]:
        """Execute by the numpy reference; every tensor by its number in the file."""
        values = {value.index: x for value, x in zip(self.inputs, inputs, strict=True)}
        for step in self.steps:
            results = step.function(*(values[i] for i in step.inputs))
            values.update(zip(step.outputs, results, strict=True))
        return values


@dataclass(frozen=True)
class Layer:
    """What convolutions and dense layers have in common.

    Parameters
    ----------
    activation : fused: "NONE", "RELU", "RELU6" or "RELU_N1_TO_1".
    bias : whether there is one.
    per_channel : whether each output channel has its own weight scale.
    dead : output channels whose filters are zero.
    weights : int8[O, ...] in place of random ones, in the reference's order.
    output : quantization in place of the fitted one.
    effective_scale : input scale * weight scale / output scale of every channel, in place of the fitted one; needs
        ``output``.
    """

    activation: str = "NONE"
    bias: bool = True
    per_channel: bool = True
    dead: Sequence[int] = ()
    weights: Array | None = None
    output: Quantization | None = None
    effective_scale: float | None = None


class Int8Graph:
    """Builds a `Network`.

    Parameters
    ----------
    seed : of everything random in it.
    samples : random inputs that scales are fitted to.
    """

    def __init__(self, seed: int, samples: int = 8) -> None:
        self.rng = np.random.default_rng(seed)
        self._model = TFLiteBuilder()
        self._steps: list[Step] = []
        self._inputs: list[Value] = []
        self._sample_count = samples
        self._names = 0
        self._macs = 0

    def finish(self, name: str, *outputs: Value) -> Network:
        """Write the model."""
        data = self._model.finish([v.index for v in self._inputs], [v.index for v in outputs], name)
        return Network(name, data, tuple(self._inputs), outputs, tuple(self._steps), self._macs)

    # Sources --------------------------------------------------------------------------------------------------

    def input(self, shape: Sequence[int], quantization: Quantization | None = None, dtype: str = "int8") -> Value:
        """Add a model input; a random scale and zero point unless given."""
        scale, zero_point = quantization or self.random_quantization()
        samples = tuple(_random(self.rng, shape, dtype) for _ in range(self._sample_count))
        value = self._value("input", shape, dtype, (scale, zero_point), samples)
        self._inputs.append(value)
        return value

    def constant(self, shape: Sequence[int], quantization: Quantization | None = None) -> Value:
        """Add a random int8 constant."""
        data = _random(self.rng, shape, "int8")
        quantization = quantization or self.random_quantization()
        value = self._value("constant", shape, "int8", quantization, (data,) * self._sample_count, data)
        self._steps.append(Step((), (value.index,), lambda: [data]))
        return value

    def random_quantization(self) -> Quantization:
        """Return a scale of 2**-8 to 2**2 and a zero point anywhere, often at an end of the range."""
        scale = float(np.float32(2.0 ** self.rng.uniform(-8, 2)))
        return scale, int(self.rng.choice([-128, 127, 0, int(self.rng.integers(-128, 128))]))

    # Layers with weights --------------------------------------------------------------------------------------

    def conv(
        self,
        x: Value,
        channels: int,
        kernel: tuple[int, int],
        *,
        strides: tuple[int, int] = (1, 1),
        padding: str = "SAME",
        dilation: tuple[int, int] = (1, 1),
        groups: int = 1,
        **layer: Any,
    ) -> Value:
        """Add CONV_2D; ``groups`` of input channels show in the filter's depth, ``layer`` holds fields of `Layer`."""
        settings = Layer(**layer)
        w = self._weights((channels, *kernel, x.shape[3] // groups), settings)
        shape, call = self._convolution(x, w, strides, padding, dilation, groups)
        options = _window_options(strides, padding, settings.activation)
        options |= {"DilationHFactor": dilation[0], "DilationWFactor": dilation[1]}
        weight = _Weight(w, w, 0, arithmetic.conv_parameters)
        return self._weighted("CONV_2D", x, weight, shape, call, settings, "Conv2DOptions", options)

    def depthwise(
        self,
        x: Value,
        kernel: tuple[int, int],
        *,
        multiplier: int = 1,
        strides: tuple[int, int] = (1, 1),
        padding: str = "SAME",
        dilation: tuple[int, int] = (1, 1),
        **layer: Any,
    ) -> Value:
        """Add DEPTHWISE_CONV_2D with ``multiplier`` outputs per input channel; ``layer`` holds fields of `Layer`."""
        settings = Layer(**layer)
        w = self._weights((x.shape[3] * multiplier, *kernel, 1), settings)
        shape, call = self._convolution(x, w, strides, padding, dilation, x.shape[3])
        options = _window_options(strides, padding, settings.activation)
        options |= {"DepthMultiplier": multiplier, "DilationHFactor": dilation[0], "DilationWFactor": dilation[1]}
        weight = _Weight(w, np.ascontiguousarray(w.transpose(3, 1, 2, 0)), 3, arithmetic.conv_parameters)
        return self._weighted("DEPTHWISE_CONV_2D", x, weight, shape, call, settings, "DepthwiseConv2DOptions", options)

    def dense(self, x: Value, units: int, **layer: Any) -> Value:
        """Add FULLY_CONNECTED over the last axis of x, all others being the batch; one weight scale unless told."""
        settings = Layer(**({"per_channel": False} | layer))
        w = self._weights((units, x.shape[-1]), settings)
        rows = math.prod(x.shape[:-1])

        def call(value: Array, *parameters: Array, **clamp: Any) -> Array:
            return reference.dense(value.reshape(rows, -1), w, *parameters, **clamp)

        options = {"FusedActivationFunction": _ACTIVATION[settings.activation]}
        weight = _Weight(w, w, 0, arithmetic.dense_parameters)
        shape = (rows, units)
        return self._weighted("FULLY_CONNECTED", x, weight, shape, call, settings, "FullyConnectedOptions", options)

    # Element-wise ---------------------------------------------------------------------------------------------

    def add(self, a: Value, b: Value, *, activation: str = "NONE", output: Quantization | None = None) -> Value:
        """Add ADD with broadcasting."""
        real = [p + q for p, q in zip(a.real(), b.real(), strict=True)]
        output = output or self._fit(real, activation)
        parameters = arithmetic.add_parameters(a.scale, b.scale, output[0])
        return self._sum("ADD", reference.add, parameters, a, b, activation, output, real)

    def sub(self, a: Value, b: Value, *, activation: str = "NONE", output: Quantization | None = None) -> Value:
        """Add SUB with broadcasting."""
        real = [p - q for p, q in zip(a.real(), b.real(), strict=True)]
        output = output or self._fit(real, activation)
        parameters = arithmetic.sub_parameters(a.scale, b.scale, output[0])
        return self._sum("SUB", reference.sub, parameters, a, b, activation, output, real)

    def mul(self, a: Value, b: Value, *, activation: str = "NONE", output: Quantization | None = None) -> Value:
        """Add MUL with broadcasting."""
        real = [p * q for p, q in zip(a.real(), b.real(), strict=True)]
        output = output or self._fit(real, activation)
        multiplier, shift = arithmetic.mul_parameters(a.scale, b.scale, output[0])
        low, high = arithmetic.activation_range(activation, *output)
        integers = {"a_zero_point": a.zero_point, "b_zero_point": b.zero_point, "output_zero_point": output[1]}
        integers |= {"multiplier": multiplier, "shift": shift, "clamp_min": low, "clamp_max": high}
        options = {"FusedActivationFunction": _ACTIVATION[activation]}
        return self._operator(
            "MUL",
            [a, b],
            real[0].shape,
            output,
            lambda p, q: reference.mul(p, q, **integers),
            "MulOptions",
            options,
        )

    def _sum(
        self,
        name: str,
        function: Callable[..., Array],
        parameters: arithmetic.AddParameters,
        a: Value,
        b: Value,
        activation: str,
        output: Quantization,
        real: Sequence[Array],
    ) -> Value:
        low, high = arithmetic.activation_range(activation, *output)
        integers = dataclasses.asdict(parameters) | {"clamp_min": low, "clamp_max": high}
        integers |= {"a_zero_point": a.zero_point, "b_zero_point": b.zero_point, "output_zero_point": output[1]}
        options = {"FusedActivationFunction": _ACTIVATION[activation]}
        options_name = f"{name.capitalize()}Options"
        return self._operator(
            name, [a, b], real[0].shape, output, lambda p, q: function(p, q, **integers), options_name, options
        )

    def logistic(self, x: Value) -> Value:
        """Add LOGISTIC."""
        return self._lookup("LOGISTIC", x, (1 / 256, -128), arithmetic.logistic_table(*x.quantization))

    def tanh(self, x: Value) -> Value:
        """Add TANH."""
        return self._lookup("TANH", x, (1 / 128, 0), arithmetic.tanh_table(*x.quantization))

    def relu(self, x: Value, output: Quantization | None = None) -> Value:
        """Add RELU with a change of scale."""
        output = output or self._fit([np.maximum(r, 0) for r in x.real()], "RELU")
        return self._lookup("RELU", x, output, arithmetic.relu_table(*x.quantization, *output))

    def relu6(self, x: Value) -> Value:
        """Add RELU6, which keeps the quantization."""
        return self._lookup("RELU6", x, x.quantization, arithmetic.relu6_table(*x.quantization))

    def leaky_relu(self, x: Value, alpha: float, output: Quantization | None = None) -> Value:
        """Add LEAKY_RELU with a change of scale."""
        output = output or self._fit([np.where(r > 0, r, alpha * r) for r in x.real()], "NONE")
        table = arithmetic.leaky_relu_table(*x.quantization, *output, alpha)
        return self._lookup("LEAKY_RELU", x, output, table, "LeakyReluOptions", {"Alpha": alpha})

    def hard_swish(self, x: Value, output: Quantization | None = None) -> Value:
        """Add HARD_SWISH with a change of scale."""
        output = output or self._fit([r * np.clip(r + 3, 0, 6) / 6 for r in x.real()], "NONE")
        return self._lookup("HARD_SWISH", x, output, arithmetic.hard_swish_table(*x.quantization, *output))

    def requantize(self, x: Value, output: Quantization, dtype: str = "int8") -> Value:
        """Add QUANTIZE from an 8-bit type."""
        table = arithmetic.requantize_table(*x.quantization, *output, x.dtype, dtype)
        return self._lookup("QUANTIZE", x, output, table, dtype=dtype)

    def quantize(self, x: Value, output: Quantization) -> Value:
        """Add QUANTIZE from float32: round(x / scale) + zero point, in float32."""
        scale, zero_point = np.float32(output[0]), output[1]

        def function(value: Array) -> Array:
            rounded = arithmetic.round_half_away(value / scale)
            return np.clip(rounded + zero_point, -128, 127).astype(np.int8)

        return self._operator("QUANTIZE", [x], x.shape, output, function)

    def dequantize(self, x: Value) -> Value:
        """Add DEQUANTIZE: scale * (x - zero point), in double, rounded to float32."""
        scale = float(np.float32(x.scale))

        def function(value: Array) -> Array:
            return ((value.astype(np.int32) - x.zero_point) * scale).astype(np.float32)

        return self._operator("DEQUANTIZE", [x], x.shape, (1.0, 0), function, dtype="float32")

    def _lookup(
        self,
        name: str,
        x: Value,
        output: Quantization,
        table: Array,
        options_name: str = "",
        options: dict[str, float] | None = None,
        dtype: str = "int8",
    ) -> Value:
        return self._operator(
            name, [x], x.shape, output, lambda value: reference.lookup(value, table), options_name, options, dtype=dtype
        )

    def softmax(self, x: Value, beta: float = 1.0) -> Value:
        """Add SOFTMAX over the last axis."""
        table = arithmetic.softmax_exp_table(x.scale, beta)
        output = (1 / 256, -128)
        return self._operator(
            "SOFTMAX", [x], x.shape, output, lambda v: reference.softmax(v, table), "SoftmaxOptions", {"Beta": beta}
        )

    # Reductions -----------------------------------------------------------------------------------------------

    def avg_pool(self, x: Value, kernel: tuple[int, int], **window: Any) -> Value:
        """Add AVERAGE_POOL_2D; ``strides``, ``padding`` and ``activation`` as for `conv`."""
        return self._pool("AVERAGE_POOL_2D", reference.avg_pool2d, x, kernel, **window)

    def max_pool(self, x: Value, kernel: tuple[int, int], **window: Any) -> Value:
        """Add MAX_POOL_2D; ``strides``, ``padding`` and ``activation`` as for `conv`."""
        return self._pool("MAX_POOL_2D", reference.max_pool2d, x, kernel, **window)

    def _pool(
        self,
        name: str,
        function: Callable[..., Array],
        x: Value,
        kernel: tuple[int, int],
        *,
        strides: tuple[int, int] | None = None,
        padding: str = "VALID",
        activation: str = "NONE",
    ) -> Value:
        strides = strides or kernel
        height, top, bottom = arithmetic.window(padding, x.shape[1], kernel[0], strides[0])
        width, left, right = arithmetic.window(padding, x.shape[2], kernel[1], strides[1])
        low, high = arithmetic.activation_range(activation, *x.quantization)
        options = {"FilterHeight": kernel[0], "FilterWidth": kernel[1]}
        options |= _window_options(strides, padding, activation)

        def call(value: Array) -> Array:
            pads = (top, left, bottom, right)
            return function(value, kernel, strides=strides, padding=pads, clamp_min=low, clamp_max=high)

        shape = (x.shape[0], height, width, x.shape[3])
        return self._operator(name, [x], shape, x.quantization, call, "Pool2DOptions", options)

    def mean(
        self, x: Value, axes: Sequence[int], *, keep_dims: bool = False, output: Quantization | None = None
    ) -> Value:
        """Add MEAN."""
        count = math.prod(x.shape[axis] for axis in axes)
        output = output or self._fit([r.mean(axis=tuple(axes)) for r in x.real()], "NONE")
        return self._reduce("MEAN", x, axes, keep_dims, output, arithmetic.mean_parameters(x.scale, output[0], count))

    def sum(
        self, x: Value, axes: Sequence[int], *, keep_dims: bool = False, output: Quantization | None = None
    ) -> Value:
        """Add SUM."""
        output = output or self._fit([r.sum(axis=tuple(axes)) for r in x.real()], "NONE")
        return self._reduce("SUM", x, axes, keep_dims, output, arithmetic.sum_parameters(x.scale, output[0]))

    def _reduce(
        self,
        name: str,
        x: Value,
        axes: Sequence[int],
        keep_dims: bool,
        output: Quantization,
        scaling: tuple[int, int],
    ) -> Value:
        multiplier, shift = scaling

        def call(value: Array) -> Array:
            return reference.mean(
                value,
                axes,
                multiplier=multiplier,
                shift=shift,
                input_zero_point=x.zero_point,
                output_zero_point=output[1],
                keep_dims=keep_dims,
            )

        shape = call(x.samples[0]).shape
        options = {"KeepDims": keep_dims}
        return self._operator(name, [x], shape, output, call, "ReducerOptions", options, constants=[axes])

    # Movement -------------------------------------------------------------------------------------------------

    def pad(self, x: Value, paddings: Sequence[tuple[int, int]], value: int | None = None) -> Value:
        """Add PAD, or PADV2 with a fill value (int8, of the same quantization)."""
        shape = tuple(n + before + after for n, (before, after) in zip(x.shape, paddings, strict=True))
        fill = x.zero_point if value is None else value
        extra = []
        if value is not None:
            data = np.array(value, np.int8)
            extra = [self._model.tensor("fill", (), "int8", scales=x.scale, zero_point=x.zero_point, data=data)]
        return self._operator(
            "PAD" if value is None else "PADV2",
            [x],
            shape,
            x.quantization,
            lambda v: reference.pad(v, paddings, fill),
            constants=[paddings],
            extra=extra,
        )

    def reshape(self, x: Value, shape: Sequence[int]) -> Value:
        """Add RESHAPE."""
        return self._operator(
            "RESHAPE", [x], shape, x.quantization, lambda v: reference.reshape(v, shape), constants=[shape]
        )

    def transpose(self, x: Value, order: Sequence[int]) -> Value:
        """Add TRANSPOSE."""
        shape = tuple(x.shape[i] for i in order)
        return self._operator(
            "TRANSPOSE", [x], shape, x.quantization, lambda v: reference.transpose(v, order), constants=[order]
        )

    def concat(self, xs: Sequence[Value], axis: int) -> Value:
        """Add CONCATENATION of values with the same quantization."""
        shape = list(xs[0].shape)
        shape[axis] = sum(x.shape[axis] for x in xs)
        return self._operator(
            "CONCATENATION",
            xs,
            shape,
            xs[0].quantization,
            lambda *vs: reference.concat(vs, axis),
            "ConcatenationOptions",
            {"Axis": axis},
        )

    def split(self, x: Value, parts: int, axis: int) -> list[Value]:
        """Add SPLIT into equal parts."""
        sizes = [x.shape[axis] // parts] * parts
        shape = (*x.shape[:axis], sizes[0], *x.shape[axis + 1 :])
        axis_tensor = self._model.tensor("axis", (), "int32", data=np.array(axis, np.int32))
        samples = [reference.split(v, sizes, axis) for v in x.samples]
        values = [
            self._value("split", shape, x.dtype, x.quantization, tuple(s[i] for s in samples)) for i in range(parts)
        ]
        outputs = tuple(v.index for v in values)
        self._model.operator("SPLIT", [axis_tensor, x.index], outputs, "SplitOptions", NumSplits=parts)
        self._steps.append(Step((x.index,), outputs, lambda v: reference.split(v, sizes, axis)))
        return values

    def slice(self, x: Value, begin: Sequence[int], size: Sequence[int]) -> Value:
        """Add SLICE."""
        end = [b + s for b, s in zip(begin, size, strict=True)]
        steps = [1] * len(end)
        return self._operator(
            "SLICE",
            [x],
            size,
            x.quantization,
            lambda v: reference.strided_slice(v, begin, end, steps),
            constants=[begin, size],
        )

    def strided_slice(
        self,
        x: Value,
        begin: Sequence[int],
        end: Sequence[int],
        strides: Sequence[int],
        *,
        begin_mask: int = 0,
        end_mask: int = 0,
        shrink_axis_mask: int = 0,
    ) -> Value:
        """Add STRIDED_SLICE."""

        def call(value: Array) -> Array:
            return reference.strided_slice(value, begin, end, strides, begin_mask, end_mask, shrink_axis_mask)

        options = {"BeginMask": begin_mask, "EndMask": end_mask, "ShrinkAxisMask": shrink_axis_mask}
        shape = call(x.samples[0]).shape
        return self._operator(
            "STRIDED_SLICE",
            [x],
            shape,
            x.quantization,
            call,
            "StridedSliceOptions",
            options,
            constants=[begin, end, strides],
        )

    def resize_nearest(
        self, x: Value, size: tuple[int, int], *, align_corners: bool = False, half_pixel_centers: bool = False
    ) -> Value:
        """Add RESIZE_NEAREST_NEIGHBOR."""
        options = {"AlignCorners": align_corners, "HalfPixelCenters": half_pixel_centers}
        return self._operator(
            "RESIZE_NEAREST_NEIGHBOR",
            [x],
            (x.shape[0], *size, x.shape[3]),
            x.quantization,
            lambda v: reference.resize_nearest(v, size, align_corners, half_pixel_centers),
            "ResizeNearestNeighborOptions",
            options,
            constants=[size],
        )

    # Helpers --------------------------------------------------------------------------------------------------

    def _value(
        self,
        name: str,
        shape: Sequence[int],
        dtype: str,
        quantization: Quantization,
        samples: tuple[Array, ...],
        data: Array | None = None,
    ) -> Value:
        scale, zero_point = float(np.float32(quantization[0])), quantization[1]
        index = self._model.tensor(
            f"{name.lower()}_{self._names}",
            shape,
            dtype,
            scales=None if dtype == "float32" else scale,
            zero_point=zero_point,
            data=data,
        )
        self._names += 1
        return Value(index, tuple(map(int, shape)), dtype, scale, zero_point, samples)

    def _operator(
        self,
        name: str,
        inputs: Sequence[Value],
        shape: Sequence[int],
        quantization: Quantization,
        function: Callable[..., Array],
        options_name: str = "",
        options: dict[str, Any] | None = None,
        *,
        dtype: str = "int8",
        constants: Sequence[ArrayLike] = (),
        extra: Sequence[int] = (),
    ) -> Value:
        """Add an operator with one output: to the file, to the steps and to the samples.

        ``constants`` become int32 tensors and follow the inputs; ``extra`` are numbers of further input tensors.
        """
        samples = tuple(function(*values) for values in zip(*(x.samples for x in inputs), strict=True))
        result = self._value(name, shape, dtype, quantization, samples)
        arrays = [np.asarray(c, np.int32) for c in constants]
        numbers = [self._model.tensor("constant", a.shape, "int32", data=a) for a in arrays]
        indices = tuple(x.index for x in inputs)
        self._model.operator(name, [*indices, *numbers, *extra], [result.index], options_name, **(options or {}))
        self._steps.append(Step(indices, (result.index,), lambda *values: [function(*values)]))
        return result

    def _fit(self, real: Sequence[Array], activation: str) -> Quantization:
        """Scale and zero point for values between their outermost thousandths and a tenth more."""
        low, high = np.quantile(np.concatenate([r.ravel() for r in real]), [0.001, 0.999]) * 1.1
        low, high = min(low, 0.0), max(high, 0.0)
        if activation in ("RELU", "RELU6"):
            low = 0.0
        if activation == "RELU_N1_TO_1":
            low, high = max(low, -1.2), min(high, 1.2)
        scale = float(np.float32((high - low or 1.0) / 255))
        return scale, int(np.clip(round(-128 - low / scale), -128, 127))

    def _weights(self, shape: tuple[int, ...], layer: Layer) -> Array:
        if layer.weights is not None:
            return layer.weights
        drawn = np.clip(np.rint(self.rng.normal(0, 45, shape)), -127, 127).astype(np.int8)
        drawn[list(layer.dead)] = 0
        return drawn

    def _convolution(
        self,
        x: Value,
        w: Array,
        strides: tuple[int, int],
        padding: str,
        dilation: tuple[int, int],
        groups: int,
    ) -> tuple[tuple[int, ...], Callable[..., Array]]:
        height, top, bottom = arithmetic.window(padding, x.shape[1], w.shape[1], strides[0], dilation[0])
        width, left, right = arithmetic.window(padding, x.shape[2], w.shape[2], strides[1], dilation[1])

        def call(value: Array, *parameters: Array, **clamp: Any) -> Array:
            return reference.conv2d(
                value,
                w,
                *parameters,
                strides=strides,
                padding=(top, left, bottom, right),
                dilation=dilation,
                groups=groups,
                input_zero_point=x.zero_point,
                **clamp,
            )

        return (x.shape[0], height, width, w.shape[0]), call

    def _weighted(
        self,
        name: str,
        x: Value,
        weight: _Weight,
        shape: tuple[int, ...],
        call: Callable[..., Array],
        layer: Layer,
        options_name: str,
        options: dict[str, int],
    ) -> Value:
        """Add a layer; ``call`` runs the reference on an input, bias, multipliers and shifts."""
        w = weight.values
        channels = w.shape[0]
        self._macs += math.prod(shape) * math.prod(w.shape[1:])
        rough, step = self._accumulators(x, w, call)
        scales, bias = self._scales_and_bias(x, w, rough, step, layer)
        output = layer.output
        if output is None:
            real = (rough * step + bias) * (scales.astype(np.float64) * x.scale)
            alive = _alive(w)
            output = self._fit([real[:, alive] if alive.any() else real], layer.activation)
        multiplier, shift = weight.parameters(x.scale, scales, output[0], channels)
        folded = arithmetic.fold_input_offset(bias, w, x.zero_point)
        low, high = arithmetic.activation_range(layer.activation, *output)
        clamps = {"output_zero_point": output[1], "clamp_min": low, "clamp_max": high}

        stored = weight.stored
        extra = [self._model.tensor("weights", stored.shape, "int8", scales=scales, axis=weight.axis, data=stored)]
        if layer.bias:
            bias_scales = scales * np.float32(x.scale)
            extra.append(self._model.tensor("bias", bias.shape, "int32", scales=bias_scales, data=bias))
        return self._operator(
            name,
            [x],
            shape,
            output,
            lambda value: call(value, folded, multiplier, shift, **clamps),
            options_name,
            options,
            extra=extra,
        )

    def _accumulators(self, x: Value, w: Array, call: Callable[..., Array]) -> tuple[Array, Array]:
        """Sums of each channel without bias on the samples: [any, O], in units of ``step`` [O], which fit int8."""
        flat = w.reshape(w.shape[0], -1).astype(np.float64)
        mean_square = np.mean([np.mean((v.astype(np.float64) - x.zero_point) ** 2) for v in x.samples])
        step = np.maximum(np.linalg.norm(flat, axis=1) * math.sqrt(mean_square) / 25, 1.0)
        pairs = np.array([arithmetic.quantize_multiplier(1 / s) for s in step], np.int32)
        offset = arithmetic.fold_input_offset(None, w, x.zero_point)
        sums = [call(v, offset, pairs[:, 0], pairs[:, 1]).reshape(-1, w.shape[0]) for v in x.samples]
        return np.concatenate(sums).astype(np.float64), step

    def _scales_and_bias(self, x: Value, w: Array, rough: Array, step: Array, layer: Layer) -> tuple[Array, Array]:
        """Weight scales and int32 biases that centre each channel and spread it by about one, as batch norm would."""
        channels = w.shape[0]
        alive = _alive(w)
        spread = np.maximum(rough.std(axis=0), 0.5) * step
        if layer.effective_scale is None:
            scales = self.rng.uniform(0.6, 1.4, channels) / (spread * x.scale)
            # A filter of zeros has no natural scale; converters write anything from ordinary to tiny.
            scales = np.where(alive, scales, self.rng.choice([0.004, 1e-12], channels))
        else:
            assert layer.output is not None, "an effective scale needs an output quantization"
            scales = np.full(channels, layer.effective_scale * layer.output[0] / x.scale)
        scales = scales.astype(np.float32)
        if not layer.per_channel:
            scales = scales[alive][:1] if alive.any() else scales[:1]
        if not layer.bias:
            return scales, np.zeros(channels, np.int32)
        centred = -rough.mean(axis=0) * step + self.rng.normal(0.3, 0.7, channels) * spread
        constant = self.rng.normal(0, 1, channels) / (scales * x.scale)
        bias = np.clip(np.rint(np.where(alive, centred, constant)), -(2**30), 2**30)
        return scales, bias.astype(np.int32)


@dataclass(frozen=True)
class _Weight:
    """Weights in the reference's order and as stored, the stored axis of the channels, and what derives multipliers."""

    values: Array
    stored: Array
    axis: int
    parameters: Callable[..., tuple[Array, Array]]


def _alive(w: Array) -> Array:
    """Which output channels have a filter that is not all zeros."""
    return np.asarray(np.any(w.reshape(w.shape[0], -1) != 0, axis=1))


def _window_options(strides: tuple[int, int], padding: str, activation: str) -> dict[str, int]:
    return {
        "StrideH": strides[0],
        "StrideW": strides[1],
        "Padding": _PADDING[padding],
        "FusedActivationFunction": _ACTIVATION[activation],
    }


def _random(rng: np.random.Generator, shape: Sequence[int], dtype: str) -> Array:
    if dtype == "float32":
        return rng.normal(0, 2, shape).astype(np.float32)
    low, high = arithmetic.RANGES[dtype]
    return rng.integers(low, high + 1, shape).astype(dtype)
