"""Offsets: nothing that lives at the same time overlaps, and the pool is small."""

from __future__ import annotations

from functools import cache
from itertools import permutations, product

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.memory_graphs import memory_graph
from benchmarks.planner import greedy_by_size
from tvm_tinyml.passes.plan_memory import Lifetime, Plan, _planned, check_plan, liveness_bound, plan, plan_offsets
from tvm_tinyml.passes.plan_memory.bound import lower_bound
from tvm_tinyml.passes.plan_memory.by_pairs import by_pairs
from tvm_tinyml.passes.plan_memory.eject import eject
from tvm_tinyml.passes.plan_memory.from_below import from_below
from tvm_tinyml.passes.plan_memory.problem import problem_of
from tvm_tinyml.passes.plan_memory.search import Budget, OutOfBudgetError, Search

SEEDS = range(40)


def problem(seed: int) -> dict[int, Lifetime]:
    """Return up to 40 buffers: of a chain of layers with branches, or with any lifetimes."""
    rng = np.random.default_rng(seed)
    count = int(rng.integers(1, 41))
    sizes = rng.integers(1, 5000, count) if rng.random() < 0.5 else 2 ** rng.integers(0, 13, count)
    if rng.random() < 0.5:
        first = np.arange(count)
        last = first + rng.integers(1, 4, count)
    else:
        first, last = np.sort(rng.integers(0, 30, (2, count)), axis=0)
    return {i: Lifetime(int(s), int(a), int(b)) for i, (s, a, b) in enumerate(zip(sizes, first, last, strict=True))}


def uses(lifetimes: dict[int, Lifetime], offsets: dict[int, int], step: int, pool: int) -> NDArray[np.int64]:
    """Return for each byte of the pool how many values it holds at one step."""
    count = np.zeros(pool, np.int64)
    for key, life in lifetimes.items():
        if life.first <= step <= life.last:
            assert 0 <= offsets[key] <= pool - life.size_bytes
            count[offsets[key] : offsets[key] + life.size_bytes] += 1
    return count


@cache
def planned(seed: int, alignment: int) -> Plan[int]:
    return plan(problem(seed), alignment)


@pytest.mark.parametrize("seed", SEEDS)
def test_no_two_live_values_share_a_byte_and_all_lie_in_the_pool(seed: int) -> None:
    lifetimes = problem(seed)
    offsets, pool = planned(seed, 16).offsets, planned(seed, 16).pool_bytes
    for step in {life.first for life in lifetimes.values()}:
        assert uses(lifetimes, offsets, step, pool).max() == 1
    check_plan(lifetimes, offsets)


@pytest.mark.parametrize("alignment", [1, 16])
def test_every_offset_and_the_pool_are_aligned(alignment: int) -> None:
    for seed in SEEDS:
        made = planned(seed, alignment)
        assert all(value % alignment == 0 for value in (*made.offsets.values(), made.pool_bytes))


def test_the_pool_is_never_above_greedy_by_size_and_never_below_the_bound() -> None:
    smaller = 0
    for seed in SEEDS:
        lifetimes = problem(seed)
        pool = planned(seed, 16).pool_bytes
        greedy = greedy_by_size(lifetimes, 16)
        assert liveness_bound(lifetimes, 16) <= pool <= greedy
        smaller += pool < greedy
    assert smaller  # the searches are of use


def test_the_bound_is_the_largest_sum_of_one_step() -> None:
    for seed in SEEDS:
        lifetimes = problem(seed)
        steps = range(max(life.last for life in lifetimes.values()) + 1)
        sums = [sum(l.size_bytes for l in lifetimes.values() if l.first <= step <= l.last) for step in steps]
        assert liveness_bound(lifetimes, 1) == max(sums)


def test_the_bound_is_reached_where_nothing_is_in_the_way() -> None:
    chain = {i: Lifetime(100 if i % 2 else 300, i, i + 1) for i in range(10)}
    assert plan_offsets(chain, 1)[1] == liveness_bound(chain, 1) == 400


def test_nothing_needs_nothing() -> None:
    assert plan_offsets({}, 16) == ({}, 0)
    assert liveness_bound({}, 16) == 0


def test_a_plan_depends_on_nothing_but_the_problem() -> None:
    for seed in range(10):
        first = plan_offsets(problem(seed), 16)
        _planned.cache_clear()
        assert plan_offsets(problem(seed), 16) == first


def test_lifetimes_that_share_one_step_overlap() -> None:
    assert Lifetime(1, 0, 3).overlaps(Lifetime(1, 3, 5))
    assert Lifetime(1, 3, 5).overlaps(Lifetime(1, 0, 3))
    assert not Lifetime(1, 0, 3).overlaps(Lifetime(1, 4, 5))


