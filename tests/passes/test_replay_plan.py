"""Replaying a plan finds every byte that is overwritten before it is read."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.memory_graphs import memory_graph
from tvm_tinyml.passes.plan_memory import Lifetime, plan_offsets
from tvm_tinyml.passes.replay_plan import Call, Span, replay_plan

SEEDS = range(60)


def test_what_was_written_may_be_read() -> None:
    replay_plan([Call("a", [], [Span("x", 0, 8)]), Call("b", [Span("x", 0, 8)], [Span("y", 8, 12)])], 12)
    replay_plan([], 0)


def test_an_overwritten_byte_is_named() -> None:
    calls = [
        Call("a", [], [Span("x", 0, 8)]),
        Call("b", [], [Span("y", 6, 10)]),
        Call("c", [Span("x", 0, 8)], []),
    ]
    with pytest.raises(AssertionError, match="c reads byte 6 of x at 6, where byte 0 of y lies"):
        replay_plan(calls, 10)


def test_a_byte_that_nothing_wrote_is_named() -> None:
    with pytest.raises(AssertionError, match="a reads byte 0 of x at 4, where nothing lies"):
        replay_plan([Call("a", [Span("x", 4, 8)], [])], 8)


def test_another_byte_of_the_same_buffer_is_refused() -> None:
    calls = [Call("a", [], [Span("x", 0, 8)]), Call("b", [Span("x", 2, 4, first_byte=1)], [])]
    with pytest.raises(AssertionError, match="b reads byte 1 of x at 2, where byte 2 of x lies"):
        replay_plan(calls, 8)


def test_a_buffer_may_be_written_and_read_in_parts() -> None:
    calls = [
        Call("a", [], [Span("x", 4, 8, first_byte=4)]),
        Call("b", [], [Span("x", 0, 4)]),
        Call("c", [Span("x", 2, 6, first_byte=2)], []),
    ]
    replay_plan(calls, 8)
    with pytest.raises(AssertionError, match="c reads byte 2 of x"):
        replay_plan([calls[0], calls[2]], 8)


def test_within_a_call_writes_share_no_byte_with_reads() -> None:
    first = Call("a", [], [Span("x", 4, 12)])
    over = [Span("x", 4, 12)], [Span("y", 0, 8)]
    with pytest.raises(AssertionError, match=r"b writes .*y.* over .*x.*, which it reads"):
        replay_plan([first, Call("b", *over)], 12)
    replay_plan([first, Call("b", *over, {(0, 0): 4})], 12)
    with pytest.raises(AssertionError, match=r"4 bytes behind the beginning of .*; it takes 5"):
        replay_plan([first, Call("b", *over, {(0, 0): 5})], 12)


def test_what_a_call_wrote_over_is_gone() -> None:
    calls = [
        Call("a", [], [Span("x", 4, 12)]),
        Call("b", [Span("x", 4, 12)], [Span("y", 0, 8)], {(0, 0): 4}),
        Call("c", [Span("x", 4, 12)], []),
    ]
    with pytest.raises(AssertionError, match="c reads byte 0 of x at 4, where byte 4 of y lies"):
        replay_plan(calls, 12)


def part(channel: int, buffer: str = "x", begin: int = 0) -> Span:
    """Return two of every five bytes, or the last one of them, of a buffer of fifteen."""
    run = 1 if channel == 4 else 2
    return Span(buffer, begin + channel, begin + 10 + channel + run, first_byte=channel, run_bytes=run, step_bytes=5)


def test_the_gaps_of_a_write_stay_as_they_were() -> None:
    a, b, c = Call("a", [], [part(0)]), Call("b", [], [part(2)]), Call("c", [], [part(4)])
    whole = Call("d", [Span("x", 0, 15)], [])
    replay_plan([a, b, c, whole], 15)
    replay_plan([c, a, Call("e", [part(4)], []), b, whole], 15)
    with pytest.raises(AssertionError, match="d reads byte 2 of x at 2, where nothing lies"):
        replay_plan([a, c, whole], 15)
    with pytest.raises(AssertionError, match="d reads byte 4 of x at 4, where byte 4 of y lies"):
        replay_plan([a, b, c, Call("e", [], [part(4, "y")]), whole], 15)


def test_a_read_with_gaps_wants_only_its_own_bytes() -> None:
    replay_plan([Call("a", [], [part(0)]), Call("b", [part(0)], [])], 15)
    with pytest.raises(AssertionError, match="b reads byte 2 of x at 2, where nothing lies"):
        replay_plan([Call("a", [], [part(0)]), Call("b", [part(2)], [])], 15)


def test_within_a_call_parts_that_share_no_byte_do_not_meet() -> None:
    first = Call("a", [], [part(0)])
    replay_plan([first, Call("b", [part(0)], [part(2)]), Call("c", [part(0), part(2)], [])], 15)
    for other in (part(0, "y", begin=1), Span("y", 10, 11)):
        with pytest.raises(AssertionError, match=r"b writes .* over .*, which it reads"):
            replay_plan([first, Call("b", [part(0)], [other])], 16)


def test_within_a_call_writes_share_no_byte() -> None:
    with pytest.raises(AssertionError, match=r"a writes .* and .*, which share bytes"):
        replay_plan([Call("a", [], [Span("x", 0, 8), Span("scratch", 7, 9)])], 9)


@pytest.mark.parametrize(("begin", "end"), [(-1, 4), (6, 9), (5, 4)])
def test_what_is_not_in_the_pool_is_refused(begin: int, end: int) -> None:
    with pytest.raises(AssertionError, match="is not in the pool of 8 bytes"):
        replay_plan([Call("a", [], [Span("x", begin, end)])], 8)


def calls_of(
    lifetimes: dict[int, Lifetime], offsets: dict[int, int], distances: dict[tuple[int, int], int]
) -> list[Call]:
    """Return calls that write each buffer at its first step and read it at every later one up to its last."""

    def span(key: int) -> Span:
        return Span(key, offsets[key], offsets[key] + lifetimes[key].size_bytes)

    steps = range(max(life.last for life in lifetimes.values()) + 1)
    calls = []
    for step in steps:
        reads = [key for key, life in lifetimes.items() if life.first < step <= life.last]
        writes = [key for key, life in lifetimes.items() if life.first == step]
        allowed = {(i, k): distances[r, w] for i, r in enumerate(reads) for k, w in enumerate(writes)
                   if (r, w) in distances}  # fmt: skip
        calls.append(Call(f"step {step}", [span(r) for r in reads], [span(w) for w in writes], allowed))
    return calls


def pool_of(lifetimes: dict[int, Lifetime], offsets: dict[int, int]) -> int:
    return max(offsets[key] + life.size_bytes for key, life in lifetimes.items())


def test_plans_of_random_graphs_stand_and_damaged_ones_fall() -> None:
    """Moved onto another buffer alive at the same time, a buffer shares bytes that both still need."""
    damaged = 0
    for seed in SEEDS:
        graph = memory_graph(seed)
        if len(graph.lifetimes) > 60:
            continue
        offsets, pool = plan_offsets(graph.lifetimes, 16, graph.distances)
        replay_plan(calls_of(graph.lifetimes, offsets, graph.distances), pool)
        key = int(np.random.default_rng(seed).choice(list(graph.lifetimes)))
        life = graph.lifetimes[key]
        for other, its in graph.lifetimes.items():
            close = (key, other) in graph.distances or (other, key) in graph.distances
            if other != key and its.overlaps(life) and not close:
                moved = {**offsets, key: offsets[other]}
                with pytest.raises(AssertionError):
                    replay_plan(calls_of(graph.lifetimes, moved, graph.distances), pool_of(graph.lifetimes, moved))
                damaged += 1
    assert damaged > 50
