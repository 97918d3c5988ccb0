"""Winograd's F(4x4, 3x3) in integers: the matrices, the bounds, and the order of everything in memory.

A tile of 4 x 4 outputs needs 36 products for each pair of an input and an output channel; the plain sum needs 144. With
the points 0, 1, -1, 2, -2 and infinity, and every denominator moved to the end,

    products = (FILTER w FILTER^T) * (INPUT d INPUT^T)            for each of 36 frequencies, summed over input channels
    OUTPUT products OUTPUT^T = SCALE * y                          for each of 16 outputs

where SCALE = 9 * 2**k. All of it is linear and true modulo 2**32, so sums may wrap as long as the last one fits: it is
divided by 9, which is a multiplication with the inverse of 9, and stands there as 2**k * y with k of 2 to 6. So sums y,
bias included, stay below 2**25.

Both sides of the products are int16. Filters: at most 49 * 128. Inputs count as x + 128, from 0 to 255, which only
frequency (1, 1) can tell from x; the bias takes it back (it comes in at that frequency, too: 36 times a constant there
is that constant in every output). At most 50 * 255 below 0 and 68 * 255 above.

Two channels are transformed at once, in the halves of a word, by plain 32-bit additions: where the low half is negative
it borrows from the high one. It is never negative if the pixels of the lower right corner of the patch, two by two,
count `CORNER` more in it: that adds `CORNER` to all 36 frequencies. In the outputs it adds the filter's taps that reach
the corner, in the last four of the 16; the epilogue takes them back.

Source of the algorithm: Lavin and Gray, Fast Algorithms for Convolutional Neural Networks, CVPR 2016.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tvm_tinyml.targets.cortex_m.microkernels.output import Ints

TILE, PATCH, TAPS = 4, 6, 9
"""Outputs and inputs along a side of a tile, and weights of a filter."""

FREQUENCIES = PATCH * PATCH

TILES, CHANNELS = 4, 2
"""Tiles and output channels that are multiplied at once."""

STEP = 4
"""Input channels come in multiples of it: two words of two."""

LARGEST_SUM = 1 << 25
"""Magnitudes of sums, bias included, stay below it."""

FILTER = np.array([[1, 0, 0], [1, 1, 1], [1, -1, 1], [1, 2, 4], [1, -2, 4], [0, 0, 1]])
INPUT = np.array(
    [
        [4, 0, -5, 0, 1, 0],
        [0, -4, -4, 1, 1, 0],
        [0, 4, -4, -1, 1, 0],
        [0, -2, -1, 2, 1, 0],
        [0, 2, -1, -2, 1, 0],
        [0, 4, 0, -5, 0, 1],
    ]
)
OUTPUT = np.array([[6, -4, -4, 1, 1, 0], [0, -2, 2, 1, -1, 0], [0, -1, -1, 1, 1, 0], [0, -1, 1, 2, -2, 6]])

SHIFTS = (3, 2, 1, 1)
"""A row of `OUTPUT` is 3 * 2**shift too large: output (r, c) 9 * 2**(SHIFTS[r] + SHIFTS[c])."""

INVERSE_OF_9 = 0x38E38E39
"""Modulo 2**32."""

CORNER = 0x3800
"""More than 50 * 255, and 68 * 255 more is still an int16."""

COLUMNS = (0, 5, 1, 2, 3, 4)
"""Frequencies (row, column) are stored column by column in this order: that in which a filter's are made."""

PARAMETERS = 8
"""Words of an output channel: the bias at frequency (1, 1), what to add to the last four outputs, multiplier, rounding
constant, shift."""


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


def pack_parameters(weight: Ints, bias: Ints, multiplier: Ints, constant: Ints, shift: Ints) -> NDArray[np.int32]:
    """Return the words of each output channel, [O, PARAMETERS].

    Parameters
    ----------
    weight : [O, K, TAPS] in the order of the products.
    bias : [O], the sum for an input of zeros.
    constant : [O], of the rounding.
    """
    taps = weight.reshape(len(weight), -1, 2, 3, 3)
    low = taps[:, :, 0].sum(axis=1)  # the halves that the corner is added to
    corner = np.zeros((PATCH, PATCH), np.int64)
    corner[TILE:, TILE:] = CORNER
    added = [
        -(low * corner[r : r + 3, c : c + 3]).sum(axis=(1, 2)) << SHIFTS[r] + SHIFTS[c] for r in (2, 3) for c in (2, 3)
    ]
    start = 36 * (bias - 128 * taps.sum(axis=(1, 2, 3, 4)))
    words = np.stack([start, *added, multiplier, constant, shift], axis=1)
    return np.ascontiguousarray((words & 0xFFFF_FFFF).astype(np.uint32).view(np.int32))
