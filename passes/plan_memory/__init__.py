"""Offsets for buffers with known lifetimes: no two that live at the same time overlap."""

from __future__ import annotations

from collections.abc import Mapping

from tvm_tinyml.passes.plan_memory.best_fit import best_fit, search
from tvm_tinyml.passes.plan_memory.bound import lower_bound
from tvm_tinyml.passes.plan_memory.lifetime import BufferKey, Distances, Lifetime, check_plan
from tvm_tinyml.passes.plan_memory.problem import problem_of

__all__ = ["Distances", "Lifetime", "check_plan", "liveness_bound", "plan_offsets"]


def plan_offsets(
    lifetimes: Mapping[BufferKey, Lifetime],
    alignment_bytes: int,
    distances: Distances[BufferKey] | None = None,
) -> tuple[dict[BufferKey, int], int]:
    """Return each buffer's offset and the size of the pool, in bytes.

    First a search for a pool of the size of `liveness_bound`, which nothing can beat; when it finds none, best fit in
    three orders (size, size times length of life, first use), the smallest pool. So never above greedy by size, which
    is one of the three. Source of the orders: Pisarchyk and Lee, "Efficient Memory Management for Deep Neural Net
    Inference", 2020, section 5.
    """
    problem = problem_of(lifetimes, alignment_bytes, distances or {})
    bound = lower_bound(problem)
    offsets = search(problem, bound)
    if offsets is None:
        length = [last - first + 1 for first, last in problem.lives]
        buffers = range(len(problem.sizes))
        orders = (
            sorted(buffers, key=lambda i: (-problem.sizes[i], problem.lives[i])),
            sorted(buffers, key=lambda i: (-problem.sizes[i] * length[i], problem.lives[i])),
            sorted(buffers, key=lambda i: (problem.lives[i][0], -problem.sizes[i])),
        )
        offsets = min((best_fit(problem, order) for order in orders), key=problem.top)
    in_bytes = {key: offsets[i] * alignment_bytes for i, key in enumerate(lifetimes)}
    return in_bytes, problem.top(offsets) * alignment_bytes


def liveness_bound(
    lifetimes: Mapping[BufferKey, Lifetime],
    alignment_bytes: int,
    distances: Distances[BufferKey] | None = None,
) -> int:
    """Return what the buffers alive at the fullest step take at least, in bytes: no plan can be smaller."""
    return lower_bound(problem_of(lifetimes, alignment_bytes, distances or {})) * alignment_bytes
