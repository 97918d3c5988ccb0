"""What searches share: given a pool's size they find a plan, prove that there is none, or run out of budget."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tvm_tinyml.passes.plan_memory.problem import Problem

TARGETS = 8
"""Sizes that a search is tried with: halfway between what is known to be possible and what it failed at."""


class OutOfBudgetError(Exception):
    """A search gave up: nothing is known about this size of the pool."""


class Budget:
    """Work that a search may do. Counted, not timed: the same problem has the same plan on any machine."""

    def __init__(self, work: int) -> None:
        self.left = work

    def spend(self, work: int) -> None:
        """Count work.

        Raises
        ------
        OutOfBudgetError : more than there is left.
        """
        self.left -= work
        if self.left < 0:
            raise OutOfBudgetError


Search = Callable[[Problem, int, Sequence[int], Budget], "list[int] | None"]
"""Takes a problem, the pool's size in units, a plan for a larger pool and a budget; None: there is no such plan."""


@dataclass(frozen=True)
class Bracket:
    """A plan, and the size in units below which there is none."""

    problem: Problem
    offsets: Sequence[int]
    bound: int

    @property
    def height(self) -> int:
        """Units of the plan."""
        return self.problem.height(self.offsets)

    @property
    def closed(self) -> bool:
        """Whether no plan is smaller."""
        return self.height == self.bound

    def narrowed(self, search: Search, work: int) -> Bracket:
        """Return the plan and the bound after a search: first for the bound itself, then by bisection.

        Parameters
        ----------
        work : budget of each size that is tried.
        """
        offsets, bound = self.offsets, self.bound
        target = least = bound  # nothing below `least` is tried
        for _ in range(TARGETS):
            height = self.problem.height(offsets)
            if least >= height:
                break
            try:
                found = search(self.problem, target, offsets, Budget(work))
            except OutOfBudgetError:
                least = target + 1
            else:
                if found is None:
                    bound = least = target + 1
                else:
                    offsets = found
            target = (least + self.problem.height(offsets)) // 2
        return Bracket(self.problem, offsets, bound)
