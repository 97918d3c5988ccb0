"""Greedy by size: the plan that others have to beat."""

from __future__ import annotations

from tvm_tinyml.passes.plan_memory.problem import Problem


def greedy_by_size(problem: Problem) -> list[int]:
    """Place the largest first, each into the smallest gap among those already placed that live at the same time.

    Source: Pisarchyk and Lee, "Efficient Memory Management for Deep Neural Net Inference", 2020, section 5.2.
    """
    offsets: dict[int, int] = {}
    for buffer in sorted(range(len(problem.sizes)), key=lambda i: (-problem.sizes[i], problem.lives[i])):
        taken = sorted(
            (offsets[other] - below, offsets[other] + above)
            for other, above, below in problem.neighbours[buffer]
            if other in offsets
        )
        free, gaps = 0, []
        for start, end in taken:  # both ends are free
            if start >= free:
                gaps.append((start - free, free))
            free = max(free, end)
        offsets[buffer] = min(gaps)[1] if gaps else free
    return [offsets[i] for i in range(len(problem.sizes))]
