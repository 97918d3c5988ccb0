"""The state of a network while it is built, and what adds one operator to it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from benchmarks.int8_graph.network import Array, Network, Quantization, Step, Value, random_values
from benchmarks.tflite_builder import TFLiteBuilder

PADDING = {"SAME": 0, "VALID": 1}
"""Numbers of tflite.Padding."""

ACTIVATION = {"NONE": 0, "RELU": 1, "RELU_N1_TO_1": 2, "RELU6": 3}
"""Numbers of tflite.ActivationFunctionType."""


class Graph:
    """The tensors and operators so far.

    Parameters
    ----------
    seed : of everything random in it.
    samples : random inputs that scales are fitted to.
    dtype : of activations: "int8", or "int16" for a 16x8 network. Quantizations that are given are always those of
        int8: an int16 tensor has a 256th of the scale, which is the same range of reals, and zero point 0.
    """

    def __init__(self, seed: int, samples: int = 8, dtype: str = "int8") -> None:
        self.dtype = dtype
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

    def input(
        self, shape: Sequence[int], quantization: Quantization | None = None, dtype: str | None = None
    ) -> Value:
        """Add a model input; a random scale and zero point unless given."""
        dtype = dtype or self.dtype
        quantization = as_type(quantization or self.random_quantization(), dtype)
        samples = tuple(random_values(self.rng, shape, dtype) for _ in range(self._sample_count))
        value = self._value("input", shape, dtype, quantization, samples)
        self._inputs.append(value)
        return value

    def constant(self, shape: Sequence[int], quantization: Quantization | None = None) -> Value:
        """Add a random constant."""
        data = random_values(self.rng, shape, self.dtype)
        quantization = as_type(quantization or self.random_quantization(), self.dtype)
        value = self._value("constant", shape, self.dtype, quantization, (data,) * self._sample_count, data)
        self._steps.append(Step((), (value.index,), lambda: [data]))
        return value

    def random_quantization(self) -> Quantization:
        """Return a scale of 2**-8 to 2**2 and a zero point anywhere, often at an end of the range."""
        scale = float(np.float32(2.0 ** self.rng.uniform(-8, 2)))
        return scale, int(self.rng.choice([-128, 127, 0, int(self.rng.integers(-128, 128))]))

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
        dtype: str | None = None,
        constants: Sequence[ArrayLike] = (),
        before: Sequence[int] = (),
        extra: Sequence[int] = (),
    ) -> Value:
        """Add an operator with one output: to the file, to the steps and to the samples.

        ``constants`` become int32 tensors and follow the inputs; ``before`` and ``extra`` are numbers of further input
        tensors at the beginning and at the end.
        """
        samples = tuple(function(*values) for values in zip(*(x.samples for x in inputs), strict=True))
        result = self._value(name, shape, dtype or self.dtype, quantization, samples)
        arrays = [np.asarray(c, np.int32) for c in constants]
        numbers = [self._model.tensor("constant", a.shape, "int32", data=a) for a in arrays]
        indices = tuple(x.index for x in inputs)
        self._model.operator(
            name, [*before, *indices, *numbers, *extra], [result.index], options_name, **(options or {})
        )
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
        if self.dtype == "int16":
            return float(np.float32((max(high, -low) or 1.0) / 32767)), 0
        scale = float(np.float32((high - low or 1.0) / 255))
        return scale, int(np.clip(round(-128 - low / scale), -128, 127))


def as_type(quantization: Quantization, dtype: str) -> Quantization:
    """Return what an int8 quantization is with another type of activations."""
    return (quantization[0] / 256, 0) if dtype == "int16" else quantization


def window_options(strides: tuple[int, int], padding: str, activation: str) -> dict[str, int]:
    """Return the options that convolutions and pools share."""
    return {
        "StrideH": strides[0],
        "StrideW": strides[1],
        "Padding": PADDING[padding],
        "FusedActivationFunction": ACTIVATION[activation],
    }
