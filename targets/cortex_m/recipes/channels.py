"""The output channels of a layer with weights: which microkernel may take which, channel by channel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from tvm import relax

from tvm_tinyml import arithmetic
from tvm_tinyml.passes.integer_ops import Attributes
from tvm_tinyml.passes.kernels.kernel import constant
from tvm_tinyml.passes.kernels.sums import largest_sums, sum_bounds
from tvm_tinyml.targets.cortex_m.microkernels.output import Ints, Output, exact
from tvm_tinyml.targets.cortex_m.microkernels.product import Layer, Product, RawHalves
from tvm_tinyml.targets.cortex_m.microkernels.scaled_output import ScaledOutput

RAW = RawHalves()

INT32 = np.iinfo(np.int32)


@dataclass(frozen=True)
class Channels:
    """Constants of each output channel.

    Attributes
    ----------
    weight : [O, K] in the order of a microkernel's activations.
    bias : [O], the input's offset included.
    multiplier, shift : [O]; Q0.31, and to the right.
    zero_point : [O], of the output.
    largest : [O], magnitude of the sums at most.
    """

    weight: Ints
    bias: Ints
    multiplier: Ints
    shift: Ints
    zero_point: Ints
    largest: Ints

    @classmethod
    def of(
        cls, arguments: Sequence[relax.Expr], attributes: Attributes, order: NDArray[np.int64], output: Output
    ) -> Channels:
        """Return the channels of a convolution or dense layer.

        A channel of zero weights is the same number everywhere, and so is one with next to no scale, or whose sums all
        end at one bound of the clamp. It becomes zeros with that number as zero point, which every microkernel computes
        exactly, whatever weights, bias and scale the model has for it.

        Parameters
        ----------
        order : which weight each product takes; -1 for none.
        """
        stored, bias, multiplier, shift = (constant(a).astype(np.int64) for a in arguments[1:5])
        flat = stored.reshape(len(stored), -1)
        zero_point = np.full(len(flat), attributes["output_zero_point"], np.int64)
        # Outputs rise with the sums: where the least and the largest give the same, all do.
        sums = sum_bounds(flat, bias)
        least, most = (
            np.clip(
                arithmetic.multiply_by_quantized_multiplier(total, multiplier, shift) + zero_point,
                *(output.low, output.high),
            )
            for total in sums
        )
        fixed = (least == most) & (sums[0] >= INT32.min) & (sums[1] <= INT32.max)
        zero_point = np.where(fixed, least, zero_point).astype(np.int64)
        flat[fixed] = bias[fixed] = multiplier[fixed] = shift[fixed] = 0
        padded = np.concatenate([flat, np.zeros((len(flat), 1), np.int64)], axis=1)
        return cls(padded[:, order], bias, multiplier, -shift, zero_point, largest_sums(flat, bias))

    def part(self, c: slice = slice(None)) -> Layer:
        """Return what a product keeps of some channels."""
        return self.weight[c], self.bias[c], self.multiplier[c], self.shift[c], self.zero_point[c]


@dataclass(frozen=True)
class Part:
    """Channels next to each other that one call computes.

    pairs : two at a time; ``start`` and ``stop`` are channels in either case.
    """

    group: int
    start: int
    stop: int
    pairs: bool

    @property
    def count(self) -> int:
        """Pairs or single channels."""
        return (self.stop - self.start) // self.width

    @property
    def width(self) -> int:
        """Channels at a time."""
        return 2 if self.pairs else 1

    def of(self, layer: Channels) -> Layer:
        """Return what a product keeps of its channels."""
        return layer.part(slice(self.start, self.stop))


def exact_channels(layer: Channels, output: Output) -> NDArray[np.bool_]:
    """Return for which channels the epilogue is exact."""
    return np.asarray(exact(layer.shift, layer.largest, output) | (layer.multiplier == 0))


def all_exact(layer: Channels, output: Output) -> bool:
    """Return whether the epilogue is exact for every channel."""
    return bool(exact_channels(layer, output).all())


def split(
    layer: Channels, output: Output, group_size: int, product: Product, *, shared: bool = False
) -> list[Part] | None:
    """Return the parts of all channels in order, or None if a channel fits no microkernel.

    Parameters
    ----------
    shared : a last channel without a partner is computed with the one before it, again: it takes a half longer than
        alone, and no function for channels alone is needed.
    """
    if not all_exact(layer, output):
        return None
    parts: list[Part] = []
    count = len(layer.bias)
    for group, first in enumerate(range(0, count, group_size)):
        channel = first
        while channel < first + group_size:
            pairs = channel + 1 < first + group_size and is_pair(layer, channel, product)
            stop = channel + (2 if pairs else 1)
            last = shared and not pairs and stop == first + group_size and channel > first
            if last and is_pair(layer, channel - 1, product):
                parts.append(Part(group, channel - 1, stop, pairs=True))
                break
            if parts and parts[-1].pairs == pairs and parts[-1].group == group:
                parts[-1] = Part(group, parts[-1].start, stop, pairs)
            else:
                parts.append(Part(group, channel, stop, pairs))
            channel = stop
    return parts


def is_pair(layer: Channels, even: int, product: Product = RAW) -> bool:
    """Return whether a product takes a channel and the next one together."""
    return product.is_pair(layer.weight[even], layer.weight[even + 1], int(layer.largest[even + 1]))


def product_constants(
    product: Product, epilogue: Output | ScaledOutput, part: Part, layer: Channels, step: int
) -> NDArray[np.int32]:
    """Return the constants of a product's kernel for a part of a layer: see `Product.constants`."""
    scales = product.scales(epilogue, part.of(layer))
    assert scales is not None, "an epilogue that the layer does not allow"
    return product.constants(scales, epilogue, step, part.width)
