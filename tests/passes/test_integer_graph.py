"""All passes on graphs, one after the other: fewer operators, the same bytes."""

from __future__ import annotations

import numpy as np
import pytest
from tvm import IRModule, relax

import tvm_tinyml as tinyml
from benchmarks.int8_graph import Int8Graph
from tests.image_networks import image_network
from tests.passes.dead_graphs import RANGE, DeadGraph, random_graph
from tests.passes.graphs import inputs_of, names, same
from tvm_tinyml.options import OPTIONAL_PASSES, BuildOptions
from tvm_tinyml.passes import (
    FoldConstants,
    FoldPads,
    FoldQuantization,
    FuseLookups,
    SimplifyReshapes,
    SimplifyTransposes,
    TabulateFunctions,
    integer_ops,
)
from tvm_tinyml.passes.integer_ops import shape_of
from tvm_tinyml.pipeline import integer_graph
from tvm_tinyml.reference.evaluate import evaluate

SIMPLIFY = (FoldConstants, SimplifyTransposes, SimplifyReshapes, TabulateFunctions, FuseLookups, FoldPads)


def tangled(seed: int) -> IRModule:
    """Return a random graph of what these passes look for, with some tensors read in several places."""
    g = DeadGraph(seed)

    def build(x: relax.Var) -> list[relax.Expr]:
        pool = [x, g.lookup(x)]
        for _ in range(g.pick(6, 10, 14)):
            source = pool[-1] if g.rng.random() < 0.7 else g.pick(*pool)
            pool.append(_operator(g, source, pool))
        ends = [pool[-1], *(tensor for tensor in pool[1:-1] if g.rng.random() < 0.15)]
        return list(dict.fromkeys(ends))

    return g.finish(build, (g.pick(1, 2), g.pick(4, 5), g.pick(1, 4), g.pick(1, 3)))


def _operator(g: DeadGraph, x: relax.Var, pool: list[relax.Var]) -> relax.Var:
    shape = shape_of(x)
    alike = [other for other in pool if shape_of(other) == shape]
    number = relax.const(np.full(g.pick((1,), shape), g.pick(-7, 30), np.int8))
    other = g.pick(*alike, number, g.constant(*shape), g.lookup(g.constant(*shape)))
    match int(g.rng.integers(9)):
        case 0 | 1:
            numbers = np.arange(-128, 128)
            table = g.pick(numbers, np.clip(numbers, *sorted(g.rng.integers(-128, 128, 2))), g.int8(256))
            return g.emit(integer_ops.lookup(x, relax.const(table.astype(np.int8))))
        case 2:
            return g.sum(x, other, g.pick(integer_ops.add, integer_ops.subtract))
        case 3:
            return g.product(x, other)
        case 4 | 5:
            return g.emit(relax.op.permute_dims(x, g.rng.permutation(4).tolist()))
        case 6:
            return g.emit(relax.op.reshape(x, g.rng.permutation(shape).tolist()))
        case 7:
            value = g.pick(g.zero_point, g.zero_point, -128)
            bordered = g.emit(relax.op.nn.pad(x, [0, 0, *g.rng.integers(0, 2, 4).tolist(), 0, 0], pad_value=value))
            options = {"pool_size": [2, 2], "strides": [1, 1], "padding": [0, 1, 1, 0], **RANGE}
            reads = g.rng.random() < 0.5
            return g.conv(bordered, g.pick(1, 3), 1) if reads else g.emit(integer_ops.max_pool2d(bordered, **options))
        case _:
            return g.conv(x, g.pick(1, 3), 1)


@pytest.mark.parametrize("make", [tangled, random_graph])
@pytest.mark.parametrize("seed", range(30))
def test_each_pass_keeps_every_byte_and_finds_nothing_a_second_time(make: type, seed: int) -> None:
    module = make(seed)
    inputs = inputs_of(module, np.random.default_rng(seed))
    expected = evaluate(module, inputs)
    for simplify in SIMPLIFY:
        before, module = module, simplify()(module)
        assert len(names(module)) <= len(names(before)), simplify
        for result, reference in zip(evaluate(module, inputs), expected, strict=True):
            np.testing.assert_array_equal(result, reference, str(simplify), strict=True)
        assert same(simplify()(module), module), simplify


def test_the_random_graphs_give_each_pass_something_to_do() -> None:
    found = dict.fromkeys(SIMPLIFY, 0)
    for seed in range(30):
        module = tangled(seed)
        for simplify in SIMPLIFY:
            before, module = module, simplify()(module)
            found[simplify] += not same(before, module)
    assert min(found.values()) >= 3, found


@pytest.mark.parametrize("seed", range(8))
def test_a_networks_graph_gives_the_same_bytes_as_right_after_import(seed: int, rng: np.random.Generator) -> None:
    model = tinyml.load(image_network(seed).data, name="m")
    before, after = FoldQuantization()(model.module), integer_graph(model, BuildOptions())
    inputs = inputs_of(before, rng)
    for result, expected in zip(evaluate(after, inputs), evaluate(before, inputs), strict=True):
        np.testing.assert_array_equal(result, expected)


ON_GRAPHS = [name for name in OPTIONAL_PASSES if not name.startswith("tinyml.Apply")]


@pytest.mark.parametrize("disabled", [[], ON_GRAPHS, *([name] for name in ON_GRAPHS)], ids=" ".join)
def test_a_build_can_do_without_each_of_these_passes(disabled: list[str]) -> None:
    graph = Int8Graph(0)
    x = graph.input((1, 5, 5, 3), (0.1, 2))
    y = graph.mul(x, graph.hard_swish(graph.relu6(x)))
    y = graph.transpose(graph.transpose(y, [0, 3, 1, 2]), [0, 2, 3, 1])
    y = graph.add(graph.pad(graph.reshape(y, (1, 25, 1, 3)), [(0, 0), (1, 1), (1, 1), (0, 0)]), graph.constant((1,)))
    network = graph.finish("m", graph.conv(graph.pad(y, [(0, 0), (1, 0), (0, 1), (0, 0)]), 4, (3, 3)))
    library = tinyml.build(tinyml.load(network.data, name="m"), "cortex-m4", emit="lib", disabled_passes=disabled)
    inputs = network.random_inputs(1)
    outputs = library.run({library.metadata["inputs"][0]["name"]: inputs[0]})
    np.testing.assert_array_equal(next(iter(outputs.values())).ravel(), network.run(inputs)[0].ravel())
