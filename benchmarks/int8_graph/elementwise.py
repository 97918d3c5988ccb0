"""Element-wise operators: sums, products, functions by table and changes of type."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from benchmarks.int8_graph.graph import ACTIVATION, Graph, as_type
from benchmarks.int8_graph.network import Array, Quantization, Value
from tvm_tinyml import arithmetic, reference


class Elementwise(Graph):
    """The operators on one or two tensors, element by element."""

    def add(self, a: Value, b: Value, *, activation: str = "NONE", output: Quantization | None = None) -> Value:
        """Add ADD with broadcasting."""
        real = [p + q for p, q in zip(a.real(), b.real(), strict=True)]
        output = output or self._fit(real, activation)
        parameters = arithmetic.add_parameters(a.scale, b.scale, output[0], a.dtype)
        return self._sum("ADD", reference.add, parameters, a, b, activation, output, real)

    def sub(self, a: Value, b: Value, *, activation: str = "NONE", output: Quantization | None = None) -> Value:
        """Add SUB with broadcasting."""
        real = [p - q for p, q in zip(a.real(), b.real(), strict=True)]
        output = output or self._fit(real, activation)
        parameters = arithmetic.sub_parameters(a.scale, b.scale, output[0], a.dtype)
        return self._sum("SUB", reference.sub, parameters, a, b, activation, output, real)

    def mul(self, a: Value, b: Value, *, activation: str = "NONE", output: Quantization | None = None) -> Value:
        """Add MUL with broadcasting."""
        real = [p * q for p, q in zip(a.real(), b.real(), strict=True)]
        output = output or self._fit(real, activation)
        multiplier, shift = arithmetic.mul_parameters(a.scale, b.scale, output[0])
        low, high = arithmetic.activation_range(activation, *output, a.dtype)
        integers = {"a_zero_point": a.zero_point, "b_zero_point": b.zero_point, "output_zero_point": output[1]}
        integers |= {"multiplier": multiplier, "shift": shift, "clamp_min": low, "clamp_max": high}
        options = {"FusedActivationFunction": ACTIVATION[activation]}
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
        low, high = arithmetic.activation_range(activation, *output, a.dtype)
        integers = dataclasses.asdict(parameters) | {"clamp_min": low, "clamp_max": high}
        integers |= {"a_zero_point": a.zero_point, "b_zero_point": b.zero_point, "output_zero_point": output[1]}
        options = {"FusedActivationFunction": ACTIVATION[activation]}
        options_name = f"{name.capitalize()}Options"
        return self._operator(
            name, [a, b], real[0].shape, output, lambda p, q: function(p, q, **integers), options_name, options
        )

    def logistic(self, x: Value) -> Value:
        """Add LOGISTIC."""
        if x.dtype == "int16":
            return self._sigmoid("LOGISTIC", x, reference.logistic)
        return self._lookup("LOGISTIC", x, (1 / 256, -128), arithmetic.logistic_table(*x.quantization))

    def tanh(self, x: Value) -> Value:
        """Add TANH."""
        if x.dtype == "int16":
            return self._sigmoid("TANH", x, reference.tanh)
        return self._lookup("TANH", x, (1 / 128, 0), arithmetic.tanh_table(*x.quantization))

    def _sigmoid(self, name: str, x: Value, function: Callable[..., Array]) -> Value:
        points, (multiplier, shift) = (
            arithmetic.sigmoid_points(),
            arithmetic.sigmoid_input_parameters(x.scale, name.lower()),
        )
        return self._operator(
            name, [x], x.shape, (1 / 2**15, 0), lambda v: function(v, points, multiplier=multiplier, shift=shift)
        )

    def relu(self, x: Value, output: Quantization | None = None) -> Value:
        """Add RELU with a change of scale."""
        output = output or self._fit([np.maximum(r, 0) for r in x.real()], "RELU")
        if x.dtype == "int16":
            return self._rescaled("RELU", x, output, "int16", low=0)
        return self._lookup("RELU", x, output, arithmetic.relu_table(*x.quantization, *output))

    def relu6(self, x: Value) -> Value:
        """Add RELU6, which keeps the quantization."""
        if x.dtype == "int16":
            six = min(arithmetic.quantize_value(6.0, x.scale, 0), 2**15 - 1)
            return self._rescaled("RELU6", x, x.quantization, "int16", low=0, high=six)
        return self._lookup("RELU6", x, x.quantization, arithmetic.relu6_table(*x.quantization))

    def leaky_relu(self, x: Value, alpha: float, output: Quantization | None = None) -> Value:
        """Add LEAKY_RELU with a change of scale."""
        output = output or self._fit([np.where(r > 0, r, alpha * r) for r in x.real()], "NONE")
        if x.dtype == "int16":
            return self._slopes("LEAKY_RELU", x, output, (1.0, alpha), 0, "LeakyReluOptions", {"Alpha": alpha})
        table = arithmetic.leaky_relu_table(*x.quantization, *output, alpha)
        return self._lookup("LEAKY_RELU", x, output, table, "LeakyReluOptions", {"Alpha": alpha})

    def abs(self, x: Value, output: Quantization | None = None) -> Value:
        """Add ABS with a change of scale."""
        output = output or self._fit([np.abs(r) for r in x.real()], "NONE")
        if x.dtype == "int16":
            return self._slopes("ABS", x, output, (1.0, 1.0), 1, "AbsOptions")
        return self._lookup("ABS", x, output, arithmetic.abs_table(*x.quantization, *output), "AbsOptions")

    def _slopes(
        self,
        name: str,
        x: Value,
        output: Quantization,
        slopes: tuple[float, float],
        magnitude: int,
        options_name: str,
        options: dict[str, float] | None = None,
    ) -> Value:
        """Add an operator of int16 that multiplies by one number where x >= 0, by another where x < 0."""
        scalings = [arithmetic.slope_parameters(x.scale, output[0], slope) for slope in slopes]
        multipliers, shifts = zip(*scalings, strict=True)

        def function(value: Array) -> Array:
            return reference.slopes(value, magnitude=magnitude, multipliers=multipliers, shifts=shifts)

        return self._operator(name, [x], x.shape, (output[0], 0), function, options_name, options)

    def hard_swish(self, x: Value, output: Quantization | None = None) -> Value:
        """Add HARD_SWISH with a change of scale."""
        output = output or self._fit([r * np.clip(r + 3, 0, 6) / 6 for r in x.real()], "NONE")
        return self._lookup("HARD_SWISH", x, output, arithmetic.hard_swish_table(*x.quantization, *output))

    def requantize(self, x: Value, output: Quantization, dtype: str = "int8") -> Value:
        """Add QUANTIZE from an integer type; `output` is the quantization of the result as it is."""
        if "int16" in (x.dtype, dtype):
            return self._rescaled("QUANTIZE", x, output, dtype)
        table = arithmetic.requantize_table(*x.quantization, *output, x.dtype, dtype)
        return self._lookup("QUANTIZE", x, output, table, dtype=dtype)

    def _rescaled(
        self, name: str, x: Value, output: Quantization, dtype: str, *, low: int = -(2**15), high: int = 2**15 - 1
    ) -> Value:
        """Add an operator that changes the scale and clamps, from or to int16."""
        multiplier, shift = arithmetic.requantize_parameters(x.scale, output[0])
        least, largest = arithmetic.RANGES[dtype]
        integers = {
            "bits": 16 if dtype == "int16" else 8,
            "input_zero_point": x.zero_point,
            "multiplier": multiplier,
            "shift": shift,
            "output_zero_point": output[1],
            "clamp_min": max(low, least),
            "clamp_max": min(high, largest),
        }
        return self._operator(
            name, [x], x.shape, output, lambda v: reference.requantize(v, **integers), dtype=dtype
        )

    def quantize(self, x: Value, output: Quantization) -> Value:
        """Add QUANTIZE from float32: round(x / scale) + zero point, in float32."""
        output = as_type(output, self.dtype)
        scale, zero_point = np.float32(output[0]), output[1]

        def function(value: Array) -> Array:
            rounded = arithmetic.round_half_away(value / scale)
            return np.clip(rounded + zero_point, *arithmetic.RANGES[self.dtype]).astype(self.dtype)

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
