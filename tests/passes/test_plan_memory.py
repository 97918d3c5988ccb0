"""Offsets: nothing that lives at the same time overlaps, and the pool is small."""

from __future__ import annotations

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
