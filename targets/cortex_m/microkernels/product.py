"""The two ways of multiplying packed pixels with packed weights, as one interface for recipes."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from tvm_tinyml.targets.cortex_m.microkernels import gemm, gemm_halves
from tvm_tinyml.targets.cortex_m.microkernels.microkernel import Microkernel
from tvm_tinyml.targets.cortex_m.microkernels.output import Ints, Output
from tvm_tinyml.targets.cortex_m.microkernels.pack import Window, pack_pixels, pack_window
from tvm_tinyml.targets.cortex_m.microkernels.places import Places
from tvm_tinyml.targets.cortex_m.microkernels.scaled_output import (
    ScaledOutput,
    Scales,
    common_output,
    doubled,
    raised,
    scaled,
    unscaled,
)

HALF = np.iinfo(np.int16)

Layer = tuple[Ints, Ints, Ints, Ints, Ints]
"""Of some channels weights, biases, multipliers, shifts to the right and zero points."""


class Product(Protocol):
    """A matrix product with its packing.

    Attributes
    ----------
    value_bytes : what a packed activation, or weight of a channel, takes.
    beyond_words : words that may be loaded behind weights and activations.
    copies : the kernel takes room for the weights of a pair, or null: see `gemm.gemm_pairs`.
    shares : there is code for any number of products.
    layout : of packed activations, in words.
    """

    value_bytes: int
    beyond_words: int
    copies: bool
    shares: bool
    layout: str

    def fits(self, steps: int, places: Places) -> bool:
        """Return whether the kernels take sums of so many steps, and outputs that lie so."""

    def pack(self, window: Window) -> Microkernel:
        """Return the kernel that packs a tile of four pixels."""

    def pack_pixels(self) -> Microkernel:
        """Return the kernel that packs many tiles of pixels that lie one behind the other."""

    def scales(self, output: Output | ScaledOutput, layer: Layer) -> Scales | None:
        """Return the constants of channels as their kernel wants them, or None if they do not allow the epilogue."""

    def multiply(
        self, steps: int, places: Places, output: Output | ScaledOutput, width: int, shared: bool
    ) -> Microkernel:
        """Return the kernel for ``width`` channels at a time, 1 or 2; ``shared`` wants few bytes of code."""

    def constants(self, scales: Scales, output: Output | ScaledOutput, step: int, width: int) -> NDArray[np.int32]:
        """Return the kernel's constants for some channels, [words].

        Parameters
        ----------
        step : of the output's `Places`.
        """

    def is_pair(self, even: Ints, odd: Ints, largest_odd: int) -> bool:
        """Return whether two channels with these weights may go together; the sums of the second are so large."""


class RawHalves:
    """Two int8 values in each half of a word: see `gemm`. For cores that issue one instruction at a time."""

    value_bytes, beyond_words, copies, shares = 1, 0, True, True
    layout = "pairs of pixels in each half of a word"

    def fits(self, steps: int, places: Places) -> bool:
        """See ``Product.fits``."""
        return gemm.fits(steps, places.pixel_step)

    def pack(self, window: Window) -> Microkernel:
        """See ``Product.pack``."""
        return pack_window(window)

    def pack_pixels(self) -> Microkernel:
        """See ``Product.pack_pixels``."""
        return pack_pixels()

    def scales(self, output: Output | ScaledOutput, layer: Layer) -> Scales | None:
        """See ``Product.scales``: the kernel doubles or scales sums."""
        return raised(output, *layer) if isinstance(output, ScaledOutput) else unscaled(*layer)

    def multiply(
        self, steps: int, places: Places, output: Output | ScaledOutput, width: int, shared: bool
    ) -> Microkernel:
        """See ``Product.multiply``."""
        make = gemm.gemm_pairs if width == 2 else gemm.gemm_single
        return make(steps, output, shared=shared, planes=places.planes)

    def constants(self, scales: Scales, output: Output | ScaledOutput, step: int, width: int) -> NDArray[np.int32]:
        """See ``Product.constants``."""
        return (gemm.pack_pairs if width == 2 else gemm.pack_single)(scales, output, step)

    def is_pair(self, even: Ints, odd: Ints, largest_odd: int) -> bool:
        """See ``Product.is_pair``: both fit one half, and the odd sums 24 bits."""
        joined = 256 * odd + even
        fits = bool((joined >= HALF.min).all() and (joined <= HALF.max).all())
        return fits and largest_odd < gemm.LARGEST_ODD_SUM


class WholeHalves:
    """One int16 value in each half: see `gemm_halves`.

    Parameters
    ----------
    mixed : order of instructions for cores that issue two at a time.
    """

    value_bytes, beyond_words, copies, shares = 2, gemm_halves.BEYOND_WORDS, False, False
    layout = "a value in each half of a word"

    def __init__(self, *, mixed: bool) -> None:
        self._mixed = mixed

    def fits(self, steps: int, places: Places) -> bool:
        """See ``Product.fits``."""
        return places.planes or gemm_halves.fits(places.step)

    def pack(self, window: Window) -> Microkernel:
        """See ``Product.pack``."""
        return pack_window(window, halves=True)

    def pack_pixels(self) -> Microkernel:
        """See ``Product.pack_pixels``."""
        return pack_pixels(halves=True)

    def scales(self, output: Output | ScaledOutput, layer: Layer) -> Scales | None:
        """See ``Product.scales``: weights are doubled or scaled."""
        return scaled(output, *layer) if isinstance(output, ScaledOutput) else doubled(*layer)

    def multiply(
        self, steps: int, places: Places, output: Output | ScaledOutput, width: int, shared: bool
    ) -> Microkernel:
        """See ``Product.multiply``."""
        return gemm_halves.gemm_halves(steps, places, output, width, mixed=self._mixed)

    def constants(self, scales: Scales, output: Output | ScaledOutput, step: int, width: int) -> NDArray[np.int32]:
        """See ``Product.constants``."""
        return gemm_halves.pack_halves(scales, width)

    def is_pair(self, even: Ints, odd: Ints, largest_odd: int) -> bool:
        """See ``Product.is_pair``: always."""
        return True


def output_of(product: Product, output: Output, layer: Layer, *, shared: bool) -> Output | ScaledOutput:
    """Return the epilogue with one shift for all channels of a layer where they allow it, else that with their own.

    Parameters
    ----------
    shared : the layer wants code for any number of products; then it is one for any shifts, too.
    """
    if shared and product.shares:
        return output
    found = common_output(output, lambda form: product.scales(form, layer))
    return found[0] if found else output
