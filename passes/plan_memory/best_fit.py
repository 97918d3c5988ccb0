"""Buffers placed one by one: into the smallest gap, or by a search that goes back where one does not fit."""

from __future__ import annotations

from collections.abc import Sequence

from tvm_tinyml.passes.plan_memory.problem import Problem

SEARCH_PLACEMENTS = 4_000
"""Placements that the search tries before it gives up; a network without branches needs hardly more than buffers."""


def best_fit(problem: Problem, order: Sequence[int]) -> dict[int, int]:
    """Place buffers in an order, each into the smallest gap among those already placed that live at the same time."""
    offsets: dict[int, int] = {}
    for buffer in order:
        gaps = problem.gaps(buffer, offsets)
        closed = [(high - low, low) for low, high in gaps if high is not None]
        offsets[buffer] = min(closed)[1] if closed else gaps[-1][0]
    return offsets


def search(problem: Problem, capacity: int) -> dict[int, int] | None:
    """Place buffers in the order of their first use into a pool of `capacity`, going back where one does not fit.

    A buffer is tried against either end of the pool and against either side of those placed before that live at the
    same time: in a chain of layers it then ends up at the opposite end from its neighbours.
    """
    order = sorted(range(len(problem.sizes)), key=lambda i: (problem.lives[i][0], -problem.sizes[i]))
    offsets: dict[int, int] = {}

    def places_of(buffer: int) -> list[int]:
        highest = capacity - problem.sizes[buffer]
        places = set()
        for low, high in problem.gaps(buffer, offsets):
            if low <= highest:
                places |= {low, highest if high is None else min(high, highest)}
        # Against an end of the pool first, as the last of the list: it leaves the largest gap.
        return sorted(places, key=lambda place: (min(place, highest - place), place), reverse=True)

    places = [places_of(order[0])] if order else []
    for _ in range(SEARCH_PLACEMENTS):
        if len(offsets) == len(order):
            return offsets
        if places[-1]:
            offsets[order[len(places) - 1]] = places[-1].pop()
            if len(places) < len(order):
                places.append(places_of(order[len(places)]))
        else:
            places.pop()
            if not places:
                return None
            del offsets[order[len(places) - 1]]
    return None
