"""A search by repair: put a buffer where it disturbs least, take out what it disturbs, go on with that."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tvm_tinyml.passes.plan_memory.problem import Problem
from tvm_tinyml.passes.plan_memory.search import Budget

ZERO = np.zeros(1)


def eject(problem: Problem, capacity: int, start: Sequence[int], budget: Budget) -> list[int] | None:
    """Return a plan that fits `capacity`, from a larger one that is cut off there. Cannot prove that there is none.

    The largest buffer without a place is put against an end of the pool or at its distance
    from another buffer: where the weights of those that it is too close to add up to least. These lose their place. A
    buffer that had to take the place of others weighs more from then on, so that what is hard to place stays.
    """
    rng = np.random.default_rng(0)
    sizes, offsets = np.array(problem.sizes), np.array(start)
    near = [np.array(n, np.int64).reshape(-1, 3).T for n in problem.neighbours]
    placed = offsets + sizes <= capacity
    weights = np.ones(len(sizes))
    ranks = [(size, i) for i, size in enumerate(problem.sizes)]
    homeless = set(np.flatnonzero(~placed).tolist())
    while homeless:
        budget.spend(1)
        buffer = max(homeless, key=ranks.__getitem__)
        homeless.remove(buffer)
        others, above, below = near[buffer][:, placed[near[buffer][0]]]
        # Between these two, both not included, it would be too close to the other.
        low, high = offsets[others] - below, offsets[others] + above
        highest = capacity - sizes[buffer]
        places = np.concatenate(([0, highest], low, high))
        places = places[(places >= 0) & (places <= highest)]
        costs = _weight_below(low, weights[others], places, "left")
        costs -= _weight_below(high, weights[others], places, "right")
        place = rng.choice(places[costs <= costs.min() + 0.5])
        disturbed = others[(low < place) & (place < high)]
        if len(disturbed):
            weights[buffer] += 1
            placed[disturbed] = False
            homeless.update(disturbed.tolist())
        offsets[buffer], placed[buffer] = place, True
    return [int(offset) for offset in offsets]


def _weight_below(
    ends: NDArray[np.int64], weights: NDArray[np.float64], places: NDArray[np.int64], side: Literal["left", "right"]
) -> NDArray[np.float64]:
    """Return for each place the weight of those whose end lies below it, or for "right" at it."""
    order = ends.argsort(kind="stable")
    total = np.concatenate((ZERO, weights[order].cumsum()))
    return np.asarray(total[ends[order].searchsorted(places, side)])
