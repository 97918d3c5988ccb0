"""The two ways of multiplying packed words, for cores with SMULL and for the Armv6-M, as one interface for recipes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from tvm_tinyml.targets.cortex_m.microkernels import scalar_gemm, scalar_gemm_short, scalar_output_short
from tvm_tinyml.targets.cortex_m.microkernels.microkernel import Microkernel
from tvm_tinyml.targets.cortex_m.microkernels.output import Output
from tvm_tinyml.targets.cortex_m.recipes.channels import Channels, all_exact


@dataclass(frozen=True)
class Fitted:
    """A product for the channels of a layer.

    Attributes
    ----------
    multiply : from steps, and how many channels at a time, to the kernel.
    constants : from channels and how many of them at a time to what the kernel reads, a row each time.
    """

    multiply: Callable[[int, int], Microkernel]
    constants: Callable[[slice, int], NDArray[np.int32]]


class ScalarProduct(Protocol):
    """A matrix product of words with two values each.

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

        return Fitted(lambda steps, width: scalar_gemm.gemm(steps, output, width), constants)

    def spread_words(self, steps: int, width: int) -> int:
        """See ``ScalarProduct.spread_words``."""
        return scalar_gemm.spread_words(steps, width)


class ShortProduct:
    """See `scalar_gemm_short`."""

    pixels, width, narrow = scalar_gemm_short.PIXELS, 1, True

    def fit(self, layer: Channels, output: Output) -> Fitted | None:
        """See ``ScalarProduct.fit``."""
        scale = (layer.bias, layer.multiplier, layer.shift, layer.zero_point)
        fitted = scalar_output_short.fit(layer.weight, *scale, output.low, output.high)
        if fitted is None or not scalar_gemm.fits(layer.weight):
            return None
        short_output, words = fitted
        return Fitted(
            lambda steps, _width: scalar_gemm_short.gemm(steps, short_output),
            lambda c, _width: scalar_gemm_short.pack(layer.weight[c], words[c]),
        )

    def spread_words(self, steps: int, width: int) -> int:
        """See ``ScalarProduct.spread_words``."""
        assert width == 1
        return scalar_gemm_short.spread_words(steps)
