"""Operators run in an order in which little is alive at a time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from tvm import IRModule, relax

from tests.passes.graphs import calls, inputs_of, names, same
from tvm_tinyml.passes import OrderOperators, integer_ops
from tvm_tinyml.passes.order_operators.graph import Operator, OperatorGraph
from tvm_tinyml.passes.order_operators.search import beam, best_first, smallest_peak, start_state
from tvm_tinyml.reference.evaluate import evaluate

SEEDS = range(40)
POOL: dict[str, Any] = {
    "pool_size": [4, 4],
    "strides": [4, 4],
    "padding": [0, 0, 0, 0],
    "clamp_min": -128,
    "clamp_max": 127,
}


def random_graph(seed: int, count: int, reach: int | None = None) -> OperatorGraph:
    """Return operators that read one or two of the tensors (the `reach` last ones) before; unread ones are kept."""
    rng = np.random.default_rng(seed)
    sizes = [int(rng.integers(1, 400))]
    operators = []
    for _ in range(count):
        first = 0 if reach is None else max(0, len(sizes) - reach)
        reads = {int(t) for t in rng.integers(first, len(sizes), int(rng.integers(1, 3)))}
        operators.append(Operator(tuple(sorted(reads)), (len(sizes),)))
        sizes.append(int(np.exp(rng.uniform(0, 6))))
    read = {tensor for operator in operators for tensor in operator.reads}
    return OperatorGraph(operators, sizes, frozenset(set(range(1, len(sizes))) - read))


def branches(seed: int, count: int, depth: int) -> OperatorGraph:
    """Return branches that start at one tensor and end in one operator, written level by level."""
    rng = np.random.default_rng(seed)
    sizes, operators, ends = [1], [], [0] * count
    for _ in range(depth):
        for branch in range(count):
            operators.append(Operator((ends[branch],), (len(sizes),)))
            ends[branch] = len(sizes)
            sizes.append(int(np.exp(rng.uniform(0, 7))))
    return OperatorGraph([*operators, Operator(tuple(ends), (len(sizes),))], [*sizes, 1], frozenset([len(sizes)]))


def all_orders(graph: OperatorGraph, begun: Sequence[int] = ()) -> Iterator[list[int]]:
    """Yield every order in which operators run after those whose results they read."""
    if len(begun) == len(graph.operators):
        yield list(begun)
    written = {tensor for operator in graph.operators for tensor in operator.writes}
    there = {tensor for i in begun for tensor in graph.operators[i].writes}
    for i, operator in enumerate(graph.operators):
        if i not in begun and not (set(operator.reads) & written) - there:
            yield from all_orders(graph, [*begun, i])


def peak_of(graph: OperatorGraph, order: Sequence[int]) -> int:
    """Return the most bytes alive, from the first and the last use of each tensor."""
    place = {operator: step for step, operator in enumerate(order)}
    lives = []
    for tensor, size in enumerate(graph.sizes):
        writers = [place[i] for i, operator in enumerate(graph.operators) if tensor in operator.writes]
        readers = [place[i] for i, operator in enumerate(graph.operators) if tensor in operator.reads]
        first = min(writers, default=-1)
        last = len(order) if tensor in graph.kept or not (readers or writers) else max(readers + writers)
        lives.append((size, first, last))
    return max(sum(size for size, first, last in lives if first <= s <= last) for s in range(-1, len(order) + 1))


def works(graph: OperatorGraph, order: Sequence[int]) -> bool:
    """Return whether each operator runs once, and after those whose results it reads."""
    place = {operator: step for step, operator in enumerate(order)}
    writer = {tensor: i for i, operator in enumerate(graph.operators) for tensor in operator.writes}
    reads = [(i, writer[t]) for i, operator in enumerate(graph.operators) for t in operator.reads if t in writer]
    return sorted(order) == list(range(len(graph.operators))) and all(place[w] < place[r] for r, w in reads)


def test_of_all_orders_none_has_a_smaller_peak() -> None:
    smaller = 0
    for seed in SEEDS:
        graph = random_graph(seed, 1 + seed % 7)
        found = smallest_peak(graph)
        peaks = [peak_of(graph, order) for order in all_orders(graph)]
        assert found.is_optimal
        assert works(graph, found.operators)
        assert found.peak_bytes == peak_of(graph, found.operators) == min(peaks)
        smaller += min(peaks) < peak_of(graph, range(len(graph.operators)))
    assert smaller > 5


def test_no_order_is_below_the_floor() -> None:
    for seed in SEEDS:
        graph = random_graph(seed, 1 + seed % 7)
        assert graph.floor_bytes <= min(peak_of(graph, order) for order in all_orders(graph))


def test_the_peak_is_that_of_the_lifetimes() -> None:
    for seed in SEEDS:
        graph = random_graph(seed, 7)
        for order in all_orders(graph):
            assert graph.peak_bytes(order) == peak_of(graph, order)


@pytest.mark.parametrize("shape", [(5, 4), (7, 3), (11, 2), (23, 1)])
def test_twenty_four_operators_are_ordered_and_proven(shape: tuple[int, int]) -> None:
    for seed in range(3):
        assert smallest_peak(branches(seed, *shape)).is_optimal
        assert smallest_peak(random_graph(seed, 24)).is_optimal


@pytest.mark.parametrize("reach", [5, 30, None])
def test_three_hundred_operators_take_little_time_and_never_more_than_their_own_order(reach: int | None) -> None:
    smaller = 0
    for seed in range(3):
        graph = random_graph(seed, 300, reach)
        begin = time.process_time()
        found = smallest_peak(graph)
        assert time.process_time() - begin < 5  # about 1 on an idle machine
        own = peak_of(graph, range(300))
        assert works(graph, found.operators)
        assert found.peak_bytes == peak_of(graph, found.operators) <= own
        smaller += found.peak_bytes < own
    assert smaller


def test_the_beam_is_no_better_than_the_exact_search_and_often_as_good() -> None:
    equal = 0
    for seed in SEEDS:
        graph = random_graph(seed, 12)
        start = start_state(graph)
        exact, near = best_first(graph, start, graph.everything, 10**5), beam(graph, start, graph.everything)
        assert exact is not None
        assert works(graph, near.order)
        assert exact.peak_bytes <= near.peak_bytes
        equal += exact.peak_bytes == near.peak_bytes
    assert equal > 0.8 * len(SEEDS)


def test_the_exact_search_gives_up_after_its_budget() -> None:
    graph = branches(0, 6, 3)
    assert best_first(graph, start_state(graph), graph.everything, 1) is None


def test_segments_are_cut_where_all_meets_in_one_operator() -> None:
    diamond = [Operator((0,), (1,)), Operator((1,), (2,)), Operator((1,), (3,)), Operator((2, 3), (4,))]
    graph = OperatorGraph(diamond, [1] * 5, frozenset([4]))
    assert graph.segments() == [0b0001, 0b1110]
    for seed in SEEDS:
        graph = random_graph(seed, 10, 2)
        ends = np.cumsum([0, *(segment.bit_count() for segment in graph.segments())])
        for order in all_orders(graph):
            parts = [sum(1 << i for i in order[a:b]) for a, b in pairwise(ends)]
            assert parts == graph.segments()


def test_of_equal_orders_the_models_own_is_kept() -> None:
    graph = OperatorGraph([Operator((0,), (1,)), Operator((0,), (2,))], [1] * 3, frozenset([1, 2]))
    assert smallest_peak(graph).operators == [0, 1]
    assert smallest_peak(OperatorGraph([], [], frozenset())).operators == []


def module(build: Callable[[relax.BlockBuilder, relax.Var], relax.Expr], *shape: int) -> IRModule:
    """Return a module whose ``main`` computes an expression of its input."""
    builder = relax.BlockBuilder()
    x = relax.Var("x", relax.TensorType(list(shape), "int8"))
    with builder.function("main", [x]):
        with builder.dataflow():
            result = builder.emit_output(build(builder, x))
        builder.emit_func_output(result)
    return builder.get().with_attr("tinyml.reference", "tflite")


def wide_branches(builder: relax.BlockBuilder, x: relax.Var) -> relax.Expr:
    """Three branches that get large and then small, level by level."""
    wide = [builder.emit(integer_ops.pad2d(x, padding=[8, 8, 8, 8], value=i)) for i in range(3)]
    small = [builder.emit(integer_ops.max_pool2d(tensor, **POOL)) for tensor in wide]
    return relax.op.concat(small, axis=3)


def peak(mod: IRModule) -> int:
    """Return the most bytes of tensors that the calls of ``main`` need at a time, inputs and outputs among them."""
    bindings = mod["main"].body.blocks[0].bindings
    reads = [[v for a in b.value.args for v in ([a] if isinstance(a, relax.Var) else getattr(a, "fields", []))]
             for b in bindings]  # fmt: skip
    last = {var: step for step, those in enumerate(reads) for var in those}
    first = {binding.var: step for step, binding in enumerate(bindings)}
    size = {var: int(np.prod(integer_ops.shape_of(var))) for var in [*last, *first]}
    steps = range(len(bindings))
    return max(sum(n for v, n in size.items() if first.get(v, -1) <= s <= last.get(v, s)) for s in steps)


@pytest.mark.parametrize("io_in_workspace", [False, True])
def test_branches_run_one_after_the_other_and_need_much_less(io_in_workspace: bool, rng: np.random.Generator) -> None:
    before = module(wide_branches, 1, 8, 8, 2)
    after = OrderOperators(io_in_workspace)(before)
    assert names(before)[:3] == ["tinyml.pad2d"] * 3
    assert names(after) == ["tinyml.pad2d", "tinyml.max_pool2d"] * 3 + ["relax.concat"]
    assert peak(before) > 1.5 * peak(after)
    inputs = inputs_of(before, rng)
    np.testing.assert_array_equal(evaluate(after, inputs)[0], evaluate(before, inputs)[0])


def test_what_is_ordered_stays() -> None:
    once = OrderOperators(True)(module(wide_branches, 1, 8, 8, 2))
    assert same(OrderOperators(True)(once), once)


def test_a_chain_stays() -> None:
    def chain(builder: relax.BlockBuilder, x: relax.Var) -> relax.Expr:
        for i in range(4):
            x = builder.emit(integer_ops.pad2d(x, padding=[1, 1, 1, 1], value=i))
        return x

    before = module(chain, 1, 4, 4, 1)
    assert same(OrderOperators(True)(before), before)


def test_views_take_no_memory_and_follow_what_they_show(rng: np.random.Generator) -> None:
    def reshaped(builder: relax.BlockBuilder, x: relax.Var) -> relax.Expr:
        wide = [builder.emit(integer_ops.pad2d(x, padding=[8, 8, 8, 8], value=i)) for i in range(3)]
        views = [builder.emit(relax.op.reshape(tensor, (1, 12, 48, 2))) for tensor in wide]
        small = [builder.emit(integer_ops.max_pool2d(tensor, **POOL)) for tensor in views]
        return relax.op.concat(small, axis=3)

    before = module(reshaped, 1, 8, 8, 2)
    after = OrderOperators(True)(before)
    assert names(after) == ["tinyml.pad2d", "relax.reshape", "tinyml.max_pool2d"] * 3 + ["relax.concat"]
    inputs = inputs_of(before, rng)
    np.testing.assert_array_equal(evaluate(after, inputs)[0], evaluate(before, inputs)[0])


def test_parts_of_a_split_are_tensors_of_their_own(rng: np.random.Generator) -> None:
    def parts(builder: relax.BlockBuilder, x: relax.Var) -> relax.Expr:
        both = builder.emit(relax.op.split(x, 2, axis=3))
        halves = [builder.emit(relax.TupleGetItem(both, i)) for i in range(2)]
        wide = [builder.emit(integer_ops.pad2d(half, padding=[8, 8, 8, 8], value=0)) for half in halves]
        small = [builder.emit(integer_ops.max_pool2d(tensor, **POOL)) for tensor in wide]
        return relax.op.concat(small, axis=3)

    before = module(parts, 1, 8, 8, 4)
    after = OrderOperators(False)(before)
    assert names(after) == ["relax.split", *["tinyml.pad2d", "tinyml.max_pool2d"] * 2, "relax.concat"]
    inputs = inputs_of(before, rng)
    np.testing.assert_array_equal(evaluate(after, inputs)[0], evaluate(before, inputs)[0])


def test_views_of_one_tensor_hold_it(rng: np.random.Generator) -> None:
    """Both parts lie in the large tensor, so it dies with the second one."""

    def halves(builder: relax.BlockBuilder, x: relax.Var) -> relax.Expr:
        large = builder.emit(integer_ops.pad2d(x, padding=[8, 8, 8, 8], value=1))
        parts = [integer_ops.view(large, begin=begin, shape=[1, 12, 24, 2]) for begin in (0, 576)]
        both = builder.emit(relax.Tuple([builder.emit(part) for part in parts]))
        first, second = (builder.emit(relax.TupleGetItem(both, i)) for i in range(2))
        other = builder.emit(integer_ops.pad2d(x, padding=[2, 2, 2, 2], value=2))
        small = [builder.emit(integer_ops.max_pool2d(tensor, **POOL)) for tensor in (first, second, other)]
        return relax.op.concat([builder.emit(relax.op.reshape(tensor, (1, 1, -1, 2))) for tensor in small], axis=2)

    before = module(halves, 1, 8, 8, 2)
    after = OrderOperators(False)(before)
    assert [name for name in names(after) if name.startswith("tinyml") and "view" not in name] == [
        "tinyml.pad2d",
        "tinyml.max_pool2d",
        "tinyml.max_pool2d",
        "tinyml.pad2d",
        "tinyml.max_pool2d",
    ]
    inputs = inputs_of(before, rng)
    np.testing.assert_array_equal(evaluate(after, inputs)[0], evaluate(before, inputs)[0])


def test_outputs_count_in_the_workspace_alone() -> None:
    """With the caller the large output costs nothing and may come first; in the workspace it had better come last."""

    def two_outputs(builder: relax.BlockBuilder, x: relax.Var) -> relax.Expr:
        large = builder.emit(integer_ops.pad2d(x, padding=[20, 20, 20, 20], value=0))
        wide = builder.emit(integer_ops.pad2d(x, padding=[8, 8, 8, 8], value=0))
        small = builder.emit(integer_ops.max_pool2d(wide, **POOL))
        return relax.Tuple([large, small])

    before = module(two_outputs, 1, 8, 8, 2)
    assert same(OrderOperators(False)(before), before)
    after = OrderOperators(True)(before)
    assert [int(call.attrs["padding"][0]) for call in calls(after) if call.op == integer_ops.pad2d.op] == [8, 20]
