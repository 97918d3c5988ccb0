"""What no plan can beat: the buffers of one step, stacked."""

from __future__ import annotations

from collections.abc import Collection

from tvm_tinyml.passes.plan_memory.problem import Problem


def lower_bound(problem: Problem) -> int:
    """Return the units that the fullest step takes by itself."""
    return max((stack_height(problem, clique) for clique in problem.cliques), default=0)


def stack_height(problem: Problem, alive: Collection[int]) -> int:
    """Return what buffers alive at one step take at least, in units.

    In the order of their offsets each begins at least the least distance of any other above the one before, and the
    last takes its size. Whole tensors add up, and a pair that overlaps takes exactly this. What fits into another
    whole is left out where that gives more.
    """
    some = set(alive)
    outer = {
        i
        for i in some
        if not any(
            near.buffer in some and near.above + problem.sizes[i] <= problem.sizes[near.buffer]
            for near in problem.neighbours[i]
        )
    }
    return max(_stacked(problem, some), _stacked(problem, outer) if outer != some else 0)


def _stacked(problem: Problem, alive: set[int]) -> int:
    steps = {
        i: min((near.below for near in problem.neighbours[i] if near.buffer in alive), default=problem.sizes[i])
        for i in alive
    }
    return sum(steps.values()) + min((problem.sizes[i] - step for i, step in steps.items()), default=0)
