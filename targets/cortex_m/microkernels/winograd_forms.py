"""The forms of Winograd convolution that kernels are made of: F(4x4, 3x3) and F(2x2, 3x3)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from tvm_tinyml.targets.cortex_m.microkernels.straight_line import StraightLine, Value
from tvm_tinyml.targets.cortex_m.microkernels.winograd import Algorithm


class _F4(Algorithm):
    """Tiles of 4 x 4 with the points 0, infinity, 1, -1, 2 and -2: a quarter of the products.

    Outputs are 9 * 2**k too large, k from 2 to 6. Transformed filters are at most 49 * 128, inputs 50 * 255 below 0 and
    68 * 255 above.
    """

    tile = 4
    filter = np.array([[1, 0, 0], [0, 0, 1], [1, 1, 1], [1, -1, 1], [1, 2, 4], [1, -2, 4]])
    input = np.array(
        [
            [4, 0, -5, 0, 1, 0],
            [0, 4, 0, -5, 0, 1],
            [0, -4, -4, 1, 1, 0],
            [0, 4, -4, -1, 1, 0],
            [0, -2, -1, 2, 1, 0],
            [0, 2, -1, -2, 1, 0],
        ]
    )
    output = np.array([[6, 0, -4, -4, 1, 1], [0, 0, -2, 2, 1, -1], [0, 0, -1, -1, 1, 1], [0, 6, -1, 1, 2, -2]])
    shifts = (3, 2, 1, 1)
    inverse = 0x38E38E39

    def transform_filter(self, code: StraightLine, x: Value, y: Value, z: Value) -> Iterator[Value]:
        """Nine additions."""
        yield x
        yield z
        near = code("sadd16 {}, {}, {}", x, z)
        double = code("sadd16 {}, {}, {}", z, z)
        far = code("sadd16 {}, {}, {}", code("sadd16 {}, {}, {}", double, double), x)
        yield code("sadd16 {}, {}, {}", near, y)
        yield code("ssub16 {}, {}, {}", near, y)
        twice = code("sadd16 {}, {}, {}", y, y)
        yield code("sadd16 {}, {}, {}", far, twice)
        yield code("ssub16 {}, {}, {}", far, twice)

    def transform_even(self, code: StraightLine, pixels: Sequence[Value]) -> tuple[Value, Sequence[Value]]:
        """Four of twelve additions."""
        d0, d2, d4 = pixels
        c, a = code("sub {}, {}, {}", d4, d2), code("sub {}, {}, {}, lsl #2", d4, d2)
        return code("add {}, {}, {}, lsl #2", c, code("sub {}, {}, {}", d0, d2)), (a, c)

    def transform_odd(self, code: StraightLine, pixels: Sequence[Value], kept: Sequence[Value]) -> Iterator[Value]:
        """Eight of twelve additions."""
        (d1, d3, d5), (a, c) = pixels, kept
        e, b = code("sub {}, {}, {}", d3, d1), code("sub {}, {}, {}, lsl #2", d3, d1)
        yield code("sub {}, {}, {}, lsl #2", code("sub {}, {}, {}", d5, d3), e)
        yield code("add {}, {}, {}", a, b)
        yield code("sub {}, {}, {}", a, b)
        yield code("add {}, {}, {}, lsl #1", c, e)
        yield code("sub {}, {}, {}, lsl #1", c, e)

    def transform_sums(self, code: StraightLine, sums: Sequence[Value]) -> list[Value]:
        """Ten instructions."""
        m0, m5, m1, m2, m3, m4 = sums
        p, q = code("add {}, {}, {}", m1, m2), code("sub {}, {}, {}", m2, m1)
        r, t = code("add {}, {}, {}", m3, m4), code("sub {}, {}, {}", m3, m4)
        y0 = code("mla {}, {}, r2, {}", m0, code("sub {}, {}, {}, lsl #2", r, p))
        y2 = code("sub {}, {}, {}", r, p)
        y1 = code("add {}, {}, {}, lsl #1", t, q)
        y3 = code("mla {}, {}, r2, {}", m5, code("add {}, {}, {}, lsl #1", q, t))
        return [y0, y1, y2, y3]


class _F2(Algorithm):
    """Tiles of 2 x 2 with the points 0, infinity, 1 and -1: four ninths of the products, less than half of the scratch.

    Outputs are 4 times too large. Transformed filters are at most 9 * 128, inputs 2 * 255 below 0 and 4 * 255 above.
    """

    tile = 2
    filter = np.array([[2, 0, 0], [0, 0, 2], [1, 1, 1], [1, -1, 1]])
    input = np.array([[-1, 0, 1, 0], [0, -1, 0, 1], [0, 1, 1, 0], [0, -1, 1, 0]])
    output = np.array([[-1, 0, 1, 1], [0, 1, 1, -1]])
    shifts = (1, 1)
    inverse = None

    def transform_filter(self, code: StraightLine, x: Value, y: Value, z: Value) -> Iterator[Value]:
        """Five additions."""
        total = code("sadd16 {}, {}, {}", x, z)
        yield code("sadd16 {}, {}, {}", x, x)
        yield code("sadd16 {}, {}, {}", z, z)
        yield code("sadd16 {}, {}, {}", total, y)
        yield code("ssub16 {}, {}, {}", total, y)

    def transform_even(self, code: StraightLine, pixels: Sequence[Value]) -> tuple[Value, Sequence[Value]]:
        """One of four additions."""
        d0, d2 = pixels
        return code("sub {}, {}, {}", d2, d0), (d2,)

    def transform_odd(self, code: StraightLine, pixels: Sequence[Value], kept: Sequence[Value]) -> Iterator[Value]:
        """Three of four additions."""
        (d1, d3), (d2,) = pixels, kept
        yield code("sub {}, {}, {}", d3, d1)
        yield code("add {}, {}, {}", d1, d2)
        yield code("sub {}, {}, {}", d2, d1)

    def transform_sums(self, code: StraightLine, sums: Sequence[Value]) -> list[Value]:
        """Four additions."""
        m0, m3, m1, m2 = sums
        y0 = code("sub {}, {}, {}", code("add {}, {}, {}", m1, m2), m0)
        return [y0, code("add {}, {}, {}", code("sub {}, {}, {}", m1, m2), m3)]


F2, F4 = _F2(), _F4()
