"""What a random network consists of once it is built: its tensors, its steps by the reference, its file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tvm_tinyml import arithmetic

Array = NDArray[Any]
Quantization = tuple[float, int]
"""Scale and zero point."""


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
        return [random_values(rng, value.shape, value.dtype) for value in self.inputs]

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


def random_values(rng: np.random.Generator, shape: Sequence[int], dtype: str) -> Array:
    """Draw numbers over the whole range of an integer type, or normally distributed floats."""
    if dtype == "float32":
        return rng.normal(0, 2, shape).astype(np.float32)
    low, high = arithmetic.RANGES[dtype]
    return rng.integers(low, high + 1, shape).astype(dtype)