def test_the_check_finds_values_that_overlap() -> None:
    lifetimes = {"a": Lifetime(32, 0, 2), "b": Lifetime(16, 2, 3), "c": Lifetime(8, 4, 4)}
    check_plan(lifetimes, {"a": 0, "b": 32, "c": 0})
    with pytest.raises(AssertionError, match="a and b overlap"):
        check_plan(lifetimes, {"a": 0, "b": 31, "c": 0})


def test_the_check_finds_every_damage_of_a_plan() -> None:
    for seed in SEEDS:
        lifetimes = problem(seed)
        offsets = planned(seed, 16).offsets
        key = max(lifetimes, key=lambda k: offsets[k])
        others = [k for k in lifetimes if k != key and lifetimes[k].overlaps(lifetimes[key])]
        if others:
            with pytest.raises(AssertionError, match="overlap"):
                check_plan(lifetimes, {**offsets, key: offsets[others[0]]})


def distances_of(seed: int, lifetimes: dict[int, Lifetime], share: float) -> dict[tuple[int, int], int]:
    """Return distances below a buffer's size for a share of the pairs."""
    rng = np.random.default_rng(seed)
    distances = {}
    for upper, lower in permutations(lifetimes, 2):
        least = 0 if lifetimes[upper].first < lifetimes[lower].first else 1
        if rng.random() < share and least < lifetimes[lower].size_bytes:
            distances[upper, lower] = int(rng.integers(least, lifetimes[lower].size_bytes))
    return distances


def small_problem(seed: int) -> tuple[dict[int, Lifetime], dict[tuple[int, int], int]]:
    """Return up to four buffers of up to four bytes, some of which may overlap in part."""
    rng = np.random.default_rng(seed)
    steps = np.sort(rng.integers(0, 3, (int(rng.integers(1, 5)), 2))).tolist()
    lifetimes = {i: Lifetime(int(rng.integers(1, 5)), first, last) for i, (first, last) in enumerate(steps)}
    return lifetimes, distances_of(seed, lifetimes, 0.4)


def smallest_pool(lifetimes: dict[int, Lifetime], distances: dict[tuple[int, int], int]) -> int:
    """Return the smallest pool, by trying all offsets."""

    def right(offsets: tuple[int, ...]) -> bool:
        return all(
            offsets[a] - offsets[b] >= distances.get((a, b), lifetimes[b].size_bytes)
            or offsets[b] - offsets[a] >= distances.get((b, a), lifetimes[a].size_bytes)
            for a in lifetimes
            for b in range(a)
            if lifetimes[a].overlaps(lifetimes[b])
        )

    sizes = [life.size_bytes for life in lifetimes.values()]
    everywhere = product(*(range(sum(sizes) - size + 1) for size in sizes))
    return min(max(o + s for o, s in zip(offsets, sizes, strict=True)) for offsets in everywhere if right(offsets))


def test_an_input_lies_a_distance_above_the_output_that_is_written_over_it() -> None:
    lifetimes = {"input": Lifetime(100, 0, 1), "output": Lifetime(80, 1, 2)}
    assert plan_offsets(lifetimes, 1) == ({"input": 0, "output": 100}, 180)
    assert plan_offsets(lifetimes, 1, {("input", "output"): 30}) == ({"input": 30, "output": 0}, 130)
    assert plan_offsets(lifetimes, 1, {("input", "output"): 0}) == ({"input": 0, "output": 0}, 100)


def test_a_distance_is_rounded_up_to_the_alignment() -> None:
    lifetimes = {"input": Lifetime(64, 0, 1), "output": Lifetime(64, 1, 2)}
    assert plan_offsets(lifetimes, 16, {("input", "output"): 17}) == ({"input": 32, "output": 0}, 96)


@pytest.mark.parametrize("alignment", [1, 16])
def test_distances_are_kept_and_never_cost_anything(alignment: int) -> None:
    for seed in SEEDS:
        lifetimes, distances = chain_of_overlaps(seed, 5 + seed)
        made = plan(lifetimes, alignment, distances)
        check_plan(lifetimes, made.offsets, distances)
        assert all(offset % alignment == 0 for offset in made.offsets.values())
        bound = liveness_bound(lifetimes, alignment, distances)
        assert bound <= made.bound_bytes <= made.pool_bytes <= greedy_by_size(lifetimes, alignment)


@pytest.mark.parametrize("seed", range(3))
def test_distances_of_any_pairs_are_kept(seed: int) -> None:
    lifetimes = problem(seed)
    distances = distances_of(seed, lifetimes, 0.2)
    made = plan(lifetimes, 16, distances)
    check_plan(lifetimes, made.offsets, distances)
    assert made.bound_bytes <= made.pool_bytes <= greedy_by_size(lifetimes, 16)


def test_no_plan_is_below_the_bound_which_most_reach() -> None:
    reached = 0
    for seed in SEEDS:
        lifetimes, distances = small_problem(seed)
        bound, smallest = liveness_bound(lifetimes, 1, distances), smallest_pool(lifetimes, distances)
        assert bound <= smallest
        reached += bound == smallest
    assert reached > 0.8 * len(SEEDS)


