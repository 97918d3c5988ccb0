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


def plan_offsets(lifetimes: Mapping[BufferKey, Lifetime], alignment_bytes: int) -> tuple[dict[BufferKey, int], int]:
    """Return each buffer's offset and the size of the pool, in bytes.

    Best fit in three orders (size, length of life times size, first use); the smallest pool wins. Never above greedy by
    size, since that is one of the three. Source of the idea: Pisarchyk and Lee, "Efficient Memory Management for Deep
    Neural Net Inference", 2020, section 5.
    """
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
