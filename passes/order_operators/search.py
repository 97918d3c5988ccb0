"""The order of operators with the smallest peak: exact where a budget suffices, a beam beyond."""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from typing import NamedTuple

from tvm_tinyml.passes.order_operators.graph import OperatorGraph, members

STATES = 30_000
"""Sets of operators that the exact search looks at before it gives up. 24 operators need far fewer."""
SEARCHED_OPERATORS = 24
"""Segments of more operators get the exact search with a small budget first."""
FEW_STATES = 1_000
WIDTH = 16
"""States that the beam keeps of each number of operators."""


@dataclass(frozen=True)
class Order:
    """Operators in the order in which they are to run.

    Attributes
    ----------
    is_optimal : whether it is proven that no order has a smaller peak.
    """

    operators: list[int]
    peak_bytes: int
    is_optimal: bool


class State(NamedTuple):
    """What has run, in which order; compared by the peak so far, then by how much is left, then by live bytes.

    Attributes
    ----------
    done, ready : sets of operators; those that are ready may run next.
    """

    peak_bytes: int
    left: int
    live_bytes: int
    done: int
    ready: int
    order: tuple[int, ...]

    def after(self, graph: OperatorGraph, operator: int) -> State:
        """Return the state after one more operator."""
        during, live = graph.run(operator, self.done, self.live_bytes)
        done, ready = self.done | 1 << operator, self.ready & ~(1 << operator)
        for follower in graph.followers[operator]:
            if not graph.predecessors[follower] & ~done:
                ready |= 1 << follower
        return State(max(self.peak_bytes, during), self.left - 1, live, done, ready, (*self.order, operator))

    def after_free_moves(self, graph: OperatorGraph, within: int) -> State:
        """Return the state after all operators that neither raise the peak nor leave more live bytes behind.

        No order is lost: to run such an operator now makes every later moment smaller or leaves it as it is.
        """
        state, tried = self, 0
        while operators := state.ready & within & ~tried:
            operator = operators & -operators
            during, live = graph.run(operator.bit_length() - 1, state.done, state.live_bytes)
            if during <= state.peak_bytes and live <= state.live_bytes:
                state, tried = state.after(graph, operator.bit_length() - 1), 0
            else:
                tried |= operator
        return state


def start_state(graph: OperatorGraph) -> State:
    """Return the state before the first operator; its peak is the least that every order has."""
    ready = sum(1 << i for i, before in enumerate(graph.predecessors) if not before)
    return State(graph.floor_bytes, len(graph.operators), graph.start_bytes, 0, ready, ())


def smallest_peak(graph: OperatorGraph) -> Order:
    """Return the order with the smallest peak; the own order where no better one is found.

    Proven to be the smallest with up to 24 operators between two that all others depend on or that depend on all
    others, and beyond wherever the exact search ends within its budget.
    """
    own = list(range(len(graph.operators)))
    state, is_optimal = start_state(graph), True
    for segment in graph.segments():
        few = segment.bit_count() <= SEARCHED_OPERATORS
        goal = state.done | segment
        best = best_first(graph, state, goal, STATES if few else FEW_STATES)
        is_optimal &= best is not None
        state = best or beam(graph, state, goal)
    is_optimal |= state.peak_bytes == graph.floor_bytes
    own_peak = graph.peak_bytes(own)
    if own_peak <= state.peak_bytes:
        return Order(own, own_peak, is_optimal)
    return Order(list(state.order), state.peak_bytes, is_optimal)


def best_first(graph: OperatorGraph, start: State, goal: int, states: int) -> State | None:
    """Return the state with the smallest peak in which `goal` has run, or None after too many states.

    The live bytes depend on what has run and not on its order, so of each set only the first state is looked at: they
    come in the order of their peaks.
    """
    queue, seen = [start], set[int]()
    while len(seen) < states:
        state = heapq.heappop(queue).after_free_moves(graph, goal)
        if state.done == goal:
            return state
        if state.done not in seen:
            seen.add(state.done)
            for operator in members(state.ready & goal):
                reached = state.after(graph, operator)
                if reached.done not in seen:
                    heapq.heappush(queue, reached)
    return None


def beam(graph: OperatorGraph, start: State, goal: int) -> State:
    """Return a state with a small peak in which `goal` has run: of each number of operators the best are kept."""
    levels: list[dict[int, State]] = [{} for _ in range(start.left + 1)]
    levels[start.left][start.done] = start
    complete = []
    for level in reversed(levels):
        for kept in heapq.nsmallest(WIDTH, level.values()):
            state = kept.after_free_moves(graph, goal)
            if state.done == goal:
                complete.append(state)
            for operator in members(state.ready & goal):
                reached = state.after(graph, operator)
                known = levels[reached.left].get(reached.done)
                levels[reached.left][reached.done] = min(reached, known or reached)
    return min(complete)