def test_the_check_knows_distances() -> None:
    lifetimes = {"input": Lifetime(32, 0, 1), "output": Lifetime(16, 1, 2)}
    check_plan(lifetimes, {"input": 8, "output": 0}, {("input", "output"): 8})
    with pytest.raises(AssertionError, match="input and output overlap"):
        check_plan(lifetimes, {"input": 7, "output": 0}, {("input", "output"): 8})
    with pytest.raises(AssertionError, match="input and output overlap"):
        check_plan(lifetimes, {"input": 8, "output": 0})


def test_a_distance_beyond_the_size_is_refused() -> None:
    lifetimes = {"input": Lifetime(32, 0, 1), "output": Lifetime(16, 1, 2)}
    with pytest.raises(AssertionError, match="distance of 17 bytes from a buffer of 16"):
        plan_offsets(lifetimes, 1, {("input", "output"): 17})


def chain_of_overlaps(seed: int, count: int) -> tuple[dict[int, Lifetime], dict[tuple[int, int], int]]:
    """Return layers one after the other, most of which may write over their input; some have a scratch."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(10, 100, count).tolist()
    lifetimes = {i: Lifetime(size, i, i + 1) if i % 4 else Lifetime(size, i, i) for i, size in enumerate(sizes)}
    distances = {
        (i, i + 1): min(max(sizes[i + 1] - sizes[i], 0) + int(rng.integers(1, 20)), sizes[i + 1] - 1)
        for i in range(count - 1)
        if i % 4 and rng.random() < 0.8
    }
    return lifetimes, distances


def test_a_plan_of_twenty_buffers_is_proven_optimal() -> None:
    above = 0
    for seed in SEEDS:
        lifetimes = dict(list(problem(seed).items())[:20])
        assert plan(lifetimes, 1).is_optimal
        chain, distances = chain_of_overlaps(seed, 20)
        made = plan(chain, 1, distances)
        check_plan(chain, made.offsets, distances)
        assert made.is_optimal
        above += made.bound_bytes > liveness_bound(chain, 1, distances)
    assert above  # of some it took a search to prove it


def test_what_is_called_optimal_is_the_smallest() -> None:
    for seed in SEEDS:
        lifetimes, distances = small_problem(seed)
        made = plan(lifetimes, 1, distances)
        assert made.is_optimal
        assert made.pool_bytes == smallest_pool(lifetimes, distances)


@pytest.mark.parametrize("search", [from_below, by_pairs])
def test_a_search_finds_a_plan_exactly_where_there_is_one(search: Search) -> None:
    for seed in SEEDS:
        lifetimes, distances = small_problem(seed)
        problem, smallest = problem_of(lifetimes, 1, distances), smallest_pool(lifetimes, distances)
        found = search(problem, smallest, [0] * len(lifetimes), Budget(10**6))
        assert found is not None
        assert problem.height(found) == smallest
        check_plan(lifetimes, dict(enumerate(found)), distances)
        assert search(problem, smallest - 1, [0] * len(lifetimes), Budget(10**6)) is None


def test_repair_comes_close_to_the_bound_with_hundreds_of_buffers() -> None:
    graph = memory_graph(199)
    problem = problem_of(graph.lifetimes, 16, graph.distances)
    above = int(lower_bound(problem) * 1.02)
    found = eject(problem, above, [above] * len(problem.sizes), Budget(20_000))
    assert found is not None
    assert problem.height(found) <= above
    check_plan(graph.lifetimes, {i: 16 * offset for i, offset in enumerate(found)}, graph.distances)


@pytest.mark.parametrize("search", [from_below, by_pairs, eject])
def test_a_search_without_budget_gives_up(search: Search) -> None:
    problem = problem_of({i: Lifetime(10, 0, 0) for i in range(3)}, 1, {})
    with pytest.raises(OutOfBudgetError):
        search(problem, 30, [30] * 3, Budget(0))


def test_plans_of_random_graphs_are_within_two_percent_of_the_bound() -> None:
    """A part of the benchmark, `python -m benchmarks.planner`."""
    above = []
    for seed in range(0, 200, 8):
        graph = memory_graph(seed)
        made = plan(graph.lifetimes, 16, graph.distances)
        check_plan(graph.lifetimes, made.offsets, graph.distances)
        assert made.pool_bytes <= greedy_by_size(graph.lifetimes, 16)
        above.append(made.pool_bytes / liveness_bound(graph.lifetimes, 16, graph.distances) - 1)
    assert np.mean(above) < 0.02
    assert max(above) < 0.1


def test_only_the_older_of_two_may_start_where_the_other_starts() -> None:
    lifetimes = {"input": Lifetime(32, 0, 1), "output": Lifetime(32, 1, 2)}
    assert plan_offsets(lifetimes, 1, {("input", "output"): 0})[1] == 32
    assert plan_offsets(lifetimes, 1, {("output", "input"): 0})[1] == 33
