"""The two ways of multiplying packed words, for cores with SMULL and for the Armv6-M, as one interface for recipes."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from tvm_tinyml.targets.cortex_m.microkernels import (
    scalar_dense,
    scalar_dense_short,
    scalar_gemm,
    scalar_gemm_short,
    scalar_output_short,
)
from tvm_tinyml.targets.cortex_m.microkernels.microkernel import Microkernel
from tvm_tinyml.targets.cortex_m.microkernels.output import Ints, Output
from tvm_tinyml.targets.cortex_m.microkernels.scalar_output_short import ShortOutput
from tvm_tinyml.targets.cortex_m.recipes.channels import Channels, all_exact

LONG = "long"
"""The form of epilogues with SMULL."""


@dataclass(frozen=True)
class Fitted:
    """A product for the channels of a layer.

    Attributes
    ----------
    form : of the epilogue, for guards.
    multiply : from steps, and how many channels at a time, to the kernel.
    constants : from channels and how many of them at a time to what the kernel reads, a row each time.
    """

    form: str
    multiply: Callable[[int, int], Microkernel]
    constants: Callable[[slice, int], NDArray[np.int32]]


@dataclass(frozen=True)
class FittedDense:
    """The same for a row of activations.

    Attributes
    ----------
    form : of the epilogue, for guards.
    multiply : from channels at once to the kernel.
    bias, scale : of each channel, [O] and [O, words].
    """

    form: str
    multiply: Callable[[int], Microkernel]
    bias: Ints
    scale: Ints


class ScalarProduct(Protocol):
    """A matrix product of words with two values each, and that of a row.

    Attributes
    ----------
    pixels, width : of a tile, and channels at a time at most.
    narrow : with instructions of the Armv6-M only.
    """

    pixels: int
    width: int
    narrow: bool

    def fit(self, layer: Channels, output: Output) -> Fitted | None:
        """Return the product for a layer, or None if it is not exact for a channel."""

    def fit_dense(self, layer: Channels, output: Output) -> FittedDense | None:
        """Return the product of a row for a layer, or None if it is not exact for a channel."""

    def spread_words(self, steps: int, width: int) -> int:
        """Return the words of RAM for the weights of ``width`` channels."""


class LongProduct:
    """See `scalar_gemm`."""

    pixels, width, narrow = scalar_gemm.PIXELS, 2, False

    def fit(self, layer: Channels, output: Output) -> Fitted | None:
        """See ``ScalarProduct.fit``."""
        if not all_exact(layer, output) or not scalar_gemm.fits(layer.weight):
            return None

        def constants(c: slice, width: int) -> NDArray[np.int32]:
            scale = (layer.bias[c], layer.multiplier[c], layer.shift[c], layer.zero_point[c])
            return scalar_gemm.pack(layer.weight[c], *scale, width)

        return Fitted(LONG, lambda steps, width: scalar_gemm.gemm(steps, output, width), constants)

    def fit_dense(self, layer: Channels, output: Output) -> FittedDense | None:
        """See ``ScalarProduct.fit_dense``."""
        if not all_exact(layer, output):
            return None
        scale = scalar_dense.scale_words(layer.multiplier, layer.shift, layer.zero_point)
        return FittedDense(LONG, lambda channels: scalar_dense.dense(channels, output), layer.bias, scale)

    def spread_words(self, steps: int, width: int) -> int:
        """See ``ScalarProduct.spread_words``."""
        return scalar_gemm.spread_words(steps, width)


class ShortProduct:
    """See `scalar_gemm_short`."""

    pixels, width, narrow = scalar_gemm_short.PIXELS, 1, True

    def fit(self, layer: Channels, output: Output) -> Fitted | None:
        """See ``ScalarProduct.fit``."""
        fitted = _short(layer, output)
        if fitted is None or not scalar_gemm.fits(layer.weight):
            return None
        short_output, words = fitted
        return Fitted(
            short_output.form,
            lambda steps, _width: scalar_gemm_short.gemm(steps, short_output),
            lambda c, _width: scalar_gemm_short.pack(layer.weight[c], words[c]),
        )

    def fit_dense(self, layer: Channels, output: Output) -> FittedDense | None:
        """See ``ScalarProduct.fit_dense``."""
        fitted = _short(layer, output)
        if fitted is None:
            return None
        short_output, words = fitted
        kernel = functools.partial(scalar_dense_short.dense, output=short_output)
        return FittedDense(short_output.form, kernel, words[:, -1], words[:, :-1])

    def spread_words(self, steps: int, width: int) -> int:
        """See ``ScalarProduct.spread_words``."""
        assert width == 1
        return scalar_gemm_short.spread_words(steps)


def _short(layer: Channels, output: Output) -> tuple[ShortOutput, Ints] | None:
    scale = (layer.bias, layer.multiplier, layer.shift, layer.zero_point)
    return scalar_output_short.fit(layer.weight, *scale, output.low, output.high)
