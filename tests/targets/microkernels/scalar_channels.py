"""Channels for the tests of kernels without the DSP extension, and activations as these kernels read them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tvm_tinyml.arithmetic import multiply_by_quantized_multiplier, quantize_multiplier
from tvm_tinyml.targets.cortex_m.microkernels import (
    scalar_output_short,
    scalar_planes,
)
from tvm_tinyml.targets.cortex_m.microkernels.output import choose_output

Ints = NDArray[np.int64]
LONG, SHORT = "cortex-m3", "cortex-m0plus"
CORES = (LONG, SHORT)
OUTPUTS = {
    "plain": (-128, -128, 127),
    "zero point above the clamp": (127, -128, 127),
    "clamped": (-20, -20, 60),
    "clamped below the zero point": (3, -100, 90),
}


class Channels:
    """Weights and scales of some channels: sums spread over all outputs and beyond."""

    def __init__(
        self, rng: np.random.Generator, channels: int, k: int, output: str = "plain", weight: int | None = None
    ) -> None:
        self.zero, self.low, self.high = OUTPUTS[output]
        drawn = rng.integers(-127, 128, (channels, k))
        self.weight = drawn if weight is None else np.full_like(drawn, weight)
        self.bias = rng.integers(-3000, 3000, channels)
        spread = np.sqrt(k) * 5000
        scales = [quantize_multiplier(float(scale)) for scale in rng.uniform(30, 300, channels) / spread]
        self.multiplier = np.array([multiplier for multiplier, _ in scales])
        self.shift = np.array([-shift for _, shift in scales])
        self.zero_point = np.full(channels, self.zero)
        self.output = choose_output(self.zero, self.low, self.high)

    def outputs(self, sums: Ints) -> NDArray[np.int8]:
        """From sums, [..., O], without the bias."""
        value = multiply_by_quantized_multiplier(sums + self.bias, self.multiplier, -self.shift)
        return np.clip(value.astype(np.int64) + self.zero, self.low, self.high).astype(np.int8)

    @property
    def scale(self) -> tuple[Ints, Ints, Ints, Ints]:
        return self.bias, self.multiplier, self.shift, self.zero_point

    def short(self) -> tuple[scalar_output_short.ShortOutput, Ints]:
        """The epilogue of the Armv6-M."""
        fitted = scalar_output_short.fit(self.weight, *self.scale, self.low, self.high)
        assert fitted is not None
        return fitted


def words(x: Ints, pixels: int) -> NDArray[np.int32]:
    """Activations [pixels, K], K even, in the order of the kernels."""
    pairs = x.reshape(-1, pixels, x.shape[1] // 2, 2).transpose(0, 2, 1, 3)
    return np.ascontiguousarray(pairs[..., 0] + 65536 * pairs[..., 1]).astype(np.int32).ravel()


def plane_of(lower: Ints, upper: Ints) -> NDArray[np.int32]:
    return (lower + scalar_planes.OFFSET + 65536 * upper).astype(np.int32)
