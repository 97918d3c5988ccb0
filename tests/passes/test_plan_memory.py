"""Offsets: nothing that lives at the same time overlaps, and the pool is small."""

from __future__ import annotations

from itertools import permutations, product

import numpy as np
import pytest
from numpy.typing import NDArray

from tvm_tinyml.passes.plan_memory import Lifetime, check_plan, liveness_bound, plan_offsets

SEEDS = range(100)


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


def greedy_by_size(lifetimes: dict[int, Lifetime], alignment: int) -> int:
    """Return the pool of the common heuristic: largest first, each into the smallest gap where it fits."""
    placed: list[tuple[int, int, Lifetime]] = []
    for life in sorted(lifetimes.values(), key=lambda l: (-l.size_bytes, l.first)):
        units = -(-life.size_bytes // alignment)
        taken = np.zeros(max((stop for _, stop, _ in placed), default=0) + 1, bool)
        for start, stop, other in placed:
            if other.overlaps(life):
                taken[start:stop] = True
        borders = np.flatnonzero(np.diff(taken, prepend=True))  # a free run begins, ends, begins, ...
        runs = list(zip(borders[::2].tolist(), borders[1::2].tolist(), strict=False))
        gaps = [(stop - start, start) for start, stop in runs if stop - start >= units]
        offset = min(gaps)[1] if gaps else int(borders[-1])
        placed.append((offset, offset + units, life))
    return max(stop for _, stop, _ in placed) * alignment


@pytest.mark.parametrize("seed", SEEDS)
def test_no_two_live_values_share_a_byte_and_all_lie_in_the_pool(seed: int) -> None:
    lifetimes = problem(seed)
    offsets, pool = plan_offsets(lifetimes, 16)
    for step in {life.first for life in lifetimes.values()}:
        assert uses(lifetimes, offsets, step, pool).max() == 1
    check_plan(lifetimes, offsets)


@pytest.mark.parametrize("alignment", [1, 4, 16])
def test_every_offset_and_the_pool_are_aligned(alignment: int) -> None:
    for seed in SEEDS:
        offsets, pool = plan_offsets(problem(seed), alignment)
        assert all(value % alignment == 0 for value in (*offsets.values(), pool))


def test_the_pool_is_never_above_greedy_by_size_and_never_below_the_bound() -> None:
    smaller = 0
    for seed in SEEDS:
        lifetimes = problem(seed)
        _, pool = plan_offsets(lifetimes, 16)
        greedy = greedy_by_size(lifetimes, 16)
        assert liveness_bound(lifetimes, 16) <= pool <= greedy
        smaller += pool < greedy
    assert smaller  # the other orders are of use


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
        assert plan_offsets(problem(seed), 16) == plan_offsets(problem(seed), 16)


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
        offsets, _ = plan_offsets(lifetimes, 16)
        key = max(lifetimes, key=lambda k: offsets[k])
        others = [k for k in lifetimes if k != key and lifetimes[k].overlaps(lifetimes[key])]
        if others:
            with pytest.raises(AssertionError, match="overlap"):
                check_plan(lifetimes, {**offsets, key: offsets[others[0]]})


def distances_of(seed: int, lifetimes: dict[int, Lifetime], share: float) -> dict[tuple[int, int], int]:
    """Return distances below a buffer's size for a share of the pairs."""
    rng = np.random.default_rng(seed)
    pairs = [pair for pair in permutations(lifetimes, 2) if rng.random() < share]
    return {(upper, lower): int(rng.integers(0, lifetimes[lower].size_bytes)) for upper, lower in pairs}


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
        lifetimes = problem(seed)
        distances = distances_of(seed, lifetimes, 0.2)
        offsets, pool = plan_offsets(lifetimes, alignment, distances)
        check_plan(lifetimes, offsets, distances)
        assert liveness_bound(lifetimes, alignment, distances) <= pool <= greedy_by_size(lifetimes, alignment)


def test_no_plan_is_below_the_bound_which_most_reach() -> None:
    reached = 0
    for seed in SEEDS:
        lifetimes, distances = small_problem(seed)
        bound, smallest = liveness_bound(lifetimes, 1, distances), smallest_pool(lifetimes, distances)
        assert bound <= smallest
        reached += bound == smallest
    assert reached > 0.9 * len(SEEDS)


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
