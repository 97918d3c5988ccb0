"""Reshapes of reshapes become one, or none."""

from __future__ import annotations

from tvm import relax

from tests.passes.dead_graphs import DeadGraph
from tests.passes.graphs import calls, names
from tests.passes.simplified import simplified, unchanged
from tvm_tinyml.passes import SimplifyReshapes
from tvm_tinyml.passes.integer_ops import shape_of


def reshaped(g: DeadGraph, x: relax.Expr, *shapes: tuple[int, ...]) -> relax.Expr:
    """Give a tensor one shape after another."""
    for shape in shapes:
        x = g.emit(relax.op.reshape(x, shape))
    return x


def test_reshapes_that_follow_each_other_become_one() -> None:
    after = simplified(SimplifyReshapes(), lambda g, x: reshaped(g, x, (90,), (5, 18), (9, 10), (1, 90)))
    assert names(after) == ["relax.reshape"]
    assert shape_of(calls(after)[0]) == [1, 90]


def test_a_reshape_to_the_same_shape_vanishes() -> None:
    after = simplified(SimplifyReshapes(), lambda g, x: g.lookup(reshaped(g, x, (1, 5, 6, 3))))
    assert names(after) == ["tinyml.lookup"]


def test_a_reshape_there_and_back_vanishes() -> None:
    after = simplified(SimplifyReshapes(), lambda g, x: g.conv(reshaped(g, x, (1, 90), (1, 5, 6, 3)), 4))
    assert names(after) == ["tinyml.conv2d"]


def test_a_reshape_that_others_read_stays_for_them() -> None:
    def build(g: DeadGraph, x: relax.Var) -> list[relax.Expr]:
        flat = reshaped(g, x, (1, 90))
        return [g.dense(flat, 4), g.conv(reshaped(g, flat, (1, 5, 6, 3)), 2)]

    after = simplified(SimplifyReshapes(), build)
    assert sorted(names(after)) == ["relax.reshape", "tinyml.conv2d", "tinyml.dense"]


def test_one_reshape_stays() -> None:
    assert unchanged(SimplifyReshapes(), lambda g, x: g.dense(g.flat(x), 4))


def test_reshapes_with_something_between_them_stay() -> None:
    assert unchanged(SimplifyReshapes(), lambda g, x: reshaped(g, g.lookup(reshaped(g, x, (1, 90))), (1, 5, 6, 3)))
