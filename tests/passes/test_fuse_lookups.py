"""Look-ups become one, or none."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from tvm import relax

from tests.passes.dead_graphs import DeadGraph
from tests.passes.graphs import Array, calls, integer, names
from tests.passes.simplified import run_library, simplified, unchanged
from tvm_tinyml.passes import FuseLookups, integer_ops
from tvm_tinyml.passes.fuse_lookups import clamped
from tvm_tinyml.passes.integer_ops import attributes_of
from tvm_tinyml.passes.lookup_tables import numbers
from tvm_tinyml.reference.evaluate import evaluate

Make = Callable[[DeadGraph, relax.Expr], relax.Expr]
EPILOGUES: dict[str, Make] = {
    "conv2d": lambda g, x: g.conv(x, 4, 3),
    "dense": lambda g, x: g.dense(g.flat(x), 8),
    "add": lambda g, x: g.sum(x, g.constant(1, 5, 6, 3)),
    "subtract": lambda g, x: g.sum(x, g.constant(1, 5, 6, 3), integer_ops.subtract),
    "multiply": lambda g, x: g.product(x, g.constant(1, 5, 6, 3)),
    "avg_pool2d": lambda g, x: g.pool(x),
    "max_pool2d": lambda g, x: g.pool(x, integer_ops.max_pool2d),
    "mean_pool2d": lambda g, x: g.pool(x, integer_ops.mean_pool2d),
    "mean": lambda g, x: g.mean(x),
    "softmax": lambda g, x: g.softmax(g.flat(x)),
}


def applied(g: DeadGraph, x: relax.Expr, table: Array) -> relax.Var:
    """Look a tensor up in a table."""
    return g.emit(integer_ops.lookup(x, relax.const(table.astype(np.int8))))


def clamp(low: int, high: int) -> Array:
    """Return the table that clamps."""
    return np.clip(numbers("int8"), low, high)


def test_look_ups_that_follow_each_other_become_one() -> None:
    after = simplified(FuseLookups(), lambda g, x: g.lookup(g.lookup(g.lookup(g.lookup(x)))))
    assert names(after) == ["tinyml.lookup"]


def test_a_look_up_that_changes_nothing_vanishes() -> None:
    after = simplified(FuseLookups(), lambda g, x: g.conv(applied(g, x, numbers("int8")), 4))
    assert names(after) == ["tinyml.conv2d"]


def test_look_ups_that_undo_each_other_vanish(rng: np.random.Generator) -> None:
    permutation = rng.permutation(256)

    def there_and_back(g: DeadGraph, x: relax.Var) -> relax.Expr:
        there = applied(g, x, permutation - 128)
        return g.conv(applied(g, there, np.argsort(permutation) - 128), 4)

    assert names(simplified(FuseLookups(), there_and_back)) == ["tinyml.conv2d"]


@pytest.mark.parametrize("name", EPILOGUES)
@pytest.mark.parametrize(("low", "high"), [(-20, 30), (-128, 11), (7, 7)])
def test_a_look_up_that_clamps_becomes_the_bounds_of_the_operator_before_it(name: str, low: int, high: int) -> None:
    after = simplified(FuseLookups(), lambda g, x: applied(g, EPILOGUES[name](g, x), clamp(low, high)))
    (call,) = [call for call in calls(after) if call.op.name != "relax.reshape"]
    assert call.op.name == f"tinyml.{name}"
    bounds = attributes_of(call)
    assert bounds["clamp_max"] == high
    assert bounds["clamp_min"] >= low


def test_what_the_operator_never_gives_does_not_count() -> None:
    """Below its clamp a table may hold anything."""

    def build(g: DeadGraph, x: relax.Var) -> relax.Expr:
        pooled = g.pool(x, integer_ops.max_pool2d, clamp_min=-50, clamp_max=60)
        table = clamp(-10, 100)
        table[: 128 - 50] = np.arange(128 - 50)
        return applied(g, pooled, table)

    (call,) = calls(simplified(FuseLookups(), build))
    assert (attributes_of(call)["clamp_min"], attributes_of(call)["clamp_max"]) == (-10, 60)


def test_a_clamp_that_never_acts_vanishes_even_if_others_read_the_tensor() -> None:
    def build(g: DeadGraph, x: relax.Var) -> list[relax.Expr]:
        pooled = g.pool(x, integer_ops.max_pool2d, clamp_min=-50, clamp_max=60)
        return [applied(g, pooled, clamp(-50, 60)), g.conv(pooled, 2)]

    assert names(simplified(FuseLookups(), build)) == ["tinyml.max_pool2d", "tinyml.conv2d"]


def test_a_clamp_that_follows_look_ups_and_an_operator_joins_the_look_ups() -> None:
    after = simplified(FuseLookups(), lambda g, x: applied(g, g.lookup(g.conv(x, 4)), clamp(-3, 3)))
    assert names(after) == ["tinyml.conv2d", "tinyml.lookup"]


@pytest.mark.parametrize(
    "table",
    [
        pytest.param(-numbers("int8") - 1, id="falls"),
        pytest.param(numbers("int8") // 2, id="scales"),
        pytest.param(np.roll(numbers("int8"), 1), id="shifts"),
    ],
)
def test_a_look_up_that_does_more_than_clamp_stays(table: Array) -> None:
    assert unchanged(FuseLookups(), lambda g, x: applied(g, g.conv(x, 4), table))


def test_a_clamp_of_what_others_read_too_stays() -> None:
    def build(g: DeadGraph, x: relax.Var) -> list[relax.Expr]:
        y = g.conv(x, 4)
        return [applied(g, y, clamp(0, 9)), y]

    assert unchanged(FuseLookups(), build)


def test_a_look_up_that_others_read_stays_with_the_one_behind_it() -> None:
    def build(g: DeadGraph, x: relax.Var) -> list[relax.Expr]:
        y = g.lookup(x)
        return [g.lookup(y), y]

    assert unchanged(FuseLookups(), build)


def test_a_clamp_of_an_input_or_of_a_move_stays() -> None:
    assert unchanged(FuseLookups(), lambda g, x: applied(g, x, clamp(0, 9)))
    assert unchanged(FuseLookups(), lambda g, x: applied(g, g.concat(x, x), clamp(0, 9)))


def test_another_type_is_never_nothing() -> None:
    """The bits of int8 and uint8 numbers differ although the numbers are the same."""
    table = relax.const(np.arange(256).astype(np.uint8))
    module = integer(lambda x: integer_ops.lookup(x, table), (1, 4))
    assert names(FuseLookups()(module)) == ["tinyml.lookup"]


def test_unsigned_look_ups_become_one(rng: np.random.Generator) -> None:
    tables = [relax.const(rng.integers(0, 256, 256).astype(np.uint8)) for _ in range(3)]

    def build(x: relax.Expr) -> relax.Expr:
        for table in tables:
            x = integer_ops.lookup(x, table)
        return x

    before = integer(build, (1, 40), dtype="uint8")
    after = FuseLookups()(before)
    assert names(after) == ["tinyml.lookup"]
    x = rng.integers(0, 256, (1, 40)).astype(np.uint8)
    np.testing.assert_array_equal(evaluate(after, [x])[0], evaluate(before, [x])[0], strict=True)


def test_a_table_clamps_only_if_it_is_a_clamp_wherever_it_is_met(rng: np.random.Generator) -> None:
    for _ in range(200):
        low, high = sorted(rng.integers(-128, 128, 2).tolist())
        bounds = sorted(rng.integers(-128, 128, 2).tolist())
        table = clamp(*bounds).astype(np.int8)
        inside = np.arange(low, high + 1)
        found = clamped(table, "int8", (low, high))
        assert found is not None
        assert np.clip(inside, *found).tolist() == np.clip(inside, *bounds).tolist()
        values = rng.integers(-1000, 1000, 500)
        assert np.clip(values, *found).tolist() == np.clip(np.clip(values, low, high), *bounds).tolist()


@pytest.mark.parametrize("target", ["cortex-m0plus", "cortex-m4", "cortex-m55"])
@pytest.mark.parametrize("bounds", [(-20, 30), (5, 5)])
@pytest.mark.parametrize("name", ["conv2d", "mean", "add", "max_pool2d"])
def test_libraries_with_bounds_from_tables_give_the_reference_bytes(
    name: str, bounds: tuple[int, int], target: str, rng: np.random.Generator
) -> None:
    g = DeadGraph(0)
    before = g.finish(lambda x: applied(g, EPILOGUES[name](g, x), clamp(*bounds)), (1, 5, 6, 3))
    result, expected = run_library(before, rng, target)
    np.testing.assert_array_equal(result, expected)


def test_an_output_may_be_an_input(rng: np.random.Generator) -> None:
    g = DeadGraph(0)
    before = g.finish(lambda x: applied(g, x, numbers("int8")), (1, 4, 4, 2))
    assert names(FuseLookups()(before)) == []
    result, expected = run_library(before, rng)
    np.testing.assert_array_equal(result, expected)
