"""The same problem in numbers: buffers 0, 1, ..., sizes and offsets in units of the alignment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from tvm_tinyml.passes.plan_memory.lifetime import BufferKey, Distances, Lifetime, distance


class Neighbour(NamedTuple):
    """A buffer that lives at the same time as another: that one lies `above` or more above it, or `below` below."""

    buffer: int
    above: int
    below: int


@dataclass(frozen=True)
class Problem:
    """Buffers to place.

    Attributes
    ----------
    sizes : units of each buffer.
    lives : the first and the last step of each.
    neighbours : of each buffer those that live at the same time.
    """

    sizes: Sequence[int]
    lives: Sequence[tuple[int, int]]
    neighbours: Sequence[Sequence[Neighbour]]

    @cached_property
    def cliques(self) -> list[list[int]]:
        """The buffers alive at each step that brings a new one; at any other step only some of those are."""
        steps = sorted({first for first, _ in self.lives})
        return [[i for i, (first, last) in enumerate(self.lives) if first <= step <= last] for step in steps]

    def top(self, offsets: Mapping[int, int]) -> int:
        """Return the units that a plan takes."""
        return max((offset + self.sizes[i] for i, offset in offsets.items()), default=0)

    def gaps(self, buffer: int, offsets: Mapping[int, int]) -> list[tuple[int, int | None]]:
        """Return the lowest and the highest offset of each gap that `buffer` fits between those placed.

        Ascending; the last gap is open upwards: None.
        """
        taken = []
        for other, above, below in self.neighbours[buffer]:
            offset = offsets.get(other)
            if offset is not None:
                taken.append((offset - below, offset + above))  # both ends are free
        taken.sort()
        free, found = 0, []
        for start, end in taken:
            if start >= free:
                found.append((free, start))
            free = max(free, end)
        return [*found, (free, None)]


def problem_of(
    lifetimes: Mapping[BufferKey, Lifetime], alignment_bytes: int, distances: Distances[BufferKey]
) -> Problem:
    """Return the problem of the buffers in the order of `lifetimes`."""

    def units(size_bytes: int) -> int:
        return -(-size_bytes // alignment_bytes)

    keys = list(lifetimes)

    def neighbours(i: int) -> list[Neighbour]:
        return [
            Neighbour(
                j,
                units(distance(lifetimes, distances, keys[i], keys[j])),
                units(distance(lifetimes, distances, keys[j], keys[i])),
            )
            for j in range(len(keys))
            if j != i and lifetimes[keys[i]].overlaps(lifetimes[keys[j]])
        ]

    return Problem(
        sizes=[units(life.size_bytes) for life in lifetimes.values()],
        lives=[(life.first, life.last) for life in lifetimes.values()],
        neighbours=[neighbours(i) for i in range(len(keys))],
    )
