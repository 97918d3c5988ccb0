"""Sums and products that depend on one number become tables."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from tvm import relax

from tests.passes.dead_graphs import DeadGraph
from tests.passes.graphs import integer, names
from tests.passes.simplified import check, run_library, simplified, unchanged
from tvm_tinyml.passes import TabulateFunctions, integer_ops
from tvm_tinyml.reference.evaluate import evaluate

Make = Callable[[DeadGraph, relax.Var], relax.Expr]


def constant(value: int, *shape: int) -> relax.Expr:
    """Return a constant whose elements are all equal."""
    return relax.const(np.full(shape, value, np.int8))


def swish(g: DeadGraph, x: relax.Var) -> relax.Expr:
    """Multiply a tensor by a function of it."""
    return g.product(x, g.lookup(x))


FUNCTIONS: dict[str, Make] = {
    "square": lambda g, x: g.product(x, x),
    "twice": lambda g, x: g.sum(x, x),
    "nothing": lambda g, x: g.sum(x, x, integer_ops.subtract),
    "plus a number": lambda g, x: g.sum(x, constant(17, 1)),
    "number minus": lambda g, x: g.sum(constant(-90, 1, 1, 1, 1), x, integer_ops.subtract),
    "times a number": lambda g, x: g.product(x, constant(3)),
    "times equal numbers": lambda g, x: g.product(x, constant(-5, 1, 5, 6, 3)),
    "swish": swish,
    "swish, the other way": lambda g, x: g.product(g.lookup(x), x),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_of_one_tensor_becomes_a_table(name: str) -> None:
    after = simplified(TabulateFunctions(), FUNCTIONS[name])
    assert names(after) == ["tinyml.lookup"]


def test_functions_of_functions_become_one_table_of_what_they_share() -> None:
    after = simplified(TabulateFunctions(), lambda g, x: g.sum(g.lookup(g.lookup(x)), g.product(x, g.lookup(x))))
    assert names(after) == ["tinyml.lookup"]


def test_the_nearest_tensor_that_both_share_is_read() -> None:
    after = simplified(TabulateFunctions(), lambda g, x: swish(g, g.lookup(x)))
    assert names(after) == ["tinyml.lookup", "tinyml.lookup"]


def test_unsigned_numbers_have_their_own_tables() -> None:
    table = relax.const(np.random.default_rng(1).integers(-128, 128, 256).astype(np.int8))
    g = DeadGraph(0)

    def build(x: relax.Expr) -> relax.Expr:
        scale = {"input1_zero_point": 4, "input2_zero_point": -9, "left_shift": 0}
        scale |= {"output_multiplier": 2**30, "output_shift": -5, "output_zero_point": 1}
        squares = integer_ops.lookup(x, table), integer_ops.lookup(x, table)
        return integer_ops.multiply(*squares, **scale, clamp_min=-128, clamp_max=127)

    before = integer(build, (1, 4, 4, 3), dtype="uint8")
    after = TabulateFunctions()(before)
    assert names(after) == ["tinyml.lookup"]
    x = g.rng.integers(0, 256, (1, 4, 4, 3)).astype(np.uint8)
    np.testing.assert_array_equal(evaluate(after, [x])[0], evaluate(before, [x])[0], strict=True)


@pytest.mark.parametrize(
    "build",
    [
        lambda g, x: g.sum(x, g.conv(x, 3)),
        lambda g, x: g.product(g.lookup(x), g.lookup(g.conv(x, 3))),
        lambda g, x: g.sum(x, g.constant(1, 1, 1, 3)),
        lambda g, x: g.product(x, g.constant(1, 5, 6, 3)),
    ],
)
def test_what_depends_on_more_stays(build: Make) -> None:
    assert unchanged(TabulateFunctions(), build)


def test_a_number_that_makes_a_tensor_larger_stays() -> None:
    assert unchanged(TabulateFunctions(), lambda g, x: g.sum(x, constant(5, 1, 5, 6, 3)), (1, 1, 1, 3))


def test_constants_alone_are_left_to_the_pass_that_folds_them() -> None:
    assert unchanged(TabulateFunctions(), lambda g, x: g.conv(g.sum(constant(1, 1, 5, 6, 3), constant(2, 1)), 3))


def test_a_library_of_a_table_gives_the_reference_bytes(rng: np.random.Generator) -> None:
    g = DeadGraph(0)
    before = g.finish(lambda x: g.sum(swish(g, x), constant(9, 1)), (1, 5, 6, 3))
    check(TabulateFunctions(), before, TabulateFunctions()(before), rng)
    result, expected = run_library(before, rng)
    np.testing.assert_array_equal(result, expected)
