"""Offsets for buffers with known lifetimes: no two that live at the same time overlap."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Generic, NamedTuple

from tvm_tinyml.passes.plan_memory.bound import lower_bound
from tvm_tinyml.passes.plan_memory.by_pairs import by_pairs
from tvm_tinyml.passes.plan_memory.eject import eject
from tvm_tinyml.passes.plan_memory.from_below import from_below
from tvm_tinyml.passes.plan_memory.greedy import greedy_by_size
from tvm_tinyml.passes.plan_memory.lifetime import BufferKey, Distances, Lifetime, check_plan
from tvm_tinyml.passes.plan_memory.problem import Problem, problem_of
from tvm_tinyml.passes.plan_memory.search import Bracket, Search

__all__ = ["Distances", "Lifetime", "Plan", "check_plan", "liveness_bound", "plan", "plan_offsets"]


class Stage(NamedTuple):
    """A search and its budget for one size of the pool."""

    search: Search
    work: int


FEW = (Stage(from_below, 50_000), Stage(by_pairs, 400_000), Stage(eject, 3_000))
"""Up to 200 pairs that live at the same time, so for any 20 buffers: the first is quick where tensors are whole, the
second finds and proves where they overlap in part."""
SOME = (Stage(eject, 3_000), Stage(by_pairs, 400_000))
"""Up to 500 pairs: what proves nothing is quicker here."""
MANY = (Stage(eject, 3_000),)


@dataclass(frozen=True)
class Plan(Generic[BufferKey]):
    """Where buffers lie, in bytes.

    Attributes
    ----------
    bound_bytes : no plan is smaller; at least `liveness_bound`, more where a search has proven more.
    """

    offsets: dict[BufferKey, int]
    pool_bytes: int
    bound_bytes: int

    @property
    def is_optimal(self) -> bool:
        """Whether it is proven that no plan is smaller."""
        return self.pool_bytes == self.bound_bytes


def plan(
    lifetimes: Mapping[BufferKey, Lifetime],
    alignment_bytes: int,
    distances: Distances[BufferKey] | None = None,
) -> Plan[BufferKey]:
    """Return a small plan: never above greedy by size, whose plan is improved by each search until none can be smaller.

    The same problem has the same plan on every machine: searches count their work and look at no clock.
    """
    apart = problem_of(lifetimes, alignment_bytes, {})
    bracket = _planned(problem_of(lifetimes, alignment_bytes, distances or {}), apart)
    offsets = {key: offset * alignment_bytes for key, offset in zip(lifetimes, bracket.offsets, strict=True)}
    return Plan(offsets, bracket.height * alignment_bytes, bracket.bound * alignment_bytes)


@lru_cache(maxsize=64)
def _planned(problem: Problem, apart: Problem) -> Bracket:
    """Return what the searches make of a problem. A model that is built more than once poses the same one.

    Parameters
    ----------
    apart : the same problem without distances.
    """
    bracket = Bracket(problem, greedy_by_size(apart), lower_bound(problem))
    pairs = sum(map(len, problem.neighbours)) // 2
    for stage in FEW if pairs <= 200 else SOME if pairs <= 500 else MANY:
        if not bracket.closed:
            bracket = bracket.narrowed(stage.search, stage.work)
    return bracket


def plan_offsets(
    lifetimes: Mapping[BufferKey, Lifetime],
    alignment_bytes: int,
    distances: Distances[BufferKey] | None = None,
) -> tuple[dict[BufferKey, int], int]:
    """Return each buffer's offset and the size of the pool of `plan`, in bytes."""
    made = plan(lifetimes, alignment_bytes, distances)
    return made.offsets, made.pool_bytes


def liveness_bound(
    lifetimes: Mapping[BufferKey, Lifetime],
    alignment_bytes: int,
    distances: Distances[BufferKey] | None = None,
) -> int:
    """Return what the buffers alive at the fullest step take at least, in bytes: no plan can be smaller."""
    return lower_bound(problem_of(lifetimes, alignment_bytes, distances or {})) * alignment_bytes
