"""What is planned: buffers that hold a value for a while, how far apart two must lie, and what makes a plan right."""

from __future__ import annotations

from collections.abc import Mapping
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


Distances = Mapping[tuple[BufferKey, BufferKey], int]
"""Bytes from the start of the second buffer at which the first may start, where that is less than the second's size.

A layer that reads its input and writes its output from front to back may write over what it has read: its input may
start already ``distances[input, output]`` bytes after the start of its output, instead of behind its end. With a
distance of 0 the older of two may start where the other starts; the other way round it counts as 1, so that buffers
at one offset have an order. Source: Blacker, Bridges and Hadfield, "Diagonal Memory Optimisation for Machine Learning
on Micro-controllers", 2020.
"""


def distance(
    lifetimes: Mapping[BufferKey, Lifetime], distances: Distances[BufferKey], upper: BufferKey, lower: BufferKey
) -> int:
    """Return how many bytes after the start of `lower` the buffer `upper` may start, both alive at some step."""
    size = lifetimes[lower].size_bytes
    given = distances.get((upper, lower), size)
    assert 0 <= given <= size, f"distance of {given} bytes from a buffer of {size}"
    older = lifetimes[upper].first < lifetimes[lower].first
    return given if older else max(given, min(size, 1))


def check_plan(
    lifetimes: Mapping[BufferKey, Lifetime],
    offsets: Mapping[BufferKey, int],
    distances: Distances[BufferKey] | None = None,
) -> None:
    """Assert that of two buffers alive at the same time one lies far enough above the other."""
    keys = list(lifetimes)
    for i, one in enumerate(keys):
        for other in keys[i + 1 :]:
            apart = (
                offsets[one] - offsets[other] >= distance(lifetimes, distances or {}, one, other)
                or offsets[other] - offsets[one] >= distance(lifetimes, distances or {}, other, one)
            )  # fmt: skip
            assert apart or not lifetimes[one].overlaps(lifetimes[other]), f"{one} and {other} overlap"
