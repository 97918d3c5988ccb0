"""TVM's EliminateCommonSubexpr knows this dialect: constants and attributes count."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import tvm
from tvm import relax

from tests.passes.dead_graphs import RANGE, DeadGraph
from tests.passes.graphs import names
from tests.passes.simplified import Build, simplified
from tvm_tinyml.passes import integer_ops

ELIMINATE = tvm.transform.Sequential(
    [relax.transform.EliminateCommonSubexpr(call_only=True), relax.transform.CanonicalizeBindings()]
)


def pools(g: DeadGraph, x: relax.Var, lows: Sequence[int]) -> list[relax.Expr]:
    """Return a pool for each lower bound."""
    window = {"pool_size": [2, 2], "strides": [1, 1], "padding": [0, 0, 0, 0]}
    return [g.emit(integer_ops.max_pool2d(x, **window, **{**RANGE, "clamp_min": low})) for low in lows]


def tables(g: DeadGraph, x: relax.Var, others: int) -> list[relax.Expr]:
    """Return look-ups in three tables, of which some differ in one entry, each an array of its own."""
    first = g.int8(256)
    copies = [first.copy() for _ in range(3)]
    for copy in copies[:others]:
        copy[g.rng.integers(256)] ^= 1
    return [g.emit(integer_ops.lookup(x, relax.const(copy))) for copy in copies]


@pytest.mark.parametrize(
    ("build", "left"),
    [
        (lambda g, x: g.sum(*pools(g, x, [3, 3])), ["tinyml.max_pool2d", "tinyml.add"]),
        (lambda g, x: g.sum(*pools(g, x, [3, 4])), ["tinyml.max_pool2d"] * 2 + ["tinyml.add"]),
        (lambda g, x: g.concat(*tables(g, x, 0)), ["tinyml.lookup", "relax.concat"]),
        (lambda g, x: g.concat(*tables(g, x, 1)), ["tinyml.lookup"] * 2 + ["relax.concat"]),
        (lambda g, x: g.concat(*tables(g, x, 2)), ["tinyml.lookup"] * 3 + ["relax.concat"]),
    ],
)
def test_equal_operators_become_one_and_others_stay(build: Build, left: list[str]) -> None:
    assert names(simplified(ELIMINATE, build)) == left


def test_whole_branches_become_one() -> None:
    def build(g: DeadGraph, x: relax.Var) -> relax.Expr:
        numbers = g.int8(256)
        window = {"pool_size": [2, 2], "strides": [2, 2], "padding": [0, 0, 0, 0], **RANGE}
        left, right = (
            g.emit(integer_ops.avg_pool2d(g.emit(integer_ops.lookup(x, relax.const(numbers.copy()))), **window))
            for _ in range(2)
        )
        return g.sum(left, right)

    assert names(simplified(ELIMINATE, build)) == ["tinyml.lookup", "tinyml.avg_pool2d", "tinyml.add"]
