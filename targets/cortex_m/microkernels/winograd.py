"""Winograd convolution by 3x3 filters, exact in integers: what all its forms share.

A tile of outputs needs one product for each pixel of its patch, for each pair of an input and an output channel: in
F(4x4) 36 where the plain sum needs 144, in F(2x2) 16 for 36. With every denominator moved to the end,

    products = (FILTER w FILTER^T) * (INPUT d INPUT^T)            for each frequency, summed over input channels
    OUTPUT products OUTPUT^T = SCALE * y                          for each output

All of it is linear and true modulo 2**32, so sums may wrap as long as the last one fits. SCALE is a power of two and
perhaps an odd factor, which a multiplication with its inverse takes out.

Both sides of the products are int16. Inputs count as x + 128, from 0 to 255, which only the frequency of the point 1
can tell from x, as the other rows of INPUT have the sum 0. The bias takes it back; it comes in at that frequency as
well, where a constant means the same constant in every output.

Two channels are transformed at once, in the halves of a word, by plain 32-bit additions: where the low half is negative
it borrows from the high one. It is never negative if the last two by two pixels of the patch count `CORNER` more in it:
that adds `CORNER` to each frequency. In the outputs it adds the filter's taps that reach the corner, in the last two by
two; the epilogue takes them back.

Source of the algorithms: Lavin and Gray, Fast Algorithms for Convolutional Neural Networks, CVPR 2016.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from tvm_tinyml.targets.cortex_m.microkernels.output import Ints
from tvm_tinyml.targets.cortex_m.microkernels.straight_line import StraightLine, Value

TAPS = 9
"""Weights of a filter."""

TILES, CHANNELS = 4, 2
"""Tiles and output channels that are multiplied at once."""

STEP = 4
"""Input channels come in multiples of it: two words of two."""

CORNER = 0x3800
"""For any form: more than 50 * 255, below which no transformed input lies, and 68 * 255 more is still an int16."""

PARAMETERS = 8
"""Words of an output channel: the bias at the frequency of a constant, what to add to the last four outputs,
multiplier, rounding constant, shift."""

CONSTANT = 2
"""Position of the point 1 among the points: the row of INPUT whose sum is not 0."""


class Algorithm(ABC):
    """One form: its matrices, and the same as additions.

    Rows of FILTER and INPUT, and columns of OUTPUT, belong to points, in the order 0, infinity, 1, -1, and so on.
    Frequency (row, column) is number ``patch * column + row``.

    Attributes
    ----------
    tile : outputs along a side.
    filter, input, output : the matrices.
    shifts : an output is 2**(shifts[row] + shifts[column]) too large, after the odd factor is taken out.
    inverse : of the odd factor, modulo 2**32; None if there is none.
    """

    tile: int
    filter: Ints
    input: Ints
    output: Ints
    shifts: tuple[int, ...]
    inverse: int | None

    @property
    def patch(self) -> int:
        """Inputs along a side."""
        return self.tile + 2

    @property
    def frequencies(self) -> int:
        """Products of a tile for each pair of channels."""
        return self.patch**2

    @property
    def largest_sum(self) -> int:
        """Magnitudes of sums, bias included, stay below it."""
        return 1 << 31 - 2 * max(self.shifts)

    @abstractmethod
    def transform_filter(self, code: StraightLine, x: Value, y: Value, z: Value) -> Iterator[Value]:
        """Yield the rows of FILTER times three words of two int16 each, in order."""

    @abstractmethod
    def transform_even(self, code: StraightLine, pixels: Sequence[Value]) -> tuple[Value, Sequence[Value]]:
        """Return the first row of INPUT times pixels 0, 2 and so on, and what `transform_odd` needs of them."""

    @abstractmethod
    def transform_odd(self, code: StraightLine, pixels: Sequence[Value], kept: Sequence[Value]) -> Iterator[Value]:
        """Yield the other rows of INPUT times all pixels, in order."""

    @abstractmethod
    def transform_sums(self, code: StraightLine, sums: Sequence[Value]) -> list[Value]:
        """Return OUTPUT times sums; r2 holds 6."""


def c_matrix(matrix: Ints) -> str:
    """Return the rows of a matrix as an initializer in C, without the outer braces.

    >>> c_matrix(np.array([[1, 2], [3, 4]]))
    '{1, 2}, {3, 4}'
    """
    return ", ".join(f"{{{', '.join(map(str, row))}}}" for row in matrix.tolist())


def channel_order(channels: int) -> NDArray[np.int64]:
    """Return which input channel each product takes, [K]; -1 for a zero weight.

    Channels are read four at a time; where that leaves some, the last four begin before the end of the ones in front.
    The words of four are (0, 2) and (1, 3).
    """
    starts = [min(first, channels - STEP) for first in range(0, channels, STEP)]
    order = [
        start + i if start + i >= first else -1
        for first, start in zip(range(0, channels, STEP), starts, strict=True)
        for i in (0, 2, 1, 3)
    ]
    return np.array(order)


def pack_filters(weight: Ints) -> NDArray[np.int8]:
    """Return filters as `winograd_filter` reads them, [O, K * TAPS].

    For each two products, which make a word, the taps of both: tap 0 of the first, tap 1 of the first, tap 0 of the
    second, tap 1 of the second, and so on; tap 8 of the first, tap 8 of the second.

    Parameters
    ----------
    weight : [O, K, TAPS]; K even.
    """
    channels, k, _ = weight.shape
    words = weight.reshape(channels, k // 2, 2, TAPS)
    pairs = words[..., :8].reshape(channels, k // 2, 2, 4, 2).transpose(0, 1, 3, 2, 4)
    packed = np.concatenate([pairs.reshape(channels, k // 2, 16), words[..., 8]], axis=2)
    return np.ascontiguousarray(packed.reshape(channels, -1).astype(np.int8))


def pack_parameters(
    algorithm: Algorithm, weight: Ints, bias: Ints, multiplier: Ints, constant: Ints, shift: Ints
) -> NDArray[np.int32]:
    """Return the words of each output channel, [O, PARAMETERS].

    Parameters
    ----------
    weight : [O, K, TAPS] in the order of the products.
    bias : [O], the sum for an input of zeros.
    constant : [O], of the rounding.
    """
    taps = weight.reshape(len(weight), -1, 2, 3, 3)
    low = taps[:, :, 0].sum(axis=1)  # the halves that the corner is added to
    corner, shifts = np.zeros((algorithm.patch, algorithm.patch), np.int64), algorithm.shifts
    corner[-2:, -2:] = CORNER
    last = range(algorithm.tile - 2, algorithm.tile)
    added = [
        -(low * corner[r : r + 3, c : c + 3]).sum(axis=(1, 2)) << shifts[r] + shifts[c] for r in last for c in last
    ]
    start = algorithm.input[CONSTANT].sum() ** 2 * (bias - 128 * taps.sum(axis=(1, 2, 3, 4)))
    words = np.stack([start, *added, multiplier, constant, shift], axis=1)
    return np.ascontiguousarray((words & 0xFFFF_FFFF).astype(np.uint32).view(np.int32))
