"""A search that decides of pairs which of the two lies above: the one that proves that a plan cannot be smaller."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from tvm_tinyml.passes.plan_memory.bound import stack_height
from tvm_tinyml.passes.plan_memory.problem import Problem
from tvm_tinyml.passes.plan_memory.search import Budget


class Above(NamedTuple):
    """`upper` lies at least `distance` above `lower`."""

    upper: int
    lower: int
    distance: int


@dataclass
class _Range:
    """What is decided so far: the lowest and the highest offset of each buffer, and pairs either way round.

    The idea is that of job shops, where two tasks of one machine are a pair and time is the offset. Source: Carlier and
    Pinson, "An Algorithm for Solving the Job-Shop Problem", 1989.
    """

    low: list[int]
    high: list[int]
    decided: list[Above]
    open: list[tuple[Above, Above]]

    def room(self, pair: Above) -> int:
        """Return by how much the two could still be moved; negative when the upper one cannot lie above."""
        return self.high[pair.upper] - self.low[pair.lower] - pair.distance

    def narrow(self, budget: Budget) -> bool:
        """Decide what follows from what is decided; return False when nothing is left for some buffer."""
        low, high, changed = self.low, self.high, True
        while changed:
            budget.spend(len(self.decided) + len(self.open))
            changed = False
            for upper, lower, distance in self.decided:
                least, most = low[lower] + distance, high[upper] - distance
                if low[upper] < least:
                    low[upper], changed = least, True
                if high[lower] > most:
                    high[lower], changed = most, True
                if low[upper] > high[upper] or low[lower] > high[lower]:
                    return False
            still_open = []
            for pair in self.open:
                (upper, lower, distance), (_, _, other_distance) = pair
                one, other = high[upper] - low[lower] >= distance, high[lower] - low[upper] >= other_distance
                if one and other:
                    still_open.append(pair)
                elif one or other:
                    self.decided.append(pair[0 if one else 1])
                    changed = True
                else:
                    return False
            self.open = still_open
        return True

    def decide(self, index: int, way: int) -> _Range:
        """Return a copy in which one more pair is decided."""
        rest = [pair for k, pair in enumerate(self.open) if k != index]
        return _Range(self.low.copy(), self.high.copy(), [*self.decided, self.open[index][way]], rest)


def by_pairs(problem: Problem, capacity: int, _start: Sequence[int], budget: Budget) -> list[int] | None:
    """Return a plan that fits `capacity`, or None where there is none.

    The pair with the least room is decided first, and tried first the way round that leaves more. Ranges are given up
    where buffers of one step do not fit between the lowest offset and the highest end of any of them.
    """
    heights: dict[int, int] = {}  # of sets of buffers, as bits
    bits = [1 << i for i in range(len(problem.sizes))]

    def fits(ranges: _Range) -> bool:
        lows, ends = ranges.low, [high + size for high, size in zip(ranges.high, problem.sizes, strict=True)]
        for clique in problem.cliques:
            by_end = sorted(clique, key=ends.__getitem__)
            for low in {lows[i] for i in clique}:
                budget.spend(len(clique))
                stacked = 0
                for i in by_end:
                    if lows[i] >= low:
                        stacked |= bits[i]
                        if stacked not in heights:
                            heights[stacked] = stack_height(problem, [k for k in clique if stacked >> k & 1])
                        if low + heights[stacked] > ends[i]:
                            return False
        return True

    pairs = [
        (Above(i, near.buffer, near.above), Above(near.buffer, i, near.below))
        for i, neighbours in enumerate(problem.neighbours)
        for near in neighbours
        if near.buffer < i
    ]
    stack = [_Range([0] * len(problem.sizes), [capacity - size for size in problem.sizes], [], pairs)]
    while stack:
        ranges = stack.pop()
        if not ranges.narrow(budget) or not fits(ranges):
            continue
        low, high = ranges.low, ranges.high
        if all(any(low[p.upper] - low[p.lower] >= p.distance for p in pair) for pair in ranges.open):
            return low
        rooms = [
            sorted((high[upper] - low[lower] - distance, high[lower] - low[upper] - other_distance))
            for (upper, lower, distance), (_, _, other_distance) in ranges.open
        ]
        tightest = min(range(len(rooms)), key=rooms.__getitem__)
        one, other = ranges.open[tightest]
        ways = (0, 1) if ranges.room(one) <= ranges.room(other) else (1, 0)
        stack.extend(ranges.decide(tightest, way) for way in ways)
    return None
