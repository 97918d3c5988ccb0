"""The same problem in numbers: buffers 0, 1, ..., sizes and offsets in units of the alignment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from tvm_tinyml.passes.plan_memory.lifetime import BufferKey, Distances, Lifetime, distance


class Neighbour(NamedTuple):
    """What another buffer asks of one: to start at least `above` after its start, or at least `below` before it."""

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
    neighbours : of each buffer those that live at the same time and may not lie just anywhere.
    """

    sizes: tuple[int, ...]
    lives: tuple[tuple[int, int], ...]
    neighbours: tuple[tuple[Neighbour, ...], ...]

    @cached_property
    def cliques(self) -> list[list[int]]:
        """The largest sets of buffers alive at one step: every other step's are a part of one of these."""
        sets: list[set[int]] = []
        for step in sorted({first for first, _ in self.lives}):
            alive = {i for i, (first, last) in enumerate(self.lives) if first <= step <= last}
            if sets and sets[-1] <= alive:
                sets.pop()
            sets.append(alive)
        return [sorted(alive) for alive in sets]

    def height(self, offsets: Sequence[int]) -> int:
        """Return the units that a plan takes."""
        return max((offset + size for offset, size in zip(offsets, self.sizes, strict=True)), default=0)


def problem_of(
    lifetimes: Mapping[BufferKey, Lifetime], alignment_bytes: int, distances: Distances[BufferKey]
) -> Problem:
    """Return the problem of the buffers in the order of `lifetimes`."""
    keys, lives = list(lifetimes), list(lifetimes.values())

    def units(size_bytes: int) -> int:
        return -(-size_bytes // alignment_bytes)

    def apart(upper: int, lower: int) -> int:
        return units(distance(lifetimes, distances, keys[upper], keys[lower]))

    near = [[j for j, life in enumerate(lives) if j != i and life.overlaps(lives[i])] for i in range(len(keys))]
    neighbours = [[Neighbour(j, apart(i, j), apart(j, i)) for j in others] for i, others in enumerate(near)]
    return Problem(
        sizes=tuple(units(life.size_bytes) for life in lives),
        lives=tuple((life.first, life.last) for life in lives),
        neighbours=tuple(tuple(n for n in others if n.above or n.below) for others in neighbours),
    )
