"""Offsets for buffers with known lifetimes: no two that live at the same time overlap."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

BufferKey = TypeVar("BufferKey")


@dataclass(frozen=True)
class Lifetime:
    """A buffer's size and the steps, first and last included, during which it holds a value."""

    size_bytes: int
    first: int
    last: int

    def overlaps(self, other: Lifetime) -> bool:
        """Return whether both hold a value during some step."""
        return self.first <= other.last and other.first <= self.last


SEARCH_PLACEMENTS = 4_000
"""Placements that the search tries before it gives up; a network without branches needs hardly more than buffers."""


def plan_offsets(lifetimes: Mapping[BufferKey, Lifetime], alignment_bytes: int) -> tuple[dict[BufferKey, int], int]:
    """Return each buffer's offset and the size of the pool, in bytes.

    First a search for a pool of the size of `liveness_bound`, which nothing can beat; when it finds none in
    `SEARCH_PLACEMENTS` placements, best fit in three orders (size, size times length of life, first use), the smallest
    pool. So never above greedy by size, which is one of the three. Source of the orders: Pisarchyk and Lee, "Efficient
    Memory Management for Deep Neural Net Inference", 2020, section 5.
    """
    bound = liveness_bound(lifetimes, alignment_bytes)
    found = _search(lifetimes, bound, alignment_bytes)
    if found is not None:
        return found, bound
    orders: Sequence[Callable[[Lifetime], tuple[int, int]]] = (
        lambda life: (-life.size_bytes, life.first),
        lambda life: (-life.size_bytes * (life.last - life.first + 1), life.first),
        lambda life: (life.first, -life.size_bytes),
    )
    plans = [_best_fit(lifetimes, sorted(lifetimes, key=lambda k: o(lifetimes[k])), alignment_bytes) for o in orders]
    return min(plans, key=lambda plan: plan[1])


def liveness_bound(lifetimes: Mapping[BufferKey, Lifetime], alignment_bytes: int) -> int:
    """Return the largest sum of buffers alive at one step, in bytes: no plan can be smaller."""
    steps = {life.first for life in lifetimes.values()}
    return max(
        (
            sum(_aligned(l.size_bytes, alignment_bytes) for l in lifetimes.values() if l.first <= step <= l.last)
            for step in steps
        ),
        default=0,
    )


def check_plan(lifetimes: Mapping[BufferKey, Lifetime], offsets: Mapping[BufferKey, int]) -> None:
    """Assert that no two buffers alive at the same time share a byte."""
    placed = sorted(lifetimes, key=lambda key: offsets[key])
    for i, low in enumerate(placed):
        for high in placed[i + 1 :]:
            apart = offsets[low] + lifetimes[low].size_bytes <= offsets[high]
            assert apart or not lifetimes[low].overlaps(lifetimes[high]), f"{low} and {high} overlap"


def _search(
    lifetimes: Mapping[BufferKey, Lifetime], capacity: int, alignment_bytes: int
) -> dict[BufferKey, int] | None:
    """Place buffers in the order of their first use into a pool of `capacity`, going back where one does not fit.

    A buffer is tried against either end of the pool and against either side of those placed before that live at the
    same time: in a chain of layers it then ends up at the opposite end from its neighbours.
    """
    order = sorted(lifetimes, key=lambda key: (lifetimes[key].first, -lifetimes[key].size_bytes))
    sizes = {key: _aligned(lifetimes[key].size_bytes, alignment_bytes) for key in order}
    # Buffers placed before that live at the same time.
    earlier = {key: [k for k in order[:i] if lifetimes[k].overlaps(lifetimes[key])] for i, key in enumerate(order)}

    def places_of(key: BufferKey) -> list[int]:
        return _places(sizes[key], sorted((offsets[k], offsets[k] + sizes[k]) for k in earlier[key]), capacity)

    offsets: dict[BufferKey, int] = {}
    places = [places_of(order[0])] if order else []
    for _ in range(SEARCH_PLACEMENTS):
        if len(offsets) == len(order):
            return offsets
        key = order[len(places) - 1]
        if places[-1]:
            offsets[key] = places[-1].pop()
            if len(places) < len(order):
                places.append(places_of(order[len(places)]))
        else:
            places.pop()
            if not places:
                return None
            del offsets[order[len(places) - 1]]
    return None


def _places(size: int, busy: Sequence[tuple[int, int]], capacity: int) -> list[int]:
    """Return where a buffer of `size` fits between `busy` ranges (sorted), the place to try first last."""
    places: set[int] = set()
    end = 0
    for start, stop in (*busy, (capacity, capacity)):
        if start - end >= size:
            places |= {end, start - size}
        end = max(end, stop)
    # Against an end of the pool first: it leaves the largest gap.
    return sorted(places, key=lambda place: (min(place, capacity - size - place), place), reverse=True)


def _best_fit(
    lifetimes: Mapping[BufferKey, Lifetime], order: Sequence[BufferKey], alignment_bytes: int
) -> tuple[dict[BufferKey, int], int]:
    """Place buffers one by one, each into the smallest gap among those already placed that live at the same time."""
    offsets: dict[BufferKey, int] = {}
    for key in order:
        size = _aligned(lifetimes[key].size_bytes, alignment_bytes)
        busy = sorted(
            (offsets[k], offsets[k] + _aligned(lifetimes[k].size_bytes, alignment_bytes))
            for k in offsets
            if lifetimes[k].overlaps(lifetimes[key])
        )
        end, gaps = 0, []
        for start, stop in busy:
            if start - end >= size:
                gaps.append((start - end, end))
            end = max(end, stop)
        offsets[key] = min(gaps)[1] if gaps else end
    top = max((offsets[k] + _aligned(lifetimes[k].size_bytes, alignment_bytes) for k in offsets), default=0)
    return offsets, top


def _aligned(size: int, alignment: int) -> int:
    return -(-size // alignment) * alignment
