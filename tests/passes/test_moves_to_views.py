"""Concatenations, splits and slices that lie in one piece become views."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from tvm import relax

import tvm_tinyml as tinyml
from benchmarks.int8_graph import Int8Graph, Value
from tests.passes.graphs import inputs_of, integer, names, same
from tvm_tinyml.passes import MovesToViews
from tvm_tinyml.reference.evaluate import evaluate

Move = Callable[[relax.Expr], relax.Expr]


def split(x: relax.Expr, axis: int) -> relax.Expr:
    """Return the second third of a tensor."""
    return relax.TupleGetItem(relax.op.split(x, 3, axis), 1)


@pytest.mark.parametrize(
    ("move", "shape", "expected"),
    [
        (lambda x: relax.op.concat([x, x], 1), (1, 6, 5, 4), ["tinyml.join"]),
        (lambda x: relax.op.concat([x, x], 3), (1, 1, 1, 4), ["tinyml.join"]),
        (lambda x: relax.op.concat([x, x], -1), (1, 6, 5, 4), ["tinyml.interleave"]),
        (lambda x: relax.op.concat([x, x], 2), (1, 6, 5, 4), ["relax.concat"]),
        (lambda x: relax.op.concat([x], -1), (1, 6, 5, 4), []),
        (lambda x: split(x, 1), (1, 6, 5, 4), ["tinyml.view"] * 3),
        (lambda x: split(x, 3), (1, 6, 5, 3), ["tinyml.channels"] * 3),
        (lambda x: split(x, 2), (1, 6, 6, 3), ["relax.split"]),
        (lambda x: relax.op.strided_slice(x, [1], [2], [4], [1]), (1, 6, 5, 4), ["tinyml.view"]),
        (lambda x: relax.op.strided_slice(x, [1], [-3], [-1], [1]), (1, 6, 5, 4), ["tinyml.view"]),
        (lambda x: relax.op.strided_slice(x, [0, 1], [1, 2], [2, 5], [1, 1]), (3, 6, 4), ["tinyml.view"]),
        (lambda x: relax.op.strided_slice(x, [0, 1], [1, 2], [3, 5], [1, 1]), (3, 6, 4), ["relax.strided_slice"]),
        (lambda x: relax.op.strided_slice(x, [1], [0], [6], [2]), (1, 6, 5, 4), ["relax.strided_slice"]),
        (lambda x: relax.op.strided_slice(x, [2], [1], [3], [1]), (1, 6, 5, 4), ["relax.strided_slice"]),
        (lambda x: relax.op.strided_slice(x, [3], [1], [3], [1]), (1, 6, 5, 4), ["tinyml.channels"]),
        (lambda x: relax.op.strided_slice(x, [-1], [-2], [4], [1]), (2, 5, 4), ["tinyml.channels"]),
        (lambda x: relax.op.strided_slice(x, [2, 3], [1, 0], [3, 2], [1, 1]), (1, 6, 5, 4), ["relax.strided_slice"]),
        (lambda x: relax.op.strided_slice(x, [3], [0], [4], [2]), (1, 6, 5, 4), ["relax.strided_slice"]),
    ],
)
def test_what_lies_in_one_piece_or_in_channels_becomes_a_view(
    move: Move, shape: tuple[int, ...], expected: list[str], rng: np.random.Generator
) -> None:
    before = integer(move, shape)
    after = MovesToViews()(before)
    assert names(after) == expected
    inputs = inputs_of(before, rng)
    for ours, reference in zip(evaluate(after, inputs), evaluate(before, inputs), strict=True):
        np.testing.assert_array_equal(ours, reference)
    assert same(MovesToViews()(after), after)


def twice(graph: Int8Graph, x: Value) -> Value:
    """Join a tensor with itself: the second time it must be copied."""
    y = graph.conv(x, 4, (3, 3))
    return graph.concat([y, y], 1)


def with_input(graph: Int8Graph, x: Value) -> Value:
    """Join a result with an input, which lies elsewhere."""
    return graph.concat([x, graph.max_pool(x, (1, 1))], 1)


def joined_twice(graph: Int8Graph, x: Value) -> Value:
    """Let one tensor be a part of two others."""
    a, b, c = (graph.conv(x, 4, (1, 1)) for _ in range(3))
    left = graph.concat([a, graph.requantize(b, a.quantization)], 1)
    right = graph.concat([graph.requantize(c, a.quantization), a], 1)
    return graph.add(left, right)


def cut_and_joined(graph: Int8Graph, x: Value) -> Value:
    """Cut a tensor into rows, change some, and put it together in another order."""
    parts = graph.split(graph.conv(x, 4, (3, 3)), 3, 1)
    parts[1] = graph.max_pool(parts[1], (1, 1))
    return graph.conv(graph.concat([parts[2], parts[1], parts[0]], 1), 5, (3, 3))


def test_channels_of_other_types_than_int8_are_left_to_tvm() -> None:
    module = integer(lambda x: relax.op.concat([x, x], 3), (1, 6, 5, 4), dtype="uint8")
    assert names(MovesToViews()(module)) == ["relax.concat"]


@pytest.mark.parametrize("io", ["caller", "workspace"])
@pytest.mark.parametrize("build", [twice, with_input, joined_twice, cut_and_joined])
def test_libraries_with_views_give_the_reference_bytes(build: Callable[[Int8Graph, Value], Value], io: str) -> None:
    graph = Int8Graph(3)
    x = graph.input((1, 6, 5, 4), (0.05, -3))
    network = graph.finish("views", build(graph, x))
    library = tinyml.build(tinyml.load(network.data, name="m"), "cortex-m4", io=io, emit="lib")
    inputs = network.random_inputs(1)
    outputs = library.run({library.metadata["inputs"][0]["name"]: inputs[0]})
    np.testing.assert_array_equal(next(iter(outputs.values())).ravel(), network.run(inputs)[0].ravel())
