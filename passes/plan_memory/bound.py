"""What no plan can beat: the buffers of one step, stacked as low as their distances allow."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations

from tvm_tinyml.passes.plan_memory.problem import Problem

STACKED_EXACTLY = 6
"""Buffers with distances of which all stacks are tried; smaller ones beyond are left out, which gives a bound still."""


def lower_bound(problem: Problem) -> int:
    """Return the units that the fullest step takes by itself."""
    return max((stack_height(problem, clique) for clique in problem.cliques), default=0)


def stack_height(problem: Problem, alive: Sequence[int]) -> int:
    """Return the least height, in units, of buffers alive at one step.

    Those that keep their whole distance from all others add their size: take one out of any plan, and what is above it
    moves down by that much. The rest is tried in all orders of their offsets; a distance of 0 either way, where two may
    share an offset and so have no order, counts as none at all.
    """
    distances = {
        (i, other): above if below else 0
        for i in alive
        for other, above, below in problem.neighbours[i]
        if above < problem.sizes[other] or below < problem.sizes[i]
    }
    close = {i for i in alive if any((i, other) in distances for other in alive)}
    tried = sorted(close, key=lambda i: -problem.sizes[i])[:STACKED_EXACTLY]

    def height(order: Sequence[int]) -> int:
        offsets: dict[int, int] = {}
        for i in order:
            offsets[i] = max((offsets[j] + distances.get((i, j), problem.sizes[j]) for j in offsets), default=0)
        return problem.top(offsets)

    return sum(problem.sizes[i] for i in alive if i not in close) + min(map(height, permutations(tried)))
