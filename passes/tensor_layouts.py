"""Layouts of tensors between two kernels, beside NHWC: the producer stores what its one reader loads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass
from typing import ClassVar, TypeAlias

from tvm_tinyml.passes.integer_ops import Attributes

NHWC = "NHWC"
"""Name of the layout that all tensors have that have none of their own."""

INPUT_LAYOUT, OUTPUT_LAYOUT = "input_layout", "output_layout"
"""Attributes by which a kernel is asked to read its first argument so, or to write its result so."""


@dataclass(frozen=True)
class Planes:
    """Channel after channel, each an image of bytes whose rows follow each other: no border at their sides.

    Attributes
    ----------
    height, width, channels : of the tensor.
    top, bottom : rows of border above and below each channel. They are a part of the tensor: who writes it fills them.
    left : bytes in front of all. A window that begins a pixel to the left of the first row may be loaded.
    border : value of the border.
    """

    height: int
    width: int
    channels: int
    top: int
    bottom: int
    left: int
    border: int

    @property
    def name(self) -> str:
        """What people call it."""
        return "planes"

    @property
    def plane_bytes(self) -> int:
        """From a channel to the next."""
        return (self.top + self.height + self.bottom) * self.width

    @property
    def first(self) -> int:
        """Where the first pixel of the first channel lies, in bytes."""
        return self.left + self.top * self.width

    @property
    def size_bytes(self) -> int:
        """Of the tensor, with a row and a word behind it that may be loaded for nothing."""
        return self.channels * self.plane_bytes + self.width + 4


@dataclass(frozen=True)
class Tiles:
    """Tiles of four pixels as matrix products multiply them: of bytes for `gemm`, of halves of words for `gemm_halves`.

    A tile has eight values of each two products. Product ``2 m`` is channel ``m``, product ``2 m + 1`` channel
    ``m + half``: so channels of a half are eight values apart. Bytes are in pairs of pixels, the first one with its
    sign flipped, halves of words in pairs of products. With an odd number of channels the last product is none.

    Attributes
    ----------
    height, width, channels : of the tensor; a row is whole tiles.
    value_bytes : 1, or 2 for halves of words.
    """

    height: int
    width: int
    channels: int
    value_bytes: int

    PIXELS: ClassVar[int] = 4
    SECOND: ClassVar[int] = 2
    """From the first product of two to the second, in bytes."""

    @property
    def name(self) -> str:
        """See `Planes.name`."""
        return "tiles" if self.value_bytes == 1 else "tiles of halves"

    @property
    def channel_step(self) -> int:
        """From a channel to the next of its half, in bytes."""
        return 8 * self.value_bytes

    @property
    def half(self) -> int:
        """Channels that are the first product of a pair; at most one less are the second."""
        return -(-self.channels // 2)

    @property
    def products(self) -> int:
        """Of a pixel."""
        return 2 * self.half

    @property
    def order(self) -> list[int]:
        """For each product its channel, or -1."""
        channels = (m + self.half * second for m in range(self.half) for second in range(2))
        return [channel if channel < self.channels else -1 for channel in channels]

    @property
    def row_bytes(self) -> int:
        """From a row of pixels to the next."""
        return self.width * self.products * self.value_bytes

    @property
    def column_steps(self) -> tuple[int, int, int]:
        """Bytes from a pixel to the next: within a pair, to the second pair of a tile, and to the next tile."""
        tile = self.PIXELS * self.products * self.value_bytes
        return (1, 3, tile - 5) if self.value_bytes == 1 else (4, 4, tile - 12)

    @property
    def end(self) -> int:
        """Behind the last tile, in bytes."""
        return self.height * self.row_bytes

    @property
    def size_bytes(self) -> int:
        """Of the tensor, with two words behind halves that may be loaded for nothing."""
        return self.end + (8 if self.value_bytes == 2 else 0)


Layout: TypeAlias = Planes | Tiles

_KINDS: tuple[type[Planes] | type[Tiles], ...] = (Planes, Tiles)


def encoded(layout: Layout) -> list[int]:
    """Return a layout as integers, for an attribute of an operator."""
    return [_KINDS.index(type(layout)), *astuple(layout)]


def decoded(numbers: Sequence[int]) -> Layout:
    """Return the layout that was `encoded`."""
    kind, *fields = numbers
    return _KINDS[kind](*fields)


def input_layout(attributes: Attributes) -> Layout | None:
    """Return how a kernel is asked to read its first argument; None: NHWC."""
    layout: Layout | None = attributes.get(INPUT_LAYOUT)
    return layout


def output_layout(attributes: Attributes) -> Layout | None:
    """Return how a kernel is asked to write its result; None: NHWC."""
    layout: Layout | None = attributes.get(OUTPUT_LAYOUT)
    return layout
