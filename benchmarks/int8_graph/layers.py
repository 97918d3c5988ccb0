"""Convolutions and dense layers: their weights, scales and biases are drawn so that no channel saturates or dies."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.int8_graph.graph import ACTIVATION, Graph, window_options
from benchmarks.int8_graph.network import Array, Quantization, Value
from tvm_tinyml import arithmetic, reference


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
    bias_dtype : of 16x8 layers; of int8 ones it is int32.
    effective_scale : input scale * weight scale / output scale, of each channel or of all, in place of the fitted one;
        needs ``output``.
    """

    activation: str = "NONE"
    bias: bool = True
    per_channel: bool = True
    dead: Sequence[int] = ()
    weights: Array | None = None
    output: Quantization | None = None
    bias_dtype: str = "int64"
    effective_scale: float | Sequence[float] | None = None


class Layers(Graph):
    """The layers with weights."""

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
        options = window_options(strides, padding, settings.activation)
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
        options = window_options(strides, padding, settings.activation)
        options |= {"DepthMultiplier": multiplier, "DilationHFactor": dilation[0], "DilationWFactor": dilation[1]}
        weight = _Weight(w, np.ascontiguousarray(w.transpose(3, 1, 2, 0)), 3, arithmetic.conv_parameters)
        return self._weighted("DEPTHWISE_CONV_2D", x, weight, shape, call, settings, "DepthwiseConv2DOptions", options)

    def transpose_conv(
        self,
        x: Value,
        channels: int,
        kernel: tuple[int, int],
        *,
        strides: tuple[int, int] = (1, 1),
        padding: str = "SAME",
        size: tuple[int, int] | None = None,
        **layer: Any,
    ) -> Value:
        """Add TRANSPOSE_CONV; ``size`` is the result's, by default the one that Keras gives it."""
        settings = Layer(**layer)
        w = self._weights((channels, *kernel, x.shape[3]), settings)
        if size is None:
            more = [0 if padding == "SAME" else max(k - s, 0) for k, s in zip(kernel, strides, strict=True)]
            size = x.shape[1] * strides[0] + more[0], x.shape[2] * strides[1] + more[1]
        shape, call = self._transposed(x, w, strides, padding, size)
        weight = _Weight(w, w, 0, arithmetic.conv_parameters)
        options = window_options(strides, padding, settings.activation)
        size_tensor = self._model.tensor("size", (4,), "int32", data=np.array(shape, np.int32))
        return self._weighted(
            "TRANSPOSE_CONV", x, weight, shape, call, settings, "TransposeConvOptions", options, size_tensor
        )

    def dense(self, x: Value, units: int, **layer: Any) -> Value:
        """Add FULLY_CONNECTED over the last axis of x, all others being the batch; one weight scale unless told."""
        settings = Layer(**({"per_channel": False} | layer))
        w = self._weights((units, x.shape[-1]), settings)
        rows = math.prod(x.shape[:-1])

        def call(value: Array, *parameters: Array, **clamp: Any) -> Array:
            return reference.dense(value.reshape(rows, -1), w, *parameters, **clamp)

        options = {"FusedActivationFunction": ACTIVATION[settings.activation]}
        weight = _Weight(w, w, 0, arithmetic.dense_parameters)
        shape = (rows, units)
        return self._weighted("FULLY_CONNECTED", x, weight, shape, call, settings, "FullyConnectedOptions", options)

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

    def _transposed(
        self, x: Value, w: Array, strides: tuple[int, int], padding: str, size: tuple[int, int]
    ) -> tuple[tuple[int, ...], Callable[..., Array]]:
        before, after = [], []
        for n, m, k, stride in zip(x.shape[1:3], size, w.shape[1:3], strides, strict=True):
            before.append(arithmetic.window(padding, m, k, stride)[1])
            after.append((n - 1) * stride + k - before[-1] - m)

        def call(value: Array, folded: Array, *parameters: Array, **clamp: Any) -> Array:
            return reference.conv2d_transpose(
                value,
                w,
                folded if x.dtype == "int16" else arithmetic.fold_input_offset(folded, w, -x.zero_point),
                *parameters,
                strides=strides,
                padding=(*before, *(max(n, 0) for n in after)),
                output_padding=(max(-after[0], 0), max(-after[1], 0)),
                input_zero_point=x.zero_point,
                **clamp,
            )

        return (x.shape[0], *size, w.shape[0]), call

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
        size: int | None = None,
    ) -> Value:
        """Add a layer.

        ``call`` runs the reference on an input, folded bias, multipliers and shifts; ``size`` is the number of the
        tensor that holds the result's shape, where an operator has such: it comes first, the weights after it.
        """
        w = weight.values
        channels = w.shape[0]
        self._macs += math.prod((shape if size is None else x.shape)[:-1]) * w.size
        rough, step = self._accumulators(x, w, call)
        scales, bias = self._scales_and_bias(x, w, rough, step, layer)
        output = layer.output
        if output is None:
            real = (rough * step + bias) * (scales.astype(np.float64) * x.scale)
            alive = _alive(w)
            output = self._fit([real[:, alive] if alive.any() else real], layer.activation)
        multiplier, shift = weight.parameters(x.scale, scales, output[0], channels)
        bias_dtype = np.dtype(layer.bias_dtype if x.dtype == "int16" else "int32")
        folded = _folded(bias, w, x, bias_dtype)
        low, high = arithmetic.activation_range(layer.activation, *output, x.dtype)
        clamps = {"output_zero_point": output[1], "clamp_min": low, "clamp_max": high}

        stored = weight.stored
        weights = [self._model.tensor("weights", stored.shape, "int8", scales=scales, axis=weight.axis, data=stored)]
        biases = []
        if layer.bias:
            bias_scales = scales * np.float32(x.scale)
            stored_bias = bias.astype(bias_dtype)
            biases = [self._model.tensor("bias", bias.shape, bias_dtype.name, scales=bias_scales, data=stored_bias)]
        return self._operator(
            name,
            [x],
            shape,
            output,
            lambda value: call(value, folded, multiplier, shift, **clamps),
            options_name,
            options,
            before=[] if size is None else [size, *weights],
            extra=biases if size is not None else weights + biases,
        )

    def _accumulators(self, x: Value, w: Array, call: Callable[..., Array]) -> tuple[Array, Array]:
        """Sums of each channel without bias on the samples: [any, O], in units of ``step`` [O], which fit int8."""
        flat = w.reshape(w.shape[0], -1).astype(np.float64)
        mean_square = np.mean([np.mean((v.astype(np.float64) - x.zero_point) ** 2) for v in x.samples])
        step = np.maximum(np.linalg.norm(flat, axis=1) * math.sqrt(mean_square) / 25, 1.0)
        pairs = np.array([arithmetic.quantize_multiplier(1 / s) for s in step], np.int32)
        offset = _folded(np.zeros(len(w), np.int32), w, x, np.dtype("int64" if x.dtype == "int16" else "int32"))
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


def _folded(bias: Array, w: Array, x: Value, dtype: np.dtype[Any]) -> Array:
    """Return the bias with the input's offset, of the type that sums have."""
    return bias.astype(dtype) if x.dtype == "int16" else arithmetic.fold_input_offset(bias, w, x.zero_point)


def _alive(w: Array) -> Array:
    """Which output channels have a filter that is not all zeros."""
    return np.asarray(np.any(w.reshape(w.shape[0], -1) != 0, axis=1))
