"""A search that fills the pool from below: next comes the buffer with the next higher offset."""

from __future__ import annotations

from collections.abc import Sequence

from tvm_tinyml.passes.plan_memory.bound import stack_height
from tvm_tinyml.passes.plan_memory.problem import Problem
from tvm_tinyml.passes.plan_memory.search import Budget


def from_below(problem: Problem, capacity: int, _start: Sequence[int], budget: Budget) -> list[int] | None:
    """Return a plan that fits `capacity`, or None where there is none: every order of offsets is tried.

    If there is a plan at all, there is one in which no buffer can be moved down. There each lies right at its distance
    above one that comes before it in the order of offsets, and begins before the end that any later one would have if
    it came now. An order is given up where the buffers of one step that are to come do not fit above what is reached.
    """
    sizes = problem.sizes
    heights: dict[int, int] = {}  # of sets of buffers, as bits
    offsets = [0] * len(sizes)
    work = sum(map(len, problem.cliques))

    def fits(left: set[int], lowest: Sequence[int]) -> bool:
        for clique in problem.cliques:
            stacked = 0
            for i in sorted((i for i in clique if i in left), key=lambda i: -lowest[i]):
                stacked |= 1 << i
                if stacked not in heights:
                    heights[stacked] = stack_height(problem, [k for k in clique if stacked >> k & 1])
                if lowest[i] + heights[stacked] > capacity:
                    return False
        return True

    def place(left: set[int], supported: Sequence[int], level: int) -> bool:
        """Place those that are left at `level` or higher; `supported` is how far what lies below lets them down."""
        if not left:
            return True
        budget.spend(work)
        lowest = [max(offset, level) for offset in supported]
        if not fits(left, lowest):
            return False
        end = min(lowest[i] + sizes[i] for i in left)
        next_ones = [i for i in left if level <= supported[i] < end]
        for i in sorted(next_ones, key=lambda i: (supported[i], -sizes[i], i)):
            offsets[i] = supported[i]
            above = list(supported)
            for other, _, distance in problem.neighbours[i]:
                above[other] = max(above[other], offsets[i] + distance)
            if place(left - {i}, above, offsets[i]):
                return True
        return False

    return offsets if place(set(range(len(sizes))), offsets.copy(), 0) else None
