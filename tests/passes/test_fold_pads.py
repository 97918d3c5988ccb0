"""Borders become padding where no byte changes, and only there."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tvm import relax

from tests.passes.dead_graphs import RANGE, DeadGraph
from tests.passes.graphs import calls, names
from tests.passes.simplified import run_library, simplified, unchanged
from tvm_tinyml.passes import FoldPads, integer_ops
from tvm_tinyml.passes.integer_ops import attributes_of

WIDTHS = [1, 2, 0, 3]
"""Top, left, bottom, right."""


def pad(g: DeadGraph, x: relax.Expr, widths: list[int] = WIDTHS, value: int | None = None) -> relax.Var:
    """Put a border around an image, as the front ends do; of the zero point unless another value is given."""
    top, left, bottom, right = widths
    value = g.zero_point if value is None else value
    return g.emit(relax.op.nn.pad(x, [0, 0, top, bottom, left, right, 0, 0], pad_value=value))


def largest(g: DeadGraph, x: relax.Expr, **more: Any) -> relax.Var:
    """Take the largest element of windows of 3x4."""
    options = {"pool_size": [3, 4], "strides": [1, 1], "padding": [0, 0, 0, 0], **RANGE, **more}
    return g.emit(integer_ops.max_pool2d(x, **options))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"strides": [2, 2]},
        {"padding": [1, 0, 2, 1]},
        {"dilation": [2, 1], "padding": [0, 1, 0, 0]},
        {"kernel": 1},
    ],
)
@pytest.mark.parametrize("depthwise", [False, True])
def test_a_border_of_the_zero_point_adds_to_the_padding_of_a_convolution(
    options: dict[str, Any], depthwise: bool
) -> None:
    own = {"kernel": 3, **options}
    after = simplified(
        FoldPads(), lambda g, x: g.depthwise(pad(g, x), **own) if depthwise else g.conv(pad(g, x), 4, **own)
    )
    assert names(after) == ["tinyml.conv2d"]
    before = options.get("padding", [0, 0, 0, 0])
    assert attributes_of(calls(after)[0])["padding"] == [a + b for a, b in zip(before, WIDTHS, strict=True)]


def test_a_border_of_this_dialect_is_one_too() -> None:
    after = simplified(
        FoldPads(),
        lambda g, x: g.conv(g.emit(integer_ops.pad2d(x, padding=WIDTHS, value=g.zero_point)), 4, 3),
    )
    assert names(after) == ["tinyml.conv2d"]
    assert attributes_of(calls(after)[0])["padding"] == WIDTHS


def test_borders_around_borders_add_up() -> None:
    after = simplified(FoldPads(), lambda g, x: g.conv(pad(g, pad(g, pad(g, x))), 4, 3))
    assert names(after) == ["tinyml.conv2d"]
    assert attributes_of(calls(after)[0])["padding"] == [3 * width for width in WIDTHS]


@pytest.mark.parametrize(("value", "low"), [(-128, -128), (-100, -100), (-101, -100)])
def test_a_border_that_is_never_the_largest_adds_to_the_padding_of_a_pool(value: int, low: int) -> None:
    after = simplified(FoldPads(), lambda g, x: largest(g, pad(g, x, value=value), padding=[1, 0, 1, 0], clamp_min=low))
    assert names(after) == ["tinyml.max_pool2d"]
    assert attributes_of(calls(after)[0])["padding"] == [2, 2, 1, 3]


def test_a_border_that_may_be_the_largest_stays() -> None:
    assert unchanged(FoldPads(), lambda g, x: largest(g, pad(g, x, value=-99), clamp_min=-100))


@pytest.mark.parametrize("widths", [[3, 0, 0, 0], [0, 4, 0, 0], [0, 0, 3, 0], [0, 0, 0, 4]])
def test_a_border_as_wide_as_the_window_of_a_pool_stays(widths: list[int]) -> None:
    assert unchanged(FoldPads(), lambda g, x: largest(g, pad(g, x, widths, value=-128)))


@pytest.mark.parametrize("op", [integer_ops.avg_pool2d, integer_ops.mean_pool2d])
def test_a_border_before_a_mean_stays_since_it_counts(op: integer_ops.IntegerOp) -> None:
    assert unchanged(FoldPads(), lambda g, x: g.pool(pad(g, x), op))


def test_a_border_of_another_value_stays_before_a_convolution() -> None:
    assert unchanged(FoldPads(), lambda g, x: g.conv(pad(g, x, value=g.zero_point ^ 1), 4, 3))


def test_a_border_that_something_else_reads_stays() -> None:
    def two(g: DeadGraph, x: relax.Var) -> list[relax.Expr]:
        border = pad(g, x)
        return [g.conv(border, 4, 3), g.conv(border, 2, 3)]

    def output(g: DeadGraph, x: relax.Var) -> list[relax.Expr]:
        border = pad(g, x)
        return [g.conv(border, 4, 3), border]

    assert unchanged(FoldPads(), two)
    assert unchanged(FoldPads(), output)


@pytest.mark.parametrize("widths", [[0, 0, 1, 1, 1, 1, 1, 0], [1, 0, 1, 1, 1, 1, 0, 0]])
def test_a_border_of_channels_or_samples_stays(widths: list[int]) -> None:
    assert unchanged(FoldPads(), lambda g, x: g.conv(g.emit(relax.op.nn.pad(x, widths, pad_value=g.zero_point)), 4, 3))


def test_a_border_that_reflects_the_image_stays() -> None:
    widths = [0, 0, 1, 1, 1, 1, 0, 0]
    assert unchanged(FoldPads(), lambda g, x: g.conv(g.emit(relax.op.nn.pad(x, widths, pad_mode="reflect")), 4, 3))


@pytest.mark.parametrize("goal", ["time", "ram", "flash"])
@pytest.mark.parametrize("widths", [[1, 1, 1, 1], [4, 5, 3, 6]])
@pytest.mark.parametrize("depthwise", [False, True])
def test_libraries_with_folded_borders_give_the_reference_bytes(
    goal: str, widths: list[int], depthwise: bool, rng: np.random.Generator
) -> None:
    g = DeadGraph(0)

    def layer(x: relax.Var) -> relax.Expr:
        border = pad(g, x, widths)
        return g.depthwise(border) if depthwise else g.conv(border, 8, 3)

    result, expected = run_library(g.finish(layer, (1, 6, 5, 4)), rng, goal=goal)
    np.testing.assert_array_equal(result, expected)
