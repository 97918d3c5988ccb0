"""Transposes that undo each other leave, also with element-wise operators between them."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from tvm import relax

from tests.passes.dead_graphs import DeadGraph
from tests.passes.graphs import calls, names
from tests.passes.simplified import simplified, unchanged
from tvm_tinyml.passes import SimplifyTransposes
from tvm_tinyml.passes.integer_ops import shape_of

TO_NCHW, TO_NHWC = [0, 3, 1, 2], [0, 2, 3, 1]


def permuted(g: DeadGraph, x: relax.Expr, *orders: Sequence[int] | None) -> relax.Expr:
    """Reorder the axes of a tensor again and again; None: all in reverse."""
    for order in orders:
        x = g.emit(relax.op.permute_dims(x, order))
    return x


@pytest.mark.parametrize("orders", [[TO_NCHW, TO_NHWC], [None, None], [[0, -2, -1, 1]] * 3])
def test_transposes_that_undo_each_other_vanish(orders: list[list[int] | None]) -> None:
    after = simplified(SimplifyTransposes(), lambda g, x: g.conv(permuted(g, x, *orders), 4, 1))
    assert names(after) == ["tinyml.conv2d"]


def test_transposes_that_follow_each_other_become_one() -> None:
    after = simplified(SimplifyTransposes(), lambda g, x: permuted(g, x, TO_NCHW, [0, 2, 1, 3], TO_NCHW))
    assert names(after) == ["relax.permute_dims"]
    assert [int(axis) for axis in calls(after)[0].attrs.axes] == [0, 2, 1, 3]


@pytest.mark.parametrize(
    ("shape", "order"), [((1, 1, 6, 3), [0, 2, 1, 3]), ((1, 5, 6, 1), TO_NCHW), ((1, 1, 1, 7), None)]
)
def test_a_transpose_that_only_moves_axes_of_one_element_becomes_a_reshape(
    shape: tuple[int, ...], order: list[int] | None
) -> None:
    after = simplified(SimplifyTransposes(), lambda g, x: permuted(g, x, order), shape)
    assert names(after) == ["relax.reshape"]


def test_a_transpose_that_moves_nothing_vanishes() -> None:
    after = simplified(SimplifyTransposes(), lambda g, x: g.lookup(permuted(g, x, [0, 1, 2, 3])))
    assert names(after) == ["tinyml.lookup"]


def test_transposes_around_look_ups_vanish() -> None:
    after = simplified(
        SimplifyTransposes(), lambda g, x: permuted(g, g.lookup(g.lookup(permuted(g, x, TO_NCHW))), TO_NHWC)
    )
    assert names(after) == ["tinyml.lookup", "tinyml.lookup"]


def test_transposes_around_functions_of_int16_vanish() -> None:
    after = simplified(
        SimplifyTransposes(), lambda g, x: permuted(g, g.int16_functions(permuted(g, x, TO_NCHW)), TO_NHWC)
    )
    assert "relax.permute_dims" not in names(after)


def test_transposes_around_sums_and_products_vanish() -> None:
    def build(g: DeadGraph, x: relax.Var) -> relax.Expr:
        y, z = permuted(g, x, TO_NCHW), permuted(g, g.conv(x, 3), TO_NCHW)
        product = g.product(g.lookup(y), g.sum(z, g.constant(1, 3, 1, 1)))
        return permuted(g, g.sum(product, g.constant(1)), TO_NHWC)

    after = simplified(SimplifyTransposes(), build)
    assert "relax.permute_dims" not in names(after)
    (constant,) = [call.args[1] for call in calls(after) if call.op.name == "tinyml.add"][:1]
    assert shape_of(constant) == [1, 1, 1, 3]


def test_one_of_two_transposes_around_a_look_up_stays() -> None:
    after = simplified(SimplifyTransposes(), lambda g, x: permuted(g, g.lookup(permuted(g, x, TO_NCHW)), [0, 1, 3, 2]))
    assert names(after) == ["relax.permute_dims", "tinyml.lookup"]


def test_a_transpose_whose_result_others_read_stays_and_is_still_undone() -> None:
    def build(g: DeadGraph, x: relax.Var) -> list[relax.Expr]:
        y = permuted(g, x, TO_NCHW)
        return [g.conv(permuted(g, y, TO_NHWC), 2), g.lookup(y)]

    after = simplified(SimplifyTransposes(), build)
    assert sorted(names(after)) == ["relax.permute_dims", "tinyml.conv2d", "tinyml.lookup"]


def only_one(g: DeadGraph, x: relax.Var) -> relax.Expr:
    """Transpose once."""
    return permuted(g, x, TO_NCHW)


def behind_a_look_up(g: DeadGraph, x: relax.Var) -> relax.Expr:
    """Transpose what was looked up: before the look-up it would be the same work."""
    return permuted(g, g.lookup(x), TO_NCHW)


def behind_half_a_sum(g: DeadGraph, x: relax.Var) -> relax.Expr:
    """Transpose a sum of which one operand only was transposed: another transpose would take its place."""
    return permuted(g, g.sum(permuted(g, x, TO_NCHW), g.emit(relax.op.reshape(x, (1, 3, 5, 6)))), TO_NHWC)


def read_by_others(g: DeadGraph, x: relax.Var) -> list[relax.Expr]:
    """Read what is between two transposes: it would be computed twice."""
    y = g.lookup(permuted(g, x, TO_NCHW))
    return [permuted(g, y, TO_NHWC), y]


def two_of_which_others_read_the_first(g: DeadGraph, x: relax.Var) -> list[relax.Expr]:
    """Transpose twice, to no order that was there before: as much work from the input."""
    y = permuted(g, x, TO_NCHW)
    return [permuted(g, y, [0, 1, 3, 2]), g.lookup(y)]


@pytest.mark.parametrize(
    "build", [only_one, behind_a_look_up, behind_half_a_sum, read_by_others, two_of_which_others_read_the_first]
)
def test_a_transpose_that_none_undoes_stays(build: object) -> None:
    assert unchanged(SimplifyTransposes(), build)  # type: ignore[arg-type]
